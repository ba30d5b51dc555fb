"""Segments: append-only files that hold many messages each, so that one sync serves all that arrive together.

A file ``<number>.seg`` begins with MAGIC and a random seed, from which the checksums of its heads start; so no message
can contain octets that pass for a record. Records follow, each at a multiple of 8 octets: a fixed head (see HEAD), the
mailbox's name in UTF-8, and the content as a Maildir would have it, with LF. The head has a checksum of itself with the
name, and one of the content. A record's id is the segment's number and the offset where the record was first written.
It never changes: COPY refers to it, and compaction moves the record without changing it.

Promise: each process appends only to files of its own, which it keeps locked. After a damaged or torn record, reading
finds the next one by its magic, so damage harms only the records it lies in. CorruptData for a record that has changed.
"""

import contextlib
import errno
import fcntl
import os
import re
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastmail._core.checksum import crc32
from fastmail.durable import beneath
from fastmail.durable.commit import PieceWrite
from fastmail.durable.replace import make_directories, sync_directory
from fastmail.model.errors import CorruptData, MailError

Octets = bytes | bytearray | memoryview
MAGIC = b"fastmail segment 1\n\0"
START = 24  # octets of a segment before its records: MAGIC and the seed of its checksums
ALIGNED = 8  # a record begins at a multiple of it
KEY = 12  # octets of a record's key: that of its mailbox, or an id of the queue
_NAME = re.compile(r"([0-9a-f]{6})\.seg")
RECORD_MAGIC = b"FMSG"
# magic, version, reserved, octets of the name, checksum of head and name (this field 0), octets of the content,
# checksum of the content, internal date, id when it was moved here or 0, mailbox key, RFC822.SIZE
HEAD = struct.Struct(f"<4sBBHIQIIQ{KEY}sI")
VERSION = 1  # of records; a reader skips those of any other
LONGEST_NAME = 1000  # octets of a mailbox name in a record, which are there to be read by people after damage
OFFSET_BITS = 40  # of an id: segments are far smaller than a TB
SIZE = 128 << 20  # octets after which a segment is full
OPEN = 128  # descriptors that a process keeps for reading
RETIRED = 60.0  # s until a descriptor that is no longer kept is closed
ROOM = 1 << 20  # octets read at a time
# the page cache does not have it; a file system or a kernel that cannot say so (tmpfs, NFS)
NOT_AT_ONCE = frozenset([errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS])


def make_id(number: int, offset: int) -> int:
    """Return the id of a record that was first written at ``offset`` of segment ``number``."""
    return number << OFFSET_BITS | offset


def split_id(ident: int) -> tuple[int, int]:
    """Return (segment number, offset) of an id."""
    return ident >> OFFSET_BITS, ident & ((1 << OFFSET_BITS) - 1)


@dataclass(slots=True)
class Record:
    """One record in a segment. ``id``: its name in the index; ``skip``: octets before its content."""

    id: int
    number: int
    offset: int
    skip: int
    length: int
    checksum: int
    date: int
    key: bytes
    name: str
    size: int

    @property
    def end(self) -> int:
        """Offset after the record, where the next one may begin."""
        return -(-(self.offset + self.skip + self.length) // ALIGNED) * ALIGNED


def path_of(directory: str, number: int) -> str:
    return os.path.join(directory, f"{number:06x}.seg")


def numbers(directory: str) -> list[int]:
    """Return the numbers of the existing segments, in order."""
    try:
        names = beneath.names(directory)
    except FileNotFoundError:
        return []
    found = (_NAME.fullmatch(name) for name in names)
    return sorted(int(name[1], 16) for name in found if name is not None)


def pack(record: Record, content: Sequence[Octets], seed: int) -> bytes:
    """Return head and name of a record, and fill in its length, checksum and skip."""
    name = record.name.encode()[:LONGEST_NAME]
    checksum = 0
    length = 0
    for chunk in content:
        checksum = crc32(chunk, checksum)
        length += len(chunk)
    record.length, record.checksum, record.skip = length, checksum, HEAD.size + len(name)
    here = make_id(record.number, record.offset)
    rest = (length, checksum, record.date, 0 if record.id == here else record.id, record.key, record.size)
    head = HEAD.pack(RECORD_MAGIC, VERSION, 0, len(name), 0, *rest)
    return HEAD.pack(RECORD_MAGIC, VERSION, 0, len(name), crc32(name, crc32(head, seed)), *rest) + name


def unpack(data: Octets, number: int, offset: int, seed: int) -> Record | None:
    """Return the record whose head and name are at the start of ``data``; None if there is none."""
    if len(data) < HEAD.size or data[: len(RECORD_MAGIC)] != RECORD_MAGIC:
        return None
    magic, version, reserved, names, own, length, checksum, date, ident, key, size = HEAD.unpack_from(data)
    name = bytes(data[HEAD.size : HEAD.size + names])
    head = HEAD.pack(magic, version, reserved, names, 0, length, checksum, date, ident, key, size)
    if len(name) != names or crc32(name, crc32(head, seed)) != own or version != VERSION:
        return None
    ident = ident or make_id(number, offset)
    text = name.decode("utf-8", "replace")
    return Record(ident, number, offset, HEAD.size + names, length, checksum, date, key, text, size)


class SegmentWriter:
    """Appends for one process. Offsets are assigned on the event loop, in the order in which they will be written."""

    def __init__(self, directory: str, size: int = SIZE) -> None:
        self._directory = directory
        self._size = size
        self._fd = -1
        self._seed = 0
        self._number = 0
        self._path = b""
        self._next = 0
        self._old: list[int] = []
        self.numbers: list[int] = []  # segments that this process created
        self._spare: tuple[int, int, int] | None = None
        # (id, octets) of records whose operation failed: compaction counts them as waste
        self.orphans: list[tuple[int, int]] = []

    @property
    def wants_file(self) -> bool:
        """True if ``prepare`` should be called soon."""
        return self._spare is None and (self._fd < 0 or self._next > self._size * 3 // 4)

    @property
    def has_room(self) -> bool:
        """True if ``append`` can work without ``prepare``."""
        return self._spare is not None or (self._fd >= 0 and self._next <= self._size)

    def prepare(self) -> None:
        """Create the next segment. Call it on a helper thread, because it syncs. OSError, and no file, on failure."""
        make_directories(self._directory)
        number = max(numbers(self._directory), default=0)
        while True:
            number += 1
            path = path_of(self._directory, number)
            try:
                fd = beneath.open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                break
            except FileExistsError:
                continue
        seed = os.urandom(4)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            head = MAGIC + seed
            while head:  # a write may be short, but without its complete head no record of the file could be read
                head = head[os.pwrite(fd, head, START - len(head)) :]
            os.fsync(fd)
            sync_directory(self._directory)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                beneath.unlink(path)
            raise
        self.numbers.append(number)
        self._spare = fd, number, int.from_bytes(seed, "little")

    def append(
        self, key: bytes, name: str, date: int, size: int, content: Sequence[Octets], ident: int = 0
    ) -> tuple[PieceWrite, Record]:
        """Assign an offset to a message; return the write for it, and its record."""
        if self._fd < 0 or self._next > self._size:
            if self._spare is None:
                self.prepare()
            assert self._spare is not None
            if self._fd >= 0:
                self._old.append(self._fd)
            (self._fd, self._number, self._seed), self._next, self._spare = self._spare, START, None
            self._path = os.fsencode(path_of(self._directory, self._number))
        number, offset = self._number, self._next
        record = Record(ident or make_id(number, offset), number, offset, 0, 0, 0, date & 0xFFFFFFFF, key, name, size)
        head = pack(record, content, self._seed)
        self._next = record.end

        def spoilt(error: BaseException) -> None:
            if not isinstance(error, MailError) and number == self._number:
                self._next = self._size + 1  # the write failed, so use this segment no more
            self.orphans.append((make_id(number, offset), record.end - offset))

        chunks = [head, *content]
        if len(chunks) > 8:
            chunks = [head, b"".join(content)]
        return PieceWrite(self._fd, offset, chunks, self._path, spoilt), record

    def release(self) -> None:
        """Close the segments before the present one. Nothing may be being written to them any more."""
        for fd in self._old:
            os.close(fd)
        self._old.clear()

    def close(self) -> None:
        """Close all segments. Nothing may be being written any more."""
        if self._spare is not None:
            self._old.append(self._spare[0])
            self._spare = None
        for fd in [*self._old, self._fd]:
            if fd >= 0:
                os.close(fd)
        self._old.clear()
        self._fd = -1


class SegmentReader:
    """Reads records of any process."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._fds: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._retired: deque[tuple[float, int]] = deque()

    def _file(self, number: int) -> tuple[int, int]:
        """Return (descriptor, seed) of a segment."""
        with self._lock:
            found = self._fds.get(number)
            if found is not None:
                self._fds.move_to_end(number)
                return found
            fd = beneath.open_file(path_of(self._directory, number))
            found = self._fds[number] = fd, _seed(fd)
            if len(self._fds) > OPEN:
                self._retire(self._fds.popitem(last=False)[1][0])
            return found

    def _retire(self, fd: int) -> None:
        """Close a descriptor after RETIRED seconds: another thread may still be reading from it."""
        now = time.monotonic()
        self._retired.append((now, fd))
        while self._retired[0][0] < now - RETIRED:
            os.close(self._retired.popleft()[1])

    def read(self, ident: int, skip: int, length: int, nowait: bool = False) -> bytes | None:
        """Return the content of the record at ``ident`` after checking it. With ``nowait`` None if the page cache lacks
        it.

        FileNotFoundError if the segment was removed, CorruptData if the record is damaged."""
        number, offset = split_id(ident)
        fd, seed = self._file(number)
        if length > ROOM and offset + skip + length > os.fstat(fd).st_size:
            # a damaged length must not allocate memory
            raise CorruptData(f"segment {number:06x}: no record at {offset}")
        data = bytearray(skip + length)
        try:
            got = os.preadv(fd, [data], offset, os.RWF_NOWAIT if nowait else 0)
        except OSError as error:
            if nowait and error.errno in NOT_AT_ONCE:
                return None
            raise
        if got < len(data) and nowait:
            return None
        record = unpack(memoryview(data)[:skip], number, offset, seed)
        if got < len(data) or record is None or record.skip != skip or record.length != length:
            raise CorruptData(f"segment {number:06x}: no record at {offset}")
        content = bytes(memoryview(data)[skip:])
        if crc32(content) != record.checksum:
            raise CorruptData(f"segment {number:06x}: the content at {offset} is damaged")
        return content

    def forget(self, number: int) -> None:
        """Stop using a segment that was removed."""
        with self._lock:
            found = self._fds.pop(number, None)
            if found is not None:
                self._retire(found[0])

    def close(self) -> None:
        """Close all segments. Nothing may be being read any more."""
        for fd in [*(fd for fd, _ in self._fds.values()), *(fd for _, fd in self._retired)]:
            os.close(fd)
        self._fds.clear()
        self._retired.clear()


def _seed(fd: int) -> int:
    """Return the seed of a segment. CorruptData if the file is no segment."""
    head = os.pread(fd, START, 0)
    if len(head) < START or head[: len(MAGIC)] != MAGIC:
        raise CorruptData("this is not a segment")
    return int.from_bytes(head[len(MAGIC) :], "little")


def lock_segment(directory: str, number: int) -> int | None:
    """Lock a segment to which no process appends. Returns a descriptor to be closed; None if another process has the
    lock."""
    try:
        fd = beneath.open_file(path_of(directory, number))
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    except BlockingIOError:
        os.close(fd)
        return None


def in_use(directory: str, number: int) -> bool:
    """True if a process appends to a segment or compacts it."""
    fd = lock_segment(directory, number)
    if fd is not None:
        os.close(fd)
    return fd is None


def scan(directory: str, number: int, check: bool = True) -> Iterator[tuple[Record | None, int, int]]:
    """Yield (record, first octet, octet after the last) for all of a segment in order; the record is None for a stretch
    without a complete record. With ``check``, records with damaged content count as such a stretch."""
    with os.fdopen(beneath.open_file(path_of(directory, number)), "rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        try:
            seed = _seed(file.fileno())
        except CorruptData:  # an empty file was created and never used; in any other no record can be checked
            if end:
                yield None, 0, end
            return
        at = START
        lost = -1
        while at < end:
            record = unpack(os.pread(file.fileno(), HEAD.size + LONGEST_NAME, at), number, at, seed)
            if (
                record is not None
                and at + record.skip + record.length <= end
                and (not check or _sound(file.fileno(), record))
            ):
                if lost >= 0:
                    yield None, lost, at
                    lost = -1
                yield record, at, record.end
                at = record.end
                continue
            if lost < 0:
                lost = at
            at = _next_magic(file.fileno(), at + 8, end)
        if lost >= 0:
            yield None, lost, end


def _sound(fd: int, record: Record) -> bool:
    """True if the content of a record has its checksum."""
    checksum, at, left = 0, record.offset + record.skip, record.length
    while left:
        data = os.pread(fd, min(left, ROOM), at)
        if not data:
            return False
        checksum = crc32(data, checksum)
        at += len(data)
        left -= len(data)
    return checksum == record.checksum


def _next_magic(fd: int, at: int, end: int) -> int:
    """Return the next offset at which a record may begin, or ``end``."""
    while at < end:
        data = os.pread(fd, ROOM, at)
        found = data.find(RECORD_MAGIC)
        while found >= 0 and (at + found) % ALIGNED:
            found = data.find(RECORD_MAGIC, found + 1)
        if found >= 0:
            return at + found
        if len(data) < ROOM:
            return end
        at += len(data) - 8
        at -= at % ALIGNED
    return end
