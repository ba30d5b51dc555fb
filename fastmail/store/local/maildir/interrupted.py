"""Finds files that a crash left of a COPY, MOVE or delivery before its commit, so that they do not become messages.

COPY and MOVE link a file into its new mailbox before the commit, so that no reader of the index misses the file. If the
power is lost in between, the disk may have the link and not the commit. Nobody got an answer then. Adopted as new, the
link would be a second copy of a message that stayed where it was, which RFC 6851 3.3 says a server should avoid.

Promise: a link is left out only if another file of the account has everything that the link has. Each file of the
account is listed once, whatever the number of links, and only those that may be the same are kept in memory.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from fastmail.durable import beneath, files
from fastmail.store.local.index.layout import base_of
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import NameMaker, path_of, sizes_in

Item = tuple[bytes, bytes]  # mark, name
SECTOR = 512  # octets that a disk writes as a whole
PIECE = 1 << 16  # octets compared at a time


def remove(home: Home, directory: str, items: Sequence[Item]) -> list[Item]:
    """Remove the files among ``items`` that no acknowledged command left; return the others.

    Removed are links of an interrupted COPY or MOVE whose message still exists, and files of ours whose names a loss of
    power left without any content."""
    paths = [path_of(directory, mark + name) for mark, name in items]
    links = {path for path, (_, name) in zip(paths, items, strict=True) if NameMaker.is_copy(name)}
    others = _Others(home, links) if links else None
    out = []
    for path, item in zip(paths, items, strict=True):
        unwanted = _is_empty(path, item[1])
        if not unwanted and others is not None and path in links:
            unwanted = others.have(path)
        if unwanted:
            files.unlink_batch([path])
        else:
            out.append(item)
    return out


def _is_empty(path: bytes, name: bytes) -> bool:
    """True for a file of ours that has none of the octets that its name announces."""
    size = NameMaker.octets_in(name)
    try:
        status = beneath.lstat(path)
        if not size or not stat.S_ISREG(status.st_mode) or status.st_size > size:
            return False
        return not (files.read_file(path) or b"").strip(b"\0")
    except OSError:
        return False


class _Others:
    """The message files of an account that may be the same as one of ``links``, as listed once. Each may have been
    removed or renamed since."""

    def __init__(self, home: Home, links: Iterable[bytes]) -> None:
        self._by_inode: dict[int, set[bytes]] = {}
        self._by_octets: dict[int, set[bytes]] = {}  # octets as the names state them
        for path in links:
            octets = sizes_in(os.path.basename(path))[0]
            if octets >= 0:
                self._by_octets[octets] = set()
            with contextlib.suppress(OSError):
                self._by_inode[beneath.lstat(path).st_ino] = set()
        for place in folders.directories(home):
            for sub in ("/cur", "/new"):
                try:
                    self._list(place + sub)
                except OSError:
                    continue  # a mailbox that is being removed

    def _list(self, directory: str) -> None:
        with beneath.scan(directory) as entries:
            for entry in entries:
                path = os.fsencode(f"{directory}/{entry.name}")
                for known in (
                    self._by_inode.get(entry.inode()),
                    self._by_octets.get(sizes_in(os.fsencode(entry.name))[0]),
                ):
                    if known is not None:
                        known.add(path)

    def have(self, path: bytes) -> bool:
        """True if another file has the content of the link at ``path``.

        After a loss of power the two may be separate files, because recovery writes the content of the journal again,
        and the link may be torn, because its content was never synced."""
        try:
            status = beneath.lstat(path)
        except OSError:
            return False
        name = os.path.basename(path)
        linked = _except(name, self._by_inode.get(status.st_ino, set()))
        alike = _except(name, self._by_octets.get(sizes_in(name)[0], set()))
        return any(_is_name_of(status, other) for other in linked) or any(_is_part(path, other) for other in alike)


def _except(name: bytes, paths: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the paths of files with other names. A file proves nothing about itself, however its path is written, and
    whatever its flags are by now."""
    base = base_of(name)
    return (path for path in paths if base_of(os.path.basename(path)) != base)


def _is_name_of(status: os.stat_result, other: bytes) -> bool:
    """True if ``other`` is still a name of this file. Its number alone may be that of a file on another disk."""
    try:
        return os.path.samestat(status, beneath.lstat(other))
    except OSError:
        return False


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
