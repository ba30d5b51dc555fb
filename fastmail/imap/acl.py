"""ACL (RFC 4314): SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS. LIST-MYRIGHTS (RFC 8440) is in imap.listing."""

from fastmail._core.imap import ParseError, Reader, quote
from fastmail.imap import places
from fastmail.imap.command import Command, Work
from fastmail.imap.names import read_name, wire
from fastmail.imap.state import Session
from fastmail.model import rights
from fastmail.model.errors import CannotDo, NoPermission, TooMuch
from fastmail.store import sharing

MOST = 1000  # identifiers in one list


def _identifier(session: Session, reader: Reader) -> str:
    return _known(session, reader.astring())


def _known(session: Session, raw: bytes) -> str:
    """Return an identifier as it is stored. CannotDo for octets that are not UTF-8 (RFC 4314 3), which are never
    replaced."""
    assert session.account is not None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotDo("this identifier is not UTF-8") from None
    return rights.identifier(text, rights.domain_of(session.account.address))


def set_acl(command: Command) -> Work:
    """RFC 4314 3.1."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    who = _identifier(session, reader)
    reader.sp()
    at = reader.pos
    letters = reader.astring().decode("ascii", "replace")
    reader.end()
    sign = letters[:1] if letters[:1] in ("+", "-") else ""
    try:
        return _set(command, name, who, sign, rights.parse(letters[len(sign) :]))
    except rights.BadRights:
        raise ParseError(f"rights out of {rights.ALL}", at) from None


async def _set(command: Command, name: str, who: str, sign: str, letters: str) -> None:
    session = command.session
    place = await places.find(session, name, "a")
    if letters and sign != "-":
        places.refuse_anyone(session, who, place.account)

    def change(acl: rights.Acl) -> None:
        if who not in acl and len(acl) >= MOST:
            raise TooMuch("there are too many identifiers in the list")
        before = acl.get(who, rights.ALL if who == place.account.address else "")
        acl[who] = {"+": rights.union(before, letters), "-": rights.minus(before, letters)}.get(sign, letters)
        if not acl[who] and who != place.account.address:
            del acl[who]

    await places.change_acl(session, place, change)
    await command.complete(b"OK SETACL completed")


def delete_acl(command: Command) -> Work:
    """RFC 4314 3.2. An owner without an entry has all rights again."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    who = _identifier(session, reader)
    reader.end()
    return _delete(command, name, who)


async def _delete(command: Command, name: str, who: str) -> None:
    session = command.session
    place = await places.find(session, name, "a")
    await places.change_acl(session, place, lambda acl: acl.pop(who, None))
    await command.complete(b"OK DELETEACL completed")


def get_acl(command: Command) -> Work:
    """RFC 4314 3.3."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _get(command, name)


async def _get(command: Command, name: str) -> None:
    session = command.session
    place = await places.find(session, name, "a")
    acl = _list(session, place)
    owner = place.account.address
    acl = {owner: rights.union(acl.get(owner, rights.ALL), rights.OWNERS)} | {
        k: v for k, v in acl.items() if k != owner
    }
    entries = b"".join(b" " + _text(who) + b" " + _text(rights.shown(letters)) for who, letters in acl.items())
    session.conn.write(b"* ACL " + wire(session, place.shown) + entries + b"\r\n")
    await command.complete(b"OK GETACL completed")


def list_rights(command: Command) -> Work:
    """RFC 4314 3.4. Each right can be granted by itself, except the owner's own."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    raw = reader.astring()
    reader.end()
    return _list_rights(command, name, raw)


async def _list_rights(command: Command, name: str, raw: bytes) -> None:
    session = command.session
    assert session.account is not None
    place = await places.find(session, name, "a")
    who = _known(session, raw)
    always = rights.OWNERS if who == place.account.address else ""
    free = rights.minus(rights.ALL, always)
    letters = b" ".join([_text(rights.union(always)), *(letter.encode() for letter in free)])
    session.conn.write(b"* LISTRIGHTS " + wire(session, place.shown) + b" " + quote(raw) + b" " + letters + b"\r\n")
    await command.complete(b"OK LISTRIGHTS completed")


def my_rights(command: Command) -> Work:
    """RFC 4314 3.5."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _my_rights(command, name)


async def _my_rights(command: Command, name: str) -> None:
    session = command.session
    place = await places.find(session, name)
    if not set("lrikxa") & set(place.rights):
        raise NoPermission("this account has no right to ask that")
    session.conn.write(line(session, place))
    await command.complete(b"OK MYRIGHTS completed")


def line(session: Session, place: places.Place) -> bytes:
    """Return ``* MYRIGHTS``."""
    return b"* MYRIGHTS " + wire(session, place.shown) + b" " + _text(rights.shown(place.rights)) + b"\r\n"


def _list(session: Session, place: places.Place) -> rights.Acl:
    assert place.key is not None
    with session.service.store.snapshot(place.account) as snapshot:
        return rights.load(snapshot.note(place.key, sharing.ACL))


def _text(text: str) -> bytes:
    return quote(text.encode())
