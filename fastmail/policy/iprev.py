"""Reverse DNS of a client (RFC 8601 3): does one of the names of its address lead back to it?

Promise: at most NAMES names are looked at, and none of them in turn has names that are.
"""

import asyncio
from dataclasses import dataclass

from fastmail.dns.interface import FAILED, Budget, Names
from fastmail.net import networks

NAMES = 10


@dataclass(frozen=True, slots=True)
class Reverse:
    """``result``: pass, fail, temperror or permerror (RFC 8601 2.7.3); ``name``: one that leads back, the first in
    alphabetical order, or the first that does not."""

    result: str
    name: str = ""
    why: str = ""


async def check(resolver: Names, ip: str, budget: Budget) -> Reverse:
    """Never raises for what the DNS says."""
    try:
        address = networks.address(ip)
    except ValueError:
        return Reverse("permerror", why="no IP address")
    answer = await resolver.ask(address.reverse_pointer, "PTR", budget)
    if answer.state == FAILED:
        return Reverse("temperror", why=answer.why)
    if answer.void:
        return Reverse("permerror", why="the address has no name")
    names = sorted(answer.records)[:NAMES]
    kind = "A" if address.version == 4 else "AAAA"
    found = await asyncio.gather(*(resolver.ask(name, kind, budget) for name in names))
    for name, one in zip(names, found, strict=True):
        if str(address) in one.records:
            return Reverse("pass", name)
    if any(one.state == FAILED for one in found):
        return Reverse("temperror", names[0], "a name could not be looked up")
    return Reverse("fail", names[0], "none of its names leads back to the address")
