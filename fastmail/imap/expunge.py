"""CHECK and EXPUNGE (RFC 3501 6.4.1, 6.4.3), UID EXPUNGE (RFC 4315 2.1)."""

from fastmail._core.uidset import UidSet
from fastmail.imap import bounds
from fastmail.imap.command import Command, Work
from fastmail.imap.sets import read_set
from fastmail.imap.views import Selected, writable
from fastmail.model.flags import DELETED


def check(command: Command) -> Work:
    """RFC 3501 6.4.1: nothing to do, as everything is on disk already."""
    command.reader.end()
    return command.finish(b"OK CHECK completed")


def expunge(command: Command) -> Work:
    """RFC 3501 6.4.3, RFC 4315 2.1."""
    selected = command.session.selected
    assert selected is not None
    uids = selected.uids
    if command.by_uid:
        command.reader.sp()
        uids = read_set(command)
    command.reader.end()
    writable(selected, "e")
    return _expunge(command, selected, uids)


async def _expunge(command: Command, selected: Selected, uids: UidSet) -> None:
    session = command.session
    account, store = selected.account, session.service.store
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(selected.key)
    text = b"OK EXPUNGE completed"
    uids, code = bounds.newest(session, uids)
    if uids and box is not None and box.deleted:
        done = await store.expunge(account, selected.key, uids, DELETED)
        if session.condstore and done.uids:
            text = b"OK [HIGHESTMODSEQ %d] EXPUNGE completed" % done.modseq
    await command.complete(bounds.told(session, code, text))
