"""Replays the journal after a stop that was not clean: first the rows, then the files.

No process serves before the replay has ended, so it works in bulk. Of all values that many records give a row, only the
last is put, in key order; files are compared on several threads, which suits a disk with a cold cache.

Promise: everything that was acknowledged is restored, whatever mixture of old and new the disk had kept; a removal that
was acknowledged stays a removal. A file is compared at the path where its owner says that it belongs now, and written
again where it differs. Replaying twice gives the same result as replaying once.
"""

import os
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastmail.durable import beneath, checkpoint, files, journal
from fastmail.durable.journal import Entry, Found, Position
from fastmail.durable.transaction import Reading, Txn

OCTETS = 32 << 20  # octets of records put in one transaction, or whose files are compared together: bounds memory
READERS = 4  # threads that compare files
TOGETHER = 32  # files in one call of such a thread
NUMBER = struct.Struct("<I")
FILES = (journal.MADE, journal.LINKED, journal.PIECE)
EPOCH_ROW = b"recovered"  # in ``meta``: number of recoveries; before each, rows may have been seen that were then lost


Made = tuple[Entry, memoryview]  # a file's entry; 8 octets of mtime or offset, then its content


class Files(Protocol):
    """Knows where files belong now: since the journal recorded them they may have been renamed or removed."""

    @property
    def tables(self) -> Collection[str]:
        """Names of the tables whose rows it needs to see."""

    def changed(self, entry: Entry) -> None:
        """A row of one of its tables was put. All such rows are passed before the two methods below are called."""

    def known_by(self, path: bytes) -> bytes:
        """Return the part of a file's name that every rename keeps."""

    def made(self, path: str) -> None:
        """A file was made, or got another name. The rows of the same record follow."""

    def record(self) -> None:
        """The present record has ended."""

    def expected_path(self, txn: Reading, path: str) -> str | None:
        """Return where a file that was made at ``path`` should be according to the rows, without looking at the disk.
        None when it is not needed any more."""

    def present_path(self, txn: Reading, path: str) -> str | None:
        """The same for a file that is missing or differs there: looks at the disk, because another program may have
        renamed it."""


@dataclass(slots=True)
class Replayed:
    """What a replay did: ``records`` that were applied, and ``restored`` files that were written again.

    ``directories``: where files were made. ``sources``: paths from which files were linked. Both as in the journal."""

    records: int = 0
    restored: int = 0
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
    """Apply all records since ``start`` to the environment, and write again the files that are missing or differ.

    The environment is open and in the state of its checkpoint. Returns what was done and the position after the last
    record. ``distrust``: a sync failed earlier, so the kernel may show content that is not on the disk; all files are
    written again. ``whole`` is called when all rows are restored, before any file is looked at."""
    done, end = Replayed(), start
    with env.begin():  # a reader, so that LMDB reuses no page of the checkpoint before there is another one
        every = journal.records(checkpoint.folder(path), start)
        more = True
        while more:
            with env.begin(write=True) as txn:
                more, end = _apply(txn, tables, every, end, done, base, owner)
        whole()
        with FileRestorer(base, owner, done.sources, distrust) as restorer:
            some: list[Entry] = []
            octets = 0
            for found in journal.records(checkpoint.folder(path), start):
                some += journal.entries(found, rows=False)
                octets += len(found.body)
                if octets >= OCTETS:
                    done.restored += restorer.restore(env, some)
                    some, octets = [], 0
            done.restored += restorer.restore(env, some)
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
    """Apply records of up to OCTETS in one transaction. Returns (False when there are no more, position after the
    last)."""
    rows = _Rows(txn, tables)
    octets, more = 0, True
    while octets < OCTETS:
        found = next(every, None)
        if found is None:
            more = False
            break
        octets += len(found.body)
        for entry in journal.entries(found):
            if entry.kind in FILES:
                done.directories.add(os.path.dirname(entry.key))
                if entry.kind == journal.LINKED:
                    done.sources.add(bytes(entry.value))
                if entry.kind != journal.PIECE and owner is not None:
                    owner.made(os.path.join(base, os.fsdecode(entry.key)))
                continue
            rows.add(entry)
            if owner is not None and entry.kind == journal.PUT and entry.table in owner.tables:
                owner.changed(entry)
        if owner is not None:
            owner.record()
        done.records += 1
        end = found.end
    rows.write()
    return more, end


class _Rows:
    """Collects the last value of each row, so that ``write`` puts each row once."""

    def __init__(self, txn: Txn, tables: dict[str, Any]) -> None:
        self._txn = txn
        self._tables = tables
        self._rows: dict[str, dict[bytes, memoryview | None]] = {}  # by table and key; None for a deleted row

    def add(self, entry: Entry) -> None:
        """Take one entry; one for an unknown table is ignored."""
        if entry.table not in self._tables:
            return
        rows = self._rows.setdefault(entry.table, {})
        if entry.kind == journal.CLEAR:
            rows.clear()
            self._txn.drop(self._tables[entry.table], delete=False)
        else:
            rows[entry.key] = entry.value if entry.kind == journal.PUT else None

    def write(self) -> None:
        """Put and delete the collected rows in key order, which LMDB writes fastest."""
        for name, rows in self._rows.items():
            table = self._tables[name]
            put = []
            for key in sorted(rows):
                value = rows[key]
                if value is None:
                    self._txn.delete(key, db=table)
                else:
                    put.append((key, value))
            self._txn.cursor(db=table).putmulti(put)
        self._rows.clear()


class FileRestorer:
    """Restores files. A link gets the content of the file it was made from, which may have to be restored itself."""

    def __init__(self, base: str, owner: Files | None, sources: set[bytes], distrust: bool) -> None:
        """``sources``: paths from which files were linked; ``distrust``: see ``replay``."""
        from concurrent.futures import ThreadPoolExecutor  # when files are restored only: commands start sooner

        self._base = base
        self._distrust = distrust
        self._owner = owner
        self._sources = {self._key(source) for source in sources}
        # contents of the files in ``sources``: by the part of the name that renames keep, then by path
        self._contents: dict[bytes, dict[bytes, memoryview]] = {}
        self._readers = ThreadPoolExecutor(READERS, "recovery")

    def _key(self, path: bytes) -> bytes:
        return self._owner.known_by(path) if self._owner is not None else path

    def _content(self, source: bytes) -> memoryview | None:
        """Return how the file at ``source`` was made, None if that is not known.

        Files in several mailboxes may share that name; then only the one in the same Maildir folder counts."""
        known = self._contents.get(self._key(source), {})
        if len(known) == 1:
            return next(iter(known.values()))
        root = os.path.dirname(os.path.dirname(source))
        return next((made for path, made in known.items() if os.path.dirname(os.path.dirname(path)) == root), None)

    def __enter__(self) -> "FileRestorer":
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.shutdown()

    def restore(self, env: Any, entries: Sequence[Entry]) -> int:
        """Restore the files of these entries; return how many were missing or differed."""
        pieces: list[Made] = []
        whole: dict[bytes, Made] = {}  # by path: the last file that was made there counts
        for entry in entries:
            content = self._made(entry)
            if content is None:
                continue
            if entry.kind == journal.PIECE:
                pieces.append((entry, content))
            else:
                whole[entry.key] = entry, content
        made = [*pieces, *whole.values()]
        with env.begin() as txn:
            doubtful = made if self._distrust else self._unlike(txn, made)
            return sum(self._one(txn, entry, content) for entry, content in doubtful)

    def _made(self, entry: Entry) -> memoryview | None:
        """Return how an entry's file was made; None if its content is older than the checkpoint and so on the disk."""
        if entry.kind == journal.PIECE:
            return entry.value
        if entry.kind == journal.MADE:
            made: memoryview | None = entry.value
        elif entry.kind == journal.LINKED:
            made = self._content(bytes(entry.value))
        else:
            return None
        if made is None:
            return None
        key = self._key(entry.key)
        if key in self._sources:
            self._contents.setdefault(key, {})[entry.key] = made
        return made

    def _unlike(self, txn: Reading, made: Sequence[Made]) -> list[Made]:
        """Return the entries whose files are missing or differ: hardly any, where only the program was stopped."""
        whole: list[tuple[Made, bytes]] = []
        pieces: dict[bytes, list[Made]] = {}
        for one in made:
            entry = one[0]
            path: str | None = os.path.join(self._base, os.fsdecode(entry.key))
            if entry.kind == journal.PIECE:
                pieces.setdefault(os.fsencode(str(path)), []).append(one)
                continue
            if self._owner is not None:
                path = self._owner.expected_path(txn, str(path))
            if path is not None:
                whole.append((one, os.fsencode(path)))
        parts = [whole[at : at + TOGETHER] for at in range(0, len(whole), TOGETHER)]
        out: list[Made] = []
        for part, same in zip(parts, self._readers.map(_same_files, parts), strict=True):
            out += [one for (one, _), is_same in zip(part, same, strict=True) if not is_same]
        for of_file, same in zip(pieces.values(), self._readers.map(_same_pieces, pieces.items()), strict=True):
            # a later piece may overwrite an earlier one, so all after the first that differs are written
            if not all(same):
                out += of_file[same.index(False) :]
        return out

    def _one(self, txn: Reading, entry: Entry, made: memoryview) -> bool:
        """Restore one file; True if it was missing or differed."""
        path = os.path.join(self._base, os.fsdecode(entry.key))
        if entry.kind == journal.PIECE:
            offset: int = journal.U64.unpack_from(made)[0]
            return _patch(path, offset, made[journal.U64.size :], self._distrust)
        place = self._owner.present_path(txn, path) if self._owner is not None else path
        mtime: int = journal.I64.unpack_from(made)[0]
        return place is not None and _make(place, made[journal.I64.size :], mtime, self._distrust)


def _same_files(part: Sequence[tuple[Made, bytes]]) -> list[bool]:
    """Compare whole files with their contents, on a helper thread."""
    contents: list[files.Octets] = [made[journal.I64.size :] for (_, made), _ in part]
    return files.same_batch([path for _, path in part], contents)


def _same_pieces(of_file: tuple[bytes, Sequence[Made]]) -> list[bool]:
    """Compare pieces of one file with their contents, on a helper thread."""
    path, pieces = of_file
    offsets = [int(journal.U64.unpack_from(made)[0]) for _, made in pieces]
    contents: list[files.Octets] = [made[journal.U64.size :] for _, made in pieces]
    return files.same_pieces(path, offsets, contents)


def _make(place: str, content: memoryview, mtime: int, distrust: bool) -> bool:
    """Write a file unless it has this content already; True if it was written."""
    try:
        with os.fdopen(beneath.open_file(place), "rb", buffering=0) as file:
            there = os.fstat(file.fileno()).st_size == len(content) and file.read(len(content)) == content
            if there and not distrust:
                return False
    except OSError:
        pass  # the file is missing or is no regular file
    if not beneath.is_directory(os.path.dirname(place)):
        return False  # the mailbox was removed, so the file is needed no more
    directory, name = os.path.split(place)
    # In a Maildir a new file is written in tmp, where other programs do not take half a file for mail.
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
    """Write octets at an offset of a file unless they are there already; True if they were written."""
    try:
        fd = beneath.open_file(place, os.O_RDWR)
    except FileNotFoundError:
        return False  # the file was removed, so its pieces are needed no more
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
