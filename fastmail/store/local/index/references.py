"""The index's side of segments: which records are referred to, where they lie, and compaction.

A message's row in ``msg`` names its content by the mark ``s`` and (id, octets before the content, octets of it).
COPY and MOVE refer to the same record: ``ref`` counts references beyond the first and stays, at 0, until the last one
goes, so that a record with a row there is never taken for an orphan. ``moved`` says where compaction put it. ``dead``
lists what nothing refers to, by location, which is all that compaction and the statistics need.

Promise: content is dead only by the commit that removed its last reference; a segment's file goes after the commit that
names the new place of everything in it, and never while a part of it is damaged.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastmail.durable import segments
from fastmail.durable.segments import Record
from fastmail.store.local.index.arrivals import HEAD, RECORD
from fastmail.store.local.index.layout import OF_A_MESSAGE, U64, row_key, unpack_row

if TYPE_CHECKING:
    from fastmail.store.local.index.layout import Tables

MARK = struct.Struct("<cQHQ")
COUNT = struct.Struct("<Q")
OPEN, SEALED, GONE = b"o", b"s", b"x"


def mark(record: Record) -> bytes:
    """How a message's row names its record."""
    return MARK.pack(b"s", record.id, record.skip, record.length)


def in_segment(marked: bytes | memoryview) -> bool:
    return marked[:1] == b"s"


def locate(txn: Any, t: "Tables", ident: int) -> int:
    """Where the record lies now."""
    moved = txn.get(U64.pack(ident), db=t.moved)
    return U64.unpack(moved)[0] if moved is not None else ident


def span(marked: bytes) -> int:
    """Octets that the record takes."""
    _, _, skip, length = MARK.unpack(marked)
    return -(-(int(skip) + int(length)) // 8) * 8


def place_of(marked: bytes) -> tuple[int, int]:
    """(id, octets) of a record that nothing refers to yet."""
    return MARK.unpack(marked)[1], span(marked)


def _counts(txn: Any, t: "Tables", idents: Iterable[int]) -> dict[bytes, int]:
    """References beyond the first, by key, of the records that have a row."""
    keys = sorted({U64.pack(ident) for ident in idents})
    return {at: COUNT.unpack(count)[0] for at, count in txn.cursor(db=t.ref).getmulti(keys)}


def _put_counts(txn: Any, table: Any, counts: Mapping[bytes, int]) -> None:
    txn.cursor(db=table).putmulti([(at, COUNT.pack(count)) for at, count in sorted(counts.items())])


def share(txn: Any, t: "Tables", marks: Sequence[bytes]) -> None:
    """One more reference to each."""
    idents = [MARK.unpack(marked)[1] for marked in marks]
    counts = _counts(txn, t, idents)
    for ident in idents:
        at = U64.pack(ident)
        counts[at] = counts.get(at, 0) + 1
    _put_counts(txn, t.ref, counts)


def release(txn: Any, t: "Tables", marks: Sequence[bytes]) -> None:
    """One reference less to each; without any a record is dead."""
    counts = _counts(txn, t, [MARK.unpack(marked)[1] for marked in marks])
    changed: dict[bytes, int] = {}
    dead: dict[bytes, int] = {}
    for marked in marks:
        ident = MARK.unpack(marked)[1]
        at = U64.pack(ident)
        if counts.get(at):
            counts[at] = changed[at] = counts[at] - 1
            continue
        if counts.pop(at, None) is not None:
            changed.pop(at, None)
            txn.delete(at, db=t.ref)
        where = locate(txn, t, ident)
        dead[U64.pack(where)] = span(marked)
        if where != ident:
            txn.delete(at, db=t.moved)
    _put_counts(txn, t.ref, changed)
    _put_counts(txn, t.dead, dead)


def keep(txn: Any, t: "Tables", idents: Sequence[int]) -> None:
    """The records are referred to, though not from the mailboxes that their heads name."""
    counts = _counts(txn, t, idents)
    _put_counts(txn, t.ref, {U64.pack(ident): 0 for ident in idents if U64.pack(ident) not in counts})


def bury(txn: Any, t: "Tables", orphans: Sequence[tuple[int, int]]) -> None:
    """Records that were written but never referred to."""
    for where, octets in orphans:
        txn.put(U64.pack(where), COUNT.pack(octets), db=t.dead)


def announce(txn: Any, t: "Tables", number: int) -> None:
    """A process begins to append to it. What has no row is of another index and is never taken for waste."""
    txn.put(U64.pack(number), OPEN, db=t.seg)


def seal(txn: Any, t: "Tables", number: int) -> None:
    """The segment is complete, and all that is not referred to in it is in ``dead``."""
    txn.put(U64.pack(number), SEALED, db=t.seg)


def dead_in(txn: Any, t: "Tables", number: int) -> dict[int, int]:
    """{offset: octets} of what is dead in a segment."""
    out: dict[int, int] = {}
    cursor = txn.cursor(db=t.dead)
    if cursor.set_range(U64.pack(segments.make_id(number, 0))):
        for at, octets in cursor.iternext():
            where, offset = segments.split_id(U64.unpack(at)[0])
            if where != number:
                break
            out[offset] = COUNT.unpack(octets)[0]
    return out


def referred(txn: Any, t: "Tables", key: bytes) -> set[int]:
    """Ids of the records that a mailbox's rows name, with arrivals and what is kept for views."""
    out: set[int] = set()
    cursor = txn.cursor(db=t.msg)
    if cursor.set_range(key):
        for at, value in cursor.iternext():
            if at[:12] != key:
                break
            if value[2:3] == b"s":
                out.add(MARK.unpack_from(value, 2)[1])
    cursor = txn.cursor(db=t.kept)
    if cursor.set_range(key):
        for at, value in cursor.iternext():
            if at[:12] != key:
                break
            if value[RECORD + 2 : RECORD + 3] == b"s":
                out.add(MARK.unpack_from(value, RECORD + 2)[1])
    row = txn.get(row_key(key), db=t.page)
    settled = unpack_row(key, row).settled if row is not None else 0
    for at, value in txn.cursor(db=t.new).iternext():
        if value[:12] == key and value[54:55] == b"s" and U64.unpack(at)[0] > settled:
            out.add(MARK.unpack_from(value, 54)[1])
    return out


def marks(txn: Any, t: "Tables") -> Iterator[tuple[bytes, bytes]]:
    """(mailbox key and UID, or holder; mark) of every row that names a record."""
    for at, value in txn.cursor(db=t.msg).iternext():
        if value[2:3] == b"s":
            yield at, value[2:]
    for at, value in txn.cursor(db=t.kept).iternext():
        if len(at) == OF_A_MESSAGE and value[RECORD + 2 : RECORD + 3] == b"s":
            yield at, value[RECORD + 2 :]
    settled: dict[bytes, int] = {}
    for at, value in txn.cursor(db=t.new).iternext():
        if value[HEAD + 2 : HEAD + 3] != b"s":
            continue
        key = bytes(value[:12])
        if key not in settled:
            row = txn.get(row_key(key), db=t.page)
            settled[key] = unpack_row(key, row).settled if row is not None else 0
        if U64.unpack(at)[0] > settled[key]:
            yield key + bytes(value[12:16])[::-1], value[HEAD + 2 :]
    for at, _ in txn.cursor(db=t.held).iternext():
        if at[8:9] == b"s":
            yield at[:8], at[8:]


def settle_move(txn: Any, t: "Tables", moves: Sequence[tuple[Record, Record]]) -> None:
    """Name the new places of (old, new) records; what died meanwhile is dead in its new place too."""
    for old, new in moves:
        was, now = segments.make_id(old.number, old.offset), segments.make_id(new.number, new.offset)
        if txn.get(U64.pack(was), db=t.dead) is None:
            txn.put(U64.pack(old.id), U64.pack(now), db=t.moved)
            txn.put(U64.pack(was), COUNT.pack(old.end - old.offset), db=t.dead)
        else:
            txn.put(U64.pack(now), COUNT.pack(new.end - new.offset), db=t.dead)


def forget_segment(txn: Any, t: "Tables", number: int) -> None:
    """All of it was moved or is dead: drop its rows. The file is the caller's, and then ``forget_file``."""
    for offset in dead_in(txn, t, number):
        txn.delete(U64.pack(segments.make_id(number, offset)), db=t.dead)
    txn.put(U64.pack(number), GONE, db=t.seg)


def forget_file(txn: Any, t: "Tables", number: int) -> None:
    txn.delete(U64.pack(number), db=t.seg)
