"""References to records in segments: which records are referred to, where they are, and which are dead.

A message's row in ``msg`` names its content by the mark ``s`` and (id, octets before the content, octets of content).
COPY and MOVE refer to the same record. ``ref`` counts references beyond the first; a row there stays, at 0, until the
last reference is removed, so that its record is never taken for an orphan. ``moved`` says where compaction put a
record. ``dead`` lists records without references, by location; compaction and the statistics need nothing else.

Promise: content is dead only from the commit that removed its last reference on. A segment's file is removed after the
commit that records the new location of everything in it, and never while a part of it is damaged.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fastmail._core import transfers
from fastmail.durable import segments
from fastmail.durable.segments import ALIGNED, Record
from fastmail.durable.transaction import Reading, Txn
from fastmail.durable.writing import delete_all
from fastmail.store.local.index import walk
from fastmail.store.local.index.layout import HOLDER, MARK_AT, MESSAGE, RECORD, SEGMENT, U64, mark_of
from fastmail.store.local.index.tables import Tables

REFERENCE = struct.Struct("<cQHQ")  # see Reference
COUNT = struct.Struct("<Q")
NONE = COUNT.pack(0)
OPEN, SEALED, GONE = b"o", b"s", b"x"  # states of a segment in table seg


class Reference(NamedTuple):
    """How a row names a record: its id, the octets before its content, the octets of its content."""

    mark: bytes
    ident: int
    skip: int
    length: int


def reference_in(marked: bytes | memoryview, at: int = 0) -> Reference:
    """Return the reference that a mark and name are. ``at``: offset of the mark, MARK_AT in a value of msg."""
    return Reference._make(REFERENCE.unpack_from(marked, at))


def reference(record: Record) -> bytes:
    """Return how a message's row names its record."""
    return REFERENCE.pack(SEGMENT, record.id, record.skip, record.length)


def ident_in(value: bytes | memoryview) -> int:
    """Return the id of the record that a value of msg names."""
    return reference_in(value, MARK_AT).ident  # no slice, which would copy a long summary


def in_segment(marked: bytes | memoryview) -> bool:
    """True if a mark and name refer to a record in a segment."""
    return marked[:1] == SEGMENT


def locate(txn: Reading, t: Tables, ident: int) -> int:
    """Return where the record is now."""
    moved = txn.get(U64.pack(ident), db=t.moved)
    return U64.unpack(moved)[0] if moved is not None else ident


def span(marked: bytes) -> int:
    """Return how many octets the record takes in its segment."""
    _, _, skip, length = reference_in(marked)
    return -(-(skip + length) // ALIGNED) * ALIGNED


def place_of(marked: bytes) -> tuple[int, int]:
    """Return (id, octets) of a record that has no reference yet."""
    return reference_in(marked).ident, span(marked)


def _found(txn: Reading, table: Any, keys: list[bytes]) -> dict[bytes, bytes]:
    """Return the rows of these sorted keys, without missing ones.

    Few records have such rows, and records of one moment lie side by side: often one look at the table tells that none
    of them has one."""
    cursor = txn.cursor(db=table)
    if not keys or not cursor.set_range(keys[0]):
        return {}
    first = bisect_left(keys, cursor.key())
    return dict(cursor.getmulti(keys[first:])) if first < len(keys) else {}


def share(txn: Txn, t: Tables, marks: list[bytes]) -> None:
    """Add a reference to each."""
    keys = transfers.idents(marks)
    txn.cursor(db=t.ref).putmulti(transfers.shared(keys, _found(txn, t.ref, sorted(set(keys)))))


def release(txn: Txn, t: Tables, marks: list[bytes]) -> None:
    """Remove a reference from each; a record without any is dead."""
    keys = transfers.idents(marks)
    changed, gone, dead = transfers.released(keys, marks, _found(txn, t.ref, sorted(dict.fromkeys(keys))))
    txn.cursor(db=t.ref).putmulti(changed)
    delete_all(txn, gone, db=t.ref)
    moved = {at: U64.pack(*U64.unpack(where)) for at, where in _found(txn, t.moved, sorted(dead)).items()}
    delete_all(txn, [at for at, where in moved.items() if where != at], db=t.moved)
    spans = transfers.spans(list(dead.values()), ALIGNED)
    txn.cursor(db=t.dead).putmulti(sorted(zip([moved.get(at, at) for at in dead], spans, strict=True)))


def keep(txn: Txn, t: Tables, marks: list[bytes]) -> None:
    """Record that the records are referred to, though not from the mailboxes that their heads name."""
    keys = sorted(dict.fromkeys(transfers.idents(marks)))
    found = _found(txn, t.ref, keys)
    txn.cursor(db=t.ref).putmulti([(at, NONE) for at in keys if at not in found])


def bury(txn: Txn, t: Tables, orphans: Sequence[tuple[int, int]]) -> None:
    """Record that records are dead that were written but never referred to."""
    for where, octets in orphans:
        txn.put(U64.pack(where), COUNT.pack(octets), db=t.dead)


def announce(txn: Txn, t: Tables, number: int) -> None:
    """Record that a process has begun to append to a segment. A segment without a row belongs to another index and is
    never taken for waste."""
    txn.put(U64.pack(number), OPEN, db=t.seg)


def seal(txn: Txn, t: Tables, number: int) -> None:
    """Record that the segment is complete: everything in it without a reference is in ``dead``."""
    txn.put(U64.pack(number), SEALED, db=t.seg)


def dead_in(txn: Reading, t: Tables, number: int) -> dict[int, int]:
    """Return {offset: octets} of the dead records in a segment."""
    out: dict[int, int] = {}
    cursor = txn.cursor(db=t.dead)
    if cursor.set_range(U64.pack(segments.make_id(number, 0))):
        for at, octets in cursor.iternext():
            where, offset = segments.split_id(U64.unpack(at)[0])
            if where != number:
                break
            out[offset] = COUNT.unpack(octets)[0]
    return out


def referred(txn: Reading, t: Tables, key: bytes) -> set[int]:
    """Return the ids of the records that a mailbox's rows refer to, including those kept for views."""
    out = {ident_in(value) for _, value in walk.rows(txn, t.msg, key) if mark_of(value) == SEGMENT}
    kept = (value[RECORD:] for _, value in walk.rows(txn, t.kept, key))
    return out | {ident_in(value) for value in kept if mark_of(value) == SEGMENT}


def marks(txn: Reading, t: Tables) -> Iterator[tuple[bytes, bytes]]:
    """Yield (mailbox key and UID, or holder; mark and name) of every row that refers to a record."""
    for at, value in txn.cursor(db=t.msg).iternext():
        if mark_of(value) == SEGMENT:
            yield at, value[MARK_AT:]
    for at, row in txn.cursor(db=t.kept).iternext():
        value = row[RECORD:]
        if len(at) == MESSAGE and mark_of(value) == SEGMENT:
            yield at, value[MARK_AT:]
    for at, _ in txn.cursor(db=t.held).iternext():
        if at[HOLDER : HOLDER + 1] == SEGMENT:
            yield at[:HOLDER], at[HOLDER:]


def record_moves(txn: Txn, t: Tables, moves: Sequence[tuple[Record, Record]]) -> None:
    """Record the new locations of (old, new) records after compaction. A record that died meanwhile is dead in its new
    location too."""
    for old, new in moves:
        was, now = segments.make_id(old.number, old.offset), segments.make_id(new.number, new.offset)
        if txn.get(U64.pack(was), db=t.dead) is None:
            txn.put(U64.pack(old.id), U64.pack(now), db=t.moved)
            txn.put(U64.pack(was), COUNT.pack(old.end - old.offset), db=t.dead)
        else:
            txn.put(U64.pack(now), COUNT.pack(new.end - new.offset), db=t.dead)


def forget_segment(txn: Txn, t: Tables, number: int) -> None:
    """Delete the rows of a segment all of whose records were moved or are dead. The caller removes the file and then
    calls ``forget_file``."""
    for offset in dead_in(txn, t, number):
        txn.delete(U64.pack(segments.make_id(number, offset)), db=t.dead)
    txn.put(U64.pack(number), GONE, db=t.seg)


def forget_file(txn: Txn, t: Tables, number: int) -> None:
    txn.delete(U64.pack(number), db=t.seg)
