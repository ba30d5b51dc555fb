"""hMailServer's white list and IP ranges, as far as our lists of allowed and blocked senders and networks say the same.

- hm_whitelist: mail from a range of addresses and of senders like a pattern is not checked for spam. Here an entry
  names either, so one that narrows both has no equivalent.
- hm_securityranges: what clients of a range may do, in bits of rangeoptions. A range that may deliver and is not
  checked for spam is allowed; one that may not deliver is blocked. Ranges that expire are automatic bans, which are
  over soon. What a range says of relaying and of logins is a setting of this server, and not taken.

An IPv4 address is the number in the first of two columns; an IPv6 address is both of them, 64 bits each, signed.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from fastmail.migrate.sites.base import Base, counted, selected
from fastmail.migrate.sites.model import NotTaken, Records
from fastmail.migrate.sites.values import Row, flag, number, once, text

WHITE = (
    *("whiteloweripaddress1", "whiteloweripaddress2", "whiteupperipaddress1", "whiteupperipaddress2"),
    *("whiteemailaddress", "whitedescription"),
)
RANGE = (
    *("rangelowerip1", "rangelowerip2", "rangeupperip1", "rangeupperip2"),
    *("rangeoptions", "rangename", "rangeexpires"),
)
SMTP, SPAM_PROTECTION = 1, 1024  # bits of rangeoptions
HALF = 1 << 64
NETWORKS = 20  # of one range: a range that begins or ends anywhere is many of them
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class Ranges:
    """Entries for the lists of each domain, and what has no equivalent."""

    allow: list[str] = field(default_factory=list)
    block: list[str] = field(default_factory=list)
    left: list[NotTaken] = field(default_factory=list)

    def lists(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(allowed, blocked), each entry once."""
        return once(self.allow), once(self.block)

    def not_taken(self, base: Base) -> Records:
        """What is to be said of the rest."""
        yield from self.left
        count = counted(base, "hm_securityranges")
        if count:
            yield NotTaken("IP ranges: who may relay and log in", "see [relay] networks and [limits]", count=count)


def read(base: Base) -> Ranges:
    out = Ranges()
    for row in selected(base, "hm_whitelist", WHITE):
        _white(row, out)
    for row in selected(base, "hm_securityranges", RANGE):
        _range(row, out)
    return out


def _white(row: Row, out: Ranges) -> None:
    pattern = text(row, "whiteemailaddress").lower()
    where = _networks(row, "whiteloweripaddress", "whiteupperipaddress")
    name = text(row, "whitedescription") or pattern
    if pattern in ("", "*", "*@*"):
        if where:
            out.allow += where
            return
    elif where is not None and not where:  # from everywhere
        entry = _sender(pattern)
        if entry:
            out.allow.append(entry)
            return
    say = "it names senders together with addresses of hosts, or a pattern: see `fastmail domain set` allow"
    out.left.append(NotTaken("white list", say, name))


def _sender(pattern: str) -> str:
    """An entry for what a pattern means; empty where none means that."""
    if pattern.startswith("*@*.") and not set("*?") & set(pattern[4:]):
        return pattern[3:]
    if pattern.startswith("*@") and not set("*?") & set(pattern[2:]):
        return pattern[1:]
    return pattern if "@" in pattern and not set("*?") & set(pattern) else ""


def _range(row: Row, out: Ranges) -> None:
    where = _networks(row, "rangelowerip", "rangeupperip")
    if flag(row, "rangeexpires", False) or not where or all(ipaddress.ip_network(one).is_loopback for one in where):
        return  # nothing of it is narrower than everybody, or this machine, which is never judged
    bits = number(row, "rangeoptions")
    if not bits & SMTP:
        out.block += where
    elif not bits & SPAM_PROTECTION:
        out.allow += where


def _networks(row: Row, lower: str, upper: str) -> list[str] | None:
    """The networks of a range: none for all addresses; None for what is no range, or more than NETWORKS."""
    first, last = _address(row, lower), _address(row, upper)
    if first is None or last is None or first.version != last.version or int(first) > int(last):
        return None
    if int(first) == 0 and int(last) >= (1 << last.max_prefixlen) - 1:
        return []
    found = [str(one) for _, one in zip(range(NETWORKS + 1), _summarized(first, last), strict=False)]
    return found if len(found) <= NETWORKS else None


def _summarized(first: Address, last: Address) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return ipaddress.summarize_address_range(first, last)


def _address(row: Row, name: str) -> Address | None:
    high, low = _whole(row, f"{name}1"), _whole(row, f"{name}2")
    if high is None:
        return None
    if low is not None:
        return ipaddress.IPv6Address((high % HALF << 64) | low % HALF)
    return ipaddress.IPv4Address(high) if 0 <= high < 1 << 32 else None


def _whole(row: Row, name: str) -> int | None:
    """A number of 64 bits, which values.number would cut off as no limit."""
    word = text(row, name)
    return int(word) if word.removeprefix("-").isdecimal() and len(word) <= 20 else None
