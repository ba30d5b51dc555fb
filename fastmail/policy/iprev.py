"""Reverse DNS of a client (RFC 8601 3): does one of the names of its address lead back to it?

Promise: at most NAMES names are looked at, and none of them in turn has names that are.
"""

from dataclasses import dataclass

import msgspec

from fastmail.dns.interface import FAILED, Answer, Budget, Names, ask_all
from fastmail.net import networks
from fastmail.policy.kept import Kept

NAMES = 10
KEPT = 10_000  # results


class Reverse(msgspec.Struct, frozen=True, cache_hash=True):
    """``result``: pass, fail, temperror or permerror (RFC 8601 2.7.3); ``name``: one that leads back, the first in
    alphabetical order, or the first that does not."""

    result: str
    name: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Client:
    """An address, the name that its names are at, and the type of what has to lead back."""

    text: str
    pointer: str
    kind: str


def _client(ip: str) -> _Client | None:
    """None for what is no address."""
    try:
        address = networks.address(ip)
    except ValueError:
        return None
    return _Client(str(address), address.reverse_pointer, "A" if address.version == 4 else "AAAA")


class Iprev:
    """Checks clients; one for each worker."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._kept: Kept[str, Reverse] = Kept(KEPT)

    def known(self, ip: str) -> Reverse | None:
        """A result that is kept."""
        return self._kept.get(ip)

    def until(self, ip: str) -> float:
        """As long as it counts, by the monotonic clock; 0 where none is kept."""
        return self._kept.until(ip)

    async def check(self, ip: str, budget: Budget) -> Reverse:
        """Never raises for what the DNS says."""
        client = _client(ip)
        if client is None:
            return Reverse("permerror", why="no IP address")
        answer = await self._names.ask(client.pointer, "PTR", budget)
        names = sorted(answer.records)[:NAMES]
        found = await ask_all(self._names, [(name, client.kind) for name in names], budget)
        result = _judged(client, answer, names, found)
        self._kept.put(ip, result, min(one.until for one in (answer, *found)))
        return result


def _judged(client: _Client, answer: Answer, names: list[str], found: list[Answer]) -> Reverse:
    if answer.state == FAILED:
        return Reverse("temperror", why=answer.why)
    if answer.void:
        return Reverse("permerror", why="the address has no name")
    for name, one in zip(names, found, strict=True):
        if client.text in one.records:
            return Reverse("pass", name)
    if any(one.state == FAILED for one in found):
        return Reverse("temperror", names[0], "a name could not be looked up")
    return Reverse("fail", names[0], "none of its names leads back to the address")
