"""Small files that are replaced as a whole.

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


def sync_directory(path: str) -> None:
    """The names in a directory to the disk; OSError when that fails."""
    (code,) = files.sync_dirs([os.fsencode(path)])
    if code:
        raise OSError(code, os.strerror(code), path)
