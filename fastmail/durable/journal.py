"""The journal of an environment: what its transactions changed, in preallocated files that are used again.

A reply waits for one ``fdatasync`` of these files and for nothing else (see docs/reliability.md). Each transaction adds
one record: the rows that it put and deleted, and the content that it wrote to files. The position of the next record is
a row of the environment itself, so it moves with the transaction: if the transaction does not commit, the next record
overwrites the one that was written for it.

The directory ``journal`` holds slots, files named ``0.journal``, ``1.journal`` and so on. A slot in use begins with a
HEADER that gives its serial number, the sequence number of its first record, and the start value of that record's
checksum. Each record's checksum starts from the checksum of the record before it, and the first one after a recovery
starts from a random number. So a record that an earlier use of the slot left behind never passes the check.

    record   RECORD (magic, octets of the body, sequence number, checksum), the body, then 0 to 7 zero octets
    body     entries, one after the other: ENTRY (kind, table, octets of the key, octets of the value), key, value
    PUT, DELETE, CLEAR   a row, or all rows of a table; ``table`` is an index into the names in the header
    MADE     a file: key its path; value its mtime in s, or -1, and its content
    LINKED   another name of a file: key its new path; value its earlier path
    PIECE    octets within a file: key its path; value their offset, and the octets
    If AGAIN is added to the kind, the end of the value is the same as the end of an earlier value of the record, as
    when a message has several recipients. In its place stand the number of that value among the record's values with
    content, and how many octets they share.
    Paths below the data directory are relative to it.

Promise: ``append`` never changes the size of a file, so a sync needs no commit of the file system's own journal. The
records of one slot are on the disk before the first record of the next is written. Reading stops at the first record
whose check fails.
"""

import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from fastmail._core.checksum import crc32, crc32_of
from fastmail._core.entries import CLEAR as CLEAR
from fastmail._core.entries import DELETE as DELETE
from fastmail._core.entries import LINKED as LINKED
from fastmail._core.entries import MADE as MADE
from fastmail._core.entries import PIECE as PIECE
from fastmail._core.entries import PUT as PUT
from fastmail._core.entries import Record, read
from fastmail.durable.replace import make_directories, sync_directory
from fastmail.durable.stage import write_at
from fastmail.model.errors import CorruptData

MAGIC = b"fastmail journal 1\n\0"
# magic, serial number, sequence number of the first record, what its checksum starts from, octets of the names of the
# tables that follow; after those a checksum of all of it
HEADER = struct.Struct("<20sQQIH")
START = 4096  # offset of the first record in a slot
RECORD_MAGIC = b"FMJR"
RECORD = struct.Struct("<4sIQI")
POSITION = struct.Struct("<QQQI")
U64 = struct.Struct("<Q")
I64 = struct.Struct("<q")
U32 = struct.Struct("<I")
LEAST, MOST = 1 << 20, 32 << 20  # octets of the smallest and of the largest slot
ZEROS = bytes(1 << 20)
PADDING = bytes(8)
SUFFIX = ".journal"
NEW = "new."  # prefix of the name of a slot that is still being written through
BOUND = 128 << 10  # octets of content above which a file is synced itself instead of being copied to the journal


class Position(NamedTuple):
    """Where the next record goes: serial number of the slot, offset in it (FULL: a new slot is begun), sequence number
    of the record, and checksum of the record before it."""

    serial: int
    offset: int
    sequence: int
    chain: int

    def pack(self) -> bytes:
        return POSITION.pack(*self)

    @classmethod
    def unpack(cls, raw: bytes | memoryview) -> "Position":
        return cls(*POSITION.unpack(raw))


# rows of the environment's table ``meta``: where the next record goes; the lowest slot that recovery may need, the
# transaction of the last checkpoint, and the process that took it; why nothing may be written any more; and behind
# FILE_SYSTEM_ROW the number of each file system that files were made on: the last checkpoint that was known then, and a
# directory there
POSITION_ROW, KEPT_ROW, BROKEN_ROW, FILE_SYSTEM_ROW = b"journal", b"journal-kept", b"journal-broken", b"journal-place"
KEPT = struct.Struct("<QQQ")
FULL = 1 << 62  # an offset after which no record fits


def beginning(directory: str, sequence: int) -> Position:
    """Return the position of a journal that starts afresh, when no earlier record counts any more: in a slot with a new
    serial number, from a random checksum."""
    last = max((slot.serial for slot in slots(directory)), default=0)
    return Position(last, FULL, sequence, int.from_bytes(os.urandom(4), "little"))


def tables_behind(directory: str, at: Position) -> list[tuple[str, ...]]:
    """Return the table names of each slot that has, or would have, records from ``at`` on."""
    first = at.serial + (at.offset == FULL)
    return [slot.tables for slot in slots(directory) if slot.serial >= first]


class Entry(NamedTuple):
    """One change that a transaction made. ``table`` is empty for changes to files."""

    kind: int
    table: str
    key: bytes
    value: memoryview


@dataclass(slots=True)
class Slot:
    """A file of the journal, as its header describes it. ``serial`` is 0 if it was never used or cannot be read."""

    path: str
    size: int
    serial: int = 0
    sequence: int = 0
    chain: int = 0
    tables: tuple[str, ...] = ()


def header(serial: int, sequence: int, chain: int, tables: Sequence[str]) -> bytes:
    """Return the header of a slot, padded to START octets."""
    names = "\0".join(tables).encode()
    raw = HEADER.pack(MAGIC, serial, sequence, chain, len(names)) + names
    return (raw + U32.pack(crc32(raw))).ljust(START, b"\0")


def read_header(path: str) -> Slot:
    """Read the header of the slot at ``path``."""
    with open(path, "rb", buffering=0) as file:
        raw = file.read(START)
        slot = Slot(path, os.fstat(file.fileno()).st_size)
    if len(raw) < START or raw[: len(MAGIC)] != MAGIC:
        return slot
    _, serial, sequence, chain, length = HEADER.unpack_from(raw)
    end = HEADER.size + length
    if end + U32.size > START or U32.unpack_from(raw, end)[0] != crc32(raw[:end]):
        return slot
    names = tuple(raw[HEADER.size : end].decode("utf-8", "replace").split("\0"))
    return Slot(path, slot.size, serial, sequence, chain, names)


def slots(directory: str) -> list[Slot]:
    """Return the slots of a directory, in the order of their serial numbers; unused ones come first."""
    names = [name for name in os.listdir(directory) if name.endswith(SUFFIX)]
    return sorted((read_header(os.path.join(directory, name)) for name in names), key=lambda slot: slot.serial)


class Journal:
    """Writes the journal; each process that writes to the environment has one. Call ``append`` under the environment's
    write lock, ``sync`` from any thread."""

    def __init__(self, directory: str, tables: Sequence[str], least: int = LEAST) -> None:
        self.directory = directory
        self._tables = tuple(tables)
        self._least = least
        self._serial = 0  # serial number of the slot that is open
        self._size = 0
        self._fd = -1
        self._old: list[int] = []  # descriptors of earlier slots: another thread may be syncing them

    def append(self, at: Position, record: Record, kept: int) -> Position:
        """Write a record at ``at`` and return the position after it.

        ``kept``: the lowest serial number that recovery may still need; slots with lower numbers may be used again.
        Raises OSError when the record cannot be written; no record counts as written then."""
        parts, length = record.body()
        room = -(-(RECORD.size + length) // 8) * 8
        try:
            if at.offset == FULL or not self._holds(at) or at.offset + room > self._size:
                at = self._advance(at, room, kept)
            chain = crc32_of([RECORD.pack(RECORD_MAGIC, length, at.sequence, 0), *parts], at.chain)
            head = RECORD.pack(RECORD_MAGIC, length, at.sequence, chain)
            write_at(self._fd, [head, *parts, PADDING[: room - RECORD.size - length]], at.offset)
        except BaseException:
            self._serial = 0  # another process may use a different file for this serial number: look it up again
            raise
        return Position(at.serial, at.offset + room, at.sequence + 1, chain)

    def follow(self, at: Position) -> None:
        """Open the slot of ``at`` without writing, so that ``sync`` covers what other processes wrote up to there."""
        if at.offset != FULL:
            self._holds(at)

    def spoil(self, before: Position, after: Position) -> None:
        """Invalidate the record between two positions, because its transaction did not commit."""
        if after.serial == self._serial:
            at = before.offset if before.serial == after.serial else START
            write_at(self._fd, [bytes(RECORD.size)], at)
        self._serial = 0  # another process may use a different file for the next serial number

    def _holds(self, at: Position) -> bool:
        """Open the slot of ``at`` unless it is open already. CorruptData when the slot is missing."""
        if at.serial == self._serial:
            return True
        for slot in slots(self.directory):
            if slot.serial == at.serial:
                self._use(slot)
                return True
        raise CorruptData(f"{self.directory}: the part of the journal that is in use is missing")

    def _use(self, slot: Slot) -> None:
        """Open a slot for writing."""
        fd = os.open(slot.path, os.O_RDWR | os.O_CLOEXEC)
        if self._fd >= 0:
            self._old.append(self._fd)
            if len(self._old) > 2:
                os.close(self._old.pop(0))
        self._fd, self._serial, self._size = fd, slot.serial, slot.size

    def _advance(self, at: Position, room: int, kept: int) -> Position:
        """Begin the next slot and return its first position. The records of the slot before are synced first."""
        if self._fd >= 0 and self._serial == at.serial:
            # a process that died may have left a complete record here whose transaction did not commit
            write_at(self._fd, [bytes(max(0, min(RECORD.size, self._size - at.offset)))], at.offset)
            os.fdatasync(self._fd)
        every = slots(self.directory)
        serial = at.serial + 1  # a slot with this or a higher number belongs to a transaction that did not commit
        fits = [slot for slot in every if slot.size >= START + room]
        free = [slot for slot in fits if slot.serial > at.serial] + [slot for slot in fits if slot.serial < kept]
        # Two slots with one serial number would make recovery choose: take the header of all but the one that is used.
        for slot in every:
            if slot.serial > at.serial and slot not in free[:1]:
                _void(slot)
        if free:
            slot = free[0]
        else:
            slot = make_slot(self.directory, max(next_size(self.directory, self._least), START + room))
        slot.serial, slot.sequence, slot.chain = serial, at.sequence, at.chain
        self._use(slot)
        write_at(self._fd, [header(serial, at.sequence, at.chain, self._tables)], 0)
        return Position(serial, START, at.sequence, at.chain)

    def sync(self) -> None:
        """Make durable all records that any process has appended so far."""
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close all slots."""
        for fd in [*self._old, self._fd]:
            if fd >= 0:
                os.close(fd)
        self._old.clear()
        self._fd, self._serial = -1, 0


def _void(slot: Slot) -> None:
    """Erase the header of a slot."""
    fd = os.open(slot.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_at(fd, [bytes(HEADER.size)], 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def next_size(directory: str, least: int = LEAST) -> int:
    """Return the octets of the next slot to be made: twice the largest one, within LEAST and MOST. So a busy server
    soon has large slots, and a quiet one writes no more than it needs."""
    known = max((slot.size for slot in slots(directory)), default=least // 2)
    return max(least, min(2 * known, MOST))


def make_slot(directory: str, size: int) -> Slot:
    """Create a slot of ``size`` octets and write it through, so that later writes neither change its size nor allocate
    blocks.

    It gets its final name only at the end, because other processes use any slot that they see. A failed attempt is
    removed."""
    make_directories(directory)
    size = -(-size // 4096) * 4096
    fresh = os.path.join(directory, f"{NEW}{os.getpid()}.{threading.get_ident()}")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            at = 0
            while at < size:
                at += os.pwrite(fd, ZEROS[: size - at], at)
            os.fsync(fd)
        finally:
            os.close(fd)
        path = _name(directory, fresh)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
    sync_directory(directory)
    return Slot(path, size)


def _name(directory: str, fresh: str) -> str:
    """Link a finished slot to the first free number."""
    number = 0
    while True:
        path = os.path.join(directory, f"{number}{SUFFIX}")
        try:
            os.link(fresh, path)
            return path
        except FileExistsError:
            number += 1


def clear(directory: str) -> None:
    """Remove unfinished slots that a process left when it died. No process may be making one."""
    for name in os.listdir(directory):
        if name.startswith(NEW):
            os.unlink(os.path.join(directory, name))


# ---------------------------------------------------------------- reading


class Found(NamedTuple):
    """A record that was read: where it begins and ends, its entries' octets, and the table names of its slot."""

    at: Position
    end: Position
    body: memoryview
    tables: tuple[str, ...]


def records(directory: str, at: Position) -> Iterator[Found]:
    """Yield the records from ``at`` on, up to the first one whose check fails."""
    every = {slot.serial: slot for slot in slots(directory) if slot.serial}
    while True:
        slot = every.get(at.serial)
        if slot is not None and at.offset != FULL:
            with open(slot.path, "rb", buffering=0) as file:
                for found in _in_slot(file.fileno(), slot, at):
                    yield found
                    at = found.end
        following = every.get(at.serial + 1)
        # The next slot must start exactly where this one ended; else it was left by an earlier round.
        if following is None or (following.sequence, following.chain) != (at.sequence, at.chain):
            return
        at = Position(following.serial, START, following.sequence, following.chain)


def _in_slot(fd: int, slot: Slot, at: Position) -> Iterator[Found]:
    """Yield the records of one slot from ``at`` on."""
    while True:
        head = os.pread(fd, RECORD.size, at.offset)
        if len(head) < RECORD.size:
            return
        magic, length, sequence, chain = RECORD.unpack(head)
        if magic != RECORD_MAGIC or sequence != at.sequence or at.offset + RECORD.size + length > slot.size:
            return
        body = _read(fd, length, at.offset + RECORD.size)
        wanted = crc32(body, crc32(RECORD.pack(RECORD_MAGIC, length, sequence, 0), at.chain))
        if len(body) < length or wanted != chain:
            return
        room = -(-(RECORD.size + length) // 8) * 8
        end = Position(at.serial, at.offset + room, at.sequence + 1, chain)
        yield Found(at, end, memoryview(body), slot.tables)
        at = end


def _read(fd: int, length: int, offset: int) -> bytes:
    """Read ``length`` octets at ``offset``, fewer at the end of the file."""
    parts = []
    while length:
        part = os.pread(fd, min(length, 1 << 26), offset)
        if not part:
            break
        parts.append(part)
        length -= len(part)
        offset += len(part)
    return b"".join(parts)


def entries(found: Found, rows: bool = True) -> list[Entry]:
    """Return the entries of a record; without ``rows`` only those about files. CorruptData if the octets are no
    entries."""
    try:
        return list(map(Entry._make, read(found.body, found.tables, rows)))
    except ValueError as error:
        raise CorruptData("a record of the journal is damaged") from error
