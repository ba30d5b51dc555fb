"""COPY and MOVE inside a write transaction: records and rows of messages whose content is in place already."""

from collections.abc import Sequence

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Txn
from fastmail.model.errors import StorageFailed
from fastmail.store.interface import Appended, Copied
from fastmail.store.local.index import box_rows, layout, object_ids, references, removal, weight
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import ACCOUNT, trash_key
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
    """COPY or MOVE messages whose files are already linked in the target as ``names``.

    Messages that were removed meanwhile are left out, and their links left to the sweeper. SourceMoved if a record in a
    segment is not the message's any more. ``due``: see ``expunge``."""
    due = due if move and not t.tight() else 0
    box_rows.load(txn, t, key)
    records: dict[int, tuple[int, int, int, int, int, int, int]] = {}
    wanted = UidSet.of(uid for uid, _, _ in names)
    for _, page in box_rows.pages_of(txn, t, key, wanted):
        records.update({record[Field.UID]: record for record in pages.records(page)})
    old_words = box_rows.keyword_names(txn, t, key)
    box = box_rows.load(txn, t, target)
    change = Change(txn, t, target[:ACCOUNT])
    box.modseq, before = change.modseq, box.octets
    there = [(uid, name) for uid, name, _ in names if uid in records]
    named = {uid: flags for uid, _, flags in names}
    for uid, name, _ in names:
        if uid not in records and not references.in_segment(name):
            txn.put(trash_key(target, name), name, db=t.trash)
    used = {records[uid][3] for uid, _ in there}
    bits = {
        mask: box_rows.keyword_bits(txn, t, target, [word for i, word in enumerate(old_words) if mask >> i & 1])
        for mask in sorted(used)
    }
    source = [uid for uid, _ in there]
    new = [(flags, bits[words], date, size, saved) for _, flags, _, words, date, size, _ in map(records.pop, source)]
    uids = box_rows.append_records(txn, t, box, new)
    _copy_rows(txn, t, key, target, there, uids, change)
    change.row.octets += box.octets - before
    for uid, (old, name), (flags, words, *_) in zip(uids, there, new, strict=True):
        if not references.in_segment(name) and (words or named[old] != flags):
            txn.put(layout.uid_key(target, uid), b"", db=t.todo)
    shared = [name for _, name in there if references.in_segment(name)]
    if move and not due:
        references.keep(txn, t, [references.place_of(name)[0] for name in shared])
    else:
        references.share(txn, t, shared)
    box_rows.save(txn, t, box)
    removed = None
    if move and source:
        gone = UidSet.of(source)
        removed = removal.expunge(txn, t, key, gone, 0, moved=set(shared), due=due, change=change).result
    change.end()
    done = Copied(Appended(target, box.uidvalidity, uids, box.modseq), source, removed)
    return Changed(done, (target, key) if removed is not None else (target,))


def _copy_rows(
    txn: Txn,
    t: Tables,
    key: bytes,
    target: bytes,
    there: Sequence[tuple[int, bytes]],
    uids: Sequence[int],
    change: Change,
) -> None:
    """Copy rows of ``msg`` to new UIDs, with new names of the content."""
    become = {layout.uid_key(key, uid): (new, name) for new, (uid, name) in zip(uids, there, strict=True)}
    cursor = txn.cursor(db=t.msg)
    for some in box_rows.rows_of(txn, t, list(become)):
        copies: list[tuple[bytes, bytes]] = []
        came: list[object_ids.Item] = []
        for at, value in some:
            new, name = become.pop(at)
            if references.in_segment(name) and layout.marked_of(value) != name:
                raise SourceMoved("the content was moved")
            summary = bytes(layout.summary_of(value))
            copies.append((layout.uid_key(target, new), layout.pack_message(name, summary)))
            came.append((new, summary, change.modseq))
        cursor.putmulti(copies)
        change.row.summaries += sum(weight.of_value(value) for _, value in copies)
        change.created(target, came, 0)
    for new, name in become.values():  # a message with a record in a page but no row: damaged
        if references.in_segment(name):
            raise SourceMoved("the content was moved")
        txn.put(layout.uid_key(target, new), layout.pack_message(name, b""), db=t.msg)
        change.created(target, [(new, b"", change.modseq)], 0)
