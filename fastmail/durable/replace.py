"""Small files that are replaced as a whole, and directories that are there to stay.

Promise: a reader, and a machine that lost its power, finds the old content or the new one; when the call returns, the
new one is on the disk. Behind the mark of a path no link is followed (see beneath).
"""

import os
from collections.abc import Iterable, Sequence

from fastmail.durable import beneath, files


def replace_file(path: str, data: bytes, like: str = "", mode: int = 0o600) -> None:
    """Write ``data`` to ``path``; with ``like`` the file belongs to that path's owner and group."""
    fresh = f"{path}.fastmail.{os.getpid()}"
    try:
        descriptor = beneath.open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:  # of a process that died, or put there: nobody else may have it open
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
    """Give (temporary, final) files their final names, each once its content is on the disk. The names themselves are
    there to stay after ``sync_directories``. OSError when the disk fails; those named before it stay."""
    for temporary, _ in pairs:  # all of them first: one commit of the file system's journal serves many
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for temporary, final in pairs:
        os.rename(temporary, final)


def make_directories(path: str) -> None:
    """As os.makedirs, for the owner only; the names of all that it made are on the disk when it returns."""
    sync_directories(make_unsynced(path))


def make_unsynced(path: str) -> list[str]:
    """The same without waiting for the disk: the directories that got something, for ``sync_directories``."""
    changed = [os.path.dirname(place) or "." for place in reversed(beneath.missing(path))]
    beneath.make_directories(path)
    return changed


def sync_directory(path: str) -> None:
    """The names in a directory to the disk; OSError when that fails."""
    sync_directories([path])


def sync_directories(paths: Iterable[str]) -> None:
    """The same for several: the first one's commit of the journal has most of what the others need."""
    every = list(dict.fromkeys(paths))
    for path, code in zip(every, files.sync_dirs([os.fsencode(path) for path in every]), strict=True):
        if code:
            raise OSError(code, os.strerror(code), path)
