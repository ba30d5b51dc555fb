"""Opens the LMDB file of an environment, and brings it to its last durable state: the first process that opens the
environment after a stop that was not clean replays the journal (durable.recovery).

Failures: an environment whose data file has disappeared, or in which the name of a table is damaged, is CorruptData and
never taken for a new one.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import lmdb

from fastmail.durable import checkpoint, journal, recovery, stops
from fastmail.durable.checkpoint import State
from fastmail.durable.errors import REPAIR, give_up, translate
from fastmail.durable.journal import Position
from fastmail.durable.layouts import Former
from fastmail.durable.recovery import Files
from fastmail.durable.replace import sync_directory
from fastmail.durable.salvage import examine, misnamed
from fastmail.durable.stops import Stop
from fastmail.model.errors import CorruptData, StorageFull
from fastmail.telemetry import log

READERS = 2048  # at once, of all processes; 64 octets each in the lock file
FIRST_OCTETS = 1 << 18  # that a new environment has on the disk, lock file and all
FIRST_TRIES = 50  # of 0.02 s each, until another process has created the file


@dataclass(frozen=True, slots=True)
class Journaled:
    """How an environment is journaled.

    ``base``: paths below this directory are recorded relative to it, so that the data directory can be moved.
    ``owner``: makes the object that knows where files belong after a loss of power. ``least``: octets of the first
    journal slot."""

    base: str
    owner: Callable[[dict[str, Any]], Files] | None = None
    least: int = journal.LEAST


@dataclass(slots=True)
class File:
    """An open LMDB file. ``pin``: a read transaction that keeps the pages of the commit it was opened at, None without
    a journal; ``page``: octets of a page; ``db``: tables by name; ``former_tables``: those of earlier layouts that
    exist."""

    env: Any
    pin: Any
    page: int
    db: dict[str, Any]
    former_tables: dict[str, Any]


def open_file(path: str, tables: list[str], former: Collection[str], map_size: int, journaled: bool) -> File:
    """Open the LMDB file of an environment and its tables. ``former``: names of tables of earlier layouts.

    Without a journal LMDB syncs each commit. Raises CorruptData for damage, StorageFailed or StorageFull for errors of
    the disk."""
    fresh = _is_fresh(path)
    _reserve(path, fresh)
    try:
        env = lmdb.open(
            path,
            map_size=map_size,
            max_dbs=len(tables) + 1 + len(former),
            max_readers=READERS,
            mode=0o600,
            max_spare_txns=4,
            sync=not journaled,
        )
        # Pin the pages of the present commit, which is the last checkpoint's state, until there is another
        # checkpoint; Environment._begin_journal ends this.
        pin = env.begin() if journaled else None
        if fresh:
            sync_directory(path)
        page = int(env.stat()["psize"])
        if not journaled:
            env.reader_check()
        if not fresh:
            _refuse_misnamed(path, env, tables)
        with env.begin(write=True) as txn:  # one, or a new environment would be synced for each table
            db: dict[str, Any] = {name: env.open_db(name.encode(), txn) for name in [*tables, "meta"]}
        there = set(former) & table_names(env) if former else ()
        return File(env, pin, page, db, {name: env.open_db(name.encode(), create=False) for name in there})
    except lmdb.MemoryError as error:
        if not fresh:  # a damaged first page may ask for a map of any size, which fails with this error
            give_up("index.damaged", f"{path}: {error}")
        raise translate(error) from error
    except lmdb.Error as error:
        raise translate(error) from error


def _reserve(path: str, fresh: bool) -> None:
    """Let the lock file have its place on the disk. LMDB writes to it through memory, and only as readers come: without
    room the kernel ends the process (SIGBUS) in place of an error. StorageFull where a new environment has no room.

    The file is opened for that before LMDB has it, and only until it is whole: to close it ends the locks that this
    process holds on it."""
    if fresh:
        there = os.statvfs(path)
        if there.f_bavail * there.f_frsize < FIRST_OCTETS:
            raise StorageFull(f"{path}: no space left on device")
        return
    lock = os.path.join(path, "lock.mdb")
    with contextlib.suppress(OSError):  # on a full disk what is there can still be read
        if (found := os.stat(lock)).st_blocks * 512 < found.st_size:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.posix_fallocate(fd, 0, found.st_size)
            finally:
                os.close(fd)


def _refuse_misnamed(path: str, env: Any, tables: list[str]) -> None:
    """Refuse a file in which the name of a table is damaged: LMDB would create the table it misses, empty."""
    with env.begin() as txn:
        there = [key.decode("ascii", "replace") for key in txn.cursor().iternext(values=False)]
    lost = misnamed(there, tables)
    if lost:
        env.close()
        give_up("index.damaged", f"{path}: {', '.join(lost)!r} is not a table of this server")
        raise CorruptData(f"{path}: the names of its tables are damaged; {REPAIR}")


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


def last_state(path: str, tables: list[str]) -> State | None:
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


def continue_journal(env: Any, meta: Any, folder: str, tables: list[str], had_journal: bool) -> None:
    """Set in table ``meta`` where the journal continues, for an environment that was closed cleanly, is new, or had no
    journal.

    If the last slot has records of other tables, the journal continues in a new slot: a slot's header numbers the
    tables of all records in it."""
    with env.begin(write=True) as txn:
        found = txn.get(journal.POSITION_ROW, db=meta)
        there = Position.unpack(found) if found is not None else None
        ours = (*tables, "meta")
        if there is None or not had_journal or any(one != ours for one in journal.tables_behind(folder, there)):
            sequence = there.sequence if there is not None else 1
            txn.put(journal.POSITION_ROW, journal.beginning(folder, sequence).pack(), db=meta)
        txn.delete(journal.BROKEN_ROW, db=meta)


def recover(
    path: str,
    file: File,
    journaled: Journaled,
    state: State,
    former: Sequence[Former],
    bring_over: Callable[[], None],
) -> set[str]:
    """Replay the journal and return the directories in which it made files.

    The journal then continues in a new slot with a new random checksum, so that a record that failed its check now
    is never read again. ``bring_over``: converts rows of ``former`` layouts once they are all there."""
    meta, directory = file.db["meta"], checkpoint.folder(path)
    owner = journaled.owner(file.db) if journaled.owner is not None else None
    start = time.monotonic()
    distrust = os.path.exists(os.path.join(directory, checkpoint.DISTRUST))
    told = {name for tables in journal.tables_behind(directory, state.position) for name in tables}
    # A damaged LMDB file may have lost tables of an earlier layout that the journal still has rows for: create them
    # again.
    for name in told & {name for one in former for name in one.tables}:
        file.former_tables[name] = file.env.open_db(name.encode())
    known = {**file.former_tables, **file.db}
    done, end = recovery.replay(path, file.env, known, state.position, journaled.base, owner, distrust, bring_over)
    txn: Any
    with file.env.begin(write=True) as txn:
        txn.put(journal.POSITION_ROW, journal.beginning(directory, end.sequence).pack(), db=meta)
        txn.delete(journal.BROKEN_ROW, db=meta)
        count = recovery.NUMBER.unpack(txn.get(recovery.EPOCH_ROW, default=bytes(4), db=meta))[0]
        txn.put(recovery.EPOCH_ROW, recovery.NUMBER.pack(count + 1), db=meta)
        now = int(time.time())
        stops.note(txn, meta, Stop(state.time or now, now))
    log.event(
        "index.recovered",
        path=path,
        records=done.records,
        files=done.restored,
        seconds=round(time.monotonic() - start, 3),
    )
    return {os.path.join(journaled.base, os.fsdecode(one)) for one in done.directories}
