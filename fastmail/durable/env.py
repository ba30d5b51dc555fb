"""LMDB environments with the settings that keep an acknowledged message: no WRITEMAP, opened after fork.

An environment is a directory with one LMDB file. Without a journal each commit is synced in full. With a journal,
commits are written without syncs: ``sync`` makes them durable (durable.journal), checkpoints make the LMDB file itself
durable (durable.checkpoint), and the first process that opens the environment after a stop that was not clean replays
the journal (durable.recovery).

Promise: a read transaction sees one commit and blocks nobody; the caller ends it before it awaits. A full map or disk
raises StorageFull and leaves the environment usable. RESERVE, a part of the map, is kept for operations that remove or
change: operations that add are refused (StorageFull) once they would use it, so deleting always finds room.

Failures: when the disk fails while LMDB writes its meta page, the process can neither read nor write any more.
``panic`` is then called, which ends a worker; the next worker reads the last good commit. A damaged file, or one that
has disappeared, is CorruptData and calls ``panic`` too; the process that starts workers examines the file before it
starts the next one. The ``meta`` table of each environment carries a layout version; a version that is too new is
refused with ConfigError rather than guessed at.
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
from fastmail.durable import checkpoint, journal, layouts, recovery, stops
from fastmail.durable.checkpoint import Checkpoints, Lock, NotSynced, State
from fastmail.durable.files import Mapped
from fastmail.durable.journal import Journal, Position
from fastmail.durable.layouts import Former
from fastmail.durable.newest import MetaPages
from fastmail.durable.recovery import Files
from fastmail.durable.replace import make_directories, sync_directory
from fastmail.durable.salvage import examine, misnamed
from fastmail.durable.stops import Stop
from fastmail.durable.transaction import Reading, Txn
from fastmail.durable.writing import Writing
from fastmail.model.errors import ConfigError, CorruptData, MailError, StorageFailed, StorageFull
from fastmail.telemetry import log

FIRST_TRIES = 50
RESERVE = 16  # one sixteenth of the map
REMEMBERED = 100_000  # directories whose device number is cached; bounds the cache
BEHIND = 8  # filled journal slots after which a writer takes a checkpoint itself, should the keeper not do it
TOLD = 60.0  # s between two log events about the same full map
STOPPED = "nothing is written any more, because of an earlier failure: "
REPAIR = "stop the server and run `fastmail check --repair`"
Read = Callable[[], AbstractContextManager[Any]]  # Environment.read
# BadTxnError is here because LMDB raises it in a transaction in which one of the others was raised before; nested
# transactions, its other cause, are not used
DAMAGE = (
    leaves.Damaged,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.BadChecksumError,
    lmdb.BadTxnError,
)
ERRORS = (lmdb.Error, leaves.Damaged)  # what reading may raise
panic: Callable[[], None] | None = None  # called when the environment cannot be used any more; set by workers


@dataclass(frozen=True, slots=True)
class Journaled:
    """How an environment is journaled.

    ``base``: paths below this directory are recorded relative to it, so that the data directory can be moved.
    ``owner``: makes the object that knows where files belong after a loss of power. ``least``: octets of the first
    journal slot."""

    base: str
    owner: Callable[[dict[str, Any]], Files] | None = None
    least: int = journal.LEAST


class Environment:
    """One LMDB environment. Its tables are in ``db``, by name.

    ``recovered`` counts the recoveries after which rows may be lost that somebody has already seen. UIDs and MODSEQs
    that are given out after such a recovery are higher than any that can have been seen."""

    def __init__(
        self,
        path: str,
        tables: list[str],
        layout: int,
        map_size: int = 64 << 30,
        former: Sequence[Former] = (),
        journaled: Journaled | None = None,
    ) -> None:
        """Open the environment at ``path`` and recover it if need be. ``former``: earlier layouts, oldest first. Raises
        ConfigError for a layout that is too new, CorruptData for damage, StorageFailed or StorageFull for errors of the
        disk."""
        make_directories(path)
        self._layout, self._former = layout, former
        self.former_tables: dict[str, Any] = {}  # tables of earlier layouts that exist in the file
        self._journal: Journal | None = None
        self._checkpoints: Checkpoints | None = None
        self._pin: Any = None
        # from the KEPT_ROW of the latest write transaction: the lowest journal slot that recovery may need, and the
        # transaction number of the last checkpoint
        self._kept = self._known = 0
        self._behind = False
        self.broken = ""  # why writing is refused until the next start; empty while all is well
        self._devices: dict[bytes, int] = {}  # device number by directory, so that most commits need no stat
        self._noted: dict[int, int] = {}  # by device: the last checkpoint known when its FILE_SYSTEM_ROW was written
        self.recovered = 0
        if journaled is None:
            self._open(path, tables, map_size, None)
            self._bring_over()
            return
        folder = checkpoint.folder(path)
        make_directories(folder)
        self._gate, self._users = Lock(os.path.join(folder, "gate")), Lock(os.path.join(folder, "users"))
        self._gate.take(fcntl.LOCK_EX)  # one process at a time opens or closes, so recovery is never disturbed
        try:
            self._open_journaled(path, tables, map_size, journaled, folder)
            self._users.take(fcntl.LOCK_SH)
        except BaseException as error:
            self._users.close()  # while it is open, no other process could take it exclusively and recover
            self._gate.close()
            raise (translate(error) if isinstance(error, OSError | lmdb.Error) else error) from None
        self._gate.release()

    def _open_journaled(self, path: str, tables: list[str], map_size: int, journaled: Journaled, folder: str) -> None:
        """Open the environment and its journal, and recover if need be. The caller has the gate."""
        # Every process that has the environment open holds "users" shared. Getting it exclusively means that no
        # other process has it open, and so that recovery, if it is needed, is this process's work.
        first = self._users.take(fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = _last_state(path, tables) if first else None
        if first:
            journal.clear(folder)
        if state is not None and not state.clean:
            if not state.meta:
                state = self._as_it_is(path, tables, map_size, state)
            checkpoint.put_back(path, state)
        elif first:  # there is no checkpoint to go back to yet, so LMDB itself syncs these writes
            self._open(path, tables, map_size, None)
            try:
                self._bring_over()
                self._continue(folder, tables, had_journal=state is not None)
            finally:
                self.env.close()
        self._open(path, tables, map_size, journaled)
        try:
            if not first and layouts.version(self) < self._layout:
                raise ConfigError(f"{path} is in use by an older fastmail: stop it first")
            self._begin_journal(journaled, tables, state, first)
        except BaseException:
            self.env.close()
            raise

    def _as_it_is(self, path: str, tables: list[str], map_size: int, state: State) -> State:
        """Return a state that keeps the LMDB file as it is and replays the journal onto it, for a file that was rebuilt
        from its rows (checkpoint.carry_over). The state is written as a checkpoint too, so that a loss of power during
        the replay leads back to it."""
        self._open(path, tables, map_size, None)
        number = self.last_commit()
        meta = checkpoint.meta_of(path, self._page, number)
        self.env.close()
        if meta is None:
            raise CorruptData(f"{path}: its meta page cannot be read; {REPAIR}")
        state = State(False, 0, number, state.position, meta, state.time)
        checkpoint.write(path, state)
        return state

    def _continue(self, folder: str, tables: list[str], had_journal: bool) -> None:
        """Set where the journal continues, for an environment that was closed cleanly, is new, or had no journal.

        If the last slot has records of other tables, the journal continues in a new slot: a slot's header numbers the
        tables of all records in it."""
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
        """Start journaling on the open environment: the first process replays the journal and takes a checkpoint."""
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
        self._pin.abort()  # not earlier: until the new checkpoint, a loss of power leads back to the old one's pages
        self._pin = None
        with self.env.begin() as txn:
            row = txn.get(recovery.EPOCH_ROW, default=bytes(4), db=meta)
            self.recovered = int(recovery.NUMBER.unpack(row)[0])
        self._base = os.fsencode(journaled.base) + b"/"
        self._numbers = {self.db[name]: number for number, name in enumerate(names)}
        self._checkpoints = checkpoints
        self._journal = Journal(directory, names, journaled.least)

    def _recover(self, directory: str, journaled: Journaled, state: State) -> set[str]:
        """Replay the journal and return the directories in which it made files.

        The journal then continues in a new slot with a new random checksum, so that a record that failed its check now
        is never read again."""
        meta = self.db["meta"]
        owner = journaled.owner(self.db) if journaled.owner is not None else None
        start = time.monotonic()
        distrust = os.path.exists(os.path.join(directory, checkpoint.DISTRUST))
        told = {name for tables in journal.tables_behind(directory, state.position) for name in tables}
        # A damaged LMDB file may have lost tables of an earlier layout that the journal still has rows for: create them
        # again.
        for name in told & {name for one in self._former for name in one.tables}:
            self.former_tables[name] = self.env.open_db(name.encode())
        known = {**self.former_tables, **self.db}
        done, end = recovery.replay(
            self.path, self.env, known, state.position, journaled.base, owner, distrust, self._bring_over
        )
        txn: Any
        with self.env.begin(write=True) as txn:
            txn.put(journal.POSITION_ROW, journal.beginning(directory, end.sequence).pack(), db=meta)
            txn.delete(journal.BROKEN_ROW, db=meta)
            count = recovery.NUMBER.unpack(txn.get(recovery.EPOCH_ROW, default=bytes(4), db=meta))[0]
            txn.put(recovery.EPOCH_ROW, recovery.NUMBER.pack(count + 1), db=meta)
            now = int(time.time())
            stops.note(txn, meta, Stop(state.time or now, now))
        log.event(
            "index.recovered",
            path=self.path,
            records=done.records,
            files=done.restored,
            seconds=round(time.monotonic() - start, 3),
        )
        return {os.path.join(journaled.base, os.fsdecode(one)) for one in done.directories}

    def _open(self, path: str, tables: list[str], map_size: int, journaled: Journaled | None) -> None:
        """Open the LMDB file and its tables. ConfigError if a newer version of this program wrote it."""
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
            # Pin the pages of the present commit, which is the last checkpoint's state, until there is another
            # checkpoint; _begin_journal ends this.
            self._pin = self.env.begin() if journaled is not None else None
            if fresh:
                sync_directory(path)
            self.path = path
            self._page = int(self.env.stat()["psize"])
            self._metas, self._seen = MetaPages(path, self._page), -1
            self._told = 0.0
            self._map: Mapped | None = None
            if journaled is None:
                self.env.reader_check()
            if not fresh:
                self._names(tables)
            with self.env.begin(write=True) as txn:  # one, or a new environment would be synced for each table
                self.db: dict[str, Any] = {name: self.env.open_db(name.encode(), txn) for name in [*tables, "meta"]}
            there = former & table_names(self.env) if former else ()
            self.former_tables = {name: self.env.open_db(name.encode(), create=False) for name in there}
        except lmdb.MemoryError as error:
            if not fresh:  # a damaged first page may ask for a map of any size, which fails with this error
                _give_up("index.damaged", f"{path}: {error}")
            raise translate(error) from error
        except lmdb.Error as error:
            raise translate(error) from error
        version = layouts.version(self)
        if version > self._layout:
            self.env.close()
            raise ConfigError(
                f"{path} was written by a newer fastmail (layout {version}, this one reads {self._layout})"
            )

    def _bring_over(self) -> None:
        """Convert the rows of earlier layouts; see durable.layouts."""
        layouts.convert(self, self._former, self._layout)

    def _names(self, tables: list[str]) -> None:
        """Refuse a file in which the name of a table is damaged: LMDB would create the table it misses, empty."""
        with self.env.begin() as txn:
            there = [key.decode("ascii", "replace") for key in txn.cursor().iternext(values=False)]
        lost = misnamed(there, tables)
        if lost:
            self.env.close()
            _give_up("index.damaged", f"{self.path}: {', '.join(lost)!r} is not a table of this server")
            raise CorruptData(f"{self.path}: the names of its tables are damaged; {REPAIR}")

    def begin(self, write: bool = False) -> Any:
        """Begin a transaction.

        In a read transaction values are memoryviews that are valid until it ends. A write transaction of an environment
        with a journal is a Writing: its changes are durable only after ``sync``."""
        if not write or self._journal is None:
            return self._begin(write)
        return Writing(self._begin_kept(), self._numbers, self._commit, self._base)

    def _begin_kept(self) -> Any:
        """Begin a write transaction, after making sure that LMDB reuses no page of the last checkpoint.

        Where no process keeps those pages any more, a checkpoint is taken first: if pages of the last one were reused,
        a loss of power would leave no state to go back to."""
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
                raise StorageFailed(f"{STOPPED}{self.path}: the pages of the last checkpoint are not protected")

    def _begin(self, write: bool) -> Any:
        """Begin an LMDB transaction; another process may have enlarged the map since it was opened."""
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
        """One snapshot for reading, as a context."""
        txn = self.begin()
        try:
            yield txn
        except ERRORS as error:
            raise translate(error) from error
        finally:
            txn.abort()

    def _commit(self, txn: Writing) -> None:
        """Append the transaction's record to the journal, then commit in LMDB. Neither is synced yet.

        The record comes first: a commit without its record would be lost by a crash, though another process may have
        seen it."""
        log_, meta = self._journal, self.db["meta"]
        assert log_ is not None
        before = Position.unpack(txn.get(journal.POSITION_ROW, db=meta))
        if not txn.record:
            # it may have read rows that another process has not synced yet: ``sync`` has to cover them
            log_.follow(before)
            txn.raw.commit()
            return
        why = self.broken or txn.get(journal.BROKEN_ROW, db=meta)
        if why:
            raise StorageFailed(STOPPED + (why if isinstance(why, str) else bytes(why).decode("utf-8", "replace")))
        after = log_.append(before, txn.record, self._kept)
        try:
            for directory in txn.directories:
                self._note_file_system(txn.raw, directory, self._known)
            txn.raw.put(journal.POSITION_ROW, after.pack(), db=meta)
            txn.raw.commit()
        except BaseException:
            log_.spoil(before, after)
            self._noted.clear()
            raise
        if after.serial != before.serial and after.serial - self._kept > BEHIND:
            self._behind = True

    def _note_file_system(self, txn: Txn, directory: bytes, number: int) -> None:
        """Record that the checkpoint after ``number`` has to sync the file system of a directory, as files were made
        there."""
        device = self._devices.get(directory)
        if device is None:
            try:
                device = os.stat(directory).st_dev
            except OSError:
                return  # the directory was removed with all its files: nothing is left to sync
            if len(self._devices) > REMEMBERED:
                self._devices.clear()
            self._devices[directory] = device
        if self._noted.get(device) != number:
            self._noted[device] = number
            row = journal.U64.pack(number) + directory
            txn.put(journal.FILE_SYSTEM_ROW + journal.U64.pack(device), row, db=self.db["meta"])

    def sync(self) -> None:
        """Make durable all that was committed so far, by this or other processes.

        Raises StorageFailed when the disk fails. Then no process writes anything more until all have ended and the
        journal was replayed."""
        if self._journal is None:
            return
        try:
            self._journal.sync()
        except OSError as error:
            raise self._stop(error) from error
        if self._behind:  # the keeper does not run, or does not keep up
            self._behind = False
            self.checkpoint()

    def checkpoint(self, seconds: float = 0.0, octets: int = 0) -> bool:
        """Take a checkpoint if something was written and ``seconds`` have passed since the last, or ``octets`` of
        journal were written since.

        Returns False when none was due or another process is taking one. Waits for the disk: call it on a helper
        thread."""
        checkpoints = self._checkpoints
        return checkpoints is not None and checkpoints.due(seconds, octets) and self._take()

    def make_room(self) -> None:
        """Take a checkpoint now: it frees pages that only the previous checkpoint keeps. Call it on a helper thread."""
        if self._checkpoints is not None:
            self._take(wait=True)

    def _take(self, wait: bool = False) -> bool:
        """Take a checkpoint. False when it failed or another process is taking one."""
        assert self._checkpoints is not None
        try:
            return self._checkpoints.take(wait=wait)
        except NotSynced as error:
            self._stop(error)
        except (OSError, lmdb.Error, MailError) as error:
            log.event("index.checkpoint", "error", path=self.path, error=error, then="the journal grows meanwhile")
        return False

    def _stop(self, error: OSError) -> StorageFailed:
        """Refuse all further writes, in this and other processes, after a failed sync; return the error to raise.

        The kernel reports a write error once and may then call the lost page clean, so a second sync proves nothing.
        Only a new start, which replays the journal and writes the files again, can be trusted. The file DISTRUST tells
        that start."""
        self.broken = f"{self.path}: {error.strerror}"
        with (
            suppress(OSError),
            open(os.path.join(checkpoint.folder(self.path), checkpoint.DISTRUST), "w", encoding="ascii"),
        ):
            pass  # an empty file is enough; the next start finds it
        log.event(
            "index.readonly", "error", path=self.path, error=error, then="check the disk, then start the server again"
        )
        checkpoints, meta = self._checkpoints, self.db["meta"]
        try:
            with self.env.begin(write=True) as txn:
                row = txn.get(journal.KEPT_ROW, db=meta)
                if row is not None and checkpoints is not None and checkpoints.kept(*journal.KEPT.unpack(row)[1:]):
                    txn.put(journal.BROKEN_ROW, self.broken.encode(), db=meta)
        except lmdb.Error as second:
            log.event(
                "index.readonly",
                "error",
                path=self.path,
                error=second,
                then="other processes learn of it by their own errors",
            )
        return StorageFailed(self.broken)

    def stops(self) -> list[Stop]:
        """Return when processes stopped without finishing what they did."""
        with self.read() as txn:
            return stops.read(txn, self.db["meta"])

    def note_stop(self) -> None:
        """Remember that a process has just stopped so, while others go on."""
        now = int(time.time())
        with self.write() as txn:
            stops.note(txn, self.db["meta"], Stop(now, now))

    @contextmanager
    def write(self) -> Iterator[Any]:
        """One write transaction, committed and synced at the end. For commands and start-up: it waits for the disk."""
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
        """Return a table as a read transaction sees it, for reading many rows; valid until the transaction ends.

        None where only LMDB's own cursor can read it, for example within a write transaction."""
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
        """True if the data file has grown into the reserve at the end of the map.

        From then on there may be free pages between the data, but perhaps no run of several adjacent ones, as long
        values need."""
        info = self.env.info()
        most = info["map_size"] - info["map_size"] // RESERVE
        return bool((info["last_pgno"] + 1) * self._page > most)

    def crowded(self, txn: Reading) -> bool:
        """True if so much of the map is used that nothing may be added.

        While at least half of the reserve is still free at the end of the map, data may fill all but the reserve. After
        that the limit is half of the map, so that long values find adjacent free pages."""
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
        """Log that the map is full, at most once in TOLD seconds. ``used``: octets of the map in use."""
        if time.monotonic() - self._told > TOLD or not self._told:
            self._told = time.monotonic()
            then = "raise index_map_size ([store]) or map_size ([relay]) and restart, or remove mail"
            log.event("index.full", "error", path=self.path, used=used, size=self.env.info()["map_size"], then=then)

    def _octets(self, txn: Reading, name: str) -> int:
        """Octets of all pages of a table."""
        stat = txn.stat(self.db[name])
        return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * self._page

    def last_commit(self) -> int:
        """Return the number of the last commit that a reader sees; what was read stays true while this number does not
        change.

        LMDB's ``info`` is not used because it names a commit that is still being synced, which no reader sees yet. The
        meta pages are asked first, as most calls find nothing new and a transaction costs twenty times as much."""
        if self._metas.newest() == self._seen:
            return self._seen
        txn = self.begin()
        try:
            seen = self._seen = int(txn.id())
            return seen
        finally:
            txn.abort()

    def close(self) -> None:
        """Close the environment; no transaction may be open. The last process to close it leaves nothing to replay."""
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
                # its reader slot stays, as that of a process that died, and keeps the last checkpoint's pages
                self._checkpoints.leave()
                return
            self._checkpoints.close()
            self.env.close()
        finally:
            self._users.close()
            self._gate.release()
            self._gate.close()

    def _last_checkpoint(self, checkpoints: Checkpoints) -> None:
        """Take a clean checkpoint, from which the next start need not recover."""
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
    """Return the last checkpoint; None where there is none.

    Also None where the checkpoint file is damaged but the LMDB file is sound by itself: it always is unless the machine
    stopped. CorruptData when neither can be used."""
    try:
        return checkpoint.read(path)
    except CorruptData as error:
        found = examine(path, tables)
        if found.damage:
            raise
        log.event("index.checkpoint", "error", path=path, error=error, then="the index is used as it is")
        return None


def _is_fresh(path: str) -> bool:
    """True if there is no environment yet. CorruptData if there was one and its data file is gone or empty."""
    data, lock = os.path.join(path, "data.mdb"), os.path.join(path, "lock.mdb")
    for _ in range(FIRST_TRIES):
        if os.path.exists(data) and os.path.getsize(data):
            return False
        if not os.path.exists(data) and not os.path.exists(lock):
            return True
        time.sleep(0.02)  # another process may be creating it at this moment
    raise CorruptData(f"{data} is missing or empty")


def table_names(env: Any) -> set[str]:
    """Return the names of the tables of an open environment."""
    with env.begin() as txn:
        return {bytes(key).decode("ascii", "replace") for key in txn.cursor().iternext(values=False)}


def _give_up(event: str, why: str) -> None:
    log.event(event, "error", why=why)
    if panic is not None:
        panic()


def translate(error: BaseException) -> Exception:
    """Return the exception of model.errors that stands for an LMDB or operating-system error."""
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
