"""Small files that are replaced as a whole.

Promise: a reader, and a machine that lost its power, finds the old content or the new one; when the call returns, the
new one is on the disk.
"""

import os


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
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
