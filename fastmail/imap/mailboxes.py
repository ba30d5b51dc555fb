"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 3501 6.3.3 to 6.3.7), CREATE-SPECIAL-USE (RFC 6154), NAMESPACE
(RFC 2342), MAILBOXID (RFC 8474 4.1).
"""

from typing import TYPE_CHECKING

from fastmail._core.imap import ParseError, Reader, quote
from fastmail.imap import places
from fastmail.imap.authenticate import Work
from fastmail.message.identity import mailbox_id
from fastmail.model.errors import CannotDo, TooMuch
from fastmail.model.mailbox_name import INBOX, decode_utf7, encode_utf7
from fastmail.store.interface import SPECIAL
from fastmail.store.quota import check

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession

SUBSCRIPTIONS = 10_000  # of an account; a name need not be that of a mailbox, so no limit of mailboxes holds it
LONGEST_SUBSCRIBED = 1024  # octets


def read_name(session: "ImapSession", reader: Reader) -> str:
    """A mailbox name from the client; CannotDo for one that can not exist."""
    return places.full_name(session, decode_name(session, reader.astring()))


def decode_name(session: "ImapSession", raw: bytes) -> str:
    """A name as it was sent: modified UTF-7, or UTF-8 once the client enabled that (RFC 9051 5.1, RFC 6855 3)."""
    if not session.utf8:
        return decode_utf7(raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotDo("mailbox name is not UTF-8") from None


def create(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.3; levels above are made too."""
    reader.sp()
    name = read_name(session, reader)
    special = _uses(session, reader) if reader.more() else 0
    reader.end()
    return _create(session, tag, name, special)


def _uses(session: "ImapSession", reader: Reader) -> int:
    """``(USE (\\Drafts))`` (RFC 6154 3)."""
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


class UseRefused(CannotDo):
    """RFC 6154 6: NO [USEATTR]."""


async def _create(session: "ImapSession", tag: bytes, name: str, special: int) -> None:
    store = session.service.store
    place = await places.may_create(session, name)
    account = place.account
    if place.name == INBOX:
        raise CannotDo("INBOX is always there")
    if special:
        listing = await store.listing(account)
        if any(box.special & special for box in listing.mailboxes):
            raise UseRefused("another mailbox has this special use")
    check(store, account, 0, 0, 1)
    await store.create(account, place.name, special)
    key = store.find(account, place.name)
    await places.inherit(session, place)
    code = b"[MAILBOXID (%b)] " % mailbox_id(key) if key is not None else b""
    work = session.finish(tag, b"OK " + code + b"CREATE completed")
    if work is not None:
        await work


async def done(session: "ImapSession", tag: bytes, word: bytes) -> None:
    work = session.finish(tag, b"OK " + word + b" completed")
    if work is not None:
        await work


def delete(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.4; mailboxes below it stay."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _delete(session, tag, name)


async def _delete(session: "ImapSession", tag: bytes, name: str) -> None:
    place = await places.find(session, name, "x")
    if session.selected is not None and session.selected.key == place.key:
        session.deselect()
    await session.service.store.delete(place.account, place.name)
    await done(session, tag, b"DELETE")


def rename(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.5; renaming INBOX moves its messages and leaves it empty."""
    reader.sp()
    old = read_name(session, reader)
    reader.sp()
    new = read_name(session, reader)
    reader.end()
    return _rename(session, tag, old, new)


async def _rename(session: "ImapSession", tag: bytes, old: str, new: str) -> None:
    source = await places.find(session, old, "x")
    target = await places.may_create(session, new)
    if source.account != target.account:
        raise CannotDo("a mailbox cannot be renamed into another account")
    await session.service.store.rename(source.account, source.name, target.name)
    await done(session, tag, b"RENAME")


def subscribe(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.6."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _subscribe(session, tag, name, True)


def unsubscribe(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.7."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _subscribe(session, tag, name, False)


async def _subscribe(session: "ImapSession", tag: bytes, name: str, on: bool) -> None:
    assert session.account is not None
    if on and len(name.encode()) > LONGEST_SUBSCRIBED:
        raise TooMuch("the name is too long")
    if on and len((await session.service.store.listing(session.account)).subscribed) >= SUBSCRIPTIONS:
        raise TooMuch(f"at most {SUBSCRIPTIONS} names can be subscribed")
    await session.service.store.subscribe(session.account, places.subscription(session, name), on)
    await done(session, tag, b"SUBSCRIBE" if on else b"UNSUBSCRIBE")


def quoted(sep: str) -> bytes:
    return b'"' + sep.encode() + b'"'


def namespace(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 2342; see imap.places."""
    reader.end()
    sep = quoted(session.service.separator)
    tops = [places.OTHER, places.SHARED] if any(places.shared(session)) else [places.OTHER]
    others = [b'(("%b" %b))' % ((top + session.service.separator).encode(), sep) for top in tops]
    own = session.service.prefix.encode()
    session.conn.write(b'* NAMESPACE (("%b" %b)) %b\r\n' % (own, sep, b" ".join([*others, b"NIL"][:2])))
    return session.finish(tag, b"OK NAMESPACE completed")  # type: ignore[no-any-return]


def wire(session: "ImapSession", name: str) -> bytes:
    """A stored name in a response."""
    return wire_text(session, name.replace("/", session.service.separator))


def wire_text(session: "ImapSession", name: str) -> bytes:
    """The same for a name that has the client's separator."""
    if not session.utf8 or name.isascii():
        return quote(name.encode() if session.utf8 else encode_utf7(name))
    return b'"' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
