"""STATUS (RFC 3501 6.3.10): counters that the index keeps, so it costs one row whatever the mailbox's size."""

from typing import TYPE_CHECKING

from fastmail._core.imap import ParseError, Reader
from fastmail.imap.authenticate import Work
from fastmail.imap.mailboxes import read_name, wire
from fastmail.model.errors import NoSuchMailbox

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession

ITEMS = (b"MESSAGES", b"RECENT", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN")


def status(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.10."""
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    reader.open()
    items = []
    while True:
        at = reader.pos
        item = reader.atom().upper()
        if item not in ITEMS:
            raise ParseError("MESSAGES, RECENT, UIDNEXT, UIDVALIDITY or UNSEEN", at)
        items.append(item)
        if reader.peek() != 32:
            break
        reader.sp()
    reader.close()
    reader.end()
    return _status(session, tag, name, items)


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
    values = {
        b"MESSAGES": box.exists,
        b"RECENT": max(0, box.uidnext - box.recent_from),
        b"UIDNEXT": box.uidnext,
        b"UIDVALIDITY": box.uidvalidity,
        b"UNSEEN": box.unseen,
    }
    text = b" ".join(b"%b %d" % (item, values[item]) for item in items)
    session.conn.write(b"* STATUS %b (%b)\r\n" % (wire(session, name), text))
    work = session.finish(tag, b"OK STATUS completed")
    if work is not None:
        await work
