"""DNS lists (RFC 5782): is the client, or a domain of the message, on lists that the operator chose, and how much
does that weigh?

A list is ``ZONE=CODES*WEIGHT``, such as ``zen.spamhaus.org=127.0.0.[2..11]*3``: which answers count, and what for; a
negative weight is an allow list's. Without codes every usual answer counts, without a weight DEFAULT.

A list that is out of order must not keep all mail out. So an answer outside of 127.0.0.0/8, and one that lists use
for "you may not ask" (127.255.255.0/24, 127.0.0.1, 127.0.0.255, and 127.0.1.255 of domain lists), is a fault, never a
listing. And a list counts only while its test entries are right (RFC 5782 5): 127.0.0.2 is on it and 127.0.0.1 is
not; of domain lists TEST is and INVALID is not. Both are asked for along with the message's, and come from the cache.

Promise: at most DOMAINS names of a message are asked for, all lists at once, for SECONDS; who does not answer by then
does not count.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from fastmail.dns.interface import FOUND, Answer, Budget, Names, ask_all
from fastmail.model.domain import ascii_name, comparable
from fastmail.model.errors import BadAddress
from fastmail.net import networks
from fastmail.policy.kept import Kept
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

DEFAULT = 2.0
DOMAINS = 10
SECONDS = 3.0
SAID = 3600.0  # s until a list that is out of order is logged again
KEPT = 10_000  # clients, and domains of messages, of which it is kept what the lists say
_LIST = re.compile(r"([A-Za-z0-9_.-]+)(?:=([0-9.\[\];]+))?(?:\*(-?\d+(?:\.\d+)?))?")
_OCTET = re.compile(r"(\d{1,3})|\[(\d{1,3}(?:\.\.\d{1,3})?(?:;\d{1,3}(?:\.\.\d{1,3})?)*)\]")
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Zone:
    """``codes``: for each octet of an answer the ranges that count; none for all."""

    name: str
    weight: float
    codes: tuple[Ranges, ...] = ()

    def counts(self, answer: str) -> bool:
        octets = [int(part) for part in answer.split(".")]
        return not self.codes or all(
            any(low <= octet <= high for low, high in ranges) for octet, ranges in zip(octets, self.codes, strict=True)
        )


class Listed(msgspec.Struct, frozen=True, cache_hash=True):
    """A listing that counts. ``what``: the address or the domain; ``codes``: what the list says of it."""

    zone: str
    weight: float
    what: str
    codes: tuple[str, ...]


def parse(text: str) -> Zone:
    """A list as the configuration has it; ValueError says what is wrong."""
    found = _LIST.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no list: write ZONE=CODES*WEIGHT, such as zen.spamhaus.org=127.0.0.[2..11]*3")
    try:
        name = ascii_name(found.group(1))
    except BadAddress:
        raise ValueError(f"{found.group(1)!r} is not a domain name") from None
    weight = float(found.group(3)) if found.group(3) else DEFAULT
    return Zone(name, weight, _codes(found.group(2)) if found.group(2) else ())


def _codes(text: str) -> tuple[Ranges, ...]:
    out: list[Ranges] = []
    at = 0
    while at < len(text):
        found = _OCTET.match(text, at)
        if found is None or (found.end() < len(text) and text[found.end()] != "."):
            break
        parts = [part.partition("..") for part in (found.group(1) or found.group(2)).split(";")]
        out.append(tuple((int(low), int(high or low)) for low, _, high in parts))
        at = found.end() + 1
    if len(out) != 4 or at != len(text) + 1 or any(not 0 <= a <= b <= 255 for one in out for a, b in one):
        raise ValueError(
            f"{text!r} are no codes: four numbers or [ranges] with dots between, such as 127.0.0.[2..11;20]"
        )
    return tuple(out)


class Lists:
    """Asks the lists; one for each worker."""

    def __init__(self, names: Names, addresses: Sequence[Zone], domains: Sequence[Zone]) -> None:
        self._names = names
        self._addresses = addresses
        self._domains = domains
        self._kept: Kept[str | tuple[str, ...], list[Listed]] = Kept(KEPT)
        self._said: dict[str, float] = {}  # lists that are out of order, and when that was logged

    def known(self, what: str | tuple[str, ...]) -> list[Listed] | None:
        """The listings of a client, or of a message's domains, as ``client`` and ``names`` found them, as long as the
        answers count."""
        return self._kept.get(what)

    async def client(self, ip: str, seconds: float = SECONDS) -> list[Listed]:
        """The listings of an address."""
        try:
            address = networks.address(ip)
        except ValueError:
            return []
        label = address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
        return await self._listed(ip, self._addresses, [(str(address), label)], "2.0.0.127", "1.0.0.127", seconds)

    async def names(self, found: tuple[str, ...], seconds: float = SECONDS) -> list[Listed]:
        """The listings of the domains that a message has, in any spelling."""
        names = dict.fromkeys([comparable(name) for name in found])
        asked = [(name, name) for name in names if "." in name][:DOMAINS]
        return await self._listed(found, self._domains, asked, "test", "invalid", seconds)

    async def _listed(
        self,
        key: str | tuple[str, ...],
        zones: Sequence[Zone],
        asked: list[tuple[str, str]],
        good: str,
        bad: str,
        seconds: float,
    ) -> list[Listed]:
        labels = [label for _, label in asked] + [good, bad]
        questions = [(f"{label}.{zone.name}", "A") for zone in zones for label in labels]
        if not asked or not zones:
            return []
        answers = await ask_all(self._names, questions, Budget(seconds, len(questions)))
        out, sound = [], True
        for number, zone in enumerate(zones):
            own = answers[number * len(labels) : (number + 1) * len(labels)]
            if not self._sound(zone, own[-2], own[-1], good == "test"):
                sound = False
                continue
            for (what, _), answer in zip(asked, own, strict=False):
                codes = tuple(sorted(code for code in answer.records if zone.counts(code)))
                if codes and not _faults(answer, good == "test"):
                    out.append(Listed(zone.name, zone.weight, what, codes))
        if sound:
            self._kept.put(key, out, min(answer.until for answer in answers))
        return out

    def _sound(self, zone: Zone, good: Answer, bad: Answer, domains: bool) -> bool:
        """Are the test entries right?"""
        if good.state == FOUND and not _faults(good, domains) and bad.void:
            return True
        count("policy.list_trouble")
        now = time.monotonic()
        if self._said.get(zone.name, -SAID) + SAID <= now:
            self._said[zone.name] = now
            said = " ".join(map(str, good.records or bad.records)) or good.why or bad.why or good.state
            log.event("policy.list", "warning", zone=zone.name, says=said, then="it does not count until it is right")
        return False


def _faults(answer: Answer, domains: bool) -> bool:
    """Does an answer say anything but that something is listed?"""
    return any(
        not code.startswith("127.")
        or code.startswith("127.255.255.")
        or code in ("127.0.0.1", "127.0.0.255")
        or (domains and code == "127.0.1.255")
        for code in answer.records
    )
