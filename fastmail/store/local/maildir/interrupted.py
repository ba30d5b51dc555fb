"""Finds files that a crash left of a COPY, MOVE or delivery before its commit, so that they do not become messages.

COPY and MOVE link a file into its new mailbox before the commit, so that no reader of the index misses the file. If the
power is lost in between, or a worker dies, the disk may have the link and not the commit. Nobody got an answer then.
Adopted as new, the link would be a second copy of a message that stayed where it was, which RFC 6851 3.3 says a server
should avoid. MOVE to another account's mailbox leaves a file of its own, whose name says which account that is.

A folder that an administrator puts back from a backup has files with such names too, and its messages are wanted. Two
things tell them apart. The name of a link says when it was made, and only a link that was made just before a stop
(durable.stops) can be one without a commit. A file without content was there before the stop: one that came later is
being written.

Promise: a link is left out only if it was made just before a stop, and another file of these accounts has everything
that the link has. Each file is listed once and read once, whatever the number of links; then each link is compared with
COMPARED others at most. Only files that may be the same are kept in memory.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence

from fastmail.durable import beneath, files
from fastmail.durable.stops import Stop
from fastmail.store.local.index.layout import base_of
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import NameMaker, arrival_order, path_of, sizes_in

Item = tuple[bytes, bytes]  # mark, name
Part = tuple[int, int]  # offset, octets
WHOLE: Part = (0, -1)
SLACK = 600  # s that a link may be older than the first change that a stop may have undone: commits wait in a queue
SECTOR = 512  # octets that a disk writes as a whole
PIECE = 1 << 16  # octets compared at a time
COMPARED = 16  # files that one link is compared with: torn links may have much in common with files that differ


def remove(
    home: Home,
    directory: str,
    items: Sequence[Item],
    stops: Sequence[Stop],
    home_of: Callable[[int], Home | None] = lambda number: None,
) -> list[Item]:
    """Remove the files among ``items`` that no acknowledged command left; return the others.

    Removed are links of an interrupted COPY or MOVE whose message still exists, and files of ours whose names a loss of
    power left without any content. ``stops``: when processes stopped without finishing what they did. ``home_of``:
    returns where the Maildir of the account with a number is."""
    if not stops:
        return list(items)
    paths = [path_of(directory, mark + name) for mark, name in items]
    links = [path for path, (_, name) in zip(paths, items, strict=True) if _may_be_interrupted(name, stops)]
    sources = {NameMaker.source_in(os.path.basename(path)) for path in links} - {0}
    homes = [home, *filter(None, map(home_of, sources))]
    others = _Others(homes, links) if links else None
    asked = set(links)
    last = max(stop.until for stop in stops)
    out = []
    for path, item in zip(paths, items, strict=True):
        unwanted = _is_empty(path, item[1], last)
        if not unwanted and others is not None and path in asked:
            unwanted = others.have(path)
        if unwanted:
            files.unlink_batch([path])
        else:
            out.append(item)
    return out


def _may_be_interrupted(name: bytes, stops: Sequence[Stop]) -> bool:
    """True for a link that COPY or MOVE made so shortly before a stop that its commit may be missing."""
    if not NameMaker.is_copy(name):
        return False
    made = arrival_order(name)[0]
    return any(stop.since - SLACK <= made <= stop.until for stop in stops)


def _is_empty(path: bytes, name: bytes, last: int) -> bool:
    """True for a file of ours that has none of the octets that its name announces, and had none at the ``last`` stop.

    A later one is not empty but unfinished: somebody is copying it here."""
    size = NameMaker.octets_in(name)
    try:
        status = beneath.lstat(path)
        if not size or not stat.S_ISREG(status.st_mode) or status.st_size > size or int(status.st_ctime) > last:
            return False
        return not (files.read_file(path) or b"").strip(b"\0")
    except OSError:
        return False


class _Others:
    """The message files in ``homes`` that may be the same as one of ``links``, as listed once. Each may have been
    removed or renamed since."""

    def __init__(self, homes: Iterable[Home], links: Iterable[bytes]) -> None:
        self._by_inode: dict[int, dict[bytes, None]] = {}
        self._alike: dict[int, _Alike] = {}  # by octets as the names state them
        for path in links:
            octets = sizes_in(os.path.basename(path))[0]
            if octets >= 0:
                self._alike.setdefault(octets, _Alike(octets)).links.append(path)
            with contextlib.suppress(OSError):
                self._by_inode[beneath.lstat(path).st_ino] = {}
        for place in (place for home in homes for place in folders.directories(home)):
            for sub in ("/cur", "/new"):
                with contextlib.suppress(OSError):  # a mailbox that is being removed
                    self._list(place + sub)

    def _list(self, directory: str) -> None:
        with beneath.scan(directory) as entries:
            for entry in entries:
                path = os.fsencode(f"{directory}/{entry.name}")
                same = self._by_inode.get(entry.inode())
                if same is not None:
                    same[path] = None
                alike = self._alike.get(sizes_in(os.fsencode(entry.name))[0])
                if alike is not None:
                    alike.files.append(path)

    def have(self, path: bytes) -> bool:
        """True if another file has the content of the link at ``path``.

        After a loss of power the two may be separate files, because recovery writes the content of the journal again,
        and the link may be torn, because its content was never synced."""
        try:
            status = beneath.lstat(path)
        except OSError:
            return False
        if _first(path, self._by_inode.get(status.st_ino, {}), lambda other: _is_name_of(status, other)):
            return True
        alike = self._alike.get(sizes_in(os.path.basename(path))[0])
        return alike is not None and alike.have(path)


class _Alike:
    """Files whose names state the same number of octets, to be found by their content. ``links``: those that may be
    asked about; ``files``: all, links among them."""

    def __init__(self, octets: int) -> None:
        self.links: list[bytes] = []
        self.files: list[bytes] = []
        self._octets = octets
        self._marks: dict[bytes, tuple[Part, bytes]] = {}  # by link: a part of it that was written, and its digest
        self._files_by_mark: dict[tuple[Part, bytes], dict[bytes, None]] | None = None

    def have(self, link: bytes) -> bool:
        """True if one of the files has everything that the link has."""
        if self._files_by_mark is None:
            self._files_by_mark = self._read()
        mark = self._marks.get(link)
        return mark is not None and _first(link, self._files_by_mark.get(mark, {}), lambda one: _is_part(link, one))

    def _read(self) -> dict[tuple[Part, bytes], dict[bytes, None]]:
        """Read every file once; return the files by the marks of links."""
        for link in self.links:
            with contextlib.suppress(OSError):
                part = self._written_part(link)
                if part is not None:
                    self._marks[link] = part, _digests(link, [part])[part]
        parts = sorted({part for part, _ in self._marks.values()})
        wanted = set(self._marks.values())
        found: dict[tuple[Part, bytes], dict[bytes, None]] = {}
        for path in self.files:
            with contextlib.suppress(OSError):
                for mark in _digests(path, parts).items():
                    if mark in wanted:
                        found.setdefault(mark, {})[path] = None
        return found

    def _written_part(self, link: bytes) -> Part | None:
        """Return WHOLE for a link that is complete, or else the first sector that is not empty; None if all are."""
        first, torn, size = None, False, 0
        for piece in _pieces(link):
            for at in range(0, len(piece), SECTOR):
                sector = piece[at : at + SECTOR]
                if not sector.strip(b"\0"):
                    torn = True
                elif first is None:
                    first = size + at, len(sector)
            size += len(piece)
        return WHOLE if first is not None and not torn and size >= self._octets else first


def _first(path: bytes, others: dict[bytes, None], proves: Callable[[bytes], bool]) -> bool:
    """True if one of the first COMPARED of ``others`` proves that the file at ``path`` is one too many.

    A file proves nothing about itself, however its path is written, and whatever its flags are by now. Those that do
    not exist any more are dropped, so that nobody looks for them again."""
    base, tried, gone = base_of(os.path.basename(path)), 0, []
    try:
        for other in others:
            if base_of(os.path.basename(other)) == base:
                continue
            if proves(other):
                return True
            tried += 1
            if not beneath.exists(other):
                gone.append(other)
            elif tried - len(gone) >= COMPARED:
                break
        return False
    finally:
        for other in gone:
            del others[other]


def _is_name_of(status: os.stat_result, other: bytes) -> bool:
    """True if ``other`` is still a name of this file. Its number alone may be that of a file on another disk."""
    try:
        return os.path.samestat(status, beneath.lstat(other))
    except OSError:
        return False


def _pieces(path: bytes) -> Iterator[bytes]:
    """Yield the content of a file."""
    with os.fdopen(beneath.open_file(path), "rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _digests(path: bytes, parts: Sequence[Part]) -> dict[Part, bytes]:
    """Return the digests of these parts of a file, which are in order; without those that the file does not have. No
    part but WHOLE goes over the end of a piece."""
    out: dict[Part, bytes] = {}
    whole = hashlib.blake2b(digest_size=16)
    at, base = 0, 0
    sectors = [part for part in parts if part != WHOLE]
    for piece in _pieces(path):
        if len(sectors) < len(parts):
            whole.update(piece)
        while at < len(sectors) and sectors[at][0] < base + len(piece):
            offset, octets = sectors[at]
            some = piece[offset - base : offset - base + octets]
            if len(some) == octets:
                out[sectors[at]] = hashlib.blake2b(some, digest_size=16).digest()
            at += 1
        base += len(piece)
    if len(sectors) < len(parts):
        out[WHOLE] = whole.digest()
    return out


def _is_part(path: bytes, other: bytes) -> bool:
    """True if each sector of the file at ``path`` is that of the other file, or was never written. The file may end
    sooner. Times do not count: recovery sets those of the journal, and the disk may have kept others."""
    try:
        with (
            os.fdopen(beneath.open_file(path), "rb") as one,
            os.fdopen(beneath.open_file(other), "rb") as two,
        ):
            while mine := one.read(PIECE):
                whole = two.read(PIECE)
                if mine != whole and not _is_torn(mine, whole):
                    return False
            return True
    except OSError:
        return False


def _is_torn(mine: bytes, whole: bytes) -> bool:
    """True if ``mine`` has only sectors of ``whole``, and zeros."""
    if len(mine) > len(whole):
        return False
    parts = ((at, mine[at : at + SECTOR]) for at in range(0, len(mine), SECTOR))
    return all(whole.startswith(part, at) or not part.strip(b"\0") for at, part in parts)
