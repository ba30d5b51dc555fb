"""How much comes in from strangers: connections and messages in a clock hour (UTC), by client (an IPv4 address, an IPv6
/64), by network (a /24, a /48), by the sender's domain, and by recipient. Who is over a limit hears when the hour ends.

Each worker has files of its own (net.scores), which nobody else writes, and reads those of all: a count is the sum of
theirs, so it is exact without a lock. A worker's number is the first that no other one holds; who follows one that died
goes on with its counts. There is a file for each ``by``, so that nobody can push out counts of clients with senders
that are made up; the count that was not changed longest gives way when all slots of its row are in use.

Promise: never more than a limit says, in all workers together; where two of them count the last one in the same moment,
both may refuse it. Constant memory (3 MiB of file in each worker for each ``by`` that has a limit), and time that grows
with the number of workers only. What is refused does not count.
"""

import errno
import fcntl
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

WORKERS = 1024  # numbers that there are
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
        self._directory = directory
        self._number, self._lock = _own_number(directory)
        self._tables: dict[str, list[Scores]] = {by: [] for by in {one.by for one in rates}}
        for by, tables in self._tables.items():
            tables += [Scores(self._path(by, number)) for number in range(self._number + 1)]

    def close(self) -> None:
        for tables in self._tables.values():
            for table in tables:
                table.close()
        os.close(self._lock)

    def _path(self, by: str, number: int) -> str:
        return os.path.join(self._directory, f"{by}.{number}")

    def _count(self, by: str, name: str, now: float) -> float:
        """What all workers counted; the files of those that came later are opened now."""
        tables = self._tables[by]
        while os.path.exists(self._path(by, len(tables))):
            tables.append(Scores(self._path(by, len(tables))))
        return sum(table.get(name, 0.0, now) for table in tables)

    def _add(self, by: str, name: str, amount: float, now: float) -> None:
        self._tables[by][self._number].add(name, amount, 0.0, math.inf, now)

    def over(self, what: str, names: Mapping[str, str]) -> str:
        """Why there may be no more of ``what`` by these names in this hour, in words for the client; empty where there
        may. Nothing is counted."""
        now = time.time()
        for one, name in self._for(what, names, now):
            if self._count(one.by, name, now) >= one.most:
                return _why(one, now)
        return ""

    def take(self, what: str, names: Mapping[str, str]) -> str:
        """Count one more by all of these names, or by none of them; returns what ``over`` does."""
        why = self.over(what, names)
        if why:
            return why
        now = time.time()
        limits = self._for(what, names, now)
        counted = dict.fromkeys((one.by, name) for one, name in limits)  # two limits may share a count
        for by, name in counted:
            self._add(by, name, 1.0, now)
        over = next((one for one, name in limits if self._count(one.by, name, now) > one.most), None)
        if over is None:
            return ""
        for by, name in counted:  # another worker counted in this moment, too
            self._add(by, name, -1.0, now)
        return _why(over, now)

    def _for(self, what: str, names: Mapping[str, str], now: float) -> list[tuple[Rate, str]]:
        """The limits that are about this, each with the name of its count."""
        return [
            (one, f"{what} {int(now) // HOUR} {names[one.by]}")
            for one in self._rates
            if one.what == what and one.by in names
        ]


def _own_number(directory: str) -> tuple[int, int]:
    """(the first number that no other worker holds, the file whose lock says that it is held)."""
    for number in range(WORKERS):
        file = os.open(os.path.join(directory, f"worker.{number}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return number, file
    raise OSError(errno.EMFILE, "there are too many workers")


def _why(rate: Rate, now: float) -> str:
    what = rate.what if rate.most > 1 else rate.what.removesuffix("s")
    return f"at most {rate.most} {what} an hour for {WHOSE[rate.by]}, try again after {hour_ends(now)}"
