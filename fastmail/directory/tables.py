"""Where the directory keeps its rows: tables of octets by key, in LMDB (one synced transaction a change) or in memory.

Promise: a read sees one commit; a write is there whole, durable and seen by all processes when it ends, or not at all.
Writers wait for each other, so what one reads in its transaction nobody changes before it ends.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from fastmail.durable.env import Environment
from fastmail.durable.errors import ERRORS, translate
from fastmail.durable.layouts import Former

LAYOUT = 3  # with mailing lists: an older program would refuse their mail, so it does not open them
TABLES = [
    "domains",
    "accounts",
    "numbers",
    "aliases",
    "apps",
    "used",
    "counts",
    "audit",
    "acted",
    "scripts",
    "groups",
    "group_members",
    "homes",
    "renames",
    "lists",
    "list_members",
    "posts",
    "totp",
    "passkeys",
]
META = "meta"
MAP = 8 << 30


class Txn(Protocol):
    """One transaction."""

    def get(self, table: str, key: bytes) -> bytes | None: ...
    def put(self, table: str, key: bytes, value: bytes) -> None: ...
    def delete(self, table: str, key: bytes) -> bool:
        """False when there was no such row."""
        ...

    def items(self, table: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in the order of their keys, from ``start`` on; nothing may be written meanwhile."""
        ...

    def last(self, table: str) -> bytes:
        """The highest key; empty where there is none."""
        ...


class Tables(Protocol):
    """A store of tables."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """One row as the last commit has it."""
        ...

    def read(self) -> AbstractContextManager[Txn]: ...
    def write(self) -> AbstractContextManager[Txn]: ...
    def last_commit(self) -> int:
        """A number that is another one after each write."""
        ...

    def close(self) -> None: ...


class LmdbTxn:
    """See Txn."""

    __slots__ = ("_db", "raw")

    def __init__(self, txn: Any, db: dict[str, Any]) -> None:
        self.raw, self._db = txn, db

    def get(self, table: str, key: bytes) -> bytes | None:
        found = self.raw.get(key, db=self._db[table]) if key else None
        return bytes(found) if found is not None else None

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self.raw.put(key, value, db=self._db[table])

    def delete(self, table: str, key: bytes) -> bool:
        return bool(key and self.raw.delete(key, db=self._db[table]))

    def items(self, table: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self.raw.cursor(db=self._db[table]) as cursor:
            if cursor.set_range(start) if start else cursor.first():
                for key, value in cursor.iternext():
                    yield bytes(key), bytes(value)

    def last(self, table: str) -> bytes:
        with self.raw.cursor(db=self._db[table]) as cursor:  # a write transaction counts those that are open
            return bytes(cursor.key()) if cursor.last() else b""


class LmdbTables:
    """See Tables; ``former``: how earlier layouts become this one."""

    def __init__(self, path: str, former: Sequence[Former] = ()) -> None:
        self.env = Environment(path, TABLES, LAYOUT, MAP, former)
        self.db = self.env.db
        self.last_commit = self.env.last_commit

    def get(self, table: str, key: bytes) -> bytes | None:
        if not key:
            return None
        txn = self.env.begin()  # ``read`` without its context, which costs more than the look-up itself
        try:
            found = txn.get(key, db=self.db[table])
            return bytes(found) if found is not None else None
        except ERRORS as error:
            raise translate(error) from error
        finally:
            txn.abort()

    @contextmanager
    def read(self) -> Iterator[Txn]:
        with self.env.read() as txn:
            yield LmdbTxn(txn, self.db)

    @contextmanager
    def write(self) -> Iterator[Txn]:
        with self.env.write() as txn:
            yield LmdbTxn(txn, self.db)

    def close(self) -> None:
        self.env.close()


class MemoryTables:
    """See Tables; for one process."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[bytes, bytes]] = {name: {} for name in [*TABLES, META]}
        self._commits = 0
        self._writing = threading.RLock()  # several threads write, such as those that sign

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._rows[table].get(key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._rows[table][key] = value

    def delete(self, table: str, key: bytes) -> bool:
        return self._rows[table].pop(key, None) is not None

    def items(self, table: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        rows = self._rows[table]
        for key in sorted(key for key in rows if key >= start):
            yield key, rows[key]

    def last(self, table: str) -> bytes:
        return max(self._rows[table], default=b"")

    @contextmanager
    def read(self) -> Iterator[Txn]:
        yield self

    @contextmanager
    def write(self) -> Iterator[Txn]:
        with self._writing:
            before = {name: dict(rows) for name, rows in self._rows.items()}
            try:
                yield self
            except BaseException:
                self._rows = before
                raise
            self._commits += 1

    def last_commit(self) -> int:
        return self._commits

    def close(self) -> None:
        pass
