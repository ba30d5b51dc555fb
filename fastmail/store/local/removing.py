"""EXPUNGE and MOVE: what is removed stays readable for the views of other sessions, unless there is no room for that.

Promise: removing always works. Where the index is full nothing is kept, and commits become small.
"""

from functools import partial
from typing import TYPE_CHECKING

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable.env import translate
from fastmail.model.errors import StorageFull
from fastmail.store.interface import Account, Copied, Expunged
from fastmail.store.local.index import references, removal
from fastmail.store.local.maildir import housekeeping
from fastmail.store.local.maildir.folders import folder

if TYPE_CHECKING:
    from fastmail.store.local.store import LocalStore

FEW = 16  # messages that are removed at once where there is hardly any room


async def expunge(
    store: "LocalStore", account: Account, key: bytes, uids: UidSet | None, required: int, mine: int
) -> Expunged:
    """See interface.Store."""
    due = store.sweeper.due(account) if store.views.begin_removal(key, mine) else 0

    def then(result: Expunged) -> None:
        if result.uids:
            store.touch(account, key)

    try:
        result: Expunged = await store.submit(
            account, lambda txn, t: removal.expunge(txn, t, key, uids, required, due=due), then=then
        )
    except StorageFull:
        result = await expunge_few(store, account, key, uids, required, True)
    finally:
        store.views.end_removal(key)
    return result


async def expunge_few(
    store: "LocalStore", account: Account, key: bytes, uids: UidSet | None, required: int, unlink: bool
) -> Expunged:
    """The same in small commits. LMDB lists the pages that one commit sets free side by side, for which a map that
    is nearly full may have no room."""
    with store.snapshot(account) as snapshot:
        records = (one for page in snapshot.pages(key, uids) for one in pages.records(page))
        wanted = [one[0] for one in records if uids is None or one[0] in uids]
    gone, result = UidSet(), None
    for start in range(0, len(wanted), FEW):
        some = UidSet.of(wanted[start : start + FEW])
        remove = partial(removal.expunge, key=key, uids=some, required=required, unlink=unlink)
        result = await store.submit(account, remove, then=lambda _: store.touch(account, key))
        gone = gone.plus(result.uids)
    if result is None:
        raise StorageFull("index map is full")
    return Expunged(key, gone, result.modseq, result.before)


async def move(store: "LocalStore", account: Account, key: bytes, uids: UidSet, target: bytes, mine: int) -> Copied:
    """See interface.Store.copy."""
    due = store.sweeper.due(account) if store.views.begin_removal(key, mine) else 0
    try:
        return await store.transfer(account, key, uids, target, True, due)
    except StorageFull:
        if not due:
            raise
        return await store.transfer(account, key, uids, target, True)
    finally:
        store.views.end_removal(key)


async def content_of(store: "LocalStore", account: Account, key: bytes, uid: int) -> bytes | None:
    """The content of a message that was removed, as long as it is kept."""
    with store.snapshot(account) as snapshot:
        box, marked = snapshot.mailbox(key), snapshot.kept_file(key, uid)
    if box is None or marked is None:
        return None
    try:
        found: bytes | None
        if references.in_segment(marked):
            found = await store.help(store.record, account, marked)
        else:
            found = await store.help(housekeeping.read_kept, folder(account, box.name), marked)
        return found
    except FileNotFoundError:
        return None  # its time has come
    except OSError as error:
        raise translate(error) from error
