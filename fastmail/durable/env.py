"""LMDB environments with the settings that keep an acknowledged message: full sync, no WRITEMAP, opened after fork.

Promise: a read transaction sees one commit and blocks nobody; the caller ends it before it awaits. A full map or disk
raises StorageFull and leaves the environment usable. RESERVE of the map is kept for what removes or changes: what adds
is refused (StorageFull) once it would be used, so that there is always room to delete. When the disk fails in the very
moment in which LMDB writes its meta page, the process can neither write nor read any more: ``panic`` is called, which
ends a worker, and the next one reads the last good commit. A file that is damaged, or gone where one was, is
CorruptData, and ``panic`` too: whoever starts workers looks at it before the next one does. Each environment carries a
layout version in its ``meta`` table; a higher one is refused with ConfigError rather than guessed at.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import lmdb

from fastmail._core import leaves
from fastmail.durable.files import Mapped
from fastmail.durable.replace import make_directories, sync_directory
from fastmail.durable.salvage import misnamed
from fastmail.model.errors import ConfigError, CorruptData, StorageFailed, StorageFull
from fastmail.telemetry import log

LAYOUT = b"layout"
FIRST_TRIES = 50
RESERVE = 16  # one part in so many of the map
TOLD = 60.0  # s between two log events about the same map
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
    """An earlier layout: tables that it had and this one has not, and what brings its rows over, given a transaction
    and the tables of both by name."""

    tables: frozenset[str]
    convert: Callable[[Any, dict[str, Any], dict[str, Any]], None]


class Environment:
    """One LMDB environment and its named tables, as attributes of ``db`` by name."""

    def __init__(
        self,
        path: str,
        tables: list[str],
        layout: int,
        map_size: int = 64 << 30,
        former: Former | None = None,
        moving: str = "",
    ) -> None:
        """``former``: an earlier layout that is known by its tables, and how its rows become this one's. ``moving``: a
        table whose rows will be copied to another one, which takes as much room again."""
        make_directories(path)
        fresh = _is_fresh(path)
        try:
            self.env = lmdb.open(
                path,
                map_size=map_size,
                max_dbs=len(tables) + 1 + (len(former.tables) if former is not None else 0),
                max_readers=2048,
                mode=0o600,
                max_spare_txns=4,
            )
            if fresh:
                sync_directory(path)
            self.path = path
            self._page = int(self.env.stat()["psize"])
            self._told = 0.0
            self._moving = moving
            self._map: Mapped | None = None
            self.env.reader_check()
            if not fresh:
                self._names(tables)
            self.db: dict[str, Any] = {name: self.env.open_db(name.encode()) for name in [*tables, "meta"]}
        except lmdb.MemoryError as error:
            if not fresh:  # its first pages may ask for a map of any size
                _give_up("index.damaged", f"{path}: {error}")
            raise translate(error) from error
        except lmdb.Error as error:
            raise translate(error) from error
        with self.read() as txn:
            found = txn.get(LAYOUT, db=self.db["meta"])
        try:
            version = int(bytes(found)) if found is not None else 0
        except ValueError:
            raise CorruptData(f"{path}: its layout cannot be read") from None
        if version > layout:
            self.env.close()
            raise ConfigError(f"{path} was written by a newer fastmail (layout {version}, this one reads {layout})")
        if former is not None and not fresh:
            self._convert(former, layout)
        if version < layout:  # a change of layout keeps what older rows mean
            with self.write() as txn:
                txn.put(LAYOUT, b"%d" % layout, db=self.db["meta"])

    def _convert(self, former: Former, layout: int) -> None:
        """Bring rows of an earlier layout into this one's tables, in one transaction; others who open it wait."""
        if not former.tables <= table_names(self.env):
            return
        log.event("index.converts", path=self.path, tables=sorted(former.tables), layout=layout)
        with self.write() as txn:
            there = {bytes(key).decode("ascii", "replace") for key in txn.cursor().iternext(values=False)}
            if not former.tables <= there:
                return  # another process did it meanwhile
            old = {name: self.env.open_db(name.encode(), txn=txn, create=False) for name in former.tables}
            former.convert(txn, old, self.db)
            for table in old.values():
                txn.drop(table, delete=True)
            txn.put(LAYOUT, b"%d" % layout, db=self.db["meta"])
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
        """A transaction; values are memoryviews in a read transaction, valid until it ends."""
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

    @contextmanager
    def write(self) -> Iterator[Any]:
        """One write transaction, committed and synced at the end; for commands and start-up, never on the loop."""
        txn = self.begin(write=True)
        try:
            yield txn
            txn.commit()
        except lmdb.Error as error:
            raise translate(error) from error
        finally:
            txn.abort()

    def table(self, txn: Any, name: bytes) -> leaves.Table | None:
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

    def tight(self, txn: Any) -> bool:
        """Do the data reach so far that the room behind them is not more than the reserve? From then on there may be
        free pages between the data, but perhaps not several side by side. ``txn`` is a write transaction."""
        info = self.env.info()
        most = info["map_size"] - info["map_size"] // RESERVE
        moving = self._octets(txn, self._moving) if self._moving else 0
        return bool((info["last_pgno"] + 1) * self._page + moving > most)

    def crowded(self, txn: Any) -> bool:
        """Is so much of the map used that nothing may be added? While half of the reserve lies behind the data, what is
        used may come up to the reserve; then no more than half of the map, so that what is added finds free pages."""
        if not self.tight(txn):
            return False
        info = self.env.info()
        size, reserve = info["map_size"], info["map_size"] // RESERVE
        behind = size - (info["last_pgno"] + 1) * self._page
        moving = self._octets(txn, self._moving) if self._moving else 0
        used = sum(self._octets(txn, name) for name in self.db) + moving
        if used <= (size - reserve if behind > reserve // 2 else size // 2):
            return False
        if time.monotonic() - self._told > TOLD or not self._told:
            self._told = time.monotonic()
            then = "raise index_map_size ([store]) or map_size ([relay]) and restart, or remove mail"
            log.event("index.full", "error", path=self.path, used=used, size=info["map_size"], then=then)
        return True

    def _octets(self, txn: Any, name: str) -> int:
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
        """Close; no transaction may be open."""
        self.env.close()


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
    """The layout version of an environment, and its tables, without changing it. CorruptData and the like when it
    cannot be read."""
    try:
        env = lmdb.open(path, readonly=True, max_dbs=1, lock=False)
        try:
            names = table_names(env)
            meta = env.open_db(b"meta", create=False)
            with env.begin() as txn:
                found = txn.get(LAYOUT, db=meta)
                return int(found) if found is not None else 0, names
        finally:
            env.close()
    except lmdb.Error as error:
        raise translate(error) from error


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
