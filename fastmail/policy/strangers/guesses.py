"""Clients that guess recipients. Each unknown recipient is a point of the client's network (an IPv4 address, an IPv6
/64), each good message takes one off, so what counts is how many are unknown among those that are not. Points fade over
WINDOW.

A file that all workers share (net.scores) has the points: whichever worker a client reaches, it has one score, and
memory and time are constant. No address is in it, only keyed hashes of networks.
"""

import time

from fastmail.net.networks import network_of
from fastmail.net.scores import Scores

WINDOW = 3600.0  # s in which ``most`` points fade
CEILING = 2.0  # times ``most``: there is no higher score, so that it fades in reasonable time


class Guesses:
    """One in each worker. ``most``: points from which a client is a guesser."""

    def __init__(self, path: str, most: int) -> None:
        self._table = Scores(path)
        self._most = most
        self._fading = most / WINDOW

    def close(self) -> None:
        self._table.close()

    def points(self, host: str) -> float:
        """The points of a client's network."""
        return self._table.get(network_of(host), self._fading, time.time())

    def share(self, host: str) -> float:
        """The same as a share of those from which it is a guesser."""
        return self.points(host) / self._most

    def reached(self, host: str) -> bool:
        """Is it a guesser? Points that fade between two guesses do not put that off."""
        return self.points(host) >= self._most - 0.5

    def missed(self, host: str) -> None:
        """A recipient was unknown."""
        name = network_of(host)
        if name and self.points(host) < CEILING * self._most:
            self._table.add(name, 1.0, self._fading, float("inf"), time.time())

    def hit(self, host: str) -> None:
        """A good message came."""
        left = self.points(host)
        if left > 0:
            self._table.add(network_of(host), -min(left, 1.0), self._fading, float("inf"), time.time())
