"""Limits what the peers of a worker have not read: octets that wait in the buffers of connections whose output is
paused.

Promise: their total stays below MOST plus what one connection writes at once (a batch of replies, one message). Beyond
that, the network whose connections have the most waiting loses the connection that has waited longest, then the next.
So a peer that asks for big messages on many connections and reads none is cut off, and not a slow reader beside it.
"""

from collections import Counter
from typing import Protocol

from fastmail.telemetry import log
from fastmail.telemetry.counters import count

MOST = 256 << 20  # octets


class Peer(Protocol):
    """What is needed of a connection. ``counted``: the network under which it is counted."""

    host: str
    counted: str

    def abort(self) -> None: ...


class Unread:
    """The unread output of all connections of a worker."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held: dict[Peer, int] = {}  # connections whose output is paused, the longest paused first
        self.total = 0

    def __len__(self) -> int:
        return len(self._held)

    def add(self, connection: Peer, octets: int) -> None:
        """Note that the output of a connection is paused, with so many octets waiting."""
        self.drop(connection)
        self._held[connection] = octets
        self.total += octets
        while self.total > self._most and self._held:
            victim = self._heaviest()
            self.drop(victim)
            count("connections.unread")
            log.event("connection.unread", "warning", peer=victim.host, then="cut off: it leaves too much unread")
            victim.abort()

    def drop(self, connection: Peer) -> None:
        """Note that a connection is not paused any more."""
        self.total -= self._held.pop(connection, 0)

    def _heaviest(self) -> Peer:
        networks: Counter[str] = Counter()
        for connection, octets in self._held.items():
            networks[connection.counted] += octets
        network = max(networks, key=networks.__getitem__)
        return next(one for one, octets in self._held.items() if one.counted == network and octets)
