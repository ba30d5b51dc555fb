"""STATUS (RFC 3501 6.3.10, SIZE of RFC 8438, HIGHESTMODSEQ of RFC 7162, DELETED of RFC 9051, APPENDLIMIT of RFC 7889,
MAILBOXID of RFC 8474, DELETED-STORAGE of RFC 9208): counters that the index keeps, so it costs one row whatever the
size of the mailbox.
"""

from collections.abc import Callable

from fastmail._core import pages
from fastmail._core.imap import ParseError, Reader
from fastmail._core.pages import Field
from fastmail.imap import places
from fastmail.imap.command import Command, Work
from fastmail.imap.names import read_name, wire
from fastmail.imap.state import Session
from fastmail.message.identity import mailbox_id
from fastmail.model.errors import NoSuchMailbox
from fastmail.model.flags import DELETED
from fastmail.store.interface import Mailbox

COMPLETED = b"OK STATUS completed"
Value = Callable[[Session, places.Place, Mailbox], int | bytes]


def _append_limit(session: Session, place: places.Place, box: Mailbox) -> int:
    return session.service.limits.message_size


def _deleted_octets(session: Session, place: places.Place, box: Mailbox) -> int:
    """Return what an EXPUNGE would free (RFC 9208 4.1.4). This is the only item that looks at messages."""
    if not box.deleted:
        return 0
    with session.service.store.snapshot(place.account) as snapshot:
        every = (record for page in snapshot.pages(box.key) for record in pages.records(page))
        return sum(record[Field.SIZE] for record in every if record[Field.FLAGS] & DELETED)


ITEMS: dict[bytes, Value] = {
    b"MESSAGES": lambda session, place, box: box.exists,
    b"RECENT": lambda session, place, box: max(0, box.uidnext - box.recent_from),
    b"UIDNEXT": lambda session, place, box: box.uidnext,
    b"UIDVALIDITY": lambda session, place, box: box.uidvalidity,
    b"UNSEEN": lambda session, place, box: box.unseen,
    b"DELETED": lambda session, place, box: box.deleted,
    b"SIZE": lambda session, place, box: box.octets,
    b"HIGHESTMODSEQ": lambda session, place, box: box.modseq,
    b"APPENDLIMIT": _append_limit,
    b"MAILBOXID": lambda session, place, box: b"(%b)" % mailbox_id(box.key),
    b"DELETED-STORAGE": _deleted_octets,
}
EXPECTED = b", ".join(ITEMS).decode().replace(", DELETED-STORAGE", " or DELETED-STORAGE")


def status(command: Command) -> Work:
    """RFC 3501 6.3.10."""
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    reader.sp()
    items = read_items(reader)
    reader.end()
    if b"HIGHESTMODSEQ" in items:
        session.learn_modseq()
    found = places.glance(session, name)
    if found is None:
        return _status(command, name, items)
    place, box, own = found
    session.conn.write(line(session, place, box, items))
    return command.finish(COMPLETED, box=own)


def read_items(reader: Reader) -> list[bytes]:
    """Read ``(MESSAGES UNSEEN ...)``."""
    reader.open()
    items: list[bytes] = []
    while True:
        at = reader.pos
        item = reader.atom().upper()
        if item not in ITEMS:
            raise ParseError(EXPECTED, at)
        if item not in items:
            items.append(item)
        if reader.peek() != 32:
            break
        reader.sp()
    reader.close()
    return items


def line(session: Session, place: places.Place, box: Mailbox, items: list[bytes]) -> bytes:
    """Return ``* STATUS``."""
    values = ((item, ITEMS[item](session, place, box)) for item in items)
    text = b" ".join(b"%b %b" % (item, one if isinstance(one, bytes) else b"%d" % one) for item, one in values)
    return b"* STATUS %b (%b)\r\n" % (wire(session, place.shown), text)


async def _status(command: Command, name: str, items: list[bytes]) -> None:
    session = command.session
    place = await places.find(session, name, "r")
    assert place.key is not None
    await session.look(place.account, place.key)
    with session.service.store.snapshot(place.account) as snapshot:
        box = snapshot.mailbox(place.key)
    if box is None:
        raise NoSuchMailbox("mailbox does not exist")
    session.conn.write(line(session, place, box, items))
    await command.complete(COMPLETED)
