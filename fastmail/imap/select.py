"""SELECT, EXAMINE, CLOSE (RFC 3501 6.3.1, 6.3.2, 6.4.2), UNSELECT (RFC 3691), quick resynchronization (RFC 7162),
MAILBOXID (RFC 8474 4.2), and the changes of RFC 9051 6.3.2.
"""

from dataclasses import dataclass

from fastmail._core import fetch, pages
from fastmail._core.fetch import Item
from fastmail._core.imap import ParseError, Reader
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet
from fastmail.imap import places
from fastmail.imap.command import Command, Work
from fastmail.imap.names import quoted, read_name, wire
from fastmail.imap.state import Session
from fastmail.imap.views import Selected, flags_lines
from fastmail.message.identity import mailbox_id
from fastmail.model import rights
from fastmail.model.errors import NoSuchMailbox
from fastmail.model.flags import DELETED
from fastmail.store.interface import Snapshot


@dataclass(slots=True)
class Resync:
    """What a client with QRESYNC knew when it left (RFC 7162 3.2.5)."""

    uidvalidity: int
    modseq: int
    known: tuple[int, ...] | None = None


def select(command: Command) -> Work:
    """RFC 3501 6.3.1."""
    return _select(command, readonly=False)


def examine(command: Command) -> Work:
    """RFC 3501 6.3.2."""
    return _select(command, readonly=True)


def _select(command: Command, readonly: bool) -> Work:
    session, reader = command.session, command.reader
    reader.sp()
    name = read_name(session, reader)
    resync, condstore = _parameters(session, reader) if reader.more() else (None, False)
    reader.end()
    # Not learn_modseq: the HIGHESTMODSEQ of the mailbox that is opened comes anyway, and no other may come before it.
    session.condstore = session.condstore or condstore
    return _open(command, name, b"EXAMINE" if readonly else b"SELECT", resync)


def _parameters(session: Session, reader: Reader) -> tuple[Resync | None, bool]:
    """Read ``(CONDSTORE)`` and ``(QRESYNC (...))`` (RFC 7162 3.1.8, 3.2.5)."""
    resync, condstore = None, False
    reader.open()
    while True:
        at = reader.pos
        word = reader.atom().upper()
        if word == b"CONDSTORE":
            condstore = True
        elif word == b"QRESYNC":
            if not session.qresync:
                raise ParseError("ENABLE QRESYNC first", at)
            reader.sp()
            reader.open()
            validity = reader.number(True)
            reader.sp()
            resync = Resync(validity, reader.number(True, (1 << 63) - 1))
            if reader.more():
                if reader.peek() != 40:
                    resync.known = _known(reader)
                if resync.known is None or reader.more():
                    _matches(reader)
            reader.close()
        else:
            raise ParseError("CONDSTORE or QRESYNC", at)
        if not reader.more():
            break
    reader.close()
    return resync, condstore


def _known(reader: Reader) -> tuple[int, ...]:
    at = reader.pos
    found = reader.sequence_set()
    if found is None or 0 in found:
        raise ParseError("a set of UIDs without *", at)
    return found


def _matches(reader: Reader) -> None:
    """Read sequence numbers with their UIDs: a hint that a server with a log of removals does not need (RFC 7162
    3.2.5.2)."""
    reader.open()
    _known(reader)
    reader.sp()
    _known(reader)
    reader.close()


async def _open(command: Command, name: str, word: bytes, resync: Resync | None) -> None:
    session = command.session
    store = session.service.store
    if session.selected is not None:
        session.deselect()
        session.conn.write(b"* OK [CLOSED] the mailbox before is closed\r\n")
    place = await places.find(session, name, "r")
    account, key = place.account, place.key
    assert key is not None
    await session.look(account, key)
    await store.views.begin(key)
    try:
        await _attach(command, name, word, resync, place)
    except BaseException:
        store.views.end(key)
        raise


async def _attach(command: Command, name: str, word: bytes, resync: Resync | None, place: places.Place) -> None:
    """Take the view, which was begun, and write the answer."""
    session = command.session
    store, account, key = session.service.store, place.account, place.key
    assert key is not None
    readonly = word == b"EXAMINE" or not set(rights.WRITES) & set(place.rights)
    recent = await session.take_recent_of(account, key) if not readonly else (0, 0)
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox does not exist")
        uids, unseen = session.service.views.get(snapshot, box)
        words = snapshot.keywords(key)
        if readonly:
            recent = (box.recent_from, box.uidnext)
        fresh = UidSet()
        if recent[0] < recent[1] and not session.rev2:
            fresh = uids.both(UidSet.of_ranges((recent[0], recent[1] - 1)))
        selected = Selected(
            account, key, name, box.uidvalidity, readonly, uids, box.uidnext, box.modseq, box.modseq, fresh, words
        )
        selected.rights = place.rights
        # from the same snapshot: the client may rely on HIGHESTMODSEQ only for what is sent here
        resynced = b""
        if resync is not None and resync.uidvalidity == box.uidvalidity:
            resynced = _resynced(selected, snapshot, resync, Item.FLAGS | session.items(True))
    out = [flags_lines(selected), b"* %d EXISTS\r\n" % len(uids)]
    if session.rev2:
        out.append(b"* LIST () %b %b\r\n" % (quoted(session.service.separator), wire(session, name)))
    else:
        out.append(b"* %d RECENT\r\n" % len(fresh))
    if unseen and not session.rev2 and not session.uidonly:
        out.append(b"* OK [UNSEEN %d] first unseen\r\n" % uids.seq(unseen))
    out.append(b"* OK [UIDVALIDITY %d] UIDs valid\r\n* OK [UIDNEXT %d] next UID\r\n" % (box.uidvalidity, box.uidnext))
    out.append(b"* OK [HIGHESTMODSEQ %d] highest\r\n" % box.modseq)
    out.append(b"* OK [MAILBOXID (%b)] lasting name\r\n" % mailbox_id(key))
    out.append(resynced)
    mode = b"[READ-ONLY]" if readonly else b"[READ-WRITE]"
    out.append(b"%b OK %b %b completed\r\n" % (command.tag, mode, word))
    session.conn.write(b"".join(out))
    session.attach(selected)


def _resynced(selected: Selected, snapshot: Snapshot, resync: Resync, items: int) -> bytes:
    """Return what changed since the client left (RFC 7162 3.2.5.1, 3.2.6)."""
    wanted = UidSet.of_ranges(resync.known or (1, max(1, selected.uidnext - 1)))
    gone = snapshot.expunged(selected.key, resync.modseq).both(wanted).minus(selected.uids)
    out = Out(1024)
    if gone:
        out.write(b"* VANISHED (EARLIER) " + gone.octets() + b"\r\n")
    within = selected.uids.both(wanted)
    for page in snapshot.pages(selected.key, within):
        changed = UidSet.of(pages.changed_since(page, within, resync.modseq))
        if changed:
            fetch.page(out, page, selected.uids, changed, items, selected.keywords, selected.recent, None, [], False)
    return out.take()


def close(command: Command) -> Work:
    """RFC 3501 6.4.2: expunge without telling, unless the mailbox is open for reading only."""
    command.reader.end()
    return _close(command)


async def _close(command: Command) -> None:
    session = command.session
    selected = session.selected
    assert selected is not None
    session.deselect()
    code = b""
    if not selected.readonly and "e" in selected.rights:
        done = await session.service.store.expunge(selected.account, selected.key, None, DELETED, mine=0)
        if session.qresync and done.uids:
            code = b"[HIGHESTMODSEQ %d] " % done.modseq
    command.answer(b"OK " + code + b"CLOSE completed")


def unselect(command: Command) -> Work:
    """RFC 3691."""
    session = command.session
    command.reader.end()
    session.deselect()
    command.answer(b"OK UNSELECT completed")
    return None
