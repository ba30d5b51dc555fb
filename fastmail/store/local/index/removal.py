"""EXPUNGE inside a write transaction: records are removed, and their rows are kept for views that still have them."""

from fastmail._core import pages, transfers
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Txn
from fastmail.durable.writing import delete_all
from fastmail.message.identity import ident
from fastmail.store.interface import Expunged
from fastmail.store.local.index import box_rows, kept, layout, object_ids, references
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
    moved: bool = False,
    due: int = 0,
    change: Change | None = None,
) -> Changed[Expunged]:
    """Remove messages with all ``required`` flags.

    Their files are entered in the trash table, to be unlinked after the commit. With ``unlink`` False they are not:
    they belong to another program, or do not exist. ``moved``: another mailbox now refers to what is in segments.
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
            some = gone[start : start + box_rows.BATCH]
            values = _forget_rows(txn, t, key, some, unlink, moved, had is not None, whole)
            if had is not None:
                kept.put(txn, t, key, values, had, due)
        if change is None:
            whole.end()
    return Changed(Expunged(key, out, box.modseq, before), (key,))


def _forget_rows(
    txn: Txn, t: Tables, key: bytes, uids: list[int], unlink: bool, moved: bool, keeps: bool, change: Change
) -> dict[bytes, bytes]:
    """Delete the ``msg`` rows of these messages, and release their content unless it is kept.

    If it is kept, the old values are returned, with the summary shortened to its names where it is long: it is computed
    again if a view asks for it."""
    keys = transfers.keys(key, uids)
    present: list[bytes] = []
    shared: list[bytes] = []
    files: list[tuple[bytes, bytes]] = []
    values: dict[bytes, bytes] = {}
    for some in box_rows.rows_of(txn, t, keys):
        removed, weight, own, others = transfers.removed(some, key, ident)
        present += [at for at, _ in some]
        shared += own
        files += others
        if keeps:
            values.update([(at, value if len(value) <= LONG else _shortened(value)) for at, value in some])
        change.row.summaries -= weight
        change.went(key, removed)
    damaged: list[bytes] = []  # keys of UIDs in a page that have no row
    if len(present) < len(keys):
        there = set(present)
        damaged = [at for at in keys if at not in there]
        change.removed(key, [(uid_of(at), b"", 0) for at in damaged], 0)
    delete_all(txn, present, db=t.msg)
    delete_all(txn, [at for at, _ in files] + damaged, db=t.todo)
    for _, name in files:
        if name and unlink:
            txn.put(trash_key(key, name), kept.aside(name) if keeps else name, db=t.trash)
    if not keeps and not moved:
        references.release(txn, t, shared)
    return values


def _shortened(value: bytes) -> bytes:
    """Return a row of ``msg`` with only the names of its summary."""
    return layout.pack_message(layout.marked_of(value), object_ids.only_names(layout.summary_of(value)))
