"""DMARC (RFC 9989): is the domain that a message shows as its author's the one that SPF or DKIM vouches for, and what
does its owner want to be done where it is not?

The record is found by the DNS tree walk (4.10): at most 8 names, all known beforehand, so that they are asked for at
once; a message's identifiers share what was found. DNS trouble where the answer matters is temperror (5.3.6), neither
pass nor fail; where one aligned pass is sure it does not matter.

``policy`` is a wish. That the owner wants a failure rejected is alone no reason to do it (7.4, 8): policy.verdict says
what else must speak against the message.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import msgspec

from fastmail._core import header as scanner
from fastmail.dns.interface import FAILED, NO_NAME, Budget, Names, ask_all
from fastmail.message import authors
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress
from fastmail.policy.kept import Kept

QUERIES = 8  # names of a walk (RFC 9989 4.10)
RECORD = 4096  # octets
REMEMBERED = 1024
LONGEST = 1024  # octets of a From that is remembered
LONE_CR = "the header has a carriage return within a line"  # which only BINARYMIME can bring
DISGUISED = "a line of the header is like From, and no field"
KEPT, KEPT_SIGNATURES = 10_000, 5  # evaluations, of messages with so many signatures that passed
URIS = 20  # of rua and ruf each
WISHES = ("none", "quarantine", "reject")
_SPACE = " \t"
_VERSION = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x23-\x3b\x3d\x3f-\x7e]+")  # an exclamation mark has to be encoded (4.8)
# nearly every From: a name of plain words or in quotes, and a plain address; everything else is parsed
_USUAL = re.compile(
    rb'[ \t]*(?:"[A-Za-z0-9 ._-]*"[ \t]*|(?:[A-Za-z0-9]+[ \t]+)*(?:[A-Za-z0-9]+)?)'
    rb"<[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@([A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*)>[ \t]*\n?"
)
LARGEST = 1 << 40  # octets; more than any report has
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"!([0-9]+)([kmgtKMGT]?)\Z")  # of RFC 7489 6.2; most records that have one were written then


class Record(msgspec.Struct, frozen=True, cache_hash=True):
    """A DMARC Policy Record (RFC 9989 4.7). ``policy`` is empty where the record asks for nothing (4.10.1). ``most``:
    octets that each of ``rua`` takes, 0 where it does not say."""

    policy: str
    subdomains: str
    missing: str
    strict_dkim: bool
    strict_spf: bool
    psd: str
    testing: bool
    rua: tuple[str, ...]
    ruf: tuple[str, ...]
    fo: str
    most: tuple[int, ...] = ()


class Dmarc(msgspec.Struct, frozen=True, cache_hash=True):
    """``result`` as in RFC 9989 9.1; ``domain``: the author's; ``found``: where the record is; ``policy``: what its
    owner wants for a failure, ``published`` before t= lowered it; ``aligned``: which identifiers vouch for the author,
    as (method, domain)."""

    result: str
    why: str = ""
    domain: str = ""
    found: str = ""
    policy: str = "none"
    published: str = ""
    organization: str = ""
    aligned: tuple[tuple[str, str], ...] = ()
    record: Record | None = None


class Unsure(NamedTuple):
    """An identifier of which could not be known whether it passed: its method, its domain, and why."""

    method: str
    domain: str
    why: str


class NoAuthor(ValueError):
    """The message shows no author, or several of different domains (RFC 9989 5.3.1); the text says which."""


def author(header: bytes, odd: bool = False) -> str:
    """The Author Domain of a header (LF), with A-labels. ``odd``: some line of it may be no field. NoAuthor."""
    if b"\r" in header:
        raise NoAuthor(LONE_CR)
    found = scanner.values(header, (b"from",), authors.MOST)
    if odd and found is not None and authors.like_from(header) > len(found):
        raise NoAuthor(DISGUISED)
    return author_of([value for _, value in found] if found is not None else None)


def author_of(values: Sequence[bytes] | None) -> str:
    """The same by the values of the From fields; None where they are longer than authors.MOST. NoAuthor."""
    if values is None or len(values) != 1:
        raise NoAuthor("From is too long" if values is None else f"{len(values)} From fields")
    return author_in(values[0]) if len(values[0]) <= LONGEST else author_in.__wrapped__(values[0])


@lru_cache(REMEMBERED)  # who writes once writes again
def author_in(value: bytes) -> str:
    """The same by the value of the only From field, of LONGEST octets at most. NoAuthor."""
    usual = _USUAL.fullmatch(value)
    try:
        if usual is not None:
            return ascii_name(usual.group(1).decode("ascii"))
        domains: set[str] = set()
        for one in authors.parse(value.decode("utf-8", "surrogateescape")):
            domains.add(ascii_name(one.rpartition("@")[2]))
            if len(domains) > 1:  # whatever comes then; reading thousands of names costs time
                raise NoAuthor("From has several domains")
    except authors.Unreadable as error:
        raise NoAuthor(f"From cannot be read: {error}") from None
    except BadAddress:
        raise NoAuthor("From has no domain name") from None
    if not domains:
        raise NoAuthor("From names nobody")
    return domains.pop()


@lru_cache(REMEMBERED)
def _parse(octets: bytes) -> Record | None:
    text = octets.decode("utf-8", "replace")
    if not _VERSION.match(text):
        return None
    tags: dict[str, str] = {}
    for part in text.split(";")[1:]:
        name, equals, value = part.partition("=")
        name = name.strip(_SPACE)
        if equals and name.isascii() and name.isalpha():
            tags.setdefault(name.lower(), value.strip(_SPACE))
    told = _uris(tags.get("rua", ""))
    rua, ruf = tuple(uri for uri, _ in told), tuple(uri for uri, _ in _uris(tags.get("ruf", "")))
    policy, subdomains, missing = (tags[name].lower() if name in tags else "" for name in ("p", "sp", "np"))
    if not policy or any(wish and wish not in WISHES for wish in (policy, subdomains, missing)):
        policy, subdomains, missing = "none" if rua else "", "", ""  # RFC 9989 4.10.1
    psd = tags.get("psd", "u").lower()
    return Record(
        policy,
        subdomains,
        missing,
        tags.get("adkim", "r").lower() == "s",
        tags.get("aspf", "r").lower() == "s",
        psd if psd in ("y", "n") else "u",
        tags.get("t", "n").lower() == "y",
        rua,
        ruf,
        tags.get("fo", "0"),
        tuple(most for _, most in told),
    )


def parse(octets: bytes) -> Record | None:
    """A TXT record; None for what is no DMARC record: its version is not first, or not exactly DMARC1."""
    return _parse(octets) if len(octets) <= RECORD else None


def _uris(text: str) -> tuple[tuple[str, int], ...]:
    """The URIs of a list that have their form, each with the most octets that it takes: a number behind an exclamation
    mark, 0 without one."""
    out = []
    for word in text.split(",", URIS)[:URIS]:
        uri, most = word.strip(_SPACE), 0
        size = _SIZE.search(uri)
        if size is not None:
            uri, most = uri[: size.start()], _octets(size)
        if _URI.fullmatch(uri):
            out.append((uri, most))
    return tuple(out)


def _octets(size: re.Match[str]) -> int:
    return min(int(size.group(1)) << _UNITS[size.group(2).lower()], LARGEST)


def names(domain: str) -> list[str]:
    """Whom a tree walk asks, the longest name first (RFC 9989 4.10)."""
    labels = domain.split(".")
    longest = min(len(labels) - 1, QUERIES - 1)
    return [domain, *(".".join(labels[-count:]) for count in range(longest, 0, -1))]


@dataclass(slots=True)
class Walk:
    """What a tree walk found: names with their records, from the longest; where it stops, nothing follows."""

    start: str
    records: list[tuple[str, Record]] = field(default_factory=list)
    trouble: str = ""
    until: float = float("inf")  # as long as its answers count

    @property
    def organization(self) -> str:
        """RFC 9989 4.10.2."""
        for name, record in self.records:
            if record.psd == "n":
                return name
            if record.psd == "y" and name != self.start:
                labels = self.start.split(".")
                return ".".join(labels[-name.count(".") - 2 :])
        return self.records[-1][0] if self.records else self.start

    def applicable(self) -> tuple[str, Record] | None:
        """The record of the author, else of the organization, else of the public suffix (RFC 9989 4.10.1)."""
        found = dict(self.records)
        organization = self.organization
        suffix = next((name for name, record in self.records if record.psd == "y"), "")
        for name in (self.start, organization, suffix):
            if name in found:
                return name, found[name]
        return None


class Evaluator:
    """Evaluates messages; one for each worker."""

    def __init__(self, resolver: Names) -> None:
        self._names = resolver
        self._kept: Kept[tuple[str, ...], Dmarc] = Kept(KEPT)
        self._walked: Kept[str, bool] = Kept(KEPT)  # domains whose walks the cache of the DNS has

    def unknown(self, domain: str) -> bool:
        """Does a walk from there need the network?"""
        if self._walked.get(domain):
            return False
        return any(self._names.cached(f"_dmarc.{name}", "TXT") is None for name in names(domain))

    async def prepare(self, domain: str, budget: Budget) -> None:
        """Have in the cache of the DNS what the policy of an author depends on: name servers of others, which keys of
        signatures are asked of and which are slow on purpose, take no time from that."""
        walk = await self.walk(domain, budget, {})
        applicable = walk.applicable()
        if applicable is not None and applicable[1].policy:
            await self._wish(walk, *applicable, budget)

    async def walk(self, domain: str, budget: Budget, memo: dict[str, Walk]) -> Walk:
        """The walk from a domain; ``memo`` is the message's."""
        known = memo.get(domain)
        if known is not None:
            return known
        walk = memo[domain] = Walk(domain)
        asked = names(domain)
        answers = await ask_all(self._names, [(f"_dmarc.{name}", "TXT") for name in asked], budget)
        for name, answer in zip(asked, answers, strict=True):
            walk.until = min(walk.until, answer.until)
            if answer.state == FAILED:
                walk.trouble = walk.trouble or f"the record of {name}: {answer.why}"
                continue
            records = [one for one in map(parse, answer.records) if one is not None]
            if len(records) != 1:  # several count as none (RFC 9989 4.10)
                continue
            walk.records.append((name, records[0]))
            if records[0].psd != "u":
                break
        self._walked.put(domain, True, min(answer.until for answer in answers))
        return walk

    def known(self, domain: str, spf: str, dkim: Sequence[str]) -> Dmarc | None:
        """A result that is kept, of a message whose identifiers are all known."""
        return self._kept.get((domain, spf, *dkim))

    def until(self, domain: str, spf: str, dkim: Sequence[str]) -> float:
        """As long as it counts, by the monotonic clock; 0 where none is kept."""
        return self._kept.until((domain, spf, *dkim))

    async def evaluate(
        self,
        domain: str,
        spf: str,
        dkim: Sequence[str],
        unsure: Sequence[Unsure],
        budget: Budget,
    ) -> Dmarc:
        """``domain``: the author's; ``spf``: of MAIL FROM where that passed; ``dkim``: d= of signatures that passed;
        ``unsure``: others that may have passed."""
        kept = self.known(domain, spf, dkim) if not unsure else None
        if kept is not None:
            return kept
        walks: dict[str, Walk] = {}
        found = await self._evaluate(domain, spf, dkim, unsure, budget, walks)
        if not unsure and found.result != "temperror" and len(dkim) <= KEPT_SIGNATURES:
            self._kept.put((domain, spf, *dkim), found, min(walk.until for walk in walks.values()))
        return found

    async def _evaluate(
        self,
        domain: str,
        spf: str,
        dkim: Sequence[str],
        unsure: Sequence[Unsure],
        budget: Budget,
        memo: dict[str, Walk],
    ) -> Dmarc:
        walk = await self.walk(domain, budget, memo)
        applicable = walk.applicable()
        if walk.trouble and (applicable is None or applicable[0] != domain):
            return Dmarc("temperror", walk.trouble, domain)
        if applicable is None or not applicable[1].policy:
            why = "the domain has no DMARC record" if applicable is None else "its record asks for nothing"
            return Dmarc("none", why, domain, organization=walk.organization)
        found, record = applicable
        aligned, trouble = await self._vouching(walk, record, spf, dkim, unsure, budget, memo)
        published = await self._wish(walk, found, record, budget)
        if not published and not aligned:
            return Dmarc("temperror", f"whether {domain} exists could not be known", domain, found)
        published = published or record.subdomains or record.policy  # what passes is not asked which of them it is
        wish = WISHES[max(0, WISHES.index(published) - 1)] if record.testing else published
        result = "pass" if aligned else "temperror" if trouble else "fail"
        why = "" if aligned else trouble or "neither SPF nor DKIM vouches for the author"
        return Dmarc(result, why, domain, found, wish, published, walk.organization, tuple(aligned), record)

    async def _vouching(
        self,
        walk: Walk,
        record: Record,
        spf: str,
        dkim: Sequence[str],
        unsure: Sequence[Unsure],
        budget: Budget,
        memo: dict[str, Walk],
    ) -> tuple[list[tuple[str, str]], str]:
        """(which identifiers vouch for the author, as (method, domain); why others that might could not be known).

        What could not be known matters only where it might be aligned: nobody evades a policy by a signature, or a MAIL
        FROM, of a domain of his own whose name servers do not answer."""
        aligned: list[tuple[str, str]] = []
        trouble = ""
        sure = [*(("dkim", one) for one in dict.fromkeys(dkim)), *([("spf", spf)] if spf else [])]
        for method, identifier, doubt in [*((*one, None) for one in sure), *unsure]:
            strict = record.strict_dkim if method == "dkim" else record.strict_spf
            match = await self._aligned(walk, identifier, strict, budget, memo)
            if match is None:
                trouble = trouble or doubt or f"the organization of {identifier} could not be known"
            elif match and doubt is None:
                aligned.append((method, identifier))
            elif match:
                trouble = trouble or doubt or f"whether {identifier} vouches for it could not be known"
        return aligned, trouble

    async def _wish(self, walk: Walk, found: str, record: Record, budget: Budget) -> str:
        """Which of p, sp and np applies (RFC 9989 4.10.1); empty where that could not be known."""
        domain = walk.start
        if found == domain:
            return record.policy
        if not record.missing or record.missing == (record.subdomains or record.policy):
            return record.subdomains or record.policy
        answer = await self._names.ask(domain, "A", budget)
        walk.until = min(walk.until, answer.until)
        if answer.state == FAILED:
            return ""
        return record.missing if answer.state == NO_NAME else record.subdomains or record.policy

    async def _aligned(
        self, walk: Walk, identifier: str, strict: bool, budget: Budget, memo: dict[str, Walk]
    ) -> bool | None:
        """RFC 9989 4.4 and 4.10.2; None where that could not be known."""
        if identifier == walk.start:
            return True
        if strict or identifier.rpartition(".")[2] != walk.start.rpartition(".")[2]:
            return False
        if not walk.trouble and not f".{identifier}".endswith(f".{walk.organization}"):
            return False  # an organization is the domain itself or above it, so nobody need be asked for this one's
        other = await self.walk(identifier, budget, memo)
        if other.trouble or walk.trouble:
            return None
        return other.organization == walk.organization
