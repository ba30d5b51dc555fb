"""How much comes in from strangers: connections and messages in a clock hour (UTC), by client (an IPv4 address, an IPv6
/64), by network (a /24, a /48), by the sender's domain, and by recipient. Who is over a limit hears when the hour ends.

The counts are in files that all workers share (net.scores), a file for each ``by``, so that nobody can push out counts
of clients with senders that are made up. A count is exact while its slot is used; the one that was not changed longest
gives way when all slots of its row are in use.

Promise: constant memory (3 MiB of file for each ``by`` that has a limit) and constant time. What is refused does not
count.
"""

import ipaddress
import math
import os
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache

from fastmail.model.units import HOUR, hour_ends
from fastmail.net import networks
from fastmail.net.scores import Scores
from fastmail.policy.strangers.rules import CLIENT, NETWORK, RECIPIENT, SENDER, Rate

TRIES = 200  # to lock a row that another worker changes at this moment
BITS = {4: 24, 6: 48}  # of an address that make a network
WHOSE = {
    CLIENT: "your address",
    NETWORK: "your network",
    SENDER: "the sender's domain",
    RECIPIENT: "this recipient",
}


@lru_cache(4096)
def client(host: str) -> Mapping[str, str]:
    """What a client is counted by; nothing for what is no IP address."""
    name = networks.network_of(host)
    if not name:
        return {}
    address = networks.address(host)
    return {CLIENT: name, NETWORK: str(ipaddress.ip_network((address, BITS[address.version]), strict=False))}


class Rates:
    """One in each worker."""

    def __init__(self, directory: str, rates: Sequence[Rate]) -> None:
        self._rates = rates
        self._tables = {by: Scores(os.path.join(directory, by), TRIES) for by in {one.by for one in rates}}

    def close(self) -> None:
        for table in self._tables.values():
            table.close()

    def counts(self, what: str, by: str) -> bool:
        """Is there such a limit?"""
        return any(one.what == what and one.by == by for one in self._rates)

    def over(self, what: str, names: Mapping[str, str]) -> str:
        """Why there may be no more of ``what`` by these names in this hour, in words for the client; empty where there
        may. Nothing is counted."""
        now = time.time()
        for one, name in self._for(what, names, now):
            if self._tables[one.by].get(name, 0.0, now) >= one.most:
                return _why(one, now)
        return ""

    def take(self, what: str, names: Mapping[str, str]) -> str:
        """Count one more by all of these names, or by none of them; returns what ``over`` does."""
        why = self.over(what, names)
        if why:
            return why
        now = time.time()
        for one, name in self._for(what, names, now):
            if self._tables[one.by].add(name, 1.0, 0.0, math.inf, now) > one.most:
                why = why or _why(one, now)  # another worker had the last one in this moment
        return why

    def _for(self, what: str, names: Mapping[str, str], now: float) -> list[tuple[Rate, str]]:
        """The limits that are about this, each with the name of its count."""
        return [
            (one, f"{what} {int(now) // HOUR} {names[one.by]}")
            for one in self._rates
            if one.what == what and one.by in names
        ]


def _why(rate: Rate, now: float) -> str:
    what = rate.what if rate.most > 1 else rate.what.removesuffix("s")
    return f"at most {rate.most} {what} an hour for {WHOSE[rate.by]}, try again after {hour_ends(now)}"
