"""Compares what segments contain with what the index has of it: space, waste, orphans and damage.

It reads files and index and changes neither. A stretch without a complete record is damage if a row names a record in
it; otherwise its process died while writing it, and nothing in it was ever acknowledged.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastmail.durable import beneath, segments
from fastmail.durable.env import Read
from fastmail.durable.segments import Record
from fastmail.durable.transaction import Reading
from fastmail.store.local.index import references
from fastmail.store.local.index.layout import U64
from fastmail.store.local.index.tables import Tables

STATES = {references.OPEN: "unchecked", references.SEALED: "sealed", references.GONE: "compacted"}
BATCH = 4 << 20  # octets that compaction moves in one commit


def named(txn: Reading, t: "Tables", number: int) -> list[int]:
    """Return the offsets in a segment of records that rows name, in order. It reads all rows, so it is only for rare
    cases."""
    places = (
        segments.split_id(references.locate(txn, t, references.reference_in(marked).ident))
        for _, marked in references.marks(txn, t)
        if len(marked) >= references.REFERENCE.size
    )
    return sorted(offset for where, offset in places if where == number)


def names_any(offsets: Sequence[int], start: int, end: int) -> bool:
    """True if one of these sorted offsets is in the stretch."""
    place = bisect_left(offsets, start)
    return place < len(offsets) and offsets[place] < end


@dataclass(slots=True)
class Usage:
    """The space of one segment."""

    segment: str
    octets: int
    dead: int
    state: str


def usage(txn: Reading, t: "Tables", directory: str) -> list[Usage]:
    """Return the space of every segment. States: ``open`` (a process appends to it or compacts it), ``sealed``,
    ``unchecked`` (its process died), ``unknown`` (not of this index), ``compacted`` (about to be removed)."""
    out = []
    for number in segments.numbers(directory):
        size = beneath.lstat(segments.path_of(directory, number)).st_size
        state = STATES.get(bytes(txn.get(U64.pack(number), db=t.seg) or b""), "unknown")
        if state != "sealed" and segments.in_use(directory, number):
            state = "open"
        out.append(Usage(f"{number:06x}", size, sum(references.dead_in(txn, t, number).values()), state))
    return out


@dataclass(slots=True)
class Survey:
    """Result of scanning a segment that its process left unsealed."""

    number: int
    orphans: list[tuple[int, int]]
    damaged: int
    records: int


def survey(txn: Reading, t: "Tables", directory: str, number: int) -> Survey:
    """Return which records of a segment nothing refers to, and how much of it is damaged.

    A stretch without a complete record is damage if a row names a record in it. Otherwise it was being written when its
    process died: nothing in it was acknowledged, because a reply waits for the row."""
    out = Survey(number, [], 0, 0)
    dead = references.dead_in(txn, t, number)
    known: dict[bytes, set[int]] = {}
    torn: list[tuple[int, int]] = []
    for record, start, end in segments.scan(directory, number):
        if record is None:
            torn.append((start, end))
            continue
        out.records += 1
        if start in dead or txn.get(U64.pack(record.id), db=t.ref) is not None:
            continue
        if record.key not in known:
            known[record.key] = references.referred(txn, t, record.key)
        here = segments.make_id(number, start)
        if record.id not in known[record.key] or references.locate(txn, t, record.id) != here:
            out.orphans.append((here, end - start))
    offsets = named(txn, t, number) if torn else []
    for start, end in torn:
        if names_any(offsets, start, end):
            out.damaged += end - start
        else:
            out.orphans.append((segments.make_id(number, start), end - start))
    return out


def live(read: Read, t: "Tables", directory: str, number: int) -> tuple[list[Record], bool]:
    """Return (records of a sealed segment that are not dead; True if no row names a damaged record)."""
    with read() as txn:
        dead = references.dead_in(txn, t, number)
    out = []
    offsets: list[int] | None = None
    for record, start, end in segments.scan(directory, number):
        if record is None:
            if covered(dead, start, end):
                continue
            if offsets is None:
                with read() as txn:
                    offsets = named(txn, t, number)
            if names_any(offsets, start, end):
                return [], False
        elif start not in dead:
            out.append(record)
    return out, True


def covered(dead: dict[int, int], start: int, end: int) -> bool:
    """True if it is known that nothing in a stretch is needed."""
    at = start
    while at < end:
        if not dead.get(at):
            return False
        at += dead[at]
    return True


def batches(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Split a list into parts that are moved in one commit."""
    part: list[Record] = []
    octets = 0
    for record in records:
        part.append(record)
        octets += record.length
        if octets >= BATCH:
            yield part
            part, octets = [], 0
    if part:
        yield part
