"""Replaces small files as a whole, and creates directories durably.

Promise: a reader finds the old content or the new one, never a mixture, even after a loss of power; when a call
returns, the new content is on the disk. In the inner part of a guarded path no link is followed (see beneath).
"""

import os
from collections.abc import Iterable, Sequence
from typing import IO

from fastmail.durable import beneath, files


def replace_file(path: str, data: bytes, like: str = "", mode: int = 0o600) -> None:
    """Write ``data`` to ``path``. With ``like`` the file gets that path's owner and group."""
    fresh = f"{path}.fastmail.{os.getpid()}"
    try:
        descriptor = beneath.open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:  # left by a process that died, or planted: remove it rather than write to it
        beneath.unlink(fresh)
        descriptor = beneath.open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if like:
                owner = beneath.owner(like)
                if owner != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), *owner)
            os.fsync(file.fileno())
        beneath.rename(fresh, path)
    except BaseException:
        beneath.unlink(fresh)
        raise
    sync_directory(os.path.dirname(path) or ".")


def name_files(pairs: Sequence[tuple[str, str]]) -> None:
    """Rename (temporary, final) pairs, each after its content was synced. The names are durable after
    ``sync_directories``.

    OSError when the disk fails; files that were renamed before keep their final names."""
    for temporary, _ in pairs:  # sync all before renaming: one commit of the file system's journal serves many
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for temporary, final in pairs:
        os.rename(temporary, final)


def make_directories(path: str) -> None:
    """Create a directory and its parents, for the owner only, like os.makedirs. All new names are on the disk when it
    returns."""
    sync_directories(make_unsynced(path))


def make_unsynced(path: str) -> list[str]:
    """The same without waiting for the disk. Returns the changed parent directories, for ``sync_directories``."""
    changed = [os.path.dirname(place) or "." for place in reversed(beneath.missing(path))]
    beneath.make_directories(path)
    return changed


def sync_file(file: IO[bytes]) -> None:
    """Make what was written to an open file durable. OSError when that fails."""
    file.flush()
    os.fsync(file.fileno())


def sync_octets(descriptor: int) -> None:
    """Make the octets of an open file durable, and its size; OSError. Its times may be older after a loss of power."""
    os.fdatasync(descriptor)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. OSError when that fails."""
    sync_directories([path])


def sync_directories(paths: Iterable[str]) -> None:
    """The same for several directories; after the first sync the others have little left to write."""
    every = list(dict.fromkeys(paths))
    for path, code in zip(every, files.sync_dirs([os.fsencode(path) for path in every]), strict=True):
        if code:
            raise OSError(code, os.strerror(code), path)
