"""Lists of senders and networks that somebody named, to allow or to block them: what an entry may be, and which fits.

An entry is an address, ``@domain`` (everybody there), ``.domain`` (everybody in the domains below it), an IP address or
a network. Addresses and domains are compared as everywhere here (model.address): without case, by either spelling.

Of several entries that fit, the most exact one counts: an address before its domain, a domain before those above it,
and a sender before a network; of networks the smallest. Promise: the work for a question does not grow with the list,
but with the labels of the sender's domain and with the different lengths of the networks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from fastmail.model.address import Address, comparable, domain_name
from fastmail.model.domain import comparable as comparable_name
from fastmail.net import networks

MOST = 500  # entries of a list of a domain or an account
REMEMBERED = 256  # lists whose tables are kept
# How exact an entry is. A network has the length of its prefix, 128 at most, and .domain its labels beside BELOW.
ADDRESS, DOMAIN, BELOW = 1000, 900, 300


@dataclass(frozen=True, slots=True)
class Fit:
    """An entry that fits, and how exact it is."""

    entry: str
    exact: int


def parse(text: str) -> str:
    """An entry in the form in which it is kept; ValueError or BadAddress says what is wrong."""
    text = text.strip()
    if text[:1] in ("@", "."):
        return text[0] + domain_name(text[1:])
    if "@" in text:
        return str(Address.parse(text))
    try:
        return str(networks.parse(text))
    except ValueError:
        raise ValueError(f"{text[:100]!r} is no address, @domain, .domain or network") from None


class Book:
    """The entries of one list, in tables. ``most``: how exact its most exact sender is, 0 where it names none."""

    __slots__ = ("_networks", "_senders", "most")

    def __init__(self, entries: Iterable[str]) -> None:
        self._senders: dict[str, Fit] = {}
        self._networks: dict[tuple[int, int], dict[int, Fit]] = {}  # by version and length: by their leading bits
        for entry in entries:
            if entry.startswith("."):
                name = comparable_name(entry[1:])
                self._senders["." + name] = Fit(entry, BELOW + name.count("."))
            elif "@" in entry:
                self._senders[comparable(entry)] = Fit(entry, DOMAIN if entry.startswith("@") else ADDRESS)
            else:
                network = networks.parse(entry)
                length = network.prefixlen
                bits = int(network.network_address) >> (network.max_prefixlen - length)
                self._networks.setdefault((network.version, length), {})[bits] = Fit(entry, length)
        self.most = max((one.exact for one in self._senders.values()), default=0)

    def __bool__(self) -> bool:
        return bool(self._senders or self._networks)

    def network(self, ip: str) -> Fit | None:
        """The smallest network that a client is in; None for none, and for what is no IP address."""
        if not self._networks:
            return None
        try:
            address = networks.address(ip)
        except ValueError:
            return None
        number = int(address)
        fits = [
            found[number >> (address.max_prefixlen - length)]
            for (version, length), found in self._networks.items()
            if version == address.version and number >> (address.max_prefixlen - length) in found
        ]
        return best(fits)

    def sender(self, address: str) -> Fit | None:
        """The most exact entry for a sender; None for none, and for the null sender."""
        if not self._senders or not address:
            return None
        whole = comparable(address)
        name = whole.rpartition("@")[2]
        found = self._senders.get(whole) or self._senders.get("@" + name)
        while found is None and "." in name:
            name = name.partition(".")[2]
            found = self._senders.get("." + name)
        return found

    def fit(self, ip: str, addresses: Iterable[str]) -> Fit | None:
        """The most exact entry for a client and its senders."""
        fits = [self.network(ip), *map(self.sender, addresses)] if self._senders else [self.network(ip)]
        return best(fits)


def best(fits: Iterable[Fit | None]) -> Fit | None:
    """The most exact of them."""
    return max((one for one in fits if one is not None), key=lambda one: one.exact, default=None)


@lru_cache(REMEMBERED)
def book(entries: tuple[str, ...]) -> Book:
    """The tables of a list, whose entries ``parse`` has made."""
    return Book(entries)


NOBODY = book(())
