"""Checks all segments: every record is read, and every message's record is looked for."""

from collections.abc import Callable
from dataclasses import dataclass

from fastmail.durable import segments
from fastmail.durable.transaction import Reading
from fastmail.store.local.index import layout, references
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, account_of, uid_of
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir.opened import OpenedStore
from fastmail.store.local.segments import usage


@dataclass(slots=True)
class Finding:
    """A segment with damage, or a message whose content is missing."""

    where: str
    problem: str


def check(store: OpenedStore, shard: Shard, progress: Callable[[int, int], None]) -> list[Finding]:
    """Read every segment, and check that each message's record is sound; on a helper thread.

    A stretch without a complete record is damage if a row names a record in it, or if the index does not know the
    segment; otherwise its process died before it answered."""
    out: list[Finding] = []
    sound: dict[int, int] = {}
    ends: dict[int, int] = {}  # by segment: offset up to which it was read
    torn: list[tuple[int, int, int, bool]] = []  # segment, first octet, octet after the last, is it unknown
    every = segments.numbers(shard.directory)
    for position, number in enumerate(every):
        progress(position, len(every))
        with shard.env.read() as txn:
            dead = references.dead_in(txn, shard.tables, number)
            unknown = txn.get(layout.U64.pack(number), db=shard.tables.seg) is None
        for record, start, end in segments.scan(shard.directory, number):
            ends[number] = end
            if record is not None:
                sound[segments.make_id(number, start)] = _shape(record.skip, record.length)
            elif not usage.covered(dead, start, end) and not segments.in_use(shard.directory, number):
                torn.append((number, start, end, unknown and start >= segments.START))
    lost: dict[int, list[int]] = {}  # by segment: offsets at which records are missing
    messages: list[Finding] = []
    with shard.env.read() as txn:
        t = shard.tables
        for at, marked in references.marks(txn, t):
            _, ident, skip, length = references.reference_in(marked)
            where = references.locate(txn, t, ident)
            if sound.get(where) == _shape(skip, length):
                continue
            number, offset = segments.split_id(where)
            if offset >= ends.get(number, 0) and segments.in_use(shard.directory, number):
                continue  # it was written there since the segment was read
            lost.setdefault(number, []).append(offset)
            messages.append(Finding(_owner(store, txn, t, bytes(at)), "the content is missing or damaged"))
    for number, start, end, unknown in torn:
        if unknown or usage.names_any(sorted(lost.get(number, [])), start, end):
            out.append(Finding(f"segment {number:06x}", f"{end - start} octets at {start} have no undamaged record"))
    return out + messages


def _owner(store: OpenedStore, txn: Reading, t: Tables, at: bytes) -> str:
    """Return whose content a row names: ``at`` is a mailbox key and a UID, or the number of a queued message."""
    if len(at) == layout.U64.size:
        return f"queue {layout.U64.unpack(at)[0]:x}"
    row = txn.get(layout.row_key(at[:MAILBOX]), db=t.page)
    name = layout.unpack_row(at[:MAILBOX], row).name if row is not None else at[ACCOUNT:MAILBOX].hex()
    return f"{store.address(account_of(at))} {name} UID {uid_of(at)}"


def _shape(skip: int, length: int) -> int:
    """Return both lengths in one number."""
    return length << 16 | skip
