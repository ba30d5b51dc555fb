"""Checkpoints: states of an environment that are completely on the disk, from which the journal is replayed.

The environment is written without syncs, so after a loss of power its LMDB file may hold any mixture of old and new
pages. A checkpoint secures one state. In order:

1. A read transaction is opened and kept open, so that LMDB reuses no page of that state.
2. The files that the journal tells of, and the environment's own file, are synced.
3. The meta page of exactly that state is written to the file ``journal/checkpoint``.
4. The read transaction of the checkpoint before is closed, and its part of the journal may be used again.

Recovery puts the saved meta page back; all pages that it leads to are unchanged.

Any process may take a checkpoint, one at a time. It keeps its read transaction open until it sees that another process
has taken a later one. A process that died leaves its slot in LMDB's table of readers, which keeps the pages just as
well until the next checkpoint was taken. So only this module clears such slots. LMDB clears them too, when a process
died while it held LMDB's lock: therefore each write transaction first checks that the slot still exists (``kept``);
where it does not, nothing is written before there is a new checkpoint.
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
from fastmail.durable.salvage import meta_in
from fastmail.durable.transaction import Reading
from fastmail.model.errors import CorruptData

NAME = "checkpoint"
MAGIC = b"fastmail checkpoint 1\n"
# magic, clean, transaction number of the checkpoint before, transaction number, position, octets of the meta page,
# which follows; behind it TIME, which earlier versions neither write nor read
HEAD = struct.Struct("<22sBQQ28sI")
TIME = struct.Struct("<Q")  # seconds since 1970
DISTRUST = "distrust"  # a file beside the journal: a sync failed, so the next recovery writes every file again
SPARE = 3  # unused slots that are kept for later; others are removed
LISTEN = 1.0  # s between two looks whether another process has taken a checkpoint


class NotSynced(OSError):
    """A sync failed: written data may be lost, and a second sync would succeed, because the kernel reports the error
    only once."""


@dataclass(slots=True)
class State:
    """The contents of the checkpoint file.

    ``clean``: it was written when the last process closed the environment, and nothing was written after it. ``before``
    and ``txn``: transaction numbers of the checkpoint before and of this one. ``position``: where replaying begins.
    ``meta``: the meta page; empty where the LMDB file is to be used as it is. ``time``: when it was taken, in seconds
    since 1970; 0 if that is not known."""

    clean: bool
    before: int
    txn: int
    position: Position
    meta: bytes
    time: int = 0

    def pack(self) -> bytes:
        position = self.position.pack()
        raw = HEAD.pack(MAGIC, self.clean, self.before, self.txn, position, len(self.meta)) + self.meta
        raw += TIME.pack(self.time)
        return raw + journal.U32.pack(zlib.crc32(raw))


def folder(path: str) -> str:
    """Return the directory of the journal of the environment at ``path``."""
    return os.path.join(path, "journal")


def read(path: str) -> State | None:
    """Return the last checkpoint of the environment at ``path``, None if it has none. CorruptData if it is damaged."""
    try:
        raw = beneath.read(os.path.join(folder(path), NAME), 1 << 20)
    except FileNotFoundError:
        return None
    body, check = raw[: -journal.U32.size], raw[-journal.U32.size :]
    if (
        len(raw) < HEAD.size + journal.U32.size
        or not raw.startswith(MAGIC)
        or journal.U32.pack(zlib.crc32(body)) != check
    ):
        raise CorruptData(f"{folder(path)}/{NAME} is damaged; run `fastmail check --repair`")
    _, clean, before, txn, position, length = HEAD.unpack_from(body)
    end = HEAD.size + length
    (taken,) = TIME.unpack_from(body, end) if len(body) >= end + TIME.size else (0,)
    return State(bool(clean), before, txn, Position.unpack(position), body[HEAD.size : end], taken)


def faults(path: str) -> list[str]:
    """Return what is wrong with the journal of the environment at ``path``, one line for each fault. Safe while it is
    in use."""
    if not os.path.isdir(folder(path)):
        return []  # the environment has never had a journal
    found: list[str] = []
    for _ in range(2):  # twice: a checkpoint that was taken between the two reads looks like a fault
        try:
            state = read(path)
        except CorruptData as error:
            return [str(error)]
        found = [] if state is not None else [f"{folder(path)}/{NAME} is gone"]
        known = {slot.serial for slot in journal.slots(folder(path))}
        if state is not None and state.position.offset != journal.FULL and state.position.serial not in known:
            found.append(f"{folder(path)}: the part of the journal that the last checkpoint names is missing")
        if not found:
            break
    if os.path.exists(os.path.join(folder(path), DISTRUST)):
        found.append("a sync failed: check the disk, then stop the server and start it again")
    return found


def write(path: str, state: State) -> None:
    """Write the checkpoint file; it is durable when this returns."""
    replace_file(os.path.join(folder(path), NAME), state.pack())


def carry_over(path: str, fresh: str) -> None:
    """Give an environment that was rebuilt from readable rows the journal of the old one, to be replayed onto those
    rows.

    No process may have either environment open."""
    try:
        state = read(path)
    except CorruptData:
        state = None
    if state is None:
        return
    make_directories(folder(fresh))
    for slot in journal.slots(folder(path)):
        os.link(slot.path, os.path.join(folder(fresh), os.path.basename(slot.path)))
    write(fresh, State(False, 0, state.txn, state.position, b"", state.time))


def put_back(path: str, state: State) -> None:
    """Make the state of the checkpoint the environment's only one: both meta pages get its content. No process may have
    the environment open."""
    page = len(state.meta)
    if not page:
        return
    with open(os.path.join(path, "data.mdb"), "r+b", buffering=0) as file:
        for number in (0, 1):  # each meta page begins with its own number
            file.seek(number * page)
            file.write(journal.U64.pack(number) + state.meta[journal.U64.size :])


def meta_of(path: str, page: int, txn: int) -> bytes | None:
    """Return the meta page of transaction ``txn``, or None if a later transaction has replaced it.

    LMDB writes the two meta pages in turn: even transactions to the first, odd ones to the second."""
    with open(os.path.join(path, "data.mdb"), "rb", buffering=0) as file:
        raw = os.pread(file.fileno(), page, (txn & 1) * page)
    return raw if len(raw) == page and meta_in(raw).txn == txn else None


def _sync_file_systems(directories: Iterable[str]) -> None:
    """Sync the file systems of these directories. For a directory that was removed, its nearest existing parent is
    used."""
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
        except files.NotOpened:  # no sync was tried, so none has failed
            raise
        except OSError as error:
            raise NotSynced(error.errno, error.strerror, place) from error


class Lock:
    """A lock file that one process holds exclusively, or several share."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, how: int) -> bool:
        """Take it in the mode ``how`` (fcntl.LOCK_...). False if LOCK_NB is given and another process has it."""
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
    """Takes the checkpoints of one environment in one process."""

    def __init__(self, path: str, env: Any, meta: Any, page: int, base: str) -> None:
        self._path = path
        self._env = env
        self._meta = meta
        self._page = page
        self._base = base
        self._lock = Lock(os.path.join(folder(path), "taking"))
        self._mine = threading.Lock()  # the same between the threads of this process: flock does not exclude them
        self._pins = threading.Lock()  # guards _pin and _pinned
        self._pin: Any = None
        self._pinned = 0  # transaction number of _pin
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None
        self._theirs, self._line = (0, 0), ""  # another process's last checkpoint, and its line in LMDB's reader table
        self._last: Position | None = None
        self._since = time.monotonic()

    def position(self) -> Position:
        """Return where the next record goes."""
        with self._env.begin() as txn:
            return Position.unpack(txn.get(journal.POSITION_ROW, db=self._meta))

    def due(self, seconds: float, octets: int) -> bool:
        """True if something was written and ``seconds`` have passed since the last checkpoint, or ``octets`` of journal
        were written since. The last one that this process took counts."""
        at = self.position()
        if self._last is None:
            return True
        if at == self._last:
            return False
        return time.monotonic() - self._since >= seconds or self._octets(self._last, at) >= octets

    def _octets(self, start: Position, end: Position) -> int:
        """Octets of journal between two positions."""
        if start.serial == end.serial:
            return end.offset - start.offset
        between = [slot for slot in journal.slots(folder(self._path)) if start.serial <= slot.serial < end.serial]
        return end.offset + sum(slot.size - (start.offset if slot.serial == start.serial else 0) for slot in between)

    def take(self, clean: bool = False, recovered: set[str] | None = None, wait: bool = False) -> bool:
        """Take a checkpoint. False if another process is taking one (unless ``wait``), or if writing has been stopped.

        ``clean``: no other process has the environment open, and nothing will be written after it. ``recovered``: after
        a recovery, the directories in which the journal made files. OSError when the disk fails: the last checkpoint
        stays."""
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
        """Take a checkpoint while holding both locks."""
        last = self._before() if recovered is None else None
        now = int(time.time())
        txn, number, meta = self._snapshot()
        try:
            if txn.get(journal.BROKEN_ROW, db=self._meta) is not None:
                txn.abort()
                return False
            position = Position.unpack(txn.get(journal.POSITION_ROW, db=self._meta))
            places = self._changed_file_systems(txn, last.before if last is not None else 0)
            if recovered is not None:
                places |= recovered
            _sync_file_systems(places)
            write(self._path, State(clean, last.txn if last is not None else 0, number, position, meta, now))
        except BaseException:
            txn.abort()
            raise
        with self._pins:
            old, self._pin, self._pinned = self._pin, txn, number
            # its reference also keeps the reader slot when the process just ends
            if not clean and self._listener is None:
                self._listener = threading.Thread(target=self._listen, name="checkpoint", daemon=True)
                self._listener.start()
        self._last, self._since = position, time.monotonic()
        if not clean:
            try:
                self._tell(number, position.serial)
            except lmdb.MapFullError:  # the map may be full of pages that only the checkpoint before keeps
                if old is None:
                    raise
                old.abort()
                old = None
                self._tell(number, position.serial)
            self._env.reader_check()
        if old is not None:
            old.abort()  # only now: the new checkpoint is on the disk, and KEPT_ROW names it
        return True

    def _before(self) -> State | None:
        """Return the last checkpoint. None for a damaged one, which the new one will replace."""
        try:
            return read(self._path)
        except CorruptData:
            return None

    def _snapshot(self) -> tuple[Any, int, bytes]:
        """Return (read transaction, its number, its meta page)."""
        with self._env.begin(write=True):  # the write lock: no commit may replace the meta page while it is read
            txn = self._env.begin()
            number = int(txn.id())
            meta = meta_of(self._path, self._page, number)
        if meta is None:
            txn.abort()
            raise CorruptData(f"{self._path}: its meta page cannot be read")
        return txn, number, meta

    def _changed_file_systems(self, txn: Reading, before: int) -> set[str]:
        """Return a directory on each file system on which files were made since the last checkpoint.

        ``before``: the transaction number of the checkpoint before the last. Rows since then count, because a writer
        may not yet have noticed the last checkpoint when it wrote its row."""
        out = {self._path}
        cursor = txn.cursor(db=self._meta)
        if cursor.set_range(journal.FILE_SYSTEM_ROW):
            for key, row in cursor.iternext():
                if not bytes(key).startswith(journal.FILE_SYSTEM_ROW):
                    break
                if journal.U64.unpack_from(row)[0] >= before:
                    out.add(os.fsdecode(bytes(row[journal.U64.size :])))
        return out

    def _tell(self, number: int, serial: int) -> None:
        """Tell all processes of the new checkpoint, and remove unused journal slots below ``serial`` that will not be
        needed soon."""
        with self._env.begin(write=True) as txn:
            txn.put(journal.KEPT_ROW, journal.KEPT.pack(serial, number, os.getpid()), db=self._meta)
            free = [slot for slot in journal.slots(folder(self._path)) if slot.serial < serial]
            useful = sorted((slot for slot in free if slot.size <= journal.MOST), key=lambda one: one.size)[-SPARE:]
            for slot in free:
                if slot not in useful:
                    os.unlink(slot.path)
        if not free and serial > 1:  # a busy journal: make the next slot now, before a commit has to wait for it
            journal.make_slot(folder(self._path), journal.next_size(folder(self._path)))

    def heard(self, number: int) -> None:
        """Another process has taken the checkpoint of transaction ``number``: stop keeping the pages of an earlier
        one."""
        if self._pin is None or number <= self._pinned:
            return
        with self._pins:
            if self._pin is not None and number > self._pinned:
                self._pin.abort()
                self._pin = None

    def _listen(self) -> None:
        """A thread that waits until another process has taken a checkpoint, then stops keeping this one's pages.

        Without it a process that writes nothing for days would keep old pages, and the map would fill up."""
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
        """True if the pages of the last checkpoint, taken by process ``pid`` at transaction ``number``, are still kept.

        Ask under LMDB's write lock. LMDB's reader table has a line with process id and transaction for each reader
        slot."""
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
        """Keep the reader slot until the process has ended, though the environment is closed."""
        # an extra reference: not even the interpreter's end frees it
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def deaf(self) -> None:
        """Stop the listener thread, before the environment is closed."""
        self._closed.set()
        listener = self._listener
        if listener is not None:
            listener.join()

    def pinned(self) -> bool:
        """True if LMDB would reuse pages of the last checkpoint once this process stops keeping them."""
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
