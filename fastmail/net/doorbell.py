"""Doorbells: datagrams by which the processes of one server wake each other, on Unix sockets in the run directory.

Promise: only datagrams from root and from the server's own user are accepted; the kernel says who sent them (unix(7)).
Ringing never waits and never fails: a process that is starting, gone or busy is not woken. So a ring may be lost, and
every listener also looks by itself from time to time.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable

PEER = struct.Struct("=iII")  # process, user, group
AT_ONCE = 64  # datagrams that are read in one round of the loop


def _is_ours(level: int, kind: int, data: bytes) -> bool:
    """Return True if these are the credentials of root or of the server's own user."""
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) or len(data) < PEER.size:
        return False
    return PEER.unpack_from(data)[1] in (0, os.geteuid())


class Doorbell:
    """Receives the rings of one process, and rings others."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, path: str, loop: asyncio.AbstractEventLoop, heard: Callable[[bytes], None], most: int) -> None:
        """Call ``heard`` with each datagram (at most ``most`` octets) that arrives at this path. A socket file of an
        earlier process is replaced."""
        if os.path.exists(path):
            os.unlink(path)
        self._socket.bind(path)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        os.chmod(path, 0o600)
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._read, heard, most)

    def ring(self, path: str, datagram: bytes) -> None:
        """Send a datagram to whoever listens at this path."""
        try:
            self._socket.sendto(datagram, path)
        except OSError:
            return  # it is starting, gone or busy, and will look by itself

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()

    def _read(self, heard: Callable[[bytes], None], most: int) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram, rest, *_ = self._socket.recvmsg(most, socket.CMSG_SPACE(PEER.size))
            except (BlockingIOError, InterruptedError):
                return
            if any(_is_ours(*one) for one in rest):
                heard(datagram)
