"""Safe access to files in a directory where other programs may write: a Maildir, a tree of control files.

A *guarded* path says where the administrator's part of it ends: "ROOT/./INNER" (``guarded``). Links in ROOT are the
administrator's and are followed. In INNER no link is followed, and ".." does not lead out of ROOT: openat2 ensures
that, or openat level by level where the kernel has no openat2 (see beneath.h). A file that is opened for its content
must be a regular file; opening a FIFO does not block. Any other path is treated as by the functions of ``os``.

Raises OSError as the functions of ``os`` do: ELOOP for a link in INNER, EXDEV for "..", EINVAL for a file that is not
regular. ``exists``, ``is_directory`` and ``missing`` never report "missing" when they cannot tell: looking needs a
descriptor, and where the process has none left, or the disk fails, they raise StorageFailed.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import stat
from collections.abc import Iterator

from fastmail.durable import files
from fastmail.model.errors import StorageFailed

GUARD = "/."  # after ROOT; the system takes the step as "stay here"
UNSURE = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR, errno.EAGAIN])
_NO_STEP = re.compile(r"(?:/\.)+(?=/|$)")


def guarded(root: str) -> str:
    """Return a guarded directory: whatever is joined to it is opened without following links."""
    return root + GUARD


def plain(root: str) -> str:
    """Remove from an administrator's path everything that would make it a guarded one."""
    return _NO_STEP.sub("", root).rstrip("/") or root


def open_fd(path: str | bytes, flags: int, mode: int = 0o600) -> int:
    """Open a path of any kind and return its descriptor."""
    return files.open_fd(os.fsencode(path), flags, mode)


def open_file(path: str | bytes, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open a regular file and return its descriptor."""
    descriptor = open_fd(path, flags | os.O_NOFOLLOW, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def read(path: str | bytes, most: int) -> bytes:
    """Return the first ``most`` octets of a regular file."""
    with os.fdopen(open_file(path), "rb") as file:
        return file.read(most)


def is_written(path: str | bytes) -> bool | None:
    """True if some process has the regular file open for writing; None if that cannot be told: the file belongs to
    another user, or its file system knows no leases.

    A lease for reading is granted only where nobody writes (fcntl(2)). It is given back at once. Whoever opens the file
    for writing meanwhile waits that long, and the kernel would signal it here: by SIGURG, which is ignored by default,
    since SIGIO would end the process."""
    descriptor = open_file(path)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def parent(path: str | bytes) -> Iterator[tuple[int | None, bytes]]:
    """(directory descriptor, name) for the ``dir_fd`` of functions of ``os``; the descriptor is None if the path
    is not guarded."""
    descriptor, name = files.parent(os.fsencode(path))
    try:
        yield None if descriptor < 0 else descriptor, name
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _is_root(path: str | bytes) -> bool:
    """True if the path is the guarded directory itself."""
    return os.fsencode(path).endswith(b"/.")


def lstat(path: str | bytes) -> os.stat_result:
    """Return the status of whatever is at a path; a link is not followed."""
    if _is_root(path):
        return os.stat(path)
    with parent(path) as (where, name):
        return os.stat(name, dir_fd=where, follow_symlinks=False)


def _surely(error: OSError) -> None:
    """Raise StorageFailed for an error that does not tell whether the path exists."""
    if error.errno in UNSURE:
        raise StorageFailed(str(error)) from error


def exists(path: str | bytes) -> bool:
    """True if there is anything at the path, even a dangling link."""
    try:
        lstat(path)
    except OSError as error:
        _surely(error)
        return False
    return True


def is_directory(path: str | bytes) -> bool:
    """True if the path is a directory."""
    try:
        os.close(open_fd(path, os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        _surely(error)
        return False
    return True


def owner(path: str | bytes) -> tuple[int, int]:
    """Return (user, group) of a directory."""
    descriptor = open_fd(path, os.O_PATH | os.O_DIRECTORY)
    try:
        found = os.fstat(descriptor)
        return found.st_uid, found.st_gid
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def scan(path: str | bytes) -> Iterator[Iterator["os.DirEntry[str]"]]:
    """The entries of a directory. The ``path`` of an entry is only its name."""
    descriptor = open_fd(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def names(path: str | bytes) -> list[str]:
    """Return the names in a directory."""
    descriptor = open_fd(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: str | bytes, mode: int = 0o700) -> None:
    """Create one directory."""
    with parent(path) as (where, name):
        os.mkdir(name, mode, dir_fd=where)


def missing(path: str) -> list[str]:
    """Return the directories of a path that do not exist, the highest one first."""
    out: list[str] = []
    while not is_directory(path):
        out.append(path)
        above = os.path.dirname(path) or "."
        if above == path:
            break  # "/" itself cannot be looked at: nothing is above it
        path = above
    return out[::-1]


def make_directories(path: str) -> None:
    """Create a directory and its parents, for the owner only, like os.makedirs. OSError if a link or a file is in the
    way."""
    if _is_root(path):
        os.makedirs(path[: -len(GUARD)], mode=0o700, exist_ok=True)
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
    """Raise OSError for an errno other than 0."""
    if code:
        raise OSError(code, os.strerror(code), path)


def remove_directory(path: str) -> None:
    """Remove an empty directory."""
    if _is_root(path):
        os.rmdir(path[: -len(GUARD)])
        return
    with parent(path) as (where, name):
        os.rmdir(name, dir_fd=where)


def remove_tree(path: str) -> None:
    """Remove a directory with everything in it, ignoring errors. Links in it are removed, their targets stay."""
    with contextlib.suppress(OSError), parent(path) as (where, name):
        shutil.rmtree(name, ignore_errors=True, dir_fd=where)


def set_times(path: str, ns: tuple[int, int] | None = None) -> None:
    """Set access and modification times of a file, in ns; without ``ns`` to the present time."""
    with parent(path) as (where, name):
        if ns is None:
            os.utime(name, dir_fd=where, follow_symlinks=False)
        else:
            os.utime(name, ns=ns, dir_fd=where, follow_symlinks=False)
