"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, LIST, LSUB (RFC 3501 6.3.3 to 6.3.9), with CHILDREN (RFC 3348),
SPECIAL-USE (RFC 6154) and NAMESPACE (RFC 2342).
"""

from typing import TYPE_CHECKING

from fastmail._core.imap import Reader, quote
from fastmail.imap.authenticate import Work
from fastmail.model.errors import CannotDo
from fastmail.model.mailbox_name import INBOX, canonical, decode_utf7, encode_utf7, pattern, shown
from fastmail.store.interface import SPECIAL

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession


def read_name(session: "ImapSession", reader: Reader) -> str:
    """A mailbox name from the client; CannotDo for one that can not exist."""
    return canonical(decode_utf7(reader.astring()), session.service.separator)


def create(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.3; levels above are made too."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _create(session, tag, name)


async def _create(session: "ImapSession", tag: bytes, name: str) -> None:
    assert session.account is not None
    if name == INBOX:
        raise CannotDo("INBOX is always there")
    await session.service.store.create(session.account, name)
    await _done(session, tag, b"CREATE")


async def _done(session: "ImapSession", tag: bytes, word: bytes) -> None:
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
    assert session.account is not None
    if session.selected is not None and session.selected.name == name:
        session.deselect()
    await session.service.store.delete(session.account, name)
    await _done(session, tag, b"DELETE")


def rename(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.5; renaming INBOX moves its messages and leaves it empty."""
    reader.sp()
    old = read_name(session, reader)
    reader.sp()
    new = read_name(session, reader)
    reader.end()
    return _rename(session, tag, old, new)


async def _rename(session: "ImapSession", tag: bytes, old: str, new: str) -> None:
    assert session.account is not None
    await session.service.store.rename(session.account, old, new)
    await _done(session, tag, b"RENAME")


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
    await session.service.store.subscribe(session.account, name, on)
    await _done(session, tag, b"SUBSCRIBE" if on else b"UNSUBSCRIBE")


def list_(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.8."""
    reader.sp()
    reference = reader.astring()
    reader.sp()
    wanted = reader.list_mailbox()
    reader.end()
    return _list(session, tag, reference, wanted, subscribed=False)


def lsub(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.9."""
    reader.sp()
    reference = reader.astring()
    reader.sp()
    wanted = reader.list_mailbox()
    reader.end()
    return _list(session, tag, reference, wanted, subscribed=True)


async def _list(session: "ImapSession", tag: bytes, reference: bytes, wanted: bytes, subscribed: bool) -> None:
    account, service = session.account, session.service
    assert account is not None
    word = b"LSUB" if subscribed else b"LIST"
    sep = service.separator
    if not wanted and not subscribed:
        session.conn.write(b'* LIST (\\Noselect) %b ""\r\n' % _quoted(sep))
        await _done(session, tag, word)
        return
    listing = await service.store.listing(account)
    asked = _text(reference) + _text(wanted)
    if asked[: len(INBOX)].upper() == INBOX and asked[len(INBOX) : len(INBOX) + 1] in ("", sep):
        asked = INBOX + asked[len(INBOX) :]
    match = pattern(asked, sep).fullmatch
    existing = {box.name: box for box in listing.mailboxes}
    names = {name.replace("/", sep) for name in (listing.subscribed if subscribed else existing)}
    parents = {parent for name in names for parent in _parents(name, sep)}
    out = []
    for name in sorted(names | (parents - names), key=lambda n: (n != INBOX, n)):
        if not match(name) and not (name == INBOX and match(INBOX.lower())):
            continue
        box = existing.get(name.replace(sep, "/"))
        if name not in names and subscribed and not asked.endswith("%"):
            continue
        if name not in names and not subscribed and box is not None:
            continue
        marks = []
        if name not in names or (box is None):
            marks.append(b"\\Noselect")
        if not subscribed:
            marks.append(b"\\HasChildren" if name in parents else b"\\HasNoChildren")
            if box is not None:
                marks += [text.encode() for bit, text in SPECIAL.items() if box.special & bit]
        out.append(b"* %b (%b) %b %b\r\n" % (word, b" ".join(marks), _quoted(sep), quote(encode_utf7(name))))
    session.conn.write(b"".join(out))
    await _done(session, tag, word)


def _parents(name: str, sep: str) -> list[str]:
    levels = name.split(sep)
    return [sep.join(levels[:i]) for i in range(1, len(levels))]


def _text(pattern_text: bytes) -> str:
    try:
        return decode_utf7(pattern_text)
    except CannotDo:
        return pattern_text.decode("latin-1")


def _quoted(sep: str) -> bytes:
    return b'"' + sep.encode() + b'"'


def namespace(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 2342: one personal namespace."""
    reader.end()
    session.conn.write(b'* NAMESPACE (("" %b)) NIL NIL\r\n' % _quoted(session.service.separator))
    return session.finish(tag, b"OK NAMESPACE completed")  # type: ignore[no-any-return]


def wire(session: "ImapSession", name: str) -> bytes:
    """A stored name in a response."""
    return quote(shown(name, session.service.separator))
