"""Who may get reports about a domain: the addresses that its DMARC record names, and that agree.

Addresses outside of the domain's organization must agree by a record of theirs (RFC 9990 4; for failure reports RFC
9991 5, with ``ruf`` in place of ``rua``), so that nobody's mailbox is filled by what a stranger puts into his DNS.
Promise: PLACES addresses of a record are looked at, with LOOKUPS questions in SECONDS.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastmail.dns.interface import FAILED, Budget, Names
from fastmail.message import letter
from fastmail.policy import dmarc
from fastmail.policy.dmarc import Evaluator, Record, Walk

RUA, RUF = "rua", "ruf"  # the tags that name them: for aggregate reports, for failure reports
PLACES = 10  # of a domain (RFC 9990 3.5: up to the receiver's limits)
LOOKUPS = 100  # of a report
SECONDS = 30.0  # that they may take
NAME = 253  # characters of a name in the DNS
Uris = Sequence[tuple[str, int]]  # each with the most octets that it takes, 0 where it does not say


@dataclass(frozen=True, slots=True)
class Target:
    """An address that may get a report, and the most octets that it takes; 0 for any number."""

    address: str
    most: int


class Later(Exception):
    """The DNS does not say now; the text says why."""


def uris(record: Record, tag: str) -> Uris:
    """What a record says under RUA or RUF. Only aggregate reports may have a size."""
    if tag == RUF:
        return [(uri, 0) for uri in record.ruf]
    return list(zip(record.rua, record.most, strict=True))


class Agreements:
    """Asks the DNS about targets."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._evaluator = Evaluator(names)

    async def targets(self, domain: str, wanted: Uris, tag: str) -> tuple[list[Target], tuple[tuple[str, str], ...]]:
        """(who gets reports about this domain, who does not and why), in the order of ``wanted``. ``domain``: where the
        record is; ``tag``: RUA or RUF. Later."""
        budget, walks = Budget(SECONDS, LOOKUPS), dict[str, Walk]()
        found: dict[str, Target] = {}
        refused: list[tuple[str, str]] = []
        for uri, most in wanted[:PLACES]:
            address = letter.mailto(uri)
            if not address:
                refused.append((uri, "it is no mailto URI of one address"))
                continue
            told = await self._agreed(domain, Target(address, most), tag, budget, walks)
            if isinstance(told, str):
                refused.append((uri, told))
                continue
            for one in told:
                found.setdefault(one.address, one)
        return list(found.values()), tuple(refused)

    async def _agreed(
        self, domain: str, asked: Target, tag: str, budget: Budget, walks: dict[str, Walk]
    ) -> list[Target] | str:
        """Where a report goes that the domain wants sent to an address, or why it goes nowhere (RFC 9990 4). Later."""
        host = asked.address.rpartition("@")[2]
        if host.startswith("["):
            return "its host is no domain"
        if await self._organization(domain, budget, walks) == await self._organization(host, budget, walks):
            return [asked]
        name = f"{domain}._report._dmarc.{host}"
        if len(name) > NAME:
            return "the name of the record by which it would agree is too long"
        answer = await self._names.ask(name, "TXT", budget)
        if answer.state == FAILED:
            raise Later(f"whether {host} takes reports about {domain} could not be known: {answer.why}")
        records = [one for one in map(dmarc.parse, answer.records) if one is not None]
        if not records:
            return f"{host} does not say that it takes reports about {domain}"
        instead = [found for one in records for found in uris(one, tag)]
        if not instead:
            return [asked]
        addresses = [(letter.mailto(uri), size) for uri, size in instead[:PLACES]]
        if any(one.rpartition("@")[2] != host for one, _ in addresses):
            return f"{host} wants them sent to another host"
        return [Target(one, size) for one, size in addresses]

    async def _organization(self, domain: str, budget: Budget, walks: dict[str, Walk]) -> str:
        """The Organizational Domain (RFC 9989 4.10.2). Later."""
        walk = await self._evaluator.walk(domain, budget, walks)
        if walk.trouble:
            raise Later(walk.trouble)
        return walk.organization
