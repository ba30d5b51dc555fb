"""Sends a session's client what changed in the selected mailbox (RFC 3501 5.2, 7.4.1; RFC 7162 3.2.10).

Promise: the view moves only here and in SELECT. The caller says whether removals may be sent: not while a command names
messages by sequence number. For another account's mailbox, the rights are looked up again first.
"""

from fastmail._core.uidset import UidSet
from fastmail.imap import places, updates
from fastmail.imap.state import Session
from fastmail.imap.views import Selected, changes, is_quiet
from fastmail.model.errors import CannotDo
from fastmail.store.interface import Mailbox

Own = tuple[UidSet, int]  # UIDs that this session changed itself, and the MODSEQ of that change


def is_news(session: Session, selected: Selected, box: Mailbox | None) -> bool:
    """True if there is anything to send about the selected mailbox. ``box``: its row, if the caller has just read
    it."""
    if box is None:
        with session.service.store.snapshot(selected.account) as snapshot:
            box = snapshot.mailbox(selected.key)
    behind = selected.contexts and box is not None and box.modseq != selected.contexts_modseq
    return bool(behind) or not is_quiet(selected, box)


async def tell(session: Session, by_uid: bool, expunges: bool, own: Own | None = None) -> bool:
    """Queue untagged responses for what changed. False if the mailbox may not be read any more or was deleted: the
    session was ended then.

    ``by_uid``: FETCH responses have UIDs; ``expunges``: removals may be sent; ``own``: changes that were sent
    already."""
    selected = session.selected
    if selected is None:
        return True
    store = session.service.store
    if selected.account is not session.account:
        try:
            places.refresh(session)
        except CannotDo as error:
            session.conn.write(b"* BYE " + str(error).encode() + b"\r\n")
            session.conn.close()
            return False
    with store.snapshot(selected.account) as snapshot:
        box = snapshot.mailbox(selected.key)
    if box is not None and box.uidnext != selected.uidnext and not session.rev2:
        await session.take_recent(selected)
    with store.snapshot(selected.account) as snapshot:
        box = snapshot.mailbox(selected.key)
        if box is not None:
            items, vanished = session.items(by_uid), session.qresync or session.uidonly
            before = selected.uids
            told = changes(selected, snapshot, box, expunges, items, own, vanished, not session.rev2)
            if selected.contexts:  # before the EXPUNGE responses, which change sequence numbers
                session.conn.write(updates.removed(selected, before, before.minus(selected.uids)))
            session.conn.write(told)
    if box is not None:
        if selected.contexts and box.modseq != selected.contexts_modseq:
            await updates.refresh(session.conn, selected)
        return True
    session.conn.write(b"* BYE the selected mailbox was deleted\r\n")
    session.conn.close()
    return False
