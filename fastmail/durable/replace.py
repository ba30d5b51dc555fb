"""Small files that are replaced as a whole, and directories that are there to stay.

Promise: a reader, and a machine that lost its power, finds the old content or the new one; when the call returns, the
new one is on the disk.
"""

import os

from fastmail.durable import files


def replace_file(path: str, data: bytes, like: str = "", mode: int = 0o600) -> None:
    """Write ``data`` to ``path``; with ``like`` the file belongs to that path's owner and group."""
    fresh = f"{path}.fastmail.{os.getpid()}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if like:
                owner = os.stat(like)
                if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    sync_directory(os.path.dirname(path) or ".")


def make_directories(path: str, mode: int = 0o700) -> None:
    """As os.makedirs; the names of all that it made are on the disk when it returns."""
    made: list[str] = []
    while not os.path.isdir(path if not made else os.path.dirname(made[-1])):
        made.append(path if not made else os.path.dirname(made[-1]))
    os.makedirs(path, mode=mode, exist_ok=True)
    for one in made:
        sync_directory(os.path.dirname(one) or ".")


def sync_directory(path: str) -> None:
    """The names in a directory to the disk; OSError when that fails."""
    (code,) = files.sync_dirs([os.fsencode(path)])
    if code:
        raise OSError(code, os.strerror(code), path)
