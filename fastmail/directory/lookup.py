"""Where mail for an address goes: the account itself, those behind an alias, the account in front of a ``+detail``, the
postmaster, or the catch-all of the domain; the addresses at other hosts behind aliases and forwards; and mailing lists.

The order for one address of a domain here is: account, alias or list of that name; the same without its detail; for
what is called like a list with one of PARTS behind it, that part of the list (``team-request``); for
``postmaster`` and ``abuse`` (RFC 5321 4.5.1, RFC 2142 5 and 2) the domain's postmaster; the catch-all. A domain that is
another name of one has the addresses of that one.

Promises: loops end, each account and each other address comes once, and the work for one address is bounded
(MAX_ALIAS_DEPTH, MAX_ALIAS_TARGETS). A forward that leads nowhere loses nothing: then the account keeps the mail.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from fastmail.directory.records import INSIDE, LATER, Account, Alias, Domain, List, Member
from fastmail.model import domain as names
from fastmail.model.address import comparable, without_detail
from fastmail.model.errors import DamagedAccount

MAX_ALIAS_DEPTH = 10
MAX_ALIAS_TARGETS = 1000
MAX_MEMBERS = 10_000  # of a list that a search for circles looks at
ROLES = ("postmaster", "abuse")  # that every domain has
OWNER, BOUNCES = "owner", "bounces"
PARTS = ("request", "subscribe", "unsubscribe", OWNER, BOUNCES)  # addresses that each list has, behind a hyphen
NOT_FOUND = "550 5.1.1 no such user here"
NO_MAIL = "550 5.2.1 this mailbox takes no mail"
DOMAIN_OFF = {LATER: "450 4.2.1 this domain takes no mail now, try again later"}
DOMAIN_GONE = "550 5.2.1 this domain takes no mail"


class Lookup(Protocol):
    """Exact lookups; a domain is the same by both spellings, and an address of another name of a domain finds what the
    domain itself has."""

    def domain(self, name: str) -> Domain | None: ...
    def account(self, address: str) -> Account | None: ...
    def alias(self, address: str) -> Alias | None: ...
    def mailing_list(self, address: str) -> List | None: ...


class Roads(Lookup, Protocol):
    """The same with the members of lists, for a search for circles."""

    def each_member(self, of: str, after: str = "") -> Iterator[Member]: ...


class Domains(Protocol):
    """The first of them alone."""

    def domain(self, name: str) -> Domain | None: ...


class Elsewhere(msgspec.Struct, frozen=True):
    """An address at another host that gets a copy. ``via``: the address here that sends it there; ``owner``: who hears
    when that host refuses it."""

    address: str
    via: str
    owner: str


class ToList(msgspec.Struct, frozen=True):
    """A mailing list that gets mail, or one of PARTS of it; ``detail``: what is behind the part's ``+``."""

    row: List
    part: str = ""
    detail: str = ""


class Destinations(msgspec.Struct, frozen=True):
    """Who gets mail for an address. ``refusal``: the reply where nobody does; ``inside``: the domain whose logins alone
    may write to it, empty for everybody; ``until``: s since 1970 when this may change by itself; ``bounces``: only mail
    without a sender is taken; ``alias``: the alias that the address itself is, in the form for comparing, or its
    domain's catch-all; empty where it is none; ``row``: the address of the row that it leads to, of any kind and
    without a detail; empty where there is none."""

    accounts: list[Account] = msgspec.field(default_factory=list)
    elsewhere: tuple[Elsewhere, ...] = ()
    refusal: str = NOT_FOUND
    inside: str = ""
    until: float = math.inf
    bounces: bool = False
    lists: tuple[ToList, ...] = ()
    alias: str = ""
    row: str = ""

    def __bool__(self) -> bool:
        return bool(self.accounts or self.elsewhere or self.lists)

    @property
    def queued(self) -> bool:
        """Does its mail go by way of the queue, because more is made of it than copies in mailboxes here?"""
        return bool(self.elsewhere or self.lists)


class Landing(msgspec.Struct, frozen=True):
    """The row that an address leads to. ``name``: the row's address in the form for comparing; ``refusal``: the
    domain's, where it is off; ``targets``: where a role leads that has no row; ``part``, ``detail``: as in ToList."""

    name: str = ""
    account: Account | None = None
    alias: Alias | None = None
    targets: Sequence[str] = ()
    refusal: str = ""
    mailing_list: List | None = None
    part: str = ""
    detail: str = ""

    def __bool__(self) -> bool:
        return bool(self.name)


NOWHERE = Landing()


def home(directory: Domains, name: str) -> Domain | None:
    """The domain that has the addresses: of another name the one that it stands for. The row of the name itself where
    that is off, or leads nowhere."""
    found = directory.domain(name)
    if found is None or not found.alias_of or not found.enabled:
        return found
    return directory.domain(found.alias_of) or found


def at_home(directory: Domains, address: str) -> str:
    """The address in the form for comparing, under the first name of its domain."""
    whole = comparable(address)
    local, _, name = whole.rpartition("@")
    domain = home(directory, name)
    return f"{local}@{names.comparable(domain.name)}" if domain is not None else whole


def landing(directory: Lookup, address: str) -> Landing | None:
    """The row that an address in the form for comparing leads to; NOWHERE where a domain here has none for it, None for
    an address of another host."""
    local, _, name = address.rpartition("@")
    domain = home(directory, name)
    if domain is None:
        return None
    if not domain.enabled:
        return Landing(refusal=DOMAIN_OFF.get(domain.off_reply, DOMAIN_GONE))
    name = names.comparable(domain.name)
    found = _row(directory, f"{local}@{name}")
    if found is None and (base := without_detail(local, domain.separators)) != local:
        found = _row(directory, f"{base}@{name}")
    if found is None:
        found = _part(directory, local, name)
    if found is not None:
        return found
    if local in ROLES and domain.postmaster:
        return Landing(f"{local}@{name}", targets=domain.postmaster)
    caught = directory.alias(f"@{name}")
    return Landing(f"@{name}", alias=caught, targets=caught.targets) if caught is not None else NOWHERE


def _row(directory: Lookup, address: str) -> Landing | None:
    account = directory.account(address)
    if account is not None:
        return Landing(address, account)
    alias = directory.alias(address)
    if alias is not None:
        return Landing(address, alias=alias, targets=alias.targets)
    mailing_list = directory.mailing_list(address)
    return Landing(address, mailing_list=mailing_list) if mailing_list is not None else None


def _part(directory: Lookup, local: str, domain: str) -> Landing | None:
    """A part of a mailing list. What is behind ``+`` belongs to the part, whatever begins a detail in the domain."""
    whole, _, detail = local.partition("+")
    base, hyphen, part = whole.rpartition("-")
    if not hyphen or part not in PARTS:
        return None
    found = directory.mailing_list(f"{base}@{domain}")
    if found is None:
        return None
    targets = found.owners if part == OWNER else ()
    return Landing(f"{local}@{domain}", targets=targets, mailing_list=found, part=part, detail=detail)


def is_off(alias: Alias, now: float) -> bool:
    """Is it switched off, or over?"""
    return not alias.enabled or 0 < alias.expires <= now


class _Search:
    """One search; what it found so far."""

    def __init__(self, directory: Lookup) -> None:
        self._directory = directory
        self._seen: dict[str, bool] = {}  # rows that were reached: does anybody get their mail?
        self._now = time.time()
        self.accounts: dict[int, Account] = {}
        self.elsewhere: dict[str, Elsewhere] = {}
        self.lists: dict[str, ToList] = {}
        self.refusal = NOT_FOUND
        self.inside = self.alias = self.row = ""
        self.until = math.inf

    @property
    def _count(self) -> int:
        return len(self.accounts) + len(self.elsewhere) + len(self.lists)

    def reach(self, written: str, depth: int, via: str = "", owner: str = "") -> bool:
        """Follow an address; does anybody get its mail? ``via``: the address here that leads to it."""
        address = comparable(written)
        if depth > MAX_ALIAS_DEPTH or self._count > MAX_ALIAS_TARGETS:
            return False
        return self.follow(landing(self._directory, address), address, written, depth, via, owner)

    def follow(
        self, found: Landing | None, address: str, written: str, depth: int, via: str = "", owner: str = ""
    ) -> bool:
        """The same from the row on that the address leads to."""
        if found is None:
            if via:
                self.elsewhere.setdefault(address, Elsewhere(written, via, owner))  # others may mind case
            return bool(via)
        if found.refusal:
            self.refusal = found.refusal
        if not found.name:
            return False
        if not depth:
            self.row = found.mailing_list.address if found.mailing_list is not None else found.name
        if found.name not in self._seen:
            self._seen[found.name] = False  # until it is known: a circle leads to nobody
            self._seen[found.name] = self._row(found, depth)
        return self._seen[found.name]

    def _row(self, found: Landing, depth: int) -> bool:
        if found.account is not None:
            return self._account(found.account, depth)
        if found.alias is not None:
            self.alias = self.alias if depth else found.name
            return self._alias(found.alias, depth)
        if found.mailing_list is not None:
            return self._list(found, found.mailing_list, depth)
        return self._each(found.targets, depth, found.name, found.name)

    def _each(self, targets: Iterable[str], depth: int, via: str, owner: str) -> bool:
        led = [self.reach(target, depth + 1, via, owner) for target in targets]  # all of them, not until the first
        return any(led)

    def _account(self, account: Account, depth: int) -> bool:
        if not account.enabled:
            return False
        if not account.receives:
            self.refusal = NO_MAIL
            return False
        if account.keeps or not account.forward:
            self.accounts[account.id] = account
        if not self._each(account.forward, depth, account.address, account.address):
            self.accounts[account.id] = account
        return True

    def _alias(self, alias: Alias, depth: int) -> bool:
        if alias.internal and not depth:
            self.inside = names.comparable(alias.address.rpartition("@")[2])
        if is_off(alias, self._now):
            return False
        if alias.expires:
            self.until = min(self.until, alias.expires)
        name = alias.address.rpartition("@")[2]
        owner = f"postmaster@{name}"
        return self._each(alias.targets, depth, alias.address, owner)

    def _list(self, found: Landing, row: List, depth: int) -> bool:
        """Its owners get mail for that address of it also while it takes no mail itself."""
        postmaster = f"postmaster@{row.address.rpartition('@')[2]}"
        if found.part == OWNER:
            return self._each(found.targets, depth, found.name, postmaster) or self.reach(
                postmaster, depth + 1, found.name, postmaster
            )
        if not row.enabled:
            return False
        if row.mode == INSIDE and not found.part and not depth:
            self.inside = names.comparable(row.address.rpartition("@")[2])
        self.lists[found.name] = ToList(row, found.part, found.detail)
        return True


def find(directory: Lookup, address: str) -> Destinations:
    """Who gets mail for an address."""
    asked = comparable(address)
    found = landing(directory, asked)
    account = found.account if found is not None else None
    if found is not None and account is not None and account.enabled and account.receives and not account.forward:
        # Nearly every address leads to an account that keeps its mail: the search finds the same, and costs more.
        return Destinations([account], row=found.name)
    search = _Search(directory)
    search.follow(found, asked, address, 0)
    return Destinations(
        list(search.accounts.values()),
        tuple(search.elsewhere.values()),
        search.refusal,
        search.inside,
        search.until,
        lists=tuple(search.lists.values()),
        alias=search.alias,
        row=search.row,
    )


class Resolver(Domains, Protocol):
    """The same with aliases, and with ``destinations``, which may remember."""

    def alias(self, address: str) -> Alias | None: ...
    def destinations(self, address: str) -> Destinations: ...


def belongs(directory: Resolver, account: Account, address: str) -> bool:
    """Is the address the account's: its own, with any detail, an alias to it, or one of its sender identities? A
    catch-all makes no address somebody's."""
    if address == account.address:
        return True
    asked = comparable(address)
    local, _, name = asked.rpartition("@")
    row = home(directory, name)
    domain = names.comparable(row.name) if row is not None else name
    whole = f"{local}@{domain}"
    base = f"{without_detail(local, row.separators if row is not None else '+')}@{domain}"
    if comparable(account.address) in (whole, base):
        return True
    if account.senders and not {whole, base, f"@{domain}", asked}.isdisjoint(map(comparable, account.senders)):
        return True
    plain = account.enabled and account.receives and (account.keeps or not account.forward)
    for one in (whole, base) if base != whole else (whole,):
        # Most aliases name their account at once, which one row tells; the search for all that an address leads to
        # costs twice as much. An account that gets no mail itself is left to the search.
        if plain and row is not None and row.enabled and _names(directory.alias(one), account):
            return True
        found = directory.destinations(one)
        if found.alias == one and account.id in [each.id for each in found.accounts]:
            return True
    return False


def _names(alias: Alias | None, account: Account) -> bool:
    """Does an alias that counts now name the account itself?"""
    if alias is None or is_off(alias, time.time()):
        return False
    if account.address in alias.targets:
        return True
    name = comparable(account.address)
    return any(comparable(target) == name for target in alias.targets)


class Planned:
    """The directory as it would be with an account, alias or mailing list of that name, or with a domain, more or
    changed."""

    def __init__(
        self,
        place: Roads,
        name: str,
        account: Account | None = None,
        alias: Alias | None = None,
        mailing_list: List | None = None,
        domain: Domain | None = None,
    ) -> None:
        self._place, self._name, self._account, self._alias = place, comparable(name), account, alias
        self._list, self._domain = mailing_list, domain
        self.each_member = place.each_member

    def domain(self, name: str) -> Domain | None:
        if self._domain is not None and names.comparable(name) == names.comparable(self._domain.name):
            return self._domain
        return self._place.domain(name)

    def account(self, address: str) -> Account | None:
        return self._account if comparable(address) == self._name else self._place.account(address)

    def alias(self, address: str) -> Alias | None:
        return self._alias if comparable(address) == self._name else self._place.alias(address)

    def mailing_list(self, address: str) -> List | None:
        return self._list if comparable(address) == self._name else self._place.mailing_list(address)


def circle(directory: Roads, name: str, targets: Iterable[str]) -> list[str]:
    """The way by which mail that is sent from ``name`` to ``targets`` comes back to it, both ends included; empty where
    it does not. It leads through aliases, forwards, the members of mailing lists and the owners behind their
    addresses. Of a list, the first MAX_MEMBERS members are looked at: a way through others ends when the mail comes to
    the list again, by its List-Id."""
    came: dict[str, str] = {}  # rows that were reached, each by its shortest way: the row before it
    todo: deque[tuple[Iterable[str], str]] = deque([(targets, name)])
    while todo:
        following, before = todo.popleft()
        for address in following:
            try:
                found = landing(directory, comparable(address))
            except DamagedAccount:
                continue  # nobody can say where it leads, and that is no fault of who asks
            if found is None or not found.name:
                continue
            if found.name == name:
                return _way(came, before, name)
            if found.name not in came:
                came[found.name] = before
                todo.append((_following(directory, found), found.name))
    return []


def _way(came: Mapping[str, str], last: str, name: str) -> list[str]:
    """The way from a name to the last row in front of it again."""
    way = [name]
    while last != name:
        way.append(last)
        last = came[last]
    return [name, *reversed(way)]


def _following(directory: Roads, found: Landing) -> Iterable[str]:
    """Where mail goes on to from a row."""
    if found.account is not None:
        return found.account.forward
    if found.mailing_list is not None and not found.part:
        return (one.address for one in islice(directory.each_member(found.mailing_list.address), MAX_MEMBERS))
    return found.targets
