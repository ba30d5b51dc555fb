"""STATUS (RFC 3501 6.3.10, SIZE of RFC 8438, HIGHESTMODSEQ of RFC 7162, DELETED of RFC 9051, APPENDLIMIT of RFC 7889):
counters that the index keeps, so it costs one row whatever the mailbox's size.
"""

from typing import TYPE_CHECKING

from fastmail._core.imap import ParseError, Reader
from fastmail.imap.authenticate import Work
from fastmail.imap.mailboxes import read_name, wire
from fastmail.model.errors import NoSuchMailbox
from fastmail.store.interface import Mailbox

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession

ITEMS = (
    b"MESSAGES",
    b"RECENT",
    b"UIDNEXT",
    b"UIDVALIDITY",
    b"UNSEEN",
    b"DELETED",
    b"SIZE",
    b"HIGHESTMODSEQ",
    b"APPENDLIMIT",
)


def status(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.10."""
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    items = read_items(session, reader)
    reader.end()
    return _status(session, tag, name, items)


def read_items(session: "ImapSession", reader: Reader) -> list[bytes]:
    """``(MESSAGES UNSEEN ...)``."""
    reader.open()
    items: list[bytes] = []
    while True:
        at = reader.pos
        item = reader.atom().upper()
        if item not in ITEMS:
            raise ParseError(b", ".join(ITEMS[:-1]).decode() + " or APPENDLIMIT", at)
        if item not in items:
            items.append(item)
        if item == b"HIGHESTMODSEQ":
            session.condstore = True
        if reader.peek() != 32:
            break
        reader.sp()
    reader.close()
    return items


def line(session: "ImapSession", name: str, box: Mailbox, items: list[bytes]) -> bytes:
    """``* STATUS``."""
    values = {
        b"MESSAGES": box.exists,
        b"RECENT": max(0, box.uidnext - box.recent_from),
        b"UIDNEXT": box.uidnext,
        b"UIDVALIDITY": box.uidvalidity,
        b"UNSEEN": box.unseen,
        b"DELETED": box.deleted,
        b"SIZE": box.octets,
        b"HIGHESTMODSEQ": box.modseq,
        b"APPENDLIMIT": session.service.limits.message_size,
    }
    text = b" ".join(b"%b %d" % (item, values[item]) for item in items)
    return b"* STATUS %b (%b)\r\n" % (wire(session, name), text)


async def _status(session: "ImapSession", tag: bytes, name: str, items: list[bytes]) -> None:
    account, store = session.account, session.service.store
    assert account is not None
    key = store.find(account, name)
    if key is None:
        await store.listing(account)
        key = store.find(account, name)
    if key is None:
        raise NoSuchMailbox("mailbox does not exist")
    await session.look(key)
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
    if box is None:
        raise NoSuchMailbox("mailbox does not exist")
    session.conn.write(line(session, name, box, items))
    work = session.finish(tag, b"OK STATUS completed")
    if work is not None:
        await work
