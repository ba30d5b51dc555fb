"""Replay of the journal after a stop that was not clean: rows first, then the files that it tells of.

Promise: what was acknowledged is there afterwards, whatever mixture of old and new the disk had kept; nothing that was
acknowledged as removed comes back. A file is looked at where its owner says that it belongs now, and written anew where
it is not what it was. Replaying twice is as good as once.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastmail.durable import beneath, checkpoint, journal
from fastmail.durable.journal import Entry, Found, Position
from fastmail.durable.transaction import Reading, Txn

BATCH = 4096  # records in a transaction
NUMBER = struct.Struct("<I")
FILES = (journal.MADE, journal.LINKED, journal.PIECE)
EPOCH_ROW = b"recovered"  # in ``meta``: how often rows may have been seen that were lost


class Files(Protocol):
    """Where files belong, which only their owner knows: they may have been renamed or removed since."""

    def changed(self, entry: Entry) -> None:
        """A row was put or deleted; all of them are told before ``place`` is asked."""

    def known_by(self, path: bytes) -> bytes:
        """What stays of a file's name, whoever renames it."""

    def made(self, path: str) -> None:
        """A file was made, or got another name. Rows of the same record follow."""

    def record(self) -> None:
        """A record ends."""

    def place(self, txn: Reading, path: str) -> str | None:
        """Where a file that was made at ``path`` belongs now, as the rows say; None when it is needed no more."""


@dataclass(slots=True)
class Replayed:
    """What was done: records that were applied, and files that were not as they should be. ``directories``, in which
    files were made, and ``sources``, which files were linked from, as the journal has them."""

    records: int = 0
    mended: int = 0
    directories: set[bytes] = field(default_factory=set)
    sources: set[bytes] = field(default_factory=set)


def replay(
    path: str,
    env: Any,
    tables: dict[str, Any],
    start: Position,
    base: str,
    owner: Files | None,
    distrust: bool = False,
    whole: Callable[[], None] = lambda: None,
) -> tuple[Replayed, Position]:
    """Apply what was written since ``start`` to the environment, which is opened and at the state of its checkpoint.
    The place behind the last record comes with it. ``distrust``: a sync failed, so what can be read of a file may be in
    memory only, and called written by the kernel: all are written anew. ``whole`` is called when the rows are as they
    were, before files are looked at."""
    done, end = Replayed(), start
    with env.begin():  # keeps the pages of the checkpoint until there is another one
        every = journal.records(checkpoint.folder(path), start)
        more = True
        while more:
            with env.begin(write=True) as txn:
                more, end = _apply(txn, tables, every, end, done, base, owner)
        whole()
        mender = Mender(base, owner, done.sources, distrust)
        for found in journal.records(checkpoint.folder(path), start):
            with env.begin() as txn:
                done.mended += sum(mender.mend(txn, entry) for entry in journal.entries(found))
    return done, end


def _apply(
    txn: Txn,
    tables: dict[str, Any],
    every: Iterator[Found],
    end: Position,
    done: Replayed,
    base: str,
    owner: Files | None,
) -> tuple[bool, Position]:
    """Some records; False when there are no more."""
    for _ in range(BATCH):
        found = next(every, None)
        if found is None:
            return False, end
        for entry in journal.entries(found):
            if entry.kind in FILES:
                done.directories.add(os.path.dirname(entry.key))
                if entry.kind == journal.LINKED:
                    done.sources.add(bytes(entry.value))
                if entry.kind != journal.PIECE and owner is not None:
                    owner.made(os.path.join(base, os.fsdecode(entry.key)))
                continue
            table = tables.get(entry.table)
            if table is None:
                continue
            if entry.kind == journal.PUT:
                txn.put(entry.key, entry.value, db=table)
            elif entry.kind == journal.DELETE:
                txn.delete(entry.key, db=table)
            else:
                txn.drop(table, delete=False)
            if owner is not None:
                owner.changed(entry)
        if owner is not None:
            owner.record()
        done.records += 1
        end = found.end
    return True, end


class Mender:
    """Makes files what they were. A link has the content of the file that it was made from, which may have been new."""

    def __init__(self, base: str, owner: Files | None, sources: set[bytes], distrust: bool) -> None:
        """``sources``: what files were linked from; ``distrust``: see ``replay``."""
        self._base = base
        self._distrust = distrust
        self._owner = owner
        self._sources = {self._key(source) for source in sources}
        # how files were made that others were linked from: by what stays of their names, and path
        self._contents: dict[bytes, dict[bytes, memoryview]] = {}

    def _key(self, path: bytes) -> bytes:
        return self._owner.known_by(path) if self._owner is not None else path

    def _content(self, source: bytes) -> memoryview | None:
        """How the file was made that was at ``source``. Several mailboxes may have one of that name: only the mailbox's
        own counts then."""
        known = self._contents.get(self._key(source), {})
        if len(known) == 1:
            return next(iter(known.values()))
        root = os.path.dirname(os.path.dirname(source))
        return next((made for path, made in known.items() if os.path.dirname(os.path.dirname(path)) == root), None)

    def mend(self, txn: Reading, entry: Entry) -> bool:
        """Make one file what it was; True when it was not."""
        if entry.kind == journal.PIECE:
            offset: int = journal.U64.unpack_from(entry.value)[0]
            path = os.path.join(self._base, os.fsdecode(entry.key))
            return _patch(path, offset, entry.value[journal.U64.size :], self._distrust)
        if entry.kind == journal.MADE:
            made: memoryview | None = entry.value
        elif entry.kind == journal.LINKED:
            made = self._content(bytes(entry.value))
        else:
            return False
        if made is None:
            return False  # its content was there before the checkpoint
        key = self._key(entry.key)
        if key in self._sources:
            self._contents.setdefault(key, {})[entry.key] = made
        place: str | None = os.path.join(self._base, os.fsdecode(entry.key))
        if self._owner is not None and place is not None:
            place = self._owner.place(txn, place)
        mtime: int = journal.I64.unpack_from(made)[0]
        return place is not None and _make(place, made[journal.I64.size :], mtime, self._distrust)


def _make(place: str, content: memoryview, mtime: int, distrust: bool) -> bool:
    try:
        with os.fdopen(beneath.open_file(place), "rb", buffering=0) as file:
            there = os.fstat(file.fileno()).st_size == len(content) and file.read(len(content)) == content
            if there and not distrust:
                return False
    except OSError:
        pass  # it is not there, or is something else
    if not beneath.is_directory(os.path.dirname(place)):
        return False  # its mailbox was removed
    directory, name = os.path.split(place)
    aside = os.path.join(os.path.dirname(directory), "tmp")  # of a Maildir
    fresh = os.path.join(aside if beneath.is_directory(aside) else directory, name + ".recovered")
    with suppress(FileNotFoundError):
        beneath.unlink(fresh)
    with os.fdopen(beneath.open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    if mtime >= 0:
        beneath.set_times(fresh, (mtime * 10**9, mtime * 10**9))
    beneath.rename(fresh, place)
    return True


def _patch(place: str, offset: int, content: memoryview, distrust: bool) -> bool:
    try:
        fd = beneath.open_file(place, os.O_RDWR)
    except FileNotFoundError:
        return False  # the file was removed, with all that was in it
    try:
        if os.pread(fd, len(content), offset) == content and not distrust:
            return False
        while content:
            done = os.pwrite(fd, content, offset)
            offset += done
            content = content[done:]
        return True
    finally:
        os.close(fd)
