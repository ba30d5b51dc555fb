"""DNS lists (RFC 5782): is the client, or a domain of the message, on lists that the operator chose, and how much
does that weigh?

A list is ``ZONE=CODES*WEIGHT``, such as ``zen.spamhaus.org=127.0.0.[2..11]*3``: which answers count, and what for; a
negative weight is an allow list's. Without codes every usual answer counts, without a weight DEFAULT. Where the bits of
an octet have meanings of their own, ``&8`` stands for all octets with that bit (``multi.surbl.org=127.0.0.&8*4``).

Lists of domains are asked about the names as they are. Words behind the weight say what else a list wants: ``org`` the
registered domain above each name (by the list of public suffixes), ``ip`` IP addresses in URLs too, in reverse.

A list that is out of order must not keep all mail out. So an answer outside of 127.0.0.0/8, and one that lists use
for "you may not ask" (127.255.255.0/24, 127.0.0.1, 127.0.0.255, and 127.0.1.255 of domain lists), is a fault, never a
listing. And a list counts only while its test entries are right (RFC 5782 5): 127.0.0.2 is on it and 127.0.0.1 is
not; of domain lists TEST is and INVALID is not. Both are asked for along with the message's, and come from the cache.

Promise: at most DOMAINS names of a message's header are asked for, and those that policy.links chose of its content,
all lists at once, for SECONDS; who does not answer by then does not count. A list of what the content names counts
once, however many of the names are on it.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from fastmail.dns.interface import FOUND, Answer, Budget, Names, ask_all
from fastmail.model.domain import ascii_name, comparable
from fastmail.model.errors import BadAddress
from fastmail.net import networks
from fastmail.policy.kept import Kept
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

DEFAULT = 2.0
DOMAINS = 10
SECONDS = 3.0
SAID = 3600.0  # s until a list that is out of order is logged again
KEPT = 10_000  # clients, and domains of messages, of which it is kept what the lists say
_LIST = re.compile(r"([A-Za-z0-9_.-]+)(?:=([0-9.&\[\];]+))?(?:\*(-?\d+(?:\.\d+)?))?((?: +(?:org|ip))*)")
_OCTET = re.compile(r"(\d{1,3})|\[(\d{1,3}(?:\.\.\d{1,3})?(?:;\d{1,3}(?:\.\.\d{1,3})?)*)\]|&(\d{1,3})")
ADDRESS_TESTS = ("2.0.0.127", "1.0.0.127")  # what is on a list of addresses, and what is not (RFC 5782 5)
DOMAIN_TESTS = ("test", "invalid")
Ranges = tuple[tuple[int, int], ...]
# a list, what it is asked for (what stands in front of its name, and what that is for people), and its test entries
Asked = tuple["Zone", Mapping[str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Zone:
    """``codes``: for each octet of an answer the ranges that count; none for all. ``org``: it lists registered domains;
    ``ip``: a list of domains that lists addresses too."""

    name: str
    weight: float
    codes: tuple[Ranges, ...] = ()
    org: bool = False
    ip: bool = False

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
    words = found.group(4).split()
    return Zone(name, weight, _codes(found.group(2)) if found.group(2) else (), "org" in words, "ip" in words)


def _codes(text: str) -> tuple[Ranges, ...]:
    out: list[Ranges] = []
    at = 0
    while at < len(text):
        found = _OCTET.match(text, at)
        if found is None or (found.end() < len(text) and text[found.end()] != "."):
            break
        at = found.end() + 1
        if found.group(3):
            out.append(_with_bit(int(found.group(3))))
            continue
        parts = [part.partition("..") for part in (found.group(1) or found.group(2)).split(";")]
        out.append(tuple((int(low), int(high or low)) for low, _, high in parts))
    if len(out) != 4 or at != len(text) + 1 or any(not 0 <= a <= b <= 255 for one in out for a, b in one):
        raise ValueError(
            f"{text!r} are no codes: four numbers, [ranges] or &bits with dots between, such as 127.0.0.[2..11;20]"
        )
    return tuple(out)


def _with_bit(mask: int) -> Ranges:
    """The octets that have one of these bits, as ranges; an octet has none of those above."""
    if not 0 < mask <= 255:
        return ((256, 256),)
    return tuple((value, value) for value in range(256) if value & mask)


def _organization(name: str) -> str:
    """The registered domain that a name is in, or is; the name itself where that cannot be told. The names of hosts
    that give domains to their users (github.io) are public suffixes."""
    return _suffixes().privatesuffix(name) or name


@lru_cache(1)
def _suffixes() -> "PublicSuffixList":
    from publicsuffixlist import PublicSuffixList  # some MB and 50 ms, for those who have a list that wants it

    return PublicSuffixList()


class Lists:
    """Asks the lists; one for each worker. ``most``: seconds that look-ups for a message may take, where that is less
    than SECONDS."""

    def __init__(
        self,
        names: Names,
        addresses: Sequence[Zone],
        domains: Sequence[Zone],
        links: Sequence[Zone] = (),
        most: float = SECONDS,
    ) -> None:
        """``links``: lists of what the content of messages names."""
        self._most = most
        self._names = names
        self._addresses = addresses
        self._domains = domains
        self._links = links
        self._kept: Kept[str | tuple[str, ...], list[Listed]] = Kept(KEPT)
        self._said: dict[str, float] = {}  # lists that are out of order, and when that was logged
        if any(zone.org for zone in (*domains, *links)):
            _suffixes()  # while the server starts, and not with the first message

    def known(self, what: str | tuple[str, ...]) -> list[Listed] | None:
        """The listings of a client, or of a message's domains, as ``client`` and ``names`` found them, as long as the
        answers count."""
        return self._kept.get(what)

    def until(self, what: str | tuple[str, ...]) -> float:
        """As long as these count, by the monotonic clock; 0 where none are known."""
        return self._kept.until(what)

    async def client(self, ip: str, seconds: float = SECONDS) -> list[Listed]:
        """The listings of an address."""
        try:
            address = networks.address(ip)
        except ValueError:
            return []
        asked = _asked(self._addresses, lambda _: {_reversed(address): str(address)}, True)
        found, until = self._read(asked, await self._answers(asked, seconds))
        listed = [one for _, one in found]
        self._kept.put(ip, listed, until)
        return listed

    async def names(self, found: tuple[str, ...], seconds: float = SECONDS) -> list[Listed]:
        """The listings of the domains that a message's envelope and header have, in any spelling."""
        asked = self._of_domains(found)
        return self._keep(found, asked, await self._answers(asked, seconds))

    def at_once(self, found: tuple[str, ...]) -> list[Listed] | None:
        """The same, kept or found, if nobody has to be asked for that; otherwise None."""
        known = self.known(found)
        if known is not None:
            return known
        asked = self._of_domains(found)
        answers = []
        for question in _questions(asked):
            answer = self._names.cached(*question)
            if answer is None:
                return None
            answers.append(answer)
        return self._keep(found, asked, answers)

    async def links(self, found: Sequence[str], seconds: float = SECONDS) -> list[Listed]:
        """What lists say of the domains and IP addresses that a message's content names: one listing by each list."""
        asked = _asked(self._links, lambda zone: _labels(zone, found), False)
        pairs, _ = self._read(asked, await self._answers(asked, seconds))
        first: dict[Zone, Listed] = {}
        for zone, one in pairs:
            first.setdefault(zone, one)
        return list(first.values())

    def _of_domains(self, found: tuple[str, ...]) -> list[Asked]:
        """What lists are asked about these domains."""
        names = dict.fromkeys([comparable(name) for name in found])
        chosen = [name for name in names if "." in name][:DOMAINS]
        return _asked(self._domains, lambda zone: _labels(zone, chosen), False)

    def _keep(self, found: tuple[str, ...], asked: Sequence[Asked], answers: Sequence[Answer]) -> list[Listed]:
        """What lists say of a message's domains, which is kept."""
        pairs, until = self._read(asked, answers)
        listed = [one for _, one in pairs]
        self._kept.put(found, listed, until)
        return listed

    async def _answers(self, asked: Sequence[Asked], seconds: float) -> Sequence[Answer]:
        questions = _questions(asked)
        return await ask_all(self._names, questions, Budget(min(seconds, self._most), len(questions)))

    def _read(self, asked: Sequence[Asked], answers: Sequence[Answer]) -> tuple[list[tuple[Zone, Listed]], float]:
        """(what lists say; until when that counts, 0 where one of them is out of order, or none was asked)."""
        rest = iter(answers)
        out, sound = [], bool(answers)
        for zone, found, tests in asked:
            own = [(what, next(rest)) for what in found.values()]
            domains = tests is DOMAIN_TESTS
            if not self._sound(zone, next(rest), next(rest), domains):
                sound = False
                continue
            for what, answer in own:
                codes = tuple(sorted(code for code in answer.records if zone.counts(code)))
                if codes and not _faults(answer, domains):
                    out.append((zone, Listed(zone.name, zone.weight, what, codes)))
        return out, min(answer.until for answer in answers) if sound else 0.0

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


def _reversed(address: networks.Address) -> str:
    """An address as lists have it: its octets or nibbles in reverse (RFC 5782 2.1, 2.4)."""
    return address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _asked(zones: Sequence[Zone], labels: Callable[[Zone], Mapping[str, str]], addresses: bool) -> list[Asked]:
    """What each list is asked for, with its test entries; not those that are asked for nothing."""
    asked = [(zone, labels(zone), ADDRESS_TESTS if addresses or zone.ip else DOMAIN_TESTS) for zone in zones]
    return [one for one in asked if one[1]]


def _questions(asked: Sequence[Asked]) -> list[tuple[str, str]]:
    return [(f"{label}.{zone.name}", "A") for zone, found, tests in asked for label in (*found, *tests)]


def _may_be_address(name: str) -> bool:
    """False for nearly every name of a domain: to find that out by an error takes longer."""
    return name[-1:].isdigit() or ":" in name or "%" in name


def _labels(zone: Zone, names: Iterable[str]) -> dict[str, str]:
    """What a list of domains is asked for about these domains and addresses, and what each is for people."""
    out: dict[str, str] = {}
    for name in names:
        try:
            address = networks.address(name) if _may_be_address(name) else None
        except ValueError:
            address = None
        if address is None:
            out[_organization(name) if zone.org else name] = name
        else:
            if zone.ip:
                out[_reversed(address)] = name
    return out
