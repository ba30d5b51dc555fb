"""Replay of the journal after a stop that was not clean: rows first, then the files that it tells of.

The server answers only after it, so it is done in bulk: of the rows of many records only the last value of each is
put, in the order of the keys, and files are compared on several threads (a cold disk is read best that way).

Promise: what was acknowledged is there afterwards, whatever mixture of old and new the disk had kept; nothing that was
acknowledged as removed comes back. A file is looked at where its owner says that it belongs now, and written anew where
it is not what it was. Replaying twice is as good as once.
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

OCTETS = 32 << 20  # of records that are put in one transaction, or whose files are compared together
READERS = 4  # threads that compare files
TOGETHER = 32  # files that one of them compares at a time
NUMBER = struct.Struct("<I")
FILES = (journal.MADE, journal.LINKED, journal.PIECE)
EPOCH_ROW = b"recovered"  # in ``meta``: how often rows may have been seen that were lost


Made = tuple[Entry, memoryview]  # a file, and how it was made: mtime or offset(8), and its content


class Files(Protocol):
    """Where files belong, which only their owner knows: they may have been renamed or removed since."""

    @property
    def tables(self) -> Collection[str]:
        """Whose rows it wants to see."""

    def changed(self, entry: Entry) -> None:
        """A row of one of its tables was put; all of them are told before ``expected`` and ``place`` are asked."""

    def known_by(self, path: bytes) -> bytes:
        """What stays of a file's name, whoever renames it."""

    def made(self, path: str) -> None:
        """A file was made, or got another name. Rows of the same record follow."""

    def record(self) -> None:
        """A record ends."""

    def expected(self, txn: Reading, path: str) -> str | None:
        """Where a file that was made at ``path`` should be, as the rows say, without a look at it; None when it is
        needed no more."""

    def place(self, txn: Reading, path: str) -> str | None:
        """The same of one that is not there, or not as it should be: another program may have renamed it since."""


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
        with Mender(base, owner, done.sources, distrust) as mender:
            some: list[Entry] = []
            octets = 0
            for found in journal.records(checkpoint.folder(path), start):
                some += journal.entries(found, rows=False)
                octets += len(found.body)
                if octets >= OCTETS:
                    done.mended += mender.mend(env, some)
                    some, octets = [], 0
            done.mended += mender.mend(env, some)
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
    """What rows are to be in the end. ``write`` puts them."""

    def __init__(self, txn: Txn, tables: dict[str, Any]) -> None:
        self._txn = txn
        self._tables = tables
        self._rows: dict[str, dict[bytes, memoryview | None]] = {}  # by table and key; None: deleted

    def add(self, entry: Entry) -> None:
        if entry.table not in self._tables:
            return
        rows = self._rows.setdefault(entry.table, {})
        if entry.kind == journal.CLEAR:
            rows.clear()
            self._txn.drop(self._tables[entry.table], delete=False)
        else:
            rows[entry.key] = entry.value if entry.kind == journal.PUT else None

    def write(self) -> None:
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


class Mender:
    """Makes files what they were. A link has the content of the file that it was made from, which may have been new."""

    def __init__(self, base: str, owner: Files | None, sources: set[bytes], distrust: bool) -> None:
        """``sources``: what files were linked from; ``distrust``: see ``replay``."""
        from concurrent.futures import ThreadPoolExecutor  # when files are mended only: commands start sooner

        self._base = base
        self._distrust = distrust
        self._owner = owner
        self._sources = {self._key(source) for source in sources}
        # how files were made that others were linked from: by what stays of their names, and path
        self._contents: dict[bytes, dict[bytes, memoryview]] = {}
        self._readers = ThreadPoolExecutor(READERS, "recovery")

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

    def __enter__(self) -> "Mender":
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.shutdown()

    def mend(self, env: Any, entries: Sequence[Entry]) -> int:
        """Make files what they were; how many were not."""
        pieces: list[Made] = []
        whole: dict[bytes, Made] = {}  # by path: what was made last there counts
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
        """How its file was made, as an entry has it; None where its content was there before the checkpoint."""
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
        """Those whose files are not where they should be, or not what they were. Nearly all are, where only the program
        had ended."""
        whole: list[tuple[Made, bytes]] = []
        pieces: dict[bytes, list[Made]] = {}
        for one in made:
            entry = one[0]
            path: str | None = os.path.join(self._base, os.fsdecode(entry.key))
            if entry.kind == journal.PIECE:
                pieces.setdefault(os.fsencode(str(path)), []).append(one)
                continue
            if self._owner is not None:
                path = self._owner.expected(txn, str(path))
            if path is not None:
                whole.append((one, os.fsencode(path)))
        parts = [whole[at : at + TOGETHER] for at in range(0, len(whole), TOGETHER)]
        out: list[Made] = []
        for part, same in zip(parts, self._readers.map(_same_files, parts), strict=True):
            out += [one for (one, _), is_same in zip(part, same, strict=True) if not is_same]
        for of_file, same in zip(pieces.values(), self._readers.map(_same_pieces, pieces.items()), strict=True):
            if not all(same):  # a later piece may lie over an earlier one: those behind it are written, too
                out += of_file[same.index(False) :]
        return out

    def _one(self, txn: Reading, entry: Entry, made: memoryview) -> bool:
        """Make one file what it was; True when it was not."""
        path = os.path.join(self._base, os.fsdecode(entry.key))
        if entry.kind == journal.PIECE:
            offset: int = journal.U64.unpack_from(made)[0]
            return _patch(path, offset, made[journal.U64.size :], self._distrust)
        place = self._owner.place(txn, path) if self._owner is not None else path
        mtime: int = journal.I64.unpack_from(made)[0]
        return place is not None and _make(place, made[journal.I64.size :], mtime, self._distrust)


def _same_files(part: Sequence[tuple[Made, bytes]]) -> list[bool]:
    contents: list[files.Octets] = [made[journal.I64.size :] for (_, made), _ in part]
    return files.same_batch([path for _, path in part], contents)


def _same_pieces(of_file: tuple[bytes, Sequence[Made]]) -> list[bool]:
    path, pieces = of_file
    offsets = [int(journal.U64.unpack_from(made)[0]) for _, made in pieces]
    contents: list[files.Octets] = [made[journal.U64.size :] for _, made in pieces]
    return files.same_pieces(path, offsets, contents)


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
