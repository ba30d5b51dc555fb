"""A write transaction that remembers what it changed, for the journal.

It has the methods of an LMDB transaction that writers use: ``get``, ``put``, ``delete``, ``pop``, ``cursor``, ``drop``
(of a table's rows), ``stat``, ``id``, ``commit``, ``abort``. Content that was put into files is told with ``made``
and ``piece``. Rows may be changed in no other way: what the journal does not know is lost with the power.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastmail.durable import journal
from fastmail.durable.journal import Octets, Record


class Writing:
    """One write transaction; see the module and Environment."""

    __slots__ = (
        "_commit",
        "_delete",
        "_numbers",
        "_put",
        "_relative",
        "cursor_of",
        "get",
        "id",
        "places",
        "raw",
        "record",
        "stat",
    )

    def __init__(
        self,
        raw: Any,
        numbers: dict[Any, int],
        commit: Callable[["Writing"], None],
        relative: Callable[[bytes], bytes],
    ) -> None:
        """``numbers``: of the tables in the journal's header; ``relative``: how a path is written down."""
        self.raw = raw
        self.get = raw.get
        self.stat = raw.stat
        self.id = raw.id
        self._put = raw.put
        self._delete = raw.delete
        self.cursor_of = raw.cursor
        self._numbers = numbers
        self._commit = commit
        self._relative = relative
        self.record = Record()
        self.places: set[bytes] = set()  # directories in which files were made

    def put(self, key: Octets, value: Octets, db: Any, overwrite: bool = True, append: bool = False) -> bool:
        if not self._put(key, value, overwrite=overwrite, append=append, db=db):
            return False
        self.record.add(journal.PUT, self._numbers[db], key, value)
        return True

    def delete(self, key: Octets, db: Any) -> bool:
        if not self._delete(key, db=db):
            return False
        self.record.add(journal.DELETE, self._numbers[db], key)
        return True

    def pop(self, key: Octets, db: Any) -> bytes | None:
        """Delete a row; what it was."""
        found: bytes | None = self.raw.pop(key, db=db)
        if found is not None:
            self.record.add(journal.DELETE, self._numbers[db], key)
        return found

    def drop(self, db: Any, delete: bool = False) -> None:
        """Delete all rows of a table."""
        if delete:
            raise ValueError("tables stay; only their rows go")
        self.raw.drop(db, delete=False)
        self.record.add(journal.CLEAR, self._numbers[db], b"")

    def cursor(self, db: Any) -> "Cursor":
        return Cursor(self, db)

    def note(self, kind: int, db: Any, key: Octets, value: Octets = b"") -> None:
        """A cursor changed a row."""
        self.record.add(kind, self._numbers[db], key, value)

    # ---------------------------------------------------------------- files

    def made(self, path: bytes, mtime: int, content: Sequence[Octets]) -> None:
        """A file was written and has its name, and neither is synced. ``mtime`` in s, or -1."""
        self.places.add(os.path.dirname(path))
        self.record.add_content(journal.MADE, self._relative(path), journal.I64.pack(mtime), content)

    def piece(self, path: bytes, offset: int, content: Sequence[Octets]) -> None:
        """Octets were written to a file and are not synced."""
        self.places.add(os.path.dirname(path))
        self.record.add_content(journal.PIECE, self._relative(path), journal.U64.pack(offset), content)

    # ---------------------------------------------------------------- its end

    def commit(self) -> None:
        self._commit(self)

    def abort(self) -> None:
        self.raw.abort()


class Cursor:
    """A cursor of such a transaction."""

    __slots__ = (
        "_db",
        "_delete",
        "_putmulti",
        "_txn",
        "first",
        "getmulti",
        "item",
        "iternext",
        "iterprev",
        "key",
        "last",
        "next",
        "prev",
        "set_key",
        "set_range",
        "value",
    )

    def __init__(self, txn: Writing, db: Any) -> None:
        raw = txn.cursor_of(db=db)
        self._txn = txn
        self._db = db
        self._delete = raw.delete
        self._putmulti = raw.putmulti
        self.first = raw.first
        self.getmulti = raw.getmulti
        self.item = raw.item
        self.iternext = raw.iternext
        self.iterprev = raw.iterprev
        self.key = raw.key
        self.last = raw.last
        self.next = raw.next
        self.prev = raw.prev
        self.set_key = raw.set_key
        self.set_range = raw.set_range
        self.value = raw.value

    def delete(self) -> bool:
        """Delete the row that it stands at, and go to the next; False when it stood nowhere."""
        key = bytes(self.key())
        if not self._delete():
            return False
        self._txn.note(journal.DELETE, self._db, key)
        return True

    def putmulti(self, rows: Iterable[tuple[Octets, Octets]]) -> None:
        """Put several rows."""
        every = list(rows)
        self._putmulti(every)
        for key, value in every:
            self._txn.note(journal.PUT, self._db, key, value)
