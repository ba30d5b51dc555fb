"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 3501 6.3.3 to 6.3.7), CREATE-SPECIAL-USE (RFC 6154), NAMESPACE
(RFC 2342), MAILBOXID (RFC 8474 4.1).
"""

from fastmail._core.imap import ParseError, Reader
from fastmail.imap import places
from fastmail.imap.command import Command, Work
from fastmail.imap.errors import UseRefused
from fastmail.imap.names import quoted, read_name
from fastmail.message.identity import mailbox_id
from fastmail.model.errors import CannotDo, MailboxExists, TooMuch
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import SPECIAL
from fastmail.store.quota import check

SUBSCRIPTIONS = 10_000  # of an account: names need not be those of mailboxes, so limits of mailboxes do not bound them
LONGEST_SUBSCRIBED = 1024  # octets


def create(command: Command) -> Work:
    """RFC 3501 6.3.3. Levels above it are created too."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    special = _uses(reader) if reader.more() else 0
    reader.end()
    return _create(command, name, special)


def _uses(reader: Reader) -> int:
    """Read ``(USE (\\Drafts))`` (RFC 6154 3)."""
    at = reader.pos
    if not reader.skip(b"(USE ("):
        raise ParseError("(USE (attribute))", at)
    bits = 0
    while reader.peek() != 41:
        if not reader.skip(b"\\"):
            raise ParseError("an attribute such as \\Drafts", reader.pos)
        name = "\\" + reader.atom().decode().lower()
        bit = next((bit for bit, text in SPECIAL.items() if text.lower() == name), 0)
        if not bit:
            raise UseRefused("this special use is not supported")
        bits |= bit
        if reader.peek() == 32:
            reader.sp()
    reader.close()
    reader.close()
    return bits


async def _create(command: Command, name: str, special: int) -> None:
    session = command.session
    store = session.service.store
    place = await places.may_create(session, name)
    account = place.account
    if place.name == INBOX:
        raise MailboxExists("INBOX is always there")
    if special:
        listing = await store.listing(account)
        if any(box.special & special for box in listing.mailboxes):
            raise UseRefused("another mailbox has this special use")
    check(store, account, 0, 0, 1)
    await store.create(account, place.name, special)
    key = store.find(account, place.name)
    await places.inherit(session, place)
    code = b"[MAILBOXID (%b)] " % mailbox_id(key) if key is not None else b""
    await command.complete(b"OK " + code + b"CREATE completed")


def delete(command: Command) -> Work:
    """RFC 3501 6.3.4. Mailboxes below it stay."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _delete(command, name)


async def _delete(command: Command, name: str) -> None:
    session = command.session
    place = await places.find(session, name, "x")
    if session.selected is not None and session.selected.key == place.key:
        session.deselect()
    await session.service.store.delete(place.account, place.name)
    await command.complete(b"OK DELETE completed")


def rename(command: Command) -> Work:
    """RFC 3501 6.3.5. Renaming INBOX moves its messages and leaves it empty."""
    session, reader = command.session, command.reader
    reader.sp()
    old = read_name(session, reader)
    reader.sp()
    new = read_name(session, reader)
    reader.end()
    return _rename(command, old, new)


async def _rename(command: Command, old: str, new: str) -> None:
    session = command.session
    source = await places.find(session, old, "x")
    target = await places.may_create(session, new)
    if source.account != target.account:
        raise CannotDo("a mailbox cannot be renamed into another account")
    await session.service.store.rename(source.account, source.name, target.name)
    await command.complete(b"OK RENAME completed")


def subscribe(command: Command) -> Work:
    """RFC 3501 6.3.6."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _subscribe(command, name, True)


def unsubscribe(command: Command) -> Work:
    """RFC 3501 6.3.7."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _subscribe(command, name, False)


async def _subscribe(command: Command, name: str, on: bool) -> None:
    session = command.session
    assert session.account is not None
    if on and len(name.encode()) > LONGEST_SUBSCRIBED:
        raise TooMuch("the name is too long")
    if on and len((await session.service.store.listing(session.account)).subscribed) >= SUBSCRIPTIONS:
        raise TooMuch(f"at most {SUBSCRIPTIONS} names can be subscribed")
    await session.service.store.subscribe(session.account, places.subscription(session, name), on)
    await command.complete(b"OK SUBSCRIBE completed" if on else b"OK UNSUBSCRIBE completed")


def namespace(command: Command) -> Work:
    """RFC 2342; see imap.places."""
    session = command.session
    command.reader.end()
    sep = quoted(session.service.separator)
    tops = [places.OTHER, places.SHARED] if any(places.shared(session)) else [places.OTHER]
    others = [b'(("%b" %b))' % ((top + session.service.separator).encode(), sep) for top in tops]
    own = session.service.prefix.encode()
    session.conn.write(b'* NAMESPACE (("%b" %b)) %b\r\n' % (own, sep, b" ".join([*others, b"NIL"][:2])))
    return command.finish(b"OK NAMESPACE completed")
