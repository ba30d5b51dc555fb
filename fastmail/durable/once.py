"""Secrets that are created once for a data directory, and stay the same for every process and after every restart.

Promise: the first process that asks creates the secret, under a lock on the file; when the call returns, it is on the
disk. A file of the wrong length was cut short before any process had used it, and is written again.
"""

import fcntl
import os

from fastmail.durable.replace import sync_directory

MODE = 0o600


def secret(path: str, size: int) -> bytes:
    """Return the ``size`` random octets kept at ``path``, readable by the owner only. Waits for the disk. Raises
    OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_mode & 0o777 != MODE:
            os.fchmod(file.fileno(), MODE)
        found = file.read(size + 1)
        if len(found) == size:
            return found
        made = os.urandom(size)
        file.seek(0)
        file.truncate()
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(os.path.dirname(path) or ".")
    return made
