"""Tagged envelope senders (BATV, draft-levine-smtp-batv): a delivery report that comes to an address without a tag is
about mail that somebody else sent in its name.

    prvs=KDDDHHHHHH=local@ours      what ``local@ours`` becomes where mail leaves

DDD is the day from which the tag does not count any more, modulo 1000; HHHHHH the first 24 bits of an HMAC-SHA256 over
DDD and the address, with the directory's keys for SRS; K is 0, because all keys that still count are tried. Hosts
change the case of addresses, so nothing depends on it. The tag is the same for a day, so greylisting knows a sender
again.

A domain says with ``batv`` what it wants: TAG its senders; REFUSE also reports to addresses of it without a tag. The
order for an operator is that one: reports about what left before have no tag.

Promises: a tag that was not made here for this address, or is older than DAYS, leads to nobody, not even to a
catch-all. An address that would become longer than a local-part may be, or is quoted, or has a tag or SRS form already,
stays as it is. Each check compares in constant time.
"""

import hmac
import re
import time
from functools import lru_cache
from typing import Protocol

from fastmail.directory.lookup import Domains, home
from fastmail.directory.records import REFUSE, TAG
from fastmail.directory.srs import DAY, KEY_DAYS, LONGEST, REMEMBERED, Keys
from fastmail.model.address import comparable

DAYS = 14  # for which a report may come: longer than hosts try to deliver
_HASH = 6  # hexadecimal digits
_LIKE = re.compile(r"prvs=", re.IGNORECASE)
_FORM = re.compile(r"prvs=([0-9])([0-9]{3})([0-9a-f]{6})=(.+)", re.IGNORECASE | re.DOTALL)
_MADE = re.compile(r"(?:prvs=|srs[01][=+-]|\")", re.IGNORECASE)


class Directory(Keys, Domains, Protocol):
    """What is asked of a directory."""


class Batv:
    """One in each process."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def wish(self, address: str) -> str:
        """What the domain of an address wants: TAG, REFUSE, or nothing. Also by another name of the domain."""
        found = home(self._directory, address.rpartition("@")[2])
        return found.batv if found is not None else ""

    def tags(self, sender: str) -> bool:
        """Return True for a sender that is to be tagged: ``prepare`` and ``tagged`` come next."""
        return bool(sender) and _MADE.match(sender) is None and self.wish(sender) in (TAG, REFUSE)

    def prepare(self) -> None:
        """Have a key that is young enough to make tags with. It may wait for the disk."""
        known = self._directory.srs_keys()
        if not known or known[0][0] < time.time() - KEY_DAYS * DAY:
            self._directory.renew_srs_keys(int(time.time()))

    def tagged(self, sender: str) -> str:
        """The sender with its tag; as it is where that would be too long."""
        local, _, domain = sender.rpartition("@")
        day = f"{(int(time.time() // DAY) + DAYS) % 1000:03}"
        made = f"prvs=0{day}{_hash(self._directory.srs_keys()[0][1], day, sender)}={local}"
        return f"{made}@{domain}" if len(made.encode("utf-8", "replace")) <= LONGEST else sender

    @staticmethod
    @lru_cache(REMEMBERED)
    def looks_like_one(address: str) -> bool:
        return _LIKE.match(address) is not None

    def untagged(self, address: str) -> str:
        """The address behind a tag that counts; empty for any other."""
        local, _, domain = address.rpartition("@")
        found = _FORM.fullmatch(local)
        if found is None:
            return ""
        _, day, hash_, name = found.groups()
        plain = f"{name}@{domain}"
        good = [
            hmac.compare_digest(_hash(key, day, plain), hash_.lower()) for _, key in self._directory.srs_keys()
        ]  # all of them are compared
        young = (int(day) - int(time.time() // DAY)) % 1000 <= DAYS
        return plain if any(good) and young else ""


def _hash(key: bytes, day: str, address: str) -> str:
    whole = f"batv\0{day}\0{comparable(address)}".encode("utf-8", "surrogatepass")
    return hmac.digest(key, whole, "sha256").hex()[:_HASH]
