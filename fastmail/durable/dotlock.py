"""Lock files as Dovecot, Courier and others make them: ``FILE.lock``, made with O_EXCL, with its holder's process id
and host in it.

A lock whose holder is gone from this host, or died before it said who it is, or that nobody touched for STALE seconds,
is taken away. Promise: one holder at a time; a holder that works on for long must ``touch``. Two that find the same
dead lock at the same moment are why a lock is moved aside, looked at, and only then removed, and why who takes it in
its place makes sure a moment later that it is still there: others remove what they looked at before. Waiting is the
caller's; ``take`` may sleep for SETTLE.
"""

import os
import socket
import threading
import time

from fastmail.durable import beneath, files

STALE = 120.0
TOUCH = 10.0  # s between two touches of a holder that is still at work
UNSAID = 3.0  # s after which a lock does not get its holder's name any more
SETTLE = 0.05  # s after which nobody removes a lock for what its place held before
HOST = socket.gethostname()


def take(path: str) -> bool:
    """Take the lock ``path``; False while somebody else has it. OSError where no lock can be made."""
    broken = False
    for _ in range(3):
        if files.make_file(os.fsencode(path), _holder()):
            if broken:
                time.sleep(SETTLE)
            return not broken or held(path)
        if not _break(path):
            return False
        broken = True
    return False


def held(path: str) -> bool:
    """Does this process hold the lock, as far as the file says?"""
    try:
        return beneath.read(path, 300) == _holder()
    except OSError:
        return False


def touch(path: str) -> None:
    """Say that the holder is still there."""
    try:
        beneath.set_times(path)
    except OSError:
        pass  # somebody took it away: what was to be written under it is written all the same


def drop(path: str) -> None:
    """Let go; a lock that somebody else took meanwhile stays."""
    if held(path):
        _remove(path)


def _holder() -> bytes:
    return f"{os.getpid()}:{HOST}".encode()


def _remove(path: str) -> None:
    try:
        beneath.unlink(path)
    except FileNotFoundError:
        pass


def _break(path: str) -> bool:
    """Take away a lock that nobody holds any more; True when it may be tried again."""
    try:
        if _alive(path):
            return False
        aside = f"{path}.{os.getpid()}.{threading.get_ident()}"
        beneath.rename(path, aside)
    except FileNotFoundError:
        return True
    try:
        if _alive(aside):  # it was taken meanwhile: back to its place
            beneath.link(aside, path)
    except FileExistsError:
        pass
    finally:
        _remove(aside)
    return True


def _alive(path: str) -> bool:
    before = beneath.lstat(path)
    try:
        text = beneath.read(path, 300).decode("ascii", "replace")
    except FileNotFoundError:
        raise
    except OSError:  # a link, a FIFO: nobody's lock, which stays no longer than one without a word
        text = ""
    holder, _, host = text.partition(":")
    dead = host in ("", HOST) and holder.isdigit() and int(holder) > 0 and not _lives(int(holder))
    return not dead and time.time() - before.st_mtime < (STALE if text else UNSAID)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
