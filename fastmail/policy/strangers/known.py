"""Clients with a good past: from their network (an IPv4 address, an IPv6 /64) a message came lately that nothing spoke
against. They hear the greeting at once, and error replies too.

A file that all workers share (net.scores) holds keyed hashes and times: constant memory and time. Each worker notes a
network once an hour at most. Where the file cannot be opened nobody is known, and nobody is asked to wait.
"""

import math
import time
from collections import OrderedDict

from fastmail.net.networks import network_of
from fastmail.net.scores import Scores

KEEP = 35 * 86400.0  # s for which a good message counts, as in policy.greylist
RENEW = 0.9  # of what is left of that, below which another message writes it again
NOTED = 10_000  # networks that this worker has written lately
NOTED_FOR = 3600.0  # s in which none of them is written again


class Known:
    """One in each worker."""

    def __init__(self, path: str) -> None:
        self._table = Scores(path)
        self._noted: OrderedDict[str, float] = OrderedDict()

    def close(self) -> None:
        self._table.close()

    def has(self, host: str) -> bool:
        """True for a client with a good past."""
        return self._table.get(network_of(host), 1 / KEEP, time.time()) > 0

    def note(self, host: str) -> None:
        """A good message came from there."""
        name, now = network_of(host), time.time()
        if not name or 0 <= now - self._noted.get(name, -NOTED_FOR) < NOTED_FOR:
            return
        self._noted[name] = now
        self._noted.move_to_end(name)
        if len(self._noted) > NOTED:
            self._noted.popitem(last=False)
        left = self._table.get(name, 1 / KEEP, now)
        if left < RENEW:
            self._table.add(name, 1.0 - left, 1 / KEEP, math.inf, now)
