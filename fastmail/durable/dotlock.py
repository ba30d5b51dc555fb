"""Lock files as Dovecot, Courier and others make them: ``FILE.lock``, made with O_EXCL, with its holder's process id
and host in it.

A lock whose holder is gone from this host, or that nobody touched for STALE seconds, is taken away. Promise: one holder
at a time; a holder that works on for long must ``touch``. Waiting is the caller's.
"""

import os
import socket
import time

STALE = 120.0
TOUCH = 10.0  # s between two touches of a holder that is still at work
HOST = socket.gethostname()


def take(path: str) -> bool:
    """Take the lock ``path``; False while somebody else has it. OSError where no lock can be made."""
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if not _break(path):
                return False
            continue
        try:
            os.write(descriptor, f"{os.getpid()}:{HOST}".encode())
        finally:
            os.close(descriptor)
        return True
    return False


def touch(path: str) -> None:
    """Say that the holder is still there."""
    try:
        os.utime(path)
    except OSError:
        pass  # somebody took it away: what was to be written under it is written all the same


def drop(path: str) -> None:
    """Let go."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _break(path: str) -> bool:
    """Take away a lock that nobody holds any more; True when it may be tried again."""
    try:
        before = os.stat(path)
        with open(path, encoding="ascii", errors="replace") as file:
            holder, _, host = file.read(300).partition(":")
    except FileNotFoundError:
        return True
    dead = host in ("", HOST) and holder.isdigit() and int(holder) > 0 and not _lives(int(holder))
    if not dead and time.time() - before.st_mtime < STALE:
        return False
    try:
        now = os.stat(path)
        if (now.st_ino, now.st_mtime_ns) != (before.st_ino, before.st_mtime_ns):
            return False
        os.unlink(path)
    except FileNotFoundError:
        pass
    return True


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
