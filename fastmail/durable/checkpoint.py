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

import lmdb

from fastmail.durable import beneath, files, journal
from fastmail.durable.journal import Position
from fastmail.durable.replace import make_directories, replace_file
from fastmail.durable.salvage import TOP
from fastmail.durable.transaction import Reading
from fastmail.model.errors import CorruptData

NAME = "checkpoint"
MAGIC = b"fastmail checkpoint 1\n"
# magic, clean, transaction of the checkpoint before, transaction, position, octets of the meta page that follows
HEAD = struct.Struct("<22sBQQ28sI")
DISTRUST = "distrust"  # a file beside the journal: a sync has failed since the machine started, perhaps
SPARE = 3  # slots that are kept for later
LISTEN = 1.0  # s between looks whether another process has taken one


class NotSynced(OSError):
    """What was written may be lost, though the kernel calls it written from now on: it says so only once."""


@dataclass(slots=True)
class State:
    """What the file says. ``clean``: it was written as the last process closed the environment, and nothing followed.
    ``meta``: the meta page, empty where the environment's file is to be taken as it is."""

    clean: bool
    before: int
    txn: int
    position: Position
    meta: bytes

    def pack(self) -> bytes:
        position = self.position.pack()
        raw = HEAD.pack(MAGIC, self.clean, self.before, self.txn, position, len(self.meta)) + self.meta
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
    _, clean, before, txn, position, length = HEAD.unpack_from(body)
    return State(bool(clean), before, txn, Position.unpack(position), body[HEAD.size : HEAD.size + length])


def faults(path: str) -> list[str]:
    """What is wrong with the journal of the environment at ``path``, looked at beside whoever uses it."""
    if not os.path.isdir(folder(path)):
        return []  # it had none yet
    found: list[str] = []
    for _ in range(2):  # another checkpoint may have been taken meanwhile
        try:
            state = read(path)
        except CorruptData as error:
            return [str(error)]
        found = [] if state is not None else [f"{folder(path)}/{NAME} is gone"]
        known = {slot.serial for slot in journal.slots(folder(path))}
        if state is not None and state.position.offset != journal.FULL and state.position.serial not in known:
            found.append(f"{folder(path)}: the part of the journal that the last checkpoint names is gone")
        if not found:
            break
    if os.path.exists(os.path.join(folder(path), DISTRUST)):
        found.append("a sync failed: look at the disk, then stop the server and start it anew")
    return found


def write(path: str, state: State) -> None:
    """Make it the last checkpoint; durable when it returns."""
    replace_file(os.path.join(folder(path), NAME), state.pack())


def carry_over(path: str, fresh: str) -> None:
    """Give an environment that was made anew, of the rows that could be read, the journal of the old one: what that has
    since its last checkpoint is replayed onto the rows. Nobody may have either open."""
    try:
        state = read(path)
    except CorruptData:
        state = None
    if state is None:
        return
    make_directories(folder(fresh))
    for slot in journal.slots(folder(path)):
        os.link(slot.path, os.path.join(folder(fresh), os.path.basename(slot.path)))
    write(fresh, State(False, 0, state.txn, state.position, b""))


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
        except files.NotOpened:  # nothing was tried
            raise
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
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None
        self._theirs, self._line = (0, 0), ""  # the last one that another process took, and its line in LMDB's list
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
        return time.monotonic() - self._since >= seconds or self._octets(self._last, at) >= octets

    def _octets(self, start: Position, end: Position) -> int:
        """Octets of the journal between two places in it."""
        if start.serial == end.serial:
            return end.offset - start.offset
        between = [slot for slot in journal.slots(folder(self._path)) if start.serial <= slot.serial < end.serial]
        return end.offset + sum(slot.size - (start.offset if slot.serial == start.serial else 0) for slot in between)

    def take(self, clean: bool = False, recovered: set[str] | None = None, wait: bool = False) -> bool:
        """Take one; False when another process is at it (without ``wait``), or nothing is written any more. ``clean``:
        nobody else has the environment open, and nothing will follow. ``recovered``: after a recovery the
        directories in which the journal's files were made. OSError when the disk fails: then the last one stays."""
        if not self._mine.acquire(wait):
            return False
        try:
            if not self._lock.take(fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)):
                return False
            try:
                return self._take(clean, recovered)
            finally:
                self._lock.release()
        finally:
            self._mine.release()

    def _take(self, clean: bool, recovered: set[str] | None) -> bool:
        last = self._before() if recovered is None else None
        txn, number, meta = self._snapshot()
        try:
            if txn.get(journal.BROKEN_ROW, db=self._meta) is not None:
                txn.abort()
                return False
            position = Position.unpack(txn.get(journal.POSITION_ROW, db=self._meta))
            places = self._places(txn, last.before if last is not None else 0)
            if recovered is not None:
                places |= recovered
            _sync_file_systems(places)
            write(self._path, State(clean, last.txn if last is not None else 0, number, position, meta))
        except BaseException:
            txn.abort()
            raise
        with self._pins:
            old, self._pin, self._pinned = self._pin, txn, number
            if not clean and self._listener is None:  # which also keeps the place when the process just ends
                self._listener = threading.Thread(target=self._listen, name="checkpoint", daemon=True)
                self._listener.start()
        self._last, self._since = position, time.monotonic()
        if not clean:
            try:
                self._tell(number, position.serial)
            except lmdb.MapFullError:  # of what only the last one keeps, perhaps
                if old is None:
                    raise
                old.abort()
                old = None
                self._tell(number, position.serial)
            self._env.reader_check()
        if old is not None:
            old.abort()  # not before everybody can know of the new one
        return True

    def _before(self) -> State | None:
        """The last one. A damaged one counts for nothing: this one takes its place."""
        try:
            return read(self._path)
        except CorruptData:
            return None

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

    def _places(self, txn: Reading, before: int) -> set[str]:
        """Directories on all file systems that files were made on since the last checkpoint. ``before``: the one before
        that; a writer may not have heard of the last one yet."""
        out = {self._path}
        cursor = txn.cursor(db=self._meta)
        if cursor.set_range(journal.PLACE_ROW):
            for key, row in cursor.iternext():
                if not bytes(key).startswith(journal.PLACE_ROW):
                    break
                if journal.U64.unpack_from(row)[0] >= before:
                    out.add(os.fsdecode(bytes(row[journal.U64.size :])))
        return out

    def _tell(self, number: int, serial: int) -> None:
        """What lies in slots below this one is needed no more; slots beyond those that are soon needed go."""
        with self._env.begin(write=True) as txn:
            txn.put(journal.KEPT_ROW, journal.KEPT.pack(serial, number, os.getpid()), db=self._meta)
            free = [slot for slot in journal.slots(folder(self._path)) if slot.serial < serial]
            useful = sorted((slot for slot in free if slot.size <= journal.MOST), key=lambda one: one.size)[-SPARE:]
            for slot in free:
                if slot not in useful:
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

    def _listen(self) -> None:
        """Until another process has taken one: this one may write nothing for days, and what it keeps would fill the
        map."""
        while not self._closed.wait(LISTEN):
            with self._pins:
                if self._pin is None:
                    self._listener = None
                    return
            try:
                with self._env.begin() as txn:
                    row = txn.get(journal.KEPT_ROW, db=self._meta)
            except lmdb.Error:
                continue
            if row is not None:
                self.heard(int(journal.KEPT.unpack(row)[1]))

    def kept(self, number: int, pid: int) -> bool:
        """Are the pages of the last checkpoint still kept, which process ``pid`` took, of that transaction? Asked under
        LMDB's write lock."""
        if self._pin is not None and self._pinned >= number:
            return True
        every: str = self._env.readers()
        if (number, pid) == self._theirs and self._line in every:
            return True
        head, tail = f"{pid:>10} ", f" {number}"
        lines = [line for line in every.split("\n") if line.startswith(head) and line.endswith(tail)]
        if not lines:
            return False
        self._theirs, self._line = (number, pid), f"{lines[0]}\n"
        return True

    def leave(self) -> None:
        """Keep the place among the readers until the process has ended, though the environment is closed."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))  # not even the interpreter's end clears it up

    def deaf(self) -> None:
        """It is about to be closed: listen no more."""
        self._closed.set()
        listener = self._listener
        if listener is not None:
            listener.join()

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
