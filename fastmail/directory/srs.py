"""Sender rewriting for mail that is forwarded (SRS): the reverse-path becomes an address here, so that the next host's
SPF check passes (RFC 7208), and a delivery report that comes to it finds the way back.

    SRS0=HHHHHH=TT=domain=local@ours      what ``local@domain`` becomes
    SRS1=HHHHHH=first==...@ours           what an SRS0 address of another forwarder, ``first``, becomes

TT is the day of the rewriting, modulo 1024, in two characters of base 32; HHHHHH the first 30 bits of an HMAC-SHA256
over all the rest. Hosts change the case of addresses, so neither depends on it. Keys are the directory's: a new one
every KEY_DAYS, and an old one counts as long as an address that was made with it.

Promises: an address that was not made here, or more than AGE days ago, leads to nobody, not even to a catch-all. Only
mail without a sender is taken for one. What would be longer than a local-part may be (64 octets, RFC 5321 4.5.3.1.1),
or is quoted, is not rewritten: then the reverse-path is the forwarding address.
"""

import base64
import hmac
import re
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from fastmail.directory.lookup import NOT_FOUND, Destinations, Elsewhere
from fastmail.model import domain as names

AGE = 21  # days for which a report may come back
KEY_DAYS = 30
LONGEST = 64  # octets of a local-part
DAY = 86400
REMEMBERED = 1024  # addresses of which is kept whether they look like one: each is asked twice for a message
_DAYS = "abcdefghijklmnopqrstuvwxyz234567"
_HASH = 6  # characters of base 32
_FORM = re.compile(r"srs[01][=+-]", re.IGNORECASE)
_SRS0 = re.compile(r"srs0[=+-]([a-z2-7]{6})=([a-z2-7]{2})=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
_SRS1 = re.compile(r"srs1[=+-]([a-z2-7]{6})=([^=]+)=([=+-].+)", re.IGNORECASE | re.DOTALL)


class Keys(Protocol):
    """What is asked of a directory."""

    def srs_keys(self) -> Sequence[tuple[int, bytes]]:
        """(when it was made, s since 1970; key), the newest first."""
        ...

    def renew_srs_keys(self, now: int) -> None: ...
    def is_local(self, domain: str) -> bool: ...


class Srs:
    """One in each process."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def prepare(self) -> None:
        """Have a key that is young enough to make addresses with. It may wait for the disk."""
        known = self._keys.srs_keys()
        if not known or known[0][0] < time.time() - KEY_DAYS * DAY:
            self._keys.renew_srs_keys(int(time.time()))

    def forward(self, sender: str, via: str) -> str:
        """The reverse-path of mail from ``sender`` that ``via``, an address here, forwards; ``prepare`` comes first."""
        local, at, domain = sender.rpartition("@")
        if not at or self._keys.is_local(domain):
            return sender  # nobody, or one of ours
        made = "" if local.startswith('"') or domain.startswith("[") else self._made(local, domain)
        return f"{made}@{via.rpartition('@')[2]}" if 0 < len(made.encode("utf-8", "replace")) <= LONGEST else via

    def _made(self, local: str, domain: str) -> str:
        key = self._keys.srs_keys()[0][1]
        if _SRS0.fullmatch(local):
            return self._second(key, domain, local[4:])
        found = _SRS1.fullmatch(local)
        if found is not None:
            return self._second(key, found[2], found[3])
        rest = f"{_day(time.time())}={domain}={local}"
        return f"SRS0={_hash(key, rest)}={rest}"

    def _second(self, key: bytes, first: str, rest: str) -> str:
        """For an address that another forwarder made: ``rest`` begins with the separator behind its SRS0."""
        return f"SRS1={_hash(key, first + rest)}={first}={rest}"

    @staticmethod
    @lru_cache(REMEMBERED)
    def looks_like_one(address: str) -> bool:
        return address[:3].lower() == "srs" and _FORM.match(address) is not None

    def reverse(self, address: str) -> str:
        """The sender behind an address that was made here; empty for any other."""
        local = address.rpartition("@")[0]
        found = _SRS0.fullmatch(local)
        if found is not None:
            hash_, day, domain, name = found.groups()
            if not _is_young(day) or not self._is_ours(hash_, f"{day}={domain}={name}"):
                return ""
            return f"{name}@{domain}"
        found = _SRS1.fullmatch(local)
        if found is None or not self._is_ours(found[1], found[2] + found[3]):
            return ""
        return f"SRS0{found[3]}@{found[2]}"

    def _is_ours(self, hash_: str, rest: str) -> bool:
        good = [hmac.compare_digest(_hash(key, rest), hash_.lower()) for _, key in self._keys.srs_keys()]
        return any(good)  # all of them were compared

    def destinations(self, address: str) -> Destinations:
        """Where a report that comes to such an address goes."""
        sender = self.reverse(address)
        domain = names.comparable(sender.rpartition("@")[2])
        if not sender or self._keys.is_local(domain):
            return Destinations(refusal=NOT_FOUND)
        return Destinations(elsewhere=(Elsewhere(sender, address, ""),), bounces=True)


def _hash(key: bytes, text: str) -> str:
    made = hmac.digest(key, text.lower().encode("utf-8", "surrogatepass"), "sha256")
    return base64.b32encode(made[:5]).decode().lower()[:_HASH]


def _day(now: float) -> str:
    day = int(now // DAY) % 1024
    return _DAYS[day >> 5] + _DAYS[day & 31]


def _is_young(text: str, age: int = AGE) -> bool:
    high, low = (_DAYS.index(c) for c in text.lower())
    return (int(time.time() // DAY) - (high << 5 | low)) % 1024 <= age
