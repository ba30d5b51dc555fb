"""EXPUNGE inside a write transaction: records are removed, and their rows are kept for views that still have them."""

from collections.abc import Collection, Sequence

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Txn
from fastmail.store.interface import Expunged
from fastmail.store.local.index import box_rows, kept, layout, object_ids, references, weight
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import ACCOUNT, PAIR, trash_key, uid_of
from fastmail.store.local.index.tables import Tables
from fastmail.store.room import LONG


def expunge(
    txn: Txn,
    t: Tables,
    key: bytes,
    uids: UidSet | None,
    required: int,
    unlink: bool = True,
    moved: Collection[bytes] = (),
    due: int = 0,
    change: Change | None = None,
) -> Changed[Expunged]:
    """Remove messages with all ``required`` flags.

    Their files are entered in the trash table, to be unlinked after the commit. With ``unlink`` False they are not:
    they belong to another program, or do not exist. ``moved``: content in segments that another mailbox now refers to.
    ``due``: until when the messages stay readable for views (kept.py), 0 for not at all. ``change``: given if this is
    part of an operation that changes more in the account."""
    box = box_rows.load(txn, t, key)
    before, was = box.modseq, box.octets
    had: dict[int, bytes] | None = {} if due and not t.tight() else None  # old pages, from which records are kept
    everything = UidSet.of_ranges((1, layout.MAX_UID))
    gone: list[int] = []
    for at, page in box_rows.pages_of(txn, t, key, uids):
        new, g, unseen, deleted, octets = pages.remove(page, everything if uids is None else uids, required)
        if not g:
            continue
        if pages.head(new)[0]:
            txn.put(at, new, db=t.page)
        else:
            txn.delete(at, db=t.page)
        gone += g
        if had is not None:
            had[uid_of(at)] = page
        box.unseen -= unseen
        box.deleted -= deleted
        box.octets -= octets
        box.exists -= len(g)
    out = UidSet.of(gone)
    if gone:
        whole = change or Change(txn, t, key[:ACCOUNT])
        box.modseq = whole.modseq
        box_rows.save(txn, t, box)
        txn.put(key + layout.U64.pack(box.modseq), b"".join(PAIR.pack(lo, hi) for lo, hi in out.ranges()), db=t.gone)
        whole.row.octets -= was - box.octets
        for start in range(0, len(gone), box_rows.BATCH):
            values = _forget_rows(
                txn, t, key, gone[start : start + box_rows.BATCH], unlink, moved, had is not None, whole
            )
            if had is not None:
                kept.put(txn, t, key, values, had, due)
        if change is None:
            whole.end()
    return Changed(Expunged(key, out, box.modseq, before), (key,))


def _forget_rows(
    txn: Txn,
    t: Tables,
    key: bytes,
    uids: Sequence[int],
    unlink: bool,
    moved: Collection[bytes],
    keeps: bool,
    change: Change,
) -> dict[bytes, bytes]:
    """Delete the ``msg`` rows of these messages, and release their content unless it is kept.

    If it is kept, the old values are returned, with the summary shortened to its names where it is long: it is computed
    again if a view asks for it."""
    keys = [layout.uid_key(key, uid) for uid in uids]
    names: dict[bytes, bytes] = {}
    values: dict[bytes, bytes] = {}
    for some in box_rows.rows_of(txn, t, keys):
        lost: list[object_ids.Item] = []
        for at, value in some:
            names[at] = layout.marked_of(value)
            lost.append((uid_of(at), layout.summary_of(value), 0))
            change.row.summaries -= weight.of_value(value)
            if keeps:
                short = (
                    layout.pack_message(names[at], object_ids.only_names(lost[-1][1])) if len(value) > LONG else value
                )
                values[at] = short
        change.removed(key, lost, 0)
    damaged = [uid_of(at) for at in keys if at not in names]  # UIDs in a page that have no row
    change.removed(key, [(uid, b"", 0) for uid in damaged], 0)
    for at in keys:
        name = names.get(at, b"")
        if at in names:
            txn.delete(at, db=t.msg)
        if references.in_segment(name):
            continue
        txn.delete(at, db=t.todo)
        if name and unlink:
            txn.put(trash_key(key, name), kept.aside(name) if keeps else name, db=t.trash)
    if not keeps:
        references.release(
            txn, t, [name for name in names.values() if references.in_segment(name) and name not in moved]
        )
    return values
