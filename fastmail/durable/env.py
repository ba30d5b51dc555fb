"""LMDB environments with the settings that keep an acknowledged message: no WRITEMAP, opened after fork.

An environment is a directory with one LMDB file. Without a journal each commit is synced in full. With a journal,
commits are written without syncs: ``sync`` makes them durable (durable.journal), checkpoints make the LMDB file itself
durable (durable.checkpoint), and the first process that opens the environment after a stop that was not clean replays
the journal (durable.opening, durable.recovery).

Promise: a read transaction sees one commit and blocks nobody; the caller ends it before it awaits. A full map or disk
raises StorageFull and leaves the environment usable. A part of the map (durable.space) is kept for operations that
remove or change: operations that add are refused (StorageFull) once they would use it, so deleting always finds room.

Failures: when the disk fails while LMDB writes its meta page, the process can neither read nor write any more.
``panic`` (durable.errors) is then called, which ends a worker; the next worker reads the last good commit. A damaged
file, or one that has disappeared, is CorruptData and calls ``panic`` too; the process that starts workers examines the
file before it starts the next one. The ``meta`` table of each environment carries a layout version; a version that is
too new is refused with ConfigError rather than guessed at.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import lmdb

from fastmail._core import leaves
from fastmail.durable import checkpoint, journal, layouts, recovery, stops
from fastmail.durable.checkpoint import Checkpoints, Lock, NotSynced, State
from fastmail.durable.errors import ERRORS, REPAIR, give_up, translate
from fastmail.durable.files import Mapped
from fastmail.durable.journal import Journal, Position
from fastmail.durable.layouts import Former
from fastmail.durable.newest import MetaPages
from fastmail.durable.opening import Journaled, continue_journal, last_state, open_file, recover
from fastmail.durable.replace import make_directories
from fastmail.durable.space import Space
from fastmail.durable.stops import Stop
from fastmail.durable.transaction import Reading, Txn
from fastmail.durable.writing import Writing
from fastmail.model.errors import ConfigError, CorruptData, MailError, StorageFailed
from fastmail.telemetry import log

REMEMBERED = 100_000  # directories whose device number is cached; bounds the cache
BEHIND = 8  # filled journal slots after which a writer takes a checkpoint itself, should the keeper not do it
STOPPED = "nothing is written any more, because of an earlier failure: "
Read = Callable[[], AbstractContextManager[Any]]  # Environment.read


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
        self.joined = False  # was it open in another process already?
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
        self.joined = not first
        state = last_state(path, tables) if first else None
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
                continue_journal(self.env, self.db["meta"], folder, tables, had_journal=state is not None)
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

    def _begin_journal(self, journaled: Journaled, tables: list[str], state: State | None, first: bool) -> None:
        """Start journaling on the open environment: the first process replays the journal and takes a checkpoint."""
        directory, meta = checkpoint.folder(self.path), self.db["meta"]
        names = [*tables, "meta"]
        checkpoints = Checkpoints(self.path, self.env, meta, self._page, journaled.base)
        if first:
            places = None
            if state is not None and not state.clean:
                places = recover(self.path, self._file, journaled, state, self._former, self._bring_over)
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

    def _open(self, path: str, tables: list[str], map_size: int, journaled: Journaled | None) -> None:
        """Open the LMDB file and its tables. ConfigError if a newer version of this program wrote it."""
        former = {name for one in self._former for name in one.tables}
        self._file = file = open_file(path, tables, former, map_size, journaled is not None)
        self.env, self._pin, self._page = file.env, file.pin, file.page
        self.db, self.former_tables = file.db, file.former_tables
        self.path = path
        self._metas, self._seen = MetaPages(path, self._page), -1
        self._space = Space(path, self.env, self._page, self.db)
        self._map: Mapped | None = None
        version = layouts.version(self)
        if version > self._layout:
            self.env.close()
            raise ConfigError(
                f"{path} was written by a newer fastmail (layout {version}, this one reads {self._layout})"
            )

    def _bring_over(self) -> None:
        """Convert the rows of earlier layouts; see durable.layouts."""
        layouts.convert(self, self._former, self._layout)

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
            give_up("index.panic", f"{self.path}: {error}")
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
        """True if the data file has grown into the reserve at the end of the map; see durable.space."""
        return self._space.tight()

    def crowded(self, txn: Reading) -> bool:
        """True if so much of the map is used that nothing may be added; see durable.space."""
        return self._space.crowded(txn)

    def tell_full(self, used: int) -> None:
        """Log that the map is full, now and then. ``used``: octets of the map in use."""
        self._space.tell_full(used)

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
