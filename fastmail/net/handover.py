"""Hands connections over to workers that have less to do.

Mail from other servers is accepted by few workers (see app.supervisor): one that gets ten messages at once syncs them
together. A worker that has SHARE such sessions has enough company for its rounds, and its one core is busy. Then it
hands each new connection to a helper: another worker, which does not accept this protocol itself.

Promise: a connection is handed over before anything is read from it or written to it, and the peer notices nothing. A
helper that is not serving is not asked; if it ends with connections in its queue, its successor serves them. Where no
helper takes it, the worker serves the connection itself.

The socket travels as a file descriptor (unix(7), SCM_RIGHTS) with the name of its protocol. How many sessions each
worker has stands in memory that all of them share; each writes its own number only.
"""

import asyncio
import contextlib
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Protocol

SHARE = 32  # sessions from which on a worker hands over: with fewer, two workers only wait for each other's syncs
AWAY = 0xFFFFFFFF  # a worker's number of sessions while it does not serve
COUNT = struct.Struct("=I")
LONGEST = 16  # octets of a protocol's name
AT_ONCE = 16  # connections that a helper takes in one round of the loop


class Peer(Protocol):
    """Makes connections of one protocol: a listener, as far as this module knows it."""

    def take(self, sock: socket.socket) -> None:
        """Serve a connection that another worker accepted."""


class Exchange:
    """What the workers share: numbers of sessions and a queue for each helper. Made before they are started.

    The first ``accepting`` of ``workers`` accept connections; each of the others helps one of them."""

    def __init__(self, workers: int, accepting: int) -> None:
        self.workers = workers
        self.accepting = accepting
        self._counts = mmap.mmap(-1, COUNT.size * workers)
        # by number of the helper: where connections are put in, and where the helper takes them out
        self.queues: dict[int, tuple[socket.socket, socket.socket]] = {}
        for number in range(accepting, workers):
            self.queues[number] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in self.queues[number]:
                end.setblocking(False)
        for number in range(workers):
            self.note(number, AWAY)

    def note(self, number: int, sessions: int) -> None:
        """Note how many sessions a worker has, or that it is AWAY."""
        COUNT.pack_into(self._counts, COUNT.size * number, sessions)

    def sessions(self, number: int) -> int:
        """Return how many sessions a worker has; AWAY if it does not serve."""
        count: int = COUNT.unpack_from(self._counts, COUNT.size * number)[0]
        return count

    def helpers(self, number: int) -> Iterable[int]:
        """Return who helps this worker."""
        return range(self.accepting + number, self.workers, self.accepting)

    def close(self, but_for: int = -1) -> None:
        """Close the queues, in a process that is no worker or not theirs. A worker keeps those that it uses."""
        for number, ends in self.queues.items():
            puts = but_for >= 0 and number % self.accepting == but_for
            for end, used in zip(ends, (puts, number == but_for), strict=True):
                if not used:
                    end.close()


class Handover:
    """One worker's part of it: counts its sessions, hands connections over, and takes those of others."""

    def __init__(self, exchange: Exchange, number: int) -> None:
        self._exchange = exchange
        self._number = number
        self._sessions: set[object] = set()
        # by helper: its number of sessions when it was looked at last, and how many it was handed since
        self._on_their_way: dict[int, tuple[int, int]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve(self, loop: asyncio.AbstractEventLoop, peers: dict[str, Peer]) -> None:
        """Say that this worker serves. ``peers``: by protocol, who takes connections of other workers."""
        self._loop = loop
        self._exchange.note(self._number, len(self._sessions))
        if self._number in self._exchange.queues:
            loop.add_reader(self._exchange.queues[self._number][1].fileno(), self._hear, peers)

    def begin(self, session: object) -> None:
        """Count a session."""
        self._sessions.add(session)
        self._note()

    def end(self, session: object) -> None:
        """Count a session no longer. A second call does no harm."""
        self._sessions.discard(session)
        self._note()

    def _note(self) -> None:
        if self._loop is not None:
            self._exchange.note(self._number, len(self._sessions))

    def pass_on(self, sock: int, protocol: str) -> bool:
        """Hand a connection to a helper. ``sock``: its file descriptor, which the caller closes if this is true."""
        helper = self._helper() if self._number < self._exchange.accepting else -1
        if helper < 0:
            return False
        try:
            socket.send_fds(self._exchange.queues[helper][0], [protocol.encode("ascii")], [sock])
        except OSError:  # its queue is full, or the machine has no room for one more
            return False
        count, more = self._on_their_way[helper]
        self._on_their_way[helper] = count, more + 1
        return True

    def _helper(self) -> int:
        """Return who takes the next connection: the first helper with fewer than SHARE sessions, so that few workers
        have many; otherwise the one with the fewest, if it has fewer than this worker. -1: this worker itself."""
        own = len(self._sessions)
        if own < SHARE:
            return -1
        best, fewest = -1, own
        for helper in self._exchange.helpers(self._number):
            load = self._load(helper)
            if load < SHARE:
                return helper
            if load < fewest:
                best, fewest = helper, load
        return best

    def _load(self, helper: int) -> int:
        """Return how many sessions a helper has, with those that it was handed and has not taken yet: many clients may
        come at once. Once it takes some, what it says counts."""
        count = self._exchange.sessions(helper)
        before, more = self._on_their_way.get(helper, (count, 0))
        if count != before:
            more = 0
        self._on_their_way[helper] = count, more
        return count + more

    def _hear(self, peers: dict[str, Peer]) -> None:
        """Take connections out of the queue."""
        for _ in range(AT_ONCE):
            try:
                name, descriptors, _flags, _peer = socket.recv_fds(
                    self._exchange.queues[self._number][1], LONGEST, 1, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            for descriptor in descriptors:
                _take(peers[name.decode("ascii")].take, descriptor)

    def close(self) -> None:
        """Take no more connections, and say so."""
        if self._loop is None:
            return
        self._exchange.note(self._number, AWAY)
        if self._number in self._exchange.queues:
            self._loop.remove_reader(self._exchange.queues[self._number][1].fileno())
        self._loop = None


def _take(take: Callable[[socket.socket], None], descriptor: int) -> None:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:  # the peer reset the connection meanwhile
        with contextlib.suppress(OSError):
            os.close(descriptor)
        return
    take(sock)
