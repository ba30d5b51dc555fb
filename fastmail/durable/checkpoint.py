"""Checkpoints: states of an environment that are on the disk whole, from which the journal is replayed.

The environment is written without syncs, so after a loss of power its file may hold any mixture of old and new pages.
A checkpoint makes one state of it sure: a read transaction is opened and kept, so that no page of that state is used
again; the files that the journal tells of and the environment's own file are synced; and the meta page of exactly that
state is kept in the file ``journal/checkpoint``. Recovery puts that page back, and all others that it leads to are as
they were. Only then may the read transaction of the checkpoint before go, and its part of the journal be used again.

Any process may take one, one at a time. It keeps its read transaction until it sees that another has taken a later one.
A process that died leaves its place among the readers behind, which keeps the pages just as well, until the next
checkpoint has been taken; so nobody clears such places but this module. LMDB does it, too, when a process died while
it held LMDB's lock: so each write transaction looks first whether the place is still there (``kept``), and where it is
not, nothing is written before there is a new checkpoint.
"""

import ctypes
import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastmail.durable import beneath, files, journal
from fastmail.durable.journal import Position
from fastmail.durable.replace import replace_file
from fastmail.durable.salvage import TOP
from fastmail.model.errors import CorruptData

NAME = "checkpoint"
MAGIC = b"fastmail checkpoint 1\n"
HEAD = struct.Struct("<22sBIQ28sI")  # magic, clean, octets of a page, transaction, position, octets of the meta page
SPARE = 3  # slots that are kept for later


class NotSynced(OSError):
    """What was written may be lost, though the kernel calls it written from now on: it says so only once."""


@dataclass(slots=True)
class State:
    """What the file says. ``clean``: it was written as the last process closed the environment, and nothing followed.
    ``meta``: the meta page, empty where the environment's file is to be taken as it is."""

    clean: bool
    txn: int
    position: Position
    meta: bytes

    def pack(self) -> bytes:
        position = self.position.pack()
        raw = HEAD.pack(MAGIC, self.clean, len(self.meta), self.txn, position, len(self.meta)) + self.meta
        return raw + journal.U32.pack(zlib.crc32(raw))


def folder(path: str) -> str:
    """Where the journal of the environment at ``path`` lies."""
    return os.path.join(path, "journal")


def read(path: str) -> State | None:
    """The last checkpoint of the environment at ``path``; None when it has none. CorruptData when it is damaged."""
    try:
        raw = beneath.read(os.path.join(folder(path), NAME), 1 << 20)
    except FileNotFoundError:
        return None
    body, check = raw[:-4], raw[-4:]
    if len(raw) < HEAD.size + 4 or not raw.startswith(MAGIC) or journal.U32.pack(zlib.crc32(body)) != check:
        raise CorruptData(f"{folder(path)}/{NAME} is damaged; run `fastmail check --repair`")
    _, clean, _, txn, position, length = HEAD.unpack_from(body)
    return State(bool(clean), txn, Position.unpack(position), body[HEAD.size : HEAD.size + length])


def write(path: str, state: State) -> None:
    """Make it the last checkpoint; durable when it returns."""
    replace_file(os.path.join(folder(path), NAME), state.pack())


def put_back(path: str, state: State) -> None:
    """Make the state of the checkpoint the environment's only one. Nobody may have it open."""
    page = len(state.meta)
    if not page:
        return
    with open(os.path.join(path, "data.mdb"), "r+b", buffering=0) as file:
        for number in (0, 1):  # each meta page begins with its own number
            file.seek(number * page)
            file.write(journal.U64.pack(number) + state.meta[8:])


def meta_of(path: str, page: int, txn: int) -> bytes | None:
    """The meta page of a transaction, while no later one can have taken its place."""
    with open(os.path.join(path, "data.mdb"), "rb", buffering=0) as file:
        raw = os.pread(file.fileno(), page, (txn & 1) * page)
    return raw if len(raw) == page and TOP.unpack_from(raw, 16)[-1] == txn else None


def _sync_file_systems(directories: Iterable[str]) -> None:
    """All that was written below these directories to the disk; one that is gone stands for the one it was in."""
    devices: dict[int, str] = {}
    for directory in directories:
        place = directory
        while place and not os.path.isdir(place):
            place = os.path.dirname(place)
        if place:
            devices.setdefault(os.stat(place).st_dev, place)
    for place in devices.values():
        try:
            files.sync_file_system(os.fsencode(place))
        except OSError as error:
            raise NotSynced(error.errno, error.strerror, place) from error


class Lock:
    """A file that one process holds, or several together."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, how: int) -> bool:
        """Take it (fcntl.LOCK_...); False when LOCK_NB was asked for and another one has it."""
        try:
            fcntl.flock(self._fd, how)
            return True
        except BlockingIOError:
            return False

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)


class Checkpoints:
    """Takes them, for one environment, in one process."""

    def __init__(self, path: str, env: Any, meta: Any, page: int, base: str) -> None:
        self._path = path
        self._env = env
        self._meta = meta
        self._page = page
        self._base = base
        self._lock = Lock(os.path.join(folder(path), "taking"))
        self._mine = threading.Lock()  # the same among the threads of this process
        self._pins = threading.Lock()  # of the two below
        self._pin: Any = None
        self._pinned = 0  # number of its transaction
        self._stays = False
        self._last: Position | None = None
        self._since = time.monotonic()

    def position(self) -> Position:
        """Where the next record goes."""
        with self._env.begin() as txn:
            return Position.unpack(txn.get(journal.POSITION_ROW, db=self._meta))

    def due(self, seconds: float, octets: int) -> bool:
        """Is it time for one? So many seconds after the last that this process took, when anything was written since,
        or after so many octets."""
        at = self.position()
        if self._last is None:
            return True
        if at == self._last:
            return False
        written = at.offset - self._last.offset if at.serial == self._last.serial else octets
        return written >= octets or time.monotonic() - self._since >= seconds

    def take(self, clean: bool = False, known: State | None = None, wait: bool = False) -> bool:
        """Take one; False when another process is at it (without ``wait``), or nothing is written any more. ``clean``:
        nobody else has the environment open, and nothing will follow. ``known``: the last one, where the journal after
        it tells which files were made. OSError when the disk fails: then the last one stays."""
        if not self._mine.acquire(wait):
            return False
        try:
            if not self._lock.take(fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)):
                return False
            try:
                return self._take(clean, known)
            finally:
                self._lock.release()
        finally:
            self._mine.release()

    def _take(self, clean: bool, known: State | None) -> bool:
        before = known or read(self._path)
        txn, number, meta = self._snapshot()
        try:
            if txn.get(journal.BROKEN_ROW, db=self._meta) is not None:
                txn.abort()
                return False
            position = Position.unpack(txn.get(journal.POSITION_ROW, db=self._meta))
            places = {self._path} | (set(self._places(before.position, position)) if before else set())
            _sync_file_systems(places)
            write(self._path, State(clean, number, position, meta))
        except BaseException:
            txn.abort()
            raise
        with self._pins:
            old, self._pin, self._pinned = self._pin, txn, number
        self._last, self._since = position, time.monotonic()
        if not clean:
            self._stay()
            self._tell(number, position.serial)
            self._env.reader_check()
        if old is not None:
            old.abort()  # not before everybody can know of the new one
        return True

    def _stay(self) -> None:
        """Only ``close`` may end the place among the readers, and not a process that ends in another way."""
        if not self._stays:
            self._stays = True
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._env))

    def _snapshot(self) -> tuple[Any, int, bytes]:
        """(read transaction, its number, its meta page)."""
        with self._env.begin(write=True):  # for a moment nothing changes
            txn = self._env.begin()
            number = int(txn.id())
            meta = meta_of(self._path, self._page, number)
        if meta is None:
            txn.abort()
            raise CorruptData(f"{self._path}: its meta page cannot be read")
        return txn, number, meta

    def _places(self, start: Position, end: Position) -> Iterable[str]:
        """Directories that files were made in, by the journal between two places in it."""
        known: set[bytes] = set()
        for found in journal.records(folder(self._path), start):
            if found.at.sequence >= end.sequence:
                return
            for entry in journal.entries(found):
                if entry.kind not in (journal.MADE, journal.PIECE):
                    continue
                directory = os.path.dirname(entry.key)
                if directory not in known:
                    known.add(directory)
                    yield os.path.join(self._base, os.fsdecode(directory))

    def _tell(self, number: int, serial: int) -> None:
        """What lies in slots below this one is needed no more; slots beyond those that are soon needed go."""
        with self._env.begin(write=True) as txn:
            txn.put(journal.KEPT_ROW, journal.KEPT.pack(serial, number, os.getpid()), db=self._meta)
            free = [slot for slot in journal.slots(folder(self._path)) if slot.serial < serial]
            for slot in sorted(free, key=lambda one: one.size)[:-SPARE]:
                os.unlink(slot.path)
        if not free and serial > 1:  # a busy journal: the next slot is made before anybody waits for it
            journal.make_slot(folder(self._path), journal.next_size(folder(self._path)))

    def heard(self, number: int) -> None:
        """Another process has taken one, of that transaction: this one's pages are needed no more."""
        if self._pin is None or number <= self._pinned:
            return
        with self._pins:
            if self._pin is not None and number > self._pinned:
                self._pin.abort()
                self._pin = None

    def kept(self, number: int, pid: int) -> bool:
        """Are the pages of the last checkpoint still kept, which process ``pid`` took, of that transaction? Asked under
        LMDB's write lock."""
        if self._pin is not None and self._pinned >= number:
            return True
        head, tail = f"{pid:>10} ", f" {number}"
        return any(line.startswith(head) and line.endswith(tail) for line in self._env.readers().split("\n"))

    def pinned(self) -> bool:
        """Would the pages of the last checkpoint be used again if this process let go of them?"""
        if self._pin is None:
            return False
        with self._env.begin() as txn:
            row = txn.get(journal.KEPT_ROW, db=self._meta)
        return row is None or int(journal.KEPT.unpack(row)[1]) <= self._pinned

    def close(self) -> None:
        if self._pin is not None:
            self._pin.abort()
            self._pin = None
        self._lock.close()
        if self._stays:
            self._stays = False
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(self._env))
