"""SPF records: which of the TXT records is one, and what it says (RFC 7208 3, 4.5, 4.6, 5, 6).

Promise: a record is parsed whole before any of it counts, in linear time; an error anywhere is BadRecord. Parsed
records are kept by their text, because the mail of a provider brings the same ones again and again.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError

from fastmail.policy import macros
from fastmail.policy.macros import BadMacro, Template

VERSION = b"v=spf1"
LONGEST = 4096  # octets of a record; published ones have a few hundred
REMEMBERED = 512
ASKS = frozenset(("include", "a", "mx", "ptr", "exists"))  # terms that count (RFC 7208 4.6.4)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)", re.DOTALL)
_MECHANISM = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9._-]*)(?:([:/])(.*))?", re.DOTALL)
_CIDR = re.compile(r"(?:/(0|[1-9]\d{0,2}))?(?://(0|[1-9]\d{0,2}))?\Z")
RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral", "": "pass"}


class BadRecord(ValueError):
    """A record with a syntax error; the text says where."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """``result`` when it matches; ``four`` and ``six``: how many bits of an address count."""

    name: str
    result: str
    text: str
    domain: Template | None = None
    four: int = 32
    six: int = 128
    network: IPv4Network | IPv6Network | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """``redirect`` and ``exp`` are None where they are not there."""

    mechanisms: tuple[Mechanism, ...]
    redirect: Template | None
    exp: Template | None


def choose(texts: Iterable[bytes]) -> list[bytes]:
    """Which TXT records are SPF records (RFC 7208 4.5): the version, then a space or nothing."""
    return [text for text in texts if text[:6].lower() == VERSION and text[6:7] in (b"", b" ")]


def parse(octets: bytes) -> Record:
    """BadRecord."""
    if len(octets) > LONGEST:
        raise BadRecord(f"the record is longer than {LONGEST} octets")
    return _parse(octets)


@lru_cache(REMEMBERED)
def _parse(octets: bytes) -> Record:
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        raise BadRecord("the record is not ASCII") from None
    mechanisms: list[Mechanism] = []
    once: dict[str, Template] = {}
    for term in text[len(VERSION) :].split(" "):
        if not term:
            continue
        try:
            modifier = _MODIFIER.fullmatch(term)
            if modifier is None:
                mechanisms.append(_mechanism(term))
                continue
            name, value = modifier.group(1).lower(), modifier.group(2)
            if name not in ("redirect", "exp"):
                macros.parse(value, macros.TEXTS)
            elif name in once:
                raise BadRecord(f"{name} is there twice")
            else:
                once[name] = macros.domain_spec(value)
        except BadMacro as error:
            raise BadRecord(f"{term[:80]}: {error}") from None
    return Record(tuple(mechanisms), once.get("redirect"), once.get("exp"))


def _mechanism(term: str) -> Mechanism:
    found = _MECHANISM.fullmatch(term)
    if found is None:
        raise BadRecord(f"{term[:80]} is no term")
    sign, name, mark, rest = found.groups()
    name, result, rest = name.lower(), RESULTS[sign], rest or ""
    if name == "all" and not mark:
        return Mechanism(name, result, term)
    if name in ("include", "exists") and mark == ":":
        return Mechanism(name, result, term, macros.domain_spec(rest))
    if name == "ptr" and mark != "/":
        return Mechanism(name, result, term, macros.domain_spec(rest) if mark else None)
    if name in ("a", "mx"):
        return _with_bits(name, result, term, mark, rest)
    if name in ("ip4", "ip6") and mark == ":":
        return Mechanism(name, result, term, network=_network(name, rest))
    raise BadRecord(f"{term[:80]} is no term")


def _with_bits(name: str, result: str, term: str, mark: str | None, rest: str) -> Mechanism:
    """``a`` and ``mx`` with a domain and CIDR lengths, which end the term (RFC 7208 5.3, 5.6)."""
    if mark == "/":
        rest = "/" + rest
    found = _CIDR.search(rest)
    assert found is not None  # it can match nothing at all
    four, six = (int(bits) if bits is not None else most for bits, most in zip(found.groups(), (32, 128), strict=True))
    if four > 32 or six > 128:
        raise BadRecord(f"{term[:80]}: too many bits")
    domain = rest[: found.start()]
    if (mark == ":") != bool(domain):
        raise BadRecord(f"{term[:80]}: no domain name")
    return Mechanism(name, result, term, macros.domain_spec(domain) if domain else None, four, six)


def _network(name: str, text: str) -> IPv4Network | IPv6Network:
    address, slash, bits = text.partition("/")
    most = 32 if name == "ip4" else 128
    if slash and (not re.fullmatch(r"0|[1-9][0-9]{0,2}", bits) or int(bits) > most):
        raise BadRecord(f"{name}:{text[:80]}: bits have no form")
    length = int(bits) if slash else most
    try:
        if name == "ip4":
            return IPv4Network((int(IPv4Address(address)) >> 32 - length << 32 - length, length))
        if "%" in address:
            raise AddressValueError("a zone")
        return IPv6Network((int(IPv6Address(address)) >> 128 - length << 128 - length, length))
    except (AddressValueError, NetmaskValueError, ValueError):
        raise BadRecord(f"{name}:{text[:80]} is no address") from None
