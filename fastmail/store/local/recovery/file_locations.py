"""Finds where the files belong that the journal tells of, when it is replayed (durable.recovery).

A file was created under one name in one directory. Since then its message may have got flags, and so another name; its
mailbox may have got another directory; or the message was expunged. The rows tell. Only the part of a file name before
the flags is certain, because another program may have changed the rest.
"""

import os
from collections.abc import Callable
from typing import Any

from fastmail.durable import beneath
from fastmail.durable.journal import Entry
from fastmail.durable.segments import SegmentReader
from fastmail.durable.transaction import Reading
from fastmail.store.local.index import former_arrivals, layout, walk
from fastmail.store.local.index.layout import ACCOUNT, CUR, HELD, HOLDER, MAILBOX, NEW, account_of, base_of
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir.folders import directories, folder, make
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.housekeeping import by_base
from fastmail.store.local.maildir.names import path_of


class FileLocations:
    """See durable.recovery.Files. ``home_of``: returns where the Maildir of the account with a number is, None if
    unknown."""

    tables = frozenset({"msg", "held", former_arrivals.TABLE})

    def __init__(self, home_of: Callable[[int], Home | None], db: dict[str, Any]) -> None:
        self._home_of = home_of
        self._db = db
        self._made: dict[bytes, list[str]] = {}  # of the present record: paths of files, by base name
        self._rows: dict[bytes, list[bytes]] = {}  # of the present record: keys in the table msg, by base name
        self._messages: dict[str, list[bytes]] = {}  # of all records: keys in the table msg, by path
        self._held: dict[bytes, bytes] = {}  # key in the table held, by file name
        self._listed: dict[str, dict[bytes, bytes]] = {}  # files by base name, by directory
        self._roots: dict[bytes, tuple[str, bool]] = {}  # by mailbox: its directory by the rows, and whether it exists

    def made(self, path: str) -> None:
        self._made.setdefault(base_of(os.fsencode(os.path.basename(path))), []).append(path)

    def changed(self, entry: Entry) -> None:
        value = entry.value
        if entry.table == "msg":
            self._saw(entry.key, layout.marked_of(value))
        elif entry.table == former_arrivals.TABLE:
            self._saw(*former_arrivals.named(value))
        elif entry.table == "held" and entry.key[HOLDER : HOLDER + 1] == HELD:
            self._held[entry.key[HOLDER + 1 :]] = entry.key

    def _saw(self, at: bytes, marked: bytes) -> None:
        if marked[:1] in (NEW, CUR):
            self._rows.setdefault(base_of(marked[1:]), []).append(at)

    def record(self) -> None:
        """Match files with rows: a file's row is in the same record as the file.

        Deliveries from the queue have the same name in every mailbox, so one name may have several files and rows."""
        for base, paths in self._made.items():
            for path in paths:
                if base in self._rows:
                    self._messages[path] = self._rows[base]
        self._made.clear()
        self._rows.clear()

    def known_by(self, path: bytes) -> bytes:
        return base_of(os.path.basename(path))

    def expected_path(self, txn: Reading, path: str) -> str | None:
        held = self._held.get(os.fsencode(os.path.basename(path)))
        if held is not None:
            return path if txn.get(held, db=self._db["held"]) is not None else None
        key = self._message(txn, path)
        if key is None:
            return path
        marked = self._row(txn, key)
        if marked is None:
            return None
        root, _ = self._root(txn, key[:MAILBOX], os.path.dirname(os.path.dirname(path)))
        return os.fsdecode(path_of(root, marked))

    def present_path(self, txn: Reading, path: str) -> str | None:
        expected = self.expected_path(txn, path)
        directory, name = os.path.split(path)
        raw = os.fsencode(name)
        key = self._message(txn, path)
        if expected is None or key is None or raw in self._held:
            return expected
        root, there = self._root(txn, key[:MAILBOX], os.path.dirname(directory))
        if not there:
            return self._elsewhere(txn, key, root, raw)
        if root not in self._listed and beneath.exists(expected):
            return expected
        found = self._there(root).get(base_of(raw))
        return os.fsdecode(path_of(root, found)) if found is not None else expected

    def _message(self, txn: Reading, path: str) -> bytes | None:
        """Return the key in the table msg of the message whose file was created at ``path``; None if no record names
        one. Of several in the same account, the one in the mailbox where the file was created."""
        keys = self._messages.get(path)
        if keys is None:
            return None
        if len(keys) > 1:
            made = os.path.dirname(os.path.dirname(path))
            keys = [key for key in keys if self._root(txn, key[:MAILBOX], "")[0] == made] or keys
        return keys[0]

    def _there(self, root: str) -> dict[bytes, bytes]:
        if root not in self._listed:
            self._listed[root] = by_base(root) if beneath.is_directory(root) else {}
        return self._listed[root]

    def _elsewhere(self, txn: Reading, key: bytes, root: str, raw: bytes) -> str | None:
        """Find a path for a message whose mailbox has a row but no directory.

        The mailbox was being renamed, which happens on disk first, or removed. All of its messages are kept in one
        place: the directory that has files of some, or one that is created again. In two places, those that the disk
        had kept would be messages of both."""
        home, mailbox = self._home_of(account_of(key)), key[:MAILBOX]
        if home is None:
            return None
        other = self._renamed_to(txn, mailbox, home)
        if other is None:
            make(home, root)
            other = root
        self._roots[mailbox] = other, True
        marked = self._there(other).get(base_of(raw)) or self._row(txn, key)
        return os.fsdecode(path_of(other, marked)) if marked is not None else None

    def _renamed_to(self, txn: Reading, mailbox: bytes, home: Home) -> str | None:
        """Return the directory, of no mailbox that has a row, where files of the mailbox are."""
        tables = Tables(**self._db, reader=SegmentReader(""))
        rows = walk.rows(txn, tables.msg, mailbox)
        bases = {base_of(layout.marked_of(value)[1:]) for _, value in rows if layout.mark_of(value) in (NEW, CUR)}
        known = {folder(home, box.name) for box in walk.boxes(txn, tables, mailbox[:ACCOUNT])}
        others = (other for other in directories(home) if other not in known)
        return next((other for other in others if not bases.isdisjoint(self._there(other))), None)

    def _row(self, txn: Reading, at: bytes) -> bytes | None:
        """Return how the message's row names its file; None if it has no row any more."""
        value = txn.get(at, db=self._db["msg"])
        return layout.marked_of(value) if value is not None else None

    def _root(self, txn: Reading, key: bytes, made: str) -> tuple[str, bool]:
        """Return the directory of the mailbox, which was ``made`` when the file was created, and whether it exists."""
        known = self._roots.get(key)
        if known is not None:
            return known
        row = txn.get(layout.row_key(key), db=self._db["page"])
        home = self._home_of(account_of(key))
        if row is None or home is None:
            return made, beneath.is_directory(made)
        root = folder(home, layout.unpack_row(key, row).name)
        known = self._roots[key] = root, beneath.is_directory(root)
        return known
