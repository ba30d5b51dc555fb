"""COPY and MOVE inside a write transaction: records and rows of messages whose content is in place already."""

from collections.abc import Sequence

from fastmail._core import pages, transfers
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Txn
from fastmail.message.identity import ident
from fastmail.model.errors import StorageFailed
from fastmail.store.interface import Appended, Copied
from fastmail.store.local.index import box_rows, layout, references, removal
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import ACCOUNT, FLAGGED, trash_key
from fastmail.store.local.index.tables import Tables

# a message to be copied: its UID, mark and name of its content in the target, flags in that file name
Source = tuple[int, bytes, int]


class SourceMoved(StorageFailed):
    """Content was renamed, removed or converted between reading the snapshot and copying: by housekeeping, a
    conversion, or another program."""


def copy(
    txn: Txn,
    t: Tables,
    key: bytes,
    target: bytes,
    names: Sequence[Source],
    saved: int,
    move: bool,
    due: int = 0,
) -> Changed[Copied]:
    """COPY or MOVE messages whose files are already linked in the target as ``names``, in order of UIDs.

    Messages that were removed meanwhile are left out, and their links left to the sweeper. SourceMoved if a record in a
    segment is not the message's any more. ``due``: see ``expunge``."""
    due = due if move and not t.tight() else 0
    box_rows.load(txn, t, key)
    wanted = UidSet.of([uid for uid, _, _ in names])
    packed, source, used = pages.chosen([page for _, page in box_rows.pages_of(txn, t, key, wanted)], wanted)
    old_words = box_rows.keyword_names(txn, t, key)
    box = box_rows.load(txn, t, target)
    change = Change(txn, t, target[:ACCOUNT])
    box.modseq, before = change.modseq, box.octets
    there = _there(txn, t, target, names, source)
    bits = {
        mask: box_rows.keyword_bits(txn, t, target, [word for i, word in enumerate(old_words) if mask >> i & 1])
        for mask in sorted(used)
    }
    uids = box_rows.next_uids(box, len(source))
    new = pages.copied(packed, box.uidnext, box.modseq, bits, saved)
    box_rows.append_packed(txn, t, box, uids, new)
    _copy_rows(txn, t, key, target, there, uids, change)
    change.row.octets += box.octets - before
    shared = [name for _, name, _ in there if references.in_segment(name)]
    if len(shared) < len(there):
        for (uid, flags, words), (_, name, named) in zip(FLAGGED.iter_unpack(new), there, strict=True):
            if not references.in_segment(name) and (words or named != flags):
                txn.put(layout.uid_key(target, uid), b"", db=t.todo)
    if move and not due:
        references.keep(txn, t, shared)
    else:
        references.share(txn, t, shared)
    box_rows.save(txn, t, box)
    removed = None
    if move and source:
        gone = UidSet.of(source)
        removed = removal.expunge(txn, t, key, gone, 0, moved=True, due=due, change=change).result
    change.end()
    done = Copied(Appended(target, box.uidvalidity, list(uids), box.modseq), source, removed)
    return Changed(done, (target, key) if removed is not None else (target,))


def _there(txn: Txn, t: Tables, target: bytes, names: Sequence[Source], source: list[int]) -> Sequence[Source]:
    """Return those of ``names`` whose messages, ``source``, still exist. Links of the others are left to the
    sweeper."""
    if len(names) == len(source):
        return names
    left = set(source)
    for uid, name, _ in names:
        if uid not in left and not references.in_segment(name):
            txn.put(trash_key(target, name), name, db=t.trash)
    return [one for one in names if one[0] in left]


def _copy_rows(
    txn: Txn, t: Tables, key: bytes, target: bytes, there: Sequence[Source], uids: range, change: Change
) -> None:
    """Copy rows of ``msg`` to new UIDs, with new names of the content."""
    become = {uid: (new, name) for new, (uid, name, _) in zip(uids, there, strict=True)}
    cursor = txn.cursor(db=t.msg)
    for some in box_rows.rows_of(txn, t, transfers.keys(key, list(become))):
        copied = transfers.copied(some, become, target, change.modseq, ident)
        if copied is None:
            raise SourceMoved("the content was moved")
        copies, created, weight = copied
        cursor.putmulti(copies)
        change.row.summaries += weight
        change.came(target, created)
    for new, name in become.values():  # a message with a record in a page but no row: damaged
        if references.in_segment(name):
            raise SourceMoved("the content was moved")
        txn.put(layout.uid_key(target, new), layout.pack_message(name, b""), db=t.msg)
        change.created(target, [(new, b"", change.modseq)], 0)
