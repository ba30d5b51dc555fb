"""METADATA (RFC 5464): annotations of mailboxes and of the server, for one account (``/private``) or for all who see
the mailbox (``/shared``). Each account has its own server annotations; ``/shared`` ones of the server belong to the
administrator and are set in the configuration.
"""

from collections.abc import Iterable, Mapping

from fastmail._core.imap import ParseError, Reader, quote
from fastmail.imap import places
from fastmail.imap.command import Command, Work
from fastmail.imap.errors import LONGEST_ENTRY, EntryTooBig, TooManyEntries
from fastmail.imap.names import decode_name, wire
from fastmail.imap.state import Session
from fastmail.model import rights
from fastmail.model.errors import CannotDo, NoPermission, TooMuch
from fastmail.model.keys import OF_ACCOUNT, mailbox_key
from fastmail.store.interface import counts
from fastmail.store.quota import check

MOST = 1000  # annotations of one mailbox
MOST_OCTETS = 4 << 20  # octets of all annotations of a mailbox, names included
NEEDS = ("l", "rswip")  # rights to see annotations: the first, and one of the others (RFC 5464 3.3)
ROOTS = (b"/private/", b"/shared/")


def may_see(place: places.Place) -> bool:
    """True if the session may see annotations of the mailbox."""
    return NEEDS[0] in place.rights and bool(set(NEEDS[1]) & set(place.rights))


def _mailbox(session: Session, reader: Reader) -> places.Place:
    """Read the mailbox; the empty name is the server."""
    raw = reader.astring()
    if not raw:
        return server(session)
    name = places.full_name(session, decode_name(session, raw))
    return places.check(places.locate(session, name), *NEEDS)


def read_entry(reader: Reader) -> bytes:
    """Read an entry's name, in lower case (RFC 5464 4)."""
    at = reader.pos
    name = reader.astring().lower()
    if not name.startswith(ROOTS) or name.endswith(b"/") or b"//" in name or b"*" in name or b"%" in name:
        raise ParseError("an entry such as /private/comment", at)
    if not name.isascii() or len(name) > 200:
        raise ParseError("a shorter entry of ASCII", at)
    return name


def get(command: Command) -> Work:
    """RFC 5464 4.2."""
    session, reader = command.session, command.reader
    reader.sp()
    most, depth = -1, 0
    if reader.peek() == 40:
        most, depth = _options(reader)
        reader.sp()
    place = _mailbox(session, reader)
    reader.sp()
    if reader.peek() == 40 and most < 0 and not depth:
        most, depth, entries = _options_or_entries(reader)
        if not entries:
            reader.sp()
            entries = read_entries(reader)
    else:
        entries = read_entries(reader)
    reader.end()
    found = values(session, place, entries, depth)
    longest = max((len(value) for value in found.values()), default=0)
    shown: dict[bytes, bytes | None] = {e: value for e, value in found.items() if most < 0 or len(value) <= most}
    if not depth:
        shown.update(dict.fromkeys(entry for entry in entries if entry not in found))
    if shown:
        session.conn.write(line(session, place.shown, shown))
    cut = any(entry not in shown for entry in found)
    code = b"[METADATA LONGENTRIES %d] " % longest if cut else b""
    return command.finish(b"OK " + code + b"GETMETADATA completed")


def read_entries(reader: Reader) -> list[bytes]:
    """Read one entry, or several in parentheses."""
    if reader.peek() != 40:
        return [read_entry(reader)]
    reader.open()
    entries = [read_entry(reader)]
    while reader.more():
        entries.append(read_entry(reader))
    reader.close()
    return entries


def _options_or_entries(reader: Reader) -> tuple[int, int, list[bytes]]:
    """Read what follows the mailbox's name: options as older clients send them, or entries."""
    start = reader.pos
    try:
        most, depth = _options(reader)
        return most, depth, []
    except ParseError:
        reader.pos = start
        return -1, 0, read_entries(reader)


def _options(reader: Reader) -> tuple[int, int]:
    """Read (MAXSIZE or -1; depth: 0, 1, or 2 for infinity)."""
    most, depth = -1, 0
    reader.open()
    while True:
        at = reader.pos
        word = reader.atom().upper()
        reader.sp()
        if word == b"MAXSIZE":
            most = reader.number()
        elif word == b"DEPTH":
            value = reader.atom().lower()
            if value not in (b"0", b"1", b"infinity"):
                raise ParseError("0, 1 or infinity", at)
            depth = (b"0", b"1", b"infinity").index(value)
        else:
            raise ParseError("MAXSIZE or DEPTH", at)
        if not reader.more():
            break
    reader.close()
    return most, depth


def values(session: Session, place: places.Place, entries: list[bytes], depth: int = 0) -> dict[bytes, bytes]:
    """Return annotations with these names, and those below them as far as ``depth`` says."""
    wanted = set(entries)
    return {name: value for name, value in visible(session, place).items() if is_wanted(name, wanted, depth)}


def visible(session: Session, place: places.Place) -> dict[bytes, bytes]:
    """Return all annotations of a mailbox, or of the server, by the names that this account uses."""
    assert place.key is not None
    with session.service.store.snapshot(place.account) as snapshot:
        notes = snapshot.notes(place.key)
    mine = _own(session, place)
    if mine:
        notes = {
            name.removeprefix(mine): value
            for name, value in notes.items()
            if name.startswith(mine) or not name.startswith(b"/private/")
        }
    if not place.shown and session.service.admin_contact:
        notes[b"/shared/admin"] = session.service.admin_contact.encode()
    return {name: value for name, value in notes.items() if name.startswith(ROOTS)}


def server(session: Session) -> places.Place:
    """Return the place of the server's annotations: in the account, at the mailbox with the empty name."""
    account = session.account
    assert account is not None
    return places.Place(account, "", "", rights.ALL, mailbox_key(account.id, OF_ACCOUNT))


def is_wanted(name: bytes, entries: set[bytes], depth: int) -> bool:
    """True if the name is one of the entries, or as far below one as ``depth`` says (RFC 5464 4.2.2). The cost grows
    with the levels of the name, not with the number of entries."""
    steps = (0, 1, len(name))[depth]
    while name not in entries:
        name, _, last = name.rpartition(b"/")
        steps -= 1
        if steps < 0 or not last:
            return False
    return True


def _own(session: Session, place: places.Place) -> bytes:
    """Return the prefix of this account's /private entries at a mailbox of another account."""
    assert session.account is not None
    return b"/of/%d" % session.account.id if place.account != session.account else b""


def line(session: Session, name: str, found: Mapping[bytes, bytes | None]) -> bytes:
    """Return ``* METADATA``."""
    shown = wire(session, name) if name else b'""'
    return b"* METADATA " + shown + b" (" + b" ".join(e + b" " + _string(v) for e, v in found.items()) + b")\r\n"


def changed_line(session: Session, name: str, entries: Iterable[bytes]) -> bytes:
    """Return ``* METADATA`` with the names of entries that somebody changed, without their values (RFC 5464 4.4.2)."""
    shown = wire(session, name) if name else b'""'
    return b"* METADATA " + shown + b" " + b" ".join(entries) + b"\r\n"


def _string(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    if 0 in value:
        return b"~{%d}\r\n%b" % (len(value), value)
    if not value or value.upper() == b"NIL" or value.isalnum():
        return b'"' + value + b'"'
    return quote(value)


def set_(command: Command) -> Work:
    """RFC 5464 4.3."""
    session, reader = command.session, command.reader
    reader.sp()
    place = _mailbox(session, reader)
    reader.sp()
    reader.open()
    changes: dict[bytes, bytes | None] = {}
    while True:
        entry = read_entry(reader)
        reader.sp()
        changes[entry] = reader.nstring()
        if not reader.more():
            break
    reader.close()
    reader.end()
    if any(entry.startswith(b"/shared/") for entry in changes):
        if not place.shown:
            raise NoPermission("annotations of the server are the administrator's")
        places.check(place, "w")
    if any(value is not None and len(value) > LONGEST_ENTRY for value in changes.values()):
        raise EntryTooBig("a value is too long")
    return _set(command, place, changes)


async def _set(command: Command, place: places.Place, changes: dict[bytes, bytes | None]) -> None:
    session = command.session
    assert place.key is not None
    store = session.service.store
    with store.snapshot(place.account) as snapshot:
        known = {name: len(name) + len(value) for name, value in snapshot.notes(place.key).items() if counts(name)}
    mine = _own(session, place)
    asked = dict(changes)
    changes = {mine + name if name.startswith(b"/private/") else name: value for name, value in changes.items()}
    new = {name: len(name) + len(value) for name, value in changes.items() if value is not None}
    after = {name: size for name, size in known.items() if name not in changes} | new
    if len(after) > MOST and len(after) > len(known):
        raise TooManyEntries("there are too many annotations")
    more = sum(after.values()) - sum(known.values())
    if more > 0:
        if sum(after.values()) > MOST_OCTETS:
            raise TooMuch("the annotations of this mailbox are too long in all")
        check(store, place.account, more, 0)
    if place.shown and store.find(place.account, place.name) is None:
        raise CannotDo("mailbox is gone")
    if session.notify is not None:
        session.notify.annotated(place.key, asked)
    await store.annotate(place.account, place.key, changes)
    await command.complete(b"OK SETMETADATA completed")
