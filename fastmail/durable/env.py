"""LMDB environments with the settings that keep an acknowledged message: no WRITEMAP, opened after fork.

One is either synced in full with every commit or, with a journal, written without syncs: then ``sync`` makes durable
what was committed (durable.journal), checkpoints make the file itself durable (durable.checkpoint), and whoever opens
it first after a stop that was not clean replays the journal (durable.recovery).

Promise: a read transaction sees one commit and blocks nobody; the caller ends it before it awaits. A full map or disk
raises StorageFull and leaves the environment usable. RESERVE of the map is kept for what removes or changes: what adds
is refused (StorageFull) once it would be used, so that there is always room to delete. When the disk fails in the very
moment in which LMDB writes its meta page, the process can neither write nor read any more: ``panic`` is called, which
ends a worker, and the next one reads the last good commit. A file that is damaged, or gone where one was, is
CorruptData, and ``panic`` too: whoever starts workers looks at it before the next one does. Each environment carries a
layout version in its ``meta`` table; a higher one is refused with ConfigError rather than guessed at.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import lmdb

from fastmail._core import leaves
from fastmail.durable import checkpoint, journal, recovery
from fastmail.durable.checkpoint import Checkpoints, Lock, NotSynced, State
from fastmail.durable.files import Mapped
from fastmail.durable.journal import Journal, Position
from fastmail.durable.recovery import Files
from fastmail.durable.replace import make_directories, sync_directory
from fastmail.durable.salvage import Walk, examine, misnamed
from fastmail.durable.transaction import Reading, Txn
from fastmail.durable.writing import Writing
from fastmail.model.errors import ConfigError, CorruptData, MailError, StorageFailed, StorageFull
from fastmail.telemetry import log

LAYOUT = b"layout"
FIRST_TRIES = 50
RESERVE = 16  # one part in so many of the map
REMEMBERED = 100_000  # directories
BEHIND = 8  # slots that may be filled before a writer takes a checkpoint itself
TOLD = 60.0  # s between two log events about the same map
STOPPED = "nothing is written any more, because of an earlier failure: "
REPAIR = "stop the server and run `fastmail check --repair`"
Read = Callable[[], AbstractContextManager[Any]]  # Environment.read
# BadTxnError: what an earlier one of these leaves behind; transactions within transactions are not used here
DAMAGE = (
    leaves.Damaged,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.BadChecksumError,
    lmdb.BadTxnError,
)
ERRORS = (lmdb.Error, leaves.Damaged)  # of reading
panic: Callable[[], None] | None = None  # what a process does whose environment is lost


@dataclass(frozen=True, slots=True)
class Former:
    """Tables that an earlier layout had and this one has not. ``convert`` brings as many of their rows over as one
    transaction should hold, given that and the tables of both layouts by name. It is called again until it returns
    True: then they are dropped."""

    tables: frozenset[str]
    convert: Callable[[Txn, dict[str, Any], dict[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class Journaled:
    """How an environment is journaled. ``base``: paths of files below it are written down relative to it; ``owner``:
    who knows where files belong after a loss of power; ``least``: octets of the first slot."""

    base: str
    owner: Callable[[dict[str, Any]], Files] | None = None
    least: int = journal.LEAST


class Environment:
    """One LMDB environment and its named tables, as attributes of ``db`` by name. ``recovered``: how often its rows may
    have been seen and then lost; what is given out goes on above that."""

    def __init__(
        self,
        path: str,
        tables: list[str],
        layout: int,
        map_size: int = 64 << 30,
        former: Sequence[Former] = (),
        journaled: Journaled | None = None,
    ) -> None:
        """``former``: earlier layouts, each known by its tables, from the oldest on."""
        make_directories(path)
        self._layout, self._former = layout, former
        self._former_tables: dict[str, Any] = {}  # those that are there
        self._journal: Journal | None = None
        self._checkpoints: Checkpoints | None = None
        self._pin: Any = None
        # the lowest slot of the journal that recovery may need, and the last checkpoint, as a write transaction sees it
        self._kept = self._known = 0
        self._behind = False
        self.broken = ""  # why nothing is written any more
        self._devices: dict[bytes, int] = {}  # by directory
        self._noted: dict[int, int] = {}  # number of the checkpoint that was known when a row was put, by device
        self.recovered = 0
        if journaled is None:
            self._open(path, tables, map_size, None)
            self._bring_over()
            return
        folder = checkpoint.folder(path)
        make_directories(folder)
        self._gate, self._users = Lock(os.path.join(folder, "gate")), Lock(os.path.join(folder, "users"))
        self._gate.take(fcntl.LOCK_EX)  # until it is open: one that recovers it is not disturbed
        try:
            first = self._users.take(fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = _last_state(path, tables) if first else None
            if first:
                journal.clear(folder)
            if state is not None and not state.clean:
                if not state.meta:
                    state = self._as_it_is(path, tables, map_size, state)
                checkpoint.put_back(path, state)
            elif first:  # until there is a checkpoint to go back to, LMDB itself syncs what is written
                self._open(path, tables, map_size, None)
                try:
                    self._bring_over()
                    self._continue(folder, tables, had_journal=state is not None)
                finally:
                    self.env.close()
            self._open(path, tables, map_size, journaled)
            try:
                if not first and self._version() < layout:
                    raise ConfigError(f"{path} is in use by an older fastmail: stop it first")
                self._begin_journal(journaled, tables, state, first)
            except BaseException:
                self.env.close()
                raise
            self._users.take(fcntl.LOCK_SH)
        except BaseException as error:
            self._users.close()  # or the next one would not be the first
            self._gate.close()
            raise (translate(error) if isinstance(error, OSError | lmdb.Error) else error) from None
        self._gate.release()

    def _as_it_is(self, path: str, tables: list[str], map_size: int, state: State) -> State:
        """The file was made anew, and the journal behind ``state`` is to be replayed onto it: what a loss of power
        leads back to meanwhile."""
        self._open(path, tables, map_size, None)
        number = self.last_commit()
        meta = checkpoint.meta_of(path, self._page, number)
        self.env.close()
        if meta is None:
            raise CorruptData(f"{path}: its meta page cannot be read; {REPAIR}")
        state = State(False, 0, number, state.position, meta)
        checkpoint.write(path, state)
        return state

    def _continue(self, folder: str, tables: list[str], had_journal: bool) -> None:
        """The environment was closed in good order, or is new, or had no journal: where its journal goes on. In a new
        slot where the last one has records of other tables: each slot numbers them by its own header."""
        meta = self.db["meta"]
        with self.env.begin(write=True) as txn:
            found = txn.get(journal.POSITION_ROW, db=meta)
            there = Position.unpack(found) if found is not None else None
            ours = (*tables, "meta")
            if there is None or not had_journal or any(one != ours for one in journal.tables_behind(folder, there)):
                sequence = there.sequence if there is not None else 1
                txn.put(journal.POSITION_ROW, journal.beginning(folder, sequence).pack(), db=meta)
            txn.delete(journal.BROKEN_ROW, db=meta)

    def _begin_journal(self, journaled: Journaled, tables: list[str], state: State | None, first: bool) -> None:
        """The environment is open: replay what the last checkpoint does not have, and take another one."""
        directory, meta = checkpoint.folder(self.path), self.db["meta"]
        names = [*tables, "meta"]
        checkpoints = Checkpoints(self.path, self.env, meta, self._page, journaled.base)
        if first:
            places = None
            if state is not None and not state.clean:
                places = self._recover(directory, journaled, state)
            checkpoints.take(recovered=places, wait=True)
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, checkpoint.DISTRUST))
        self._pin.abort()  # not before: until then the last checkpoint is what a loss of power leads back to
        self._pin = None
        with self.env.begin() as txn:
            row = txn.get(recovery.EPOCH_ROW, default=bytes(4), db=meta)
            self.recovered = int(recovery.NUMBER.unpack(row)[0])
        self._base = os.fsencode(journaled.base) + b"/"
        self._numbers = {self.db[name]: number for number, name in enumerate(names)}
        self._checkpoints = checkpoints
        self._journal = Journal(directory, names, journaled.least)

    def _recover(self, directory: str, journaled: Journaled, state: State) -> set[str]:
        """Replay the journal; what was there and did not check is never read again. Directories in which files were
        made."""
        meta = self.db["meta"]
        owner = journaled.owner(self.db) if journaled.owner is not None else None
        start = time.monotonic()
        distrust = os.path.exists(os.path.join(directory, checkpoint.DISTRUST))
        told = {name for tables in journal.tables_behind(directory, state.position) for name in tables}
        for name in told & {name for one in self._former for name in one.tables}:  # which a damaged file may have lost
            self._former_tables[name] = self.env.open_db(name.encode())
        known = {**self._former_tables, **self.db}
        done, end = recovery.replay(
            self.path, self.env, known, state.position, journaled.base, owner, distrust, self._bring_over
        )
        with self.env.begin(write=True) as txn:
            txn.put(journal.POSITION_ROW, journal.beginning(directory, end.sequence).pack(), db=meta)
            txn.delete(journal.BROKEN_ROW, db=meta)
            count = recovery.NUMBER.unpack(txn.get(recovery.EPOCH_ROW, default=bytes(4), db=meta))[0]
            txn.put(recovery.EPOCH_ROW, recovery.NUMBER.pack(count + 1), db=meta)
        log.event(
            "index.recovered",
            path=self.path,
            records=done.records,
            files=done.mended,
            seconds=round(time.monotonic() - start, 3),
        )
        return {os.path.join(journaled.base, os.fsdecode(one)) for one in done.directories}

    def _open(self, path: str, tables: list[str], map_size: int, journaled: Journaled | None) -> None:
        """Open it, and look whether this version can read it."""
        fresh = _is_fresh(path)
        former = {name for one in self._former for name in one.tables}
        try:
            self.env = lmdb.open(
                path,
                map_size=map_size,
                max_dbs=len(tables) + 1 + len(former),
                max_readers=2048,
                mode=0o600,
                max_spare_txns=4,
                sync=journaled is None,
            )
            # what is there now stays as it is until there is another checkpoint (see _begin_journal)
            self._pin = self.env.begin() if journaled is not None else None
            if fresh:
                sync_directory(path)
            self.path = path
            self._page = int(self.env.stat()["psize"])
            self._told = 0.0
            self._map: Mapped | None = None
            if journaled is None:
                self.env.reader_check()
            if not fresh:
                self._names(tables)
            self.db: dict[str, Any] = {name: self.env.open_db(name.encode()) for name in [*tables, "meta"]}
            there = former & table_names(self.env) if former else ()
            self._former_tables = {name: self.env.open_db(name.encode(), create=False) for name in there}
        except lmdb.MemoryError as error:
            if not fresh:  # its first pages may ask for a map of any size
                _give_up("index.damaged", f"{path}: {error}")
            raise translate(error) from error
        except lmdb.Error as error:
            raise translate(error) from error
        version = self._version()
        if version > self._layout:
            self.env.close()
            raise ConfigError(
                f"{path} was written by a newer fastmail (layout {version}, this one reads {self._layout})"
            )

    def _version(self) -> int:
        """The layout that it has; 0 where it is new."""
        with self.read() as txn:
            found = txn.get(LAYOUT, db=self.db["meta"])
        try:
            return int(bytes(found)) if found is not None else 0
        except ValueError:
            raise CorruptData(f"{self.path}: its layout cannot be read") from None

    def _bring_over(self) -> None:
        """Bring earlier layouts over: called by the first who opens it, when its rows are whole (what is in the journal
        was replayed), and before anybody else may go on. Where that is cut short the next one goes on with it, or
        begins again from the last checkpoint."""
        for former in self._former:
            if former.tables <= self._former_tables.keys():
                self._convert(former)
        if self._version() < self._layout:  # a change of layout keeps what older rows mean
            with self.write() as txn:
                txn.put(LAYOUT, b"%d" % self._layout, db=self.db["meta"])

    def _convert(self, former: Former) -> None:
        """Bring rows of an earlier layout into this one's tables. Its tables and its number go in one transaction: an
        older version would begin to use an empty table anew."""
        log.event("index.converts", path=self.path, tables=sorted(former.tables), layout=self._layout)
        done = False
        while not done:
            with self.write() as txn:
                there = {bytes(key).decode("ascii", "replace") for key in txn.cursor().iternext(values=False)}
                if not former.tables <= there:
                    return  # one without a journal, and another process did it meanwhile
                old = {name: self._former_tables[name] for name in former.tables}
                done = former.convert(txn, old, self.db)
                if done:
                    for table in old.values():
                        txn.drop(table, delete=True)
                    txn.put(LAYOUT, b"%d" % self._layout, db=self.db["meta"])
        log.event("index.converted", path=self.path)

    def _names(self, tables: list[str]) -> None:
        """LMDB makes what it does not find: a table whose name was hurt would be an empty one."""
        with self.env.begin() as txn:
            there = [key.decode("ascii", "replace") for key in txn.cursor().iternext(values=False)]
        lost = misnamed(there, tables)
        if lost:
            self.env.close()
            _give_up("index.damaged", f"{self.path}: {', '.join(lost)!r} is no table of ours")
            raise CorruptData(f"{self.path}: the names of its tables are damaged; {REPAIR}")

    def begin(self, write: bool = False) -> Any:
        """A transaction; values are memoryviews in a read transaction, valid until it ends. One that writes to an
        environment with a journal is a Writing: what it commits is durable after ``sync``."""
        if not write or self._journal is None:
            return self._begin(write)
        return Writing(self._begin_kept(), self._numbers, self._commit, self._base)

    def _begin_kept(self) -> Any:
        """A write transaction that uses no page of the last checkpoint again."""
        checkpoints = self._checkpoints
        assert checkpoints is not None
        while True:
            txn = self._begin(True)
            try:
                row = txn.get(journal.KEPT_ROW, db=self.db["meta"])
                if row is not None:
                    self._kept, self._known, pid = journal.KEPT.unpack(row)
                    if checkpoints.kept(self._known, pid):
                        checkpoints.heard(self._known)
                        return txn
            except BaseException:
                txn.abort()
                raise
            txn.abort()
            log.event(
                "index.unpinned", "warning", path=self.path, then="a checkpoint is taken before anything is written"
            )
            if not self._take(wait=True):
                raise StorageFailed(f"{STOPPED}{self.path}: the pages of the last checkpoint are not kept")

    def _begin(self, write: bool) -> Any:
        begin: Any = self.env.begin
        try:
            return begin(write=write, buffers=not write)
        except lmdb.MapResizedError:
            self.env.set_mapsize(0)
            return begin(write=write, buffers=not write)
        except lmdb.PanicError as error:
            _give_up("index.panic", f"{self.path}: {error}")
            raise StorageFailed(str(error)) from error
        except lmdb.Error as error:
            raise translate(error) from error

    @contextmanager
    def read(self) -> Iterator[Any]:
        """One snapshot for reading."""
        txn = self.begin()
        try:
            yield txn
        except ERRORS as error:
            raise translate(error) from error
        finally:
            txn.abort()

    def _commit(self, txn: Writing) -> None:
        """The record first, then LMDB. Both are in memory only when it returns."""
        log_, meta = self._journal, self.db["meta"]
        assert log_ is not None
        before = Position.unpack(txn.get(journal.POSITION_ROW, db=meta))
        if not txn.record:
            log_.follow(before)  # what it found may be what another process has not synced yet
            txn.raw.commit()
            return
        why = self.broken or txn.get(journal.BROKEN_ROW, db=meta)
        if why:
            raise StorageFailed(STOPPED + (why if isinstance(why, str) else bytes(why).decode("utf-8", "replace")))
        after = log_.append(before, txn.record, self._kept)
        try:
            for directory in txn.places:
                self._note_place(txn.raw, directory, self._known)
            txn.raw.put(journal.POSITION_ROW, after.pack(), db=meta)
            txn.raw.commit()
        except BaseException:
            log_.spoil(before, after)
            self._noted.clear()
            raise
        if after.serial != before.serial and after.serial - self._kept > BEHIND:
            self._behind = True

    def _note_place(self, txn: Txn, directory: bytes, number: int) -> None:
        """A checkpoint behind the one of that number has to sync the file system of a directory."""
        device = self._devices.get(directory)
        if device is None:
            try:
                device = os.stat(directory).st_dev
            except OSError:
                return  # it was removed, with all that was in it
            if len(self._devices) > REMEMBERED:
                self._devices.clear()
            self._devices[directory] = device
        if self._noted.get(device) != number:
            self._noted[device] = number
            row = journal.U64.pack(number) + directory
            txn.put(journal.PLACE_ROW + journal.U64.pack(device), row, db=self.db["meta"])

    def sync(self) -> None:
        """All that was committed is durable when it returns. StorageFailed, for this process and all others, when the
        disk fails: then nothing is written any more until all have ended."""
        if self._journal is None:
            return
        try:
            self._journal.sync()
        except OSError as error:
            raise self._stop(error) from error
        if self._behind:  # nobody else does it
            self._behind = False
            self.checkpoint()

    def checkpoint(self, seconds: float = 0.0, octets: int = 0) -> bool:
        """Take a checkpoint, if anything was written for so long, or so much of it; False when none was due, or another
        process is at it. On a thread that may wait for the disk."""
        checkpoints = self._checkpoints
        return checkpoints is not None and checkpoints.due(seconds, octets) and self._take()

    def make_room(self) -> None:
        """Take a checkpoint now, which sets pages free that only the last one keeps. On a thread that may wait."""
        if self._checkpoints is not None:
            self._take(wait=True)

    def _take(self, wait: bool = False) -> bool:
        assert self._checkpoints is not None
        try:
            return self._checkpoints.take(wait=wait)
        except NotSynced as error:
            self._stop(error)
        except (OSError, lmdb.Error, MailError) as error:
            log.event("index.checkpoint", "error", path=self.path, error=error, then="the journal grows meanwhile")
        return False

    def _stop(self, error: OSError) -> StorageFailed:
        """Something was not synced: the kernel may take for written what never will be, so neither this process nor
        another writes anything more until all have ended, and the journal is replayed."""
        self.broken = f"{self.path}: {error.strerror}"
        with (
            suppress(OSError),
            open(os.path.join(checkpoint.folder(self.path), checkpoint.DISTRUST), "w", encoding="ascii"),
        ):
            pass  # for the next start
        log.event("index.readonly", "error", path=self.path, error=error, then="look at the disk, then start anew")
        checkpoints, meta = self._checkpoints, self.db["meta"]
        try:
            with self.env.begin(write=True) as txn:
                row = txn.get(journal.KEPT_ROW, db=meta)
                if row is not None and checkpoints is not None and checkpoints.kept(*journal.KEPT.unpack(row)[1:]):
                    txn.put(journal.BROKEN_ROW, self.broken.encode(), db=meta)
        except lmdb.Error as second:
            log.event("index.readonly", "error", path=self.path, error=second, then="other processes are not told")
        return StorageFailed(self.broken)

    @contextmanager
    def write(self) -> Iterator[Any]:
        """One write transaction, committed and synced at the end; for commands and start-up, never on the loop."""
        txn = self.begin(write=True)
        try:
            yield txn
            txn.commit()
            self.sync()
        except OSError as error:
            raise translate(error) from error
        except lmdb.Error as error:
            raise translate(error) from error
        finally:
            txn.abort()

    def table(self, txn: Reading, name: bytes) -> leaves.Table | None:
        """A table as a read transaction sees it, for reading many rows; valid until the transaction ends. None where
        only LMDB itself can read it: in a writer's transaction, say."""
        at = self._map
        found = leaves.table(at, txn.id(), name, at.end()) if at is not None else None
        if found is None:
            size = self.env.info()["map_size"]
            if at is None or at.size < size:
                try:
                    at = self._map = Mapped(os.fsencode(os.path.join(self.path, "data.mdb")), size)
                except OSError as error:
                    log.event("index.map", "warning", path=self.path, error=error)
                    return None
                found = leaves.table(at, txn.id(), name, at.end())
        return found

    def tight(self) -> bool:
        """Do the data reach so far that the room behind them is not more than the reserve? From then on there may be
        free pages between the data, but perhaps not several side by side."""
        info = self.env.info()
        most = info["map_size"] - info["map_size"] // RESERVE
        return bool((info["last_pgno"] + 1) * self._page > most)

    def crowded(self, txn: Reading) -> bool:
        """Is so much of the map used that nothing may be added? While half of the reserve lies behind the data, what is
        used may come up to the reserve; then no more than half of the map, so that what is added finds free pages."""
        if not self.tight():
            return False
        info = self.env.info()
        size, reserve = info["map_size"], info["map_size"] // RESERVE
        behind = size - (info["last_pgno"] + 1) * self._page
        used = sum(self._octets(txn, name) for name in self.db)
        if used <= (size - reserve if behind > reserve // 2 else size // 2):
            return False
        self.tell_full(used)
        return True

    def tell_full(self, used: int) -> None:
        """Tell the administrator, now and then. ``used``: octets of the map."""
        if time.monotonic() - self._told > TOLD or not self._told:
            self._told = time.monotonic()
            then = "raise index_map_size ([store]) or map_size ([relay]) and restart, or remove mail"
            log.event("index.full", "error", path=self.path, used=used, size=self.env.info()["map_size"], then=then)

    def _octets(self, txn: Reading, name: str) -> int:
        """Of the pages of a table."""
        stat = txn.stat(self.db[name])
        return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * self._page

    def last_commit(self) -> int:
        """Number of the last commit that a reader sees: what is read from here on is true while it stays the same.
        LMDB's ``info`` names a commit while it is still being synced, when no reader sees it yet."""
        txn = self.begin()
        try:
            return int(txn.id())
        finally:
            txn.abort()

    def close(self) -> None:
        """Close; no transaction may be open. The last one that has it open leaves nothing to replay."""
        if self._journal is None or self._checkpoints is None:
            self.env.close()
            return
        self._checkpoints.deaf()
        self._journal.close()
        self._journal = None
        self._gate.take(fcntl.LOCK_EX)
        try:
            if self._users.take(fcntl.LOCK_EX | fcntl.LOCK_NB):
                self._last_checkpoint(self._checkpoints)
            elif self._checkpoints.pinned():
                self._checkpoints.leave()  # as one that died: its place keeps the pages of the last checkpoint
                return
            self._checkpoints.close()
            self.env.close()
        finally:
            self._users.close()
            self._gate.release()
            self._gate.close()

    def _last_checkpoint(self, checkpoints: Checkpoints) -> None:
        with self.env.begin() as txn:
            broken = txn.get(journal.BROKEN_ROW, db=self.db["meta"]) is not None
        try:
            if not broken and not self.broken:
                checkpoints.take(clean=True)
        except (OSError, lmdb.Error, MailError) as error:
            log.event(
                "index.checkpoint", "error", path=self.path, error=error, then="the next start replays the journal"
            )


def _last_state(path: str, tables: list[str]) -> State | None:
    """The last checkpoint; None where there is none, or where it is damaged and the environment is sound without it, as
    it is unless the machine itself stopped. CorruptData when neither can be used."""
    try:
        return checkpoint.read(path)
    except CorruptData as error:
        found = examine(path, tables)
        if found.damage:
            raise
        log.event("index.checkpoint", "error", path=path, error=error, then="the index is taken as it is")
        return None


def _is_fresh(path: str) -> bool:
    """Is there no environment yet? CorruptData when there was one, and its data are gone."""
    data, lock = os.path.join(path, "data.mdb"), os.path.join(path, "lock.mdb")
    for _ in range(FIRST_TRIES):
        if os.path.exists(data) and os.path.getsize(data):
            return False
        if not os.path.exists(data) and not os.path.exists(lock):
            return True
        time.sleep(0.02)  # another process may be making it right now
    raise CorruptData(f"{data} is gone or empty")


def table_names(env: Any) -> set[str]:
    """The tables of an open environment."""
    with env.begin() as txn:
        return {bytes(key).decode("ascii", "replace") for key in txn.cursor().iternext(values=False)}


def layout_of(path: str) -> tuple[int, set[str]]:
    """The layout version of an environment, and its tables, without opening it: whatever its file is like, and while it
    waits for its journal to be replayed. CorruptData when that cannot be read."""
    try:
        state = checkpoint.read(path)
    except CorruptData:  # the file by itself, then
        state = None
    walk = Walk(path, top=state.meta if state is not None and not state.clean else b"")
    try:
        roots = dict(walk.tables())
        rows = walk.tree(roots["meta"], "meta") if "meta" in roots else ()
        found = next((value for key, value, _ in rows if key == LAYOUT), b"0")
        if walk.main is None or walk.found.damage:
            raise CorruptData(f"{path}: {'; '.join(walk.found.damage[:3]) or 'it is damaged'}")
        return int(found), set(roots)
    except ValueError:
        raise CorruptData(f"{path}: its layout cannot be read") from None
    finally:
        walk.close()


def _give_up(event: str, why: str) -> None:
    log.event(event, "error", why=why)
    if panic is not None:
        panic()


def translate(error: BaseException) -> Exception:
    """What an LMDB or operating-system error means for a peer."""
    if isinstance(error, lmdb.MapFullError):
        return StorageFull("index map is full")
    if isinstance(error, DAMAGE) or (isinstance(error, lmdb.Error) and "data format" in str(error)):
        _give_up("index.damaged", str(error))
        return CorruptData(f"{error}; {REPAIR}")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMLINK)
        return StorageFull(str(error)) if full else StorageFailed(str(error))
    if isinstance(error, lmdb.Error):
        text = str(error)
        return StorageFull(text) if "No space" in text or "quota" in text.lower() else StorageFailed(text)
    return StorageFailed(str(error))
