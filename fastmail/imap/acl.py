"""ACL (RFC 4314): SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS. LIST-MYRIGHTS (RFC 8440) is in imap.listing."""

from typing import TYPE_CHECKING

from fastmail._core.imap import ParseError, Reader, quote
from fastmail.imap import places
from fastmail.imap.authenticate import Work
from fastmail.imap.mailboxes import done, read_name, wire
from fastmail.model import rights
from fastmail.model.errors import CannotDo, NoPermission, TooMuch
from fastmail.store import sharing

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession

MOST = 1000  # identifiers in a list


def _identifier(session: "ImapSession", reader: Reader) -> str:
    return _known(session, reader.astring())


def _known(session: "ImapSession", raw: bytes) -> str:
    """An identifier as it is kept; CannotDo for octets that are no UTF-8 (RFC 4314 3), which are never replaced."""
    assert session.account is not None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotDo("this identifier is not UTF-8") from None
    return rights.identifier(text, rights.domain_of(session.account.address))


def set_acl(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 4314 3.1."""
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
        return _set(session, tag, name, who, sign, rights.parse(letters[len(sign) :]))
    except rights.BadRights:
        raise ParseError(f"rights out of {rights.ALL}", at) from None


async def _set(session: "ImapSession", tag: bytes, name: str, who: str, sign: str, letters: str) -> None:
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
    await done(session, tag, b"SETACL")


def delete_acl(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 4314 3.2; the owner without an entry has all rights again."""
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    who = _identifier(session, reader)
    reader.end()
    return _delete(session, tag, name, who)


async def _delete(session: "ImapSession", tag: bytes, name: str, who: str) -> None:
    place = await places.find(session, name, "a")
    await places.change_acl(session, place, lambda acl: acl.pop(who, None))
    await done(session, tag, b"DELETEACL")


def get_acl(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 4314 3.3."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _get(session, tag, name)


async def _get(session: "ImapSession", tag: bytes, name: str) -> None:
    place = await places.find(session, name, "a")
    acl = _list(session, place)
    owner = place.account.address
    acl = {owner: rights.union(acl.get(owner, rights.ALL), rights.OWNERS)} | {
        k: v for k, v in acl.items() if k != owner
    }
    entries = b"".join(b" " + _text(who) + b" " + _text(rights.shown(letters)) for who, letters in acl.items())
    session.conn.write(b"* ACL " + wire(session, place.shown) + entries + b"\r\n")
    await done(session, tag, b"GETACL")


def list_rights(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 4314 3.4: each right can be given by itself, but for the owner's own."""
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    raw = reader.astring()
    reader.end()
    return _list_rights(session, tag, name, raw)


async def _list_rights(session: "ImapSession", tag: bytes, name: str, raw: bytes) -> None:
    assert session.account is not None
    place = await places.find(session, name, "a")
    who = _known(session, raw)
    always = rights.OWNERS if who == place.account.address else ""
    free = rights.minus(rights.ALL, always)
    letters = b" ".join([_text(rights.union(always)), *(letter.encode() for letter in free)])
    session.conn.write(b"* LISTRIGHTS " + wire(session, place.shown) + b" " + quote(raw) + b" " + letters + b"\r\n")
    await done(session, tag, b"LISTRIGHTS")


def my_rights(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 4314 3.5."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _my_rights(session, tag, name)


async def _my_rights(session: "ImapSession", tag: bytes, name: str) -> None:
    place = await places.find(session, name)
    if not set("lrikxa") & set(place.rights):
        raise NoPermission("this account has no right to ask that")
    session.conn.write(line(session, place))
    await done(session, tag, b"MYRIGHTS")


def line(session: "ImapSession", place: places.Place) -> bytes:
    """``* MYRIGHTS``."""
    return b"* MYRIGHTS " + wire(session, place.shown) + b" " + _text(rights.shown(place.rights)) + b"\r\n"


def _list(session: "ImapSession", place: places.Place) -> rights.Acl:
    assert place.key is not None
    with session.service.store.snapshot(place.account) as snapshot:
        return rights.load(snapshot.note(place.key, sharing.ACL))


def _text(text: str) -> bytes:
    return quote(text.encode())
