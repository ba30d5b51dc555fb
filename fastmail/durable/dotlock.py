"""Lock files like those of Dovecot, Courier and others: ``FILE.lock``, created with O_EXCL, with the holder's process
id and host as its content.

A lock is broken when its holder no longer runs on this host, when the holder died before it wrote its name, or when
nobody has touched the lock for STALE seconds. Promise: one holder at a time. A holder that works for long must
``touch``.

Two processes may find the same dead lock at the same moment. So a dead lock is first renamed, looked at again, and only
then removed; and whoever takes a lock in place of a broken one waits RECHECK and checks that the lock still exists,
because another process may still remove the file it looked at before. ``take`` does not wait for a lock to be freed:
the caller does.
"""

import os
import socket
import threading
import time

from fastmail.durable import beneath, files

STALE = 120.0  # s without a touch after which a lock counts as abandoned
TOUCH = 10.0  # s between two touches by a holder that is still working
UNSAID = 3.0  # s after which an empty lock counts as abandoned: its holder would have written its name
RECHECK = 0.05  # s after which no other process still removes this lock by mistake for the broken one
HOST = socket.gethostname()


def take(path: str) -> bool:
    """Try to take the lock ``path``; False while another process has it. OSError where no lock can be created. May
    sleep for RECHECK."""
    broken = False
    for _ in range(3):
        if files.make_file(os.fsencode(path), _holder()):
            if broken:
                time.sleep(RECHECK)
            return not broken or is_held(path)
        if not _break(path):
            return False
        broken = True
    return False


def is_held(path: str) -> bool:
    """True if the lock file names this process as its holder."""
    try:
        return beneath.read(path, 300) == _holder()
    except OSError:
        return False


def touch(path: str) -> None:
    """Show that the holder is still working."""
    try:
        beneath.set_times(path)
    except OSError:
        pass  # another program broke the lock; the holder cannot stop half-way, so it finishes its write


def drop(path: str) -> None:
    """Release the lock. A lock that another process has taken meanwhile stays."""
    if is_held(path):
        _remove(path)


def _holder() -> bytes:
    """The content of a lock that this process holds."""
    return f"{os.getpid()}:{HOST}".encode()


def _remove(path: str) -> None:
    try:
        beneath.unlink(path)
    except FileNotFoundError:
        pass


def _break(path: str) -> bool:
    """Remove a lock that nobody holds any more; True if taking it may be tried again."""
    try:
        if _alive(path):
            return False
        aside = f"{path}.{os.getpid()}.{threading.get_ident()}"
        beneath.rename(path, aside)
    except FileNotFoundError:
        return True
    try:
        if _alive(aside):  # another process has just taken it: put it back
            beneath.link(aside, path)
    except FileExistsError:
        pass
    finally:
        _remove(aside)
    return True


def _alive(path: str) -> bool:
    """True if the lock's holder may still be working. FileNotFoundError when the lock does not exist."""
    before = beneath.lstat(path)
    try:
        text = beneath.read(path, 300).decode("ascii", "replace")
    except FileNotFoundError:
        raise
    except OSError:  # a link or a FIFO is no real lock: it is treated like an empty one
        text = ""
    holder, _, host = text.partition(":")
    dead = host in ("", HOST) and holder.isdigit() and int(holder) > 0 and not _lives(int(holder))
    return not dead and time.time() - before.st_mtime < (STALE if text else UNSAID)


def _lives(process: int) -> bool:
    """True if a process with this id runs on this host."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
