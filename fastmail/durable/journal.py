"""The journal of an environment: what its transactions changed, in files that are written through once and used again.

A reply waits for one ``fdatasync`` of these files and for nothing else (see docs/reliability.md). Each transaction adds
one record: the rows that it put and deleted, and the content that it put into files. The place of the next record is a
row of the environment itself, so it moves with the transaction; a record whose transaction did not commit is written
over by the next one.

The directory ``journal`` holds slots, ``0.journal``, ``1.journal`` and so on. One that is in use begins with a HEADER
that gives its serial number, the sequence number of its first record, and what that record's checksum starts from. A
record's checksum starts from that of the record before it, and the first one of each recovery from a random number: so
nothing that an earlier round left in a slot is ever taken for a record of this one.

    record   RECORD (magic, octets of the body, sequence number, checksum), then the body, then up to 7 zero octets
    body     entries, one behind the other: ENTRY (kind, table, octets of the key, octets of the value), key, value
    PUT, DELETE, CLEAR   a row, or all rows of a table; ``table`` counts the names in the header
    MADE     a file: key its path; value its mtime in s, or -1, and its content
    LINKED   another name of a file: key its path; value the path that it had
    PIECE    octets of a file: key its path; value their offset, and the octets
    with AGAIN added to the kind, the value ends with what an earlier one of the record ends with (for a message with
             several recipients): its number among those of the record that have content, and how many octets of its end
    Paths below the data directory are relative to it.

Promise: ``append`` never changes the size of a file that was made before, so its sync needs nothing of the file
system's own journal; the records of one slot are on the disk before the first one of the next is written. Reading stops
at the first record that does not check.
"""

import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

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

Octets = bytes | bytearray | memoryview
MAGIC = b"fastmail journal 1\n\0"
# magic, serial number, sequence number of the first record, what its checksum starts from, octets of the names of the
# tables that follow; behind those a checksum of all of it
HEADER = struct.Struct("<20sQQIH")
START = 4096  # where the first record of a slot begins
MARK = b"FMJR"
RECORD = struct.Struct("<4sIQI")
POSITION = struct.Struct("<QQQI")
U64 = struct.Struct("<Q")
I64 = struct.Struct("<q")
U32 = struct.Struct("<I")
LEAST, MOST = 1 << 20, 32 << 20  # octets of the first slot that is made, and of later ones
ZEROS = bytes(1 << 20)
PADDING = bytes(8)
SUFFIX = ".journal"
NEW = "new."  # how the name of a slot begins that is being made
BOUND = 128 << 10  # octets up to which content goes into the journal; more is synced by itself


class Position(NamedTuple):
    """Where the next record goes: the slot's serial number, the offset in it (FULL: in the next slot), the record's
    sequence number, and the checksum of the record before."""

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
# PLACE_ROW the number of each file system that files were made on: the last checkpoint that was known then, and a
# directory there
POSITION_ROW, KEPT_ROW, BROKEN_ROW, PLACE_ROW = b"journal", b"journal-kept", b"journal-broken", b"journal-place"
KEPT = struct.Struct("<QQQ")
FULL = 1 << 62  # an offset behind which nothing fits


def beginning(directory: str, sequence: int) -> Position:
    """Where a journal goes on when nothing that was written before counts any more: in a slot with a new number, from a
    random checksum."""
    last = max((slot.serial for slot in slots(directory)), default=0)
    return Position(last, FULL, sequence, int.from_bytes(os.urandom(4), "little"))


def tables_behind(directory: str, at: Position) -> list[tuple[str, ...]]:
    """The tables of each slot that records from ``at`` on lie in, or would."""
    first = at.serial + (at.offset == FULL)
    return [slot.tables for slot in slots(directory) if slot.serial >= first]


class Entry(NamedTuple):
    """One thing that a transaction did. ``table`` is empty for what was done to files."""

    kind: int
    table: str
    key: bytes
    value: memoryview


@dataclass(slots=True)
class Slot:
    """A file of the journal, as its header says; ``serial`` 0: it was never used, or cannot be read."""

    path: str
    size: int
    serial: int = 0
    sequence: int = 0
    chain: int = 0
    tables: tuple[str, ...] = ()


def header(serial: int, sequence: int, chain: int, tables: Sequence[str]) -> bytes:
    """How a slot begins."""
    names = "\0".join(tables).encode()
    raw = HEADER.pack(MAGIC, serial, sequence, chain, len(names)) + names
    return (raw + U32.pack(zlib.crc32(raw))).ljust(START, b"\0")


def read_header(path: str) -> Slot:
    """What the slot at ``path`` begins with."""
    with open(path, "rb", buffering=0) as file:
        raw = file.read(START)
        slot = Slot(path, os.fstat(file.fileno()).st_size)
    if len(raw) < START or raw[: len(MAGIC)] != MAGIC:
        return slot
    _, serial, sequence, chain, length = HEADER.unpack_from(raw)
    end = HEADER.size + length
    if end + 4 > START or U32.unpack_from(raw, end)[0] != zlib.crc32(raw[:end]):
        return slot
    names = tuple(raw[HEADER.size : end].decode("utf-8", "replace").split("\0"))
    return Slot(path, slot.size, serial, sequence, chain, names)


def slots(directory: str) -> list[Slot]:
    """The slots in a directory, those in use in the order of their serial numbers."""
    names = [name for name in os.listdir(directory) if name.endswith(SUFFIX)]
    return sorted((read_header(os.path.join(directory, name)) for name in names), key=lambda slot: slot.serial)


class Journal:
    """One in each process that writes to the environment. ``append`` under the environment's write lock, ``sync`` from
    any thread."""

    def __init__(self, directory: str, tables: Sequence[str], least: int = LEAST) -> None:
        self.directory = directory
        self._tables = tuple(tables)
        self._least = least
        self._serial = 0  # of the slot that is open
        self._size = 0
        self._fd = -1
        self._old: list[int] = []  # descriptors of earlier slots, which somebody may be syncing

    def append(self, at: Position, record: Record, kept: int) -> Position:
        """Write a record at ``at``; where the next one goes. ``kept``: the lowest serial number that recovery may still
        need, so that slots below are free. OSError when it cannot be written: then nothing was."""
        parts, length = record.body()
        room = -(-(RECORD.size + length) // 8) * 8
        try:
            if at.offset == FULL or not self._holds(at) or at.offset + room > self._size:
                at = self._advance(at, room, kept)
            chain = zlib.crc32(RECORD.pack(MARK, length, at.sequence, 0), at.chain)
            for part in parts:
                chain = zlib.crc32(part, chain)
            head = RECORD.pack(MARK, length, at.sequence, chain)
            write_at(self._fd, [head, *parts, PADDING[: room - RECORD.size - length]], at.offset)
        except BaseException:
            self._serial = 0  # another process may begin the slot that was just begun anew, elsewhere
            raise
        return Position(at.serial, at.offset + room, at.sequence + 1, chain)

    def follow(self, at: Position) -> None:
        """Nothing is to be written, but ``sync`` shall cover what others wrote up to ``at``."""
        if at.offset != FULL:
            self._holds(at)

    def spoil(self, before: Position, after: Position) -> None:
        """The record between these two is not to be: its transaction did not commit."""
        if after.serial == self._serial:
            at = before.offset if before.serial == after.serial else START
            write_at(self._fd, [bytes(RECORD.size)], at)
        self._serial = 0  # another process may begin that slot anew, elsewhere

    def _holds(self, at: Position) -> bool:
        """Open the slot that ``at`` lies in, unless it is."""
        if at.serial == self._serial:
            return True
        for slot in slots(self.directory):
            if slot.serial == at.serial:
                self._use(slot)
                return True
        raise CorruptData(f"{self.directory}: the part of the journal that is in use is gone")

    def _use(self, slot: Slot) -> None:
        fd = os.open(slot.path, os.O_RDWR | os.O_CLOEXEC)
        if self._fd >= 0:
            self._old.append(self._fd)
            if len(self._old) > 2:
                os.close(self._old.pop(0))
        self._fd, self._serial, self._size = fd, slot.serial, slot.size

    def _advance(self, at: Position, room: int, kept: int) -> Position:
        """Begin the next slot; what lies in the one before is on the disk first."""
        if self._fd >= 0 and self._serial == at.serial:
            # a process that died may have left a whole record there whose transaction did not commit
            write_at(self._fd, [bytes(max(0, min(RECORD.size, self._size - at.offset)))], at.offset)
            os.fdatasync(self._fd)
        every = slots(self.directory)
        serial = at.serial + 1  # a slot that has this number or a higher one is of a transaction that did not commit
        fits = [slot for slot in every if slot.size >= START + room]
        free = [slot for slot in fits if slot.serial > at.serial] + [slot for slot in fits if slot.serial < kept]
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
        """All records that were appended so far, by whichever process, are on the disk when it returns."""
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def close(self) -> None:
        for fd in [*self._old, self._fd]:
            if fd >= 0:
                os.close(fd)
        self._old.clear()
        self._fd, self._serial = -1, 0


def _void(slot: Slot) -> None:
    """Take its header away."""
    fd = os.open(slot.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_at(fd, [bytes(HEADER.size)], 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def next_size(directory: str, least: int = LEAST) -> int:
    """Octets of the next slot that is made: twice as many as the largest there is, so that a busy server soon has large
    ones and a quiet one writes no more than it needs."""
    known = max((slot.size for slot in slots(directory)), default=least // 2)
    return max(least, min(2 * known, MOST))


def make_slot(directory: str, size: int) -> Slot:
    """A new slot of so many octets, written through: later writes change neither its size nor where it lies. It has its
    name only then: another process takes any slot that it sees, and what fails here is removed again."""
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
    """Give it the first number that is free."""
    number = 0
    while True:
        path = os.path.join(directory, f"{number}{SUFFIX}")
        try:
            os.link(fresh, path)
            return path
        except FileExistsError:
            number += 1


def clear(directory: str) -> None:
    """Remove slots that were being made as their process died. Nobody may be making one."""
    for name in os.listdir(directory):
        if name.startswith(NEW):
            os.unlink(os.path.join(directory, name))


# ---------------------------------------------------------------- reading


class Found(NamedTuple):
    """A record that was read: where it begins and ends, and its entries' octets with the names of the tables."""

    at: Position
    end: Position
    body: memoryview
    tables: tuple[str, ...]


def records(directory: str, at: Position) -> Iterator[Found]:
    """The records from ``at`` on, up to the first that does not check."""
    every = {slot.serial: slot for slot in slots(directory) if slot.serial}
    while True:
        slot = every.get(at.serial)
        if slot is not None and at.offset != FULL:
            with open(slot.path, "rb", buffering=0) as file:
                for found in _in_slot(file.fileno(), slot, at):
                    yield found
                    at = found.end
        following = every.get(at.serial + 1)
        if following is None or (following.sequence, following.chain) != (at.sequence, at.chain):
            return
        at = Position(following.serial, START, following.sequence, following.chain)


def _in_slot(fd: int, slot: Slot, at: Position) -> Iterator[Found]:
    while True:
        head = os.pread(fd, RECORD.size, at.offset)
        if len(head) < RECORD.size:
            return
        mark, length, sequence, chain = RECORD.unpack(head)
        if mark != MARK or sequence != at.sequence or at.offset + RECORD.size + length > slot.size:
            return
        body = _read(fd, length, at.offset + RECORD.size)
        wanted = zlib.crc32(body, zlib.crc32(RECORD.pack(MARK, length, sequence, 0), at.chain))
        if len(body) < length or wanted != chain:
            return
        room = -(-(RECORD.size + length) // 8) * 8
        end = Position(at.serial, at.offset + room, at.sequence + 1, chain)
        yield Found(at, end, memoryview(body), slot.tables)
        at = end


def _read(fd: int, length: int, offset: int) -> bytes:
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
    """What a record says; without ``rows`` only of files. CorruptData for what is no entry: it was written so."""
    try:
        return list(map(Entry._make, read(found.body, found.tables, rows)))
    except ValueError as error:
        raise CorruptData("a record of the journal is damaged") from error
