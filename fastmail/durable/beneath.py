"""The one way to files in a directory that others may write in: a Maildir, a tree of control files.

``mark`` says where that directory ends the administrator's part of a path: "ROOT/./INNER". Links in ROOT are the
administrator's and are followed. Behind the mark no link is followed and nothing climbs (``..``): openat2 sees to it,
or openat level by level where the kernel has no openat2 (see beneath.h). What is opened for its content is a regular
file, and a FIFO in its place makes nobody wait. A path without a mark is what it is to any other function.

OSError as the functions of ``os`` have it: ELOOP for a link behind the mark, EXDEV for "..", EINVAL for what is no
regular file. ``exists``, ``is_directory`` and ``missing`` never take "cannot be said" for "is not there": a look needs
a descriptor, and where the process has none left, or the disk fails, they raise StorageFailed.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator

from fastmail.durable import files
from fastmail.model.errors import StorageFailed

MARK = "/."
UNSURE = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR, errno.EAGAIN])
_NO_STEP = re.compile(r"(?:/\.)+(?=/|$)")


def mark(root: str) -> str:
    """A directory as the root of paths: what is joined to it is behind the mark."""
    return root + MARK


def plain(root: str) -> str:
    """An administrator's path without what would be taken for a mark."""
    return _NO_STEP.sub("", root).rstrip("/") or root


def open_fd(path: str | bytes, flags: int, mode: int = 0o600) -> int:
    """A descriptor of whatever it is."""
    return files.open_fd(os.fsencode(path), flags, mode)


def open_file(path: str | bytes, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """A descriptor of a regular file."""
    descriptor = open_fd(path, flags | os.O_NOFOLLOW, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def read(path: str | bytes, most: int) -> bytes:
    """A regular file's first octets."""
    with os.fdopen(open_file(path), "rb") as file:
        return file.read(most)


@contextlib.contextmanager
def parent(path: str | bytes) -> Iterator[tuple[int | None, bytes]]:
    """(directory, name), as the functions of ``os`` take them for ``dir_fd``."""
    descriptor, name = files.parent(os.fsencode(path))
    try:
        yield None if descriptor < 0 else descriptor, name
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _is_root(path: str | bytes) -> bool:
    return os.fsencode(path).endswith(b"/.")


def lstat(path: str | bytes) -> os.stat_result:
    """What is there, a link or anything else."""
    if _is_root(path):
        return os.stat(path)
    with parent(path) as (where, name):
        return os.stat(name, dir_fd=where, follow_symlinks=False)


def _surely(error: OSError) -> None:
    """StorageFailed for an error that does not say what there is."""
    if error.errno in UNSURE:
        raise StorageFailed(str(error)) from error


def exists(path: str | bytes) -> bool:
    """Is there anything, be it a link to nothing?"""
    try:
        lstat(path)
    except OSError as error:
        _surely(error)
        return False
    return True


def is_directory(path: str | bytes) -> bool:
    try:
        os.close(open_fd(path, os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        _surely(error)
        return False
    return True


def owner(path: str | bytes) -> tuple[int, int]:
    """(user, group) of a directory."""
    descriptor = open_fd(path, os.O_PATH | os.O_DIRECTORY)
    try:
        found = os.fstat(descriptor)
        return found.st_uid, found.st_gid
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scan(path: str | bytes) -> Iterator[Iterator["os.DirEntry[str]"]]:
    """The entries of a directory; their ``path`` is their name only."""
    descriptor = open_fd(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def names(path: str | bytes) -> list[str]:
    """Names in a directory."""
    descriptor = open_fd(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: str | bytes, mode: int = 0o700) -> None:
    with parent(path) as (where, name):
        os.mkdir(name, mode, dir_fd=where)


def missing(path: str) -> list[str]:
    """The directories that are not there of a path and those above it, the highest first."""
    out: list[str] = []
    while not is_directory(path):
        out.append(path)
        above = os.path.dirname(path) or "."
        if above == path:
            break  # a root that may not be looked at
        path = above
    return out[::-1]


def make_directories(path: str) -> None:
    """As os.makedirs, for the owner only; one that is there is left. What is a link or a file is in the way."""
    if _is_root(path):
        os.makedirs(path[: -len(MARK)], mode=0o700, exist_ok=True)
        return
    for one in missing(path):
        if _is_root(one):
            make_directories(one)
            continue
        try:
            make_directory(one)
        except FileExistsError:
            if not is_directory(one):
                raise


def rename(old: str | bytes, new: str | bytes) -> None:
    _raise(files.rename_batch([(os.fsencode(old), os.fsencode(new))])[0], old)


def link(old: str | bytes, new: str | bytes) -> None:
    _raise(files.link_batch([(os.fsencode(old), os.fsencode(new))])[0], new)


def unlink(path: str | bytes) -> None:
    _raise(files.unlink_batch([os.fsencode(path)])[0], path)


def _raise(code: int, path: str | bytes) -> None:
    if code:
        raise OSError(code, os.strerror(code), path)


def remove_directory(path: str) -> None:
    """One that is empty."""
    if _is_root(path):
        os.rmdir(path[: -len(MARK)])
        return
    with parent(path) as (where, name):
        os.rmdir(name, dir_fd=where)


def remove_tree(path: str) -> None:
    """All of it, as far as that can be; links in it go, what they lead to stays."""
    with contextlib.suppress(OSError), parent(path) as (where, name):
        shutil.rmtree(name, ignore_errors=True, dir_fd=where)


def set_times(path: str, ns: tuple[int, int] | None = None) -> None:
    """Times of a file in ns, now without."""
    with parent(path) as (where, name):
        if ns is None:
            os.utime(name, dir_fd=where, follow_symlinks=False)
        else:
            os.utime(name, ns=ns, dir_fd=where, follow_symlinks=False)
