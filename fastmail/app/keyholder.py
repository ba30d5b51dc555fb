"""A process that stays root and does one thing: it reads the certificate and its key again, when the supervisor asks.

A private key that only root can read is right, and so is a server that is not root; between them stands this process.
It gets one octet, reads the files that it was started with, and leaves their content in memory that the server's
processes share. It takes nothing else in, may write no file (Landlock, where the kernel has it) and keeps, of root's
rights, only the one to read files. It ends with the supervisor.

The memory begins with the length and the checksum of what follows, so a reader that comes while it is written sees
that, and reads again.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import time
import zlib
from collections.abc import Sequence

import msgspec

from fastmail.app import owner
from fastmail.app.confine import confine

PR_SET_PDEATHSIG = 1
HEAD = struct.Struct("=QI")
LARGEST = 8 << 20  # octets of one file; lists of what was revoked grow
PATIENCE = 5.0  # s that the supervisor waits for the files


class KeyHolder:
    """Made before root is dropped. ``paths``: certificate, key, and for clients their authorities and what these have
    revoked, "" where there is none; then certificates and keys of other names. ``who``: the user who will see them;
    ``needed``: how many of the files must be readable. What cannot be read of the others is empty."""

    def __init__(self, paths: Sequence[str], who: owner.Who | None, needed: int) -> None:
        self._paths = list(paths)
        self._needed = needed
        self._who = who
        self._memory = os.memfd_create("fastmail-key")
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        try:
            self._ours.close()
            self._hold(theirs)
        finally:
            os._exit(0)

    def _hold(self, bell: socket.socket) -> None:
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(which, signal.SIG_IGN)  # they go to the whole group; this one ends with the supervisor
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        confine(())
        with contextlib.suppress(OSError):
            owner.keep_only_reading()
        while bell.recv(1):
            texts, error = [], ""
            for number, path in enumerate(self._paths):
                try:
                    texts.append(_read(path, self._who) if path else b"")
                except OSError as problem:
                    texts.append(b"")
                    if number < self._needed:
                        error = error or f"{problem.filename}: {problem.strerror}"
            packed = msgspec.msgpack.encode([error, *texts])
            os.pwrite(self._memory, HEAD.pack(0, 0), 0)
            os.pwrite(self._memory, packed, HEAD.size)
            os.pwrite(self._memory, HEAD.pack(len(packed), zlib.crc32(packed)), 0)
            bell.send(b".")

    def left_to_child(self) -> None:
        """In a worker: it may read what is held, and not ask."""
        self._ours.close()

    def refresh(self) -> None:
        """In the supervisor: have the files read again. OSError when nobody answers."""
        with contextlib.suppress(BlockingIOError):
            self._ours.recv(64)  # a late answer to an earlier question
        self._ours.send(b".")
        if not select.select([self._ours], [], [], PATIENCE)[0] or not self._ours.recv(64):
            raise OSError(0, "the process that reads the key does not answer")

    def content(self) -> list[bytes]:
        """The content of the files, as they were read last. OSError says why they could not be."""
        for _ in range(50):
            length, checksum = HEAD.unpack(os.pread(self._memory, HEAD.size, 0).ljust(HEAD.size, b"\0"))
            packed = os.pread(self._memory, length, HEAD.size)
            if length and len(packed) == length and zlib.crc32(packed) == checksum:
                error, *texts = msgspec.msgpack.decode(packed)
                if error:
                    raise OSError(0, error)
                return [bytes(text) for text in texts]
            time.sleep(0.01)
        raise OSError(0, "the key is not there yet")


def _read(path: str, who: owner.Who | None) -> bytes:
    with open(path if who is None else owner.open_for(path, who), "rb") as file:
        found = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise OSError(0, "too large", path)
    return found
