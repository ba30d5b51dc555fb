"""Versions of what is stored in an environment: which one a file has, and the conversion of earlier ones.

The ``meta`` table of each environment has the number of its layout. The first process that opens an environment of an
earlier layout converts it, after the journal is replayed and before other processes may go on. LMDB keeps in memory all
that one transaction writes, so a conversion goes in parts (``Part``), each a transaction of its own. If it is
interrupted, the next process continues it, or starts it again from the last checkpoint.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from fastmail.durable import checkpoint, progress
from fastmail.durable.salvage import Walk
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CorruptData
from fastmail.telemetry import log

LAYOUT = b"layout"  # in meta: the number of the layout, in decimal
ROWS, OCTETS = 10_000, 8 << 20  # of former rows in one transaction at most


class Opened(Protocol):
    """The part of an Environment that conversions use. ``former_tables``: tables of earlier layouts that exist."""

    path: str
    db: dict[str, Any]
    former_tables: dict[str, Any]

    def read(self) -> AbstractContextManager[Any]: ...
    def write(self) -> AbstractContextManager[Any]: ...


@dataclass(frozen=True, slots=True)
class Former:
    """Tables of an earlier layout that the present layout does not have.

    ``convert(txn, old_tables, new_tables)`` moves as many rows as one transaction should hold (see Part); both mappings
    are by table name. It is called again, each time in a new transaction, until it returns True; then the old tables
    are dropped. ``bars_older``: an earlier version could do harm where only some rows are moved, so the first part
    already writes the new version number, which makes that version refuse the environment."""

    tables: frozenset[str]
    convert: Callable[[Txn, dict[str, Any], dict[str, Any]], bool]
    bars_older: bool = False


class Part:
    """The rows that one transaction of a conversion takes: as many as LMDB should keep in memory."""

    def __init__(self, rows: int = 0, octets: int = 0) -> None:
        self._rows = rows or ROWS
        self._octets = octets or OCTETS

    @property
    def is_full(self) -> bool:
        return self._rows <= 0 or self._octets <= 0

    def count(self, octets: int) -> None:
        """Count one row that is read, and written again."""
        self._rows -= 1
        self._octets -= octets
        progress.count(1)

    def take(self, txn: Txn, table: Any) -> Iterator[tuple[bytes, bytes]]:
        """Yield the first rows of a table until this part is full. They are deleted, so the next part begins where this
        one ends, also after an interruption."""
        cursor = txn.cursor(db=table)
        more = cursor.first()
        while more and not self.is_full:
            key, value = bytes(cursor.key()), bytes(cursor.value())
            cursor.delete()
            self.count(len(key) + len(value))
            yield key, value
            more = cursor.key() != b""


def version(env: Opened) -> int:
    """Return the layout version of the file, 0 for a new one."""
    with env.read() as txn:
        found = txn.get(LAYOUT, db=env.db["meta"])
    try:
        return int(bytes(found)) if found is not None else 0
    except ValueError:
        raise CorruptData(f"{env.path}: its layout cannot be read") from None


def convert(env: Opened, former: Sequence[Former], layout: int) -> None:
    """Convert the rows of earlier layouts; see the module."""
    for one in former:
        if one.tables <= env.former_tables.keys():
            _convert(env, one, layout)
    if version(env) < layout:  # a new layout without new tables: older rows keep their meaning
        with env.write() as txn:
            txn.put(LAYOUT, b"%d" % layout, db=env.db["meta"])


def _convert(env: Opened, former: Former, layout: int) -> None:
    """Convert the rows of one earlier layout.

    The last transaction drops the old tables and writes the new version number, if the first has not: an older version
    of the program that found the tables gone but the old number would create them again, empty, and use them."""
    log.event("index.converts", path=env.path, tables=sorted(former.tables), layout=layout)
    begun = done = False
    while not done:
        with env.write() as txn:
            there = {bytes(key).decode("ascii", "replace") for key in txn.cursor().iternext(values=False)}
            if not former.tables <= there:
                return  # without a journal there is no gate, and another process has converted the rows meanwhile
            old = {name: env.former_tables[name] for name in former.tables}
            if not begun:
                begun = True
                progress.begin(env.path, sum(txn.stat(table)["entries"] for table in old.values()))
                if former.bars_older:
                    txn.put(LAYOUT, b"%d" % layout, db=env.db["meta"])
            done = former.convert(txn, old, env.db)
            if done:
                for table in old.values():
                    txn.drop(table, delete=True)
                txn.put(LAYOUT, b"%d" % layout, db=env.db["meta"])
    progress.end()
    log.event("index.converted", path=env.path)


def layout_of(path: str) -> tuple[int, set[str]]:
    """Return (layout version, table names) of an environment without opening it.

    Works on a damaged file and on one whose journal is still to be replayed. CorruptData when the version cannot be
    read."""
    try:
        state = checkpoint.read(path)
    except CorruptData:  # without a usable checkpoint the file is read as it is
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
