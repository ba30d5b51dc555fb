"""What a domain, an account or an alias may be, beyond what its fields say: whether what it names is there, leads in a
circle, or is more than its domain allows. Each check raises DirectoryError or NoSuchUser with what to do, or gives the
record with its addresses in the spelling in which they are kept."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import msgspec

from fastmail.directory import lookup
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.lookup import Planned, Roads, circle, find, landing
from fastmail.directory.records import LOCAL, Account, Alias, Domain, List
from fastmail.model import domain as names
from fastmail.model import hash_costs
from fastmail.model.address import LONGEST_LOCAL, comparable
from fastmail.model.errors import DamagedAccount

MOST_APPS = 20  # app passwords of an account
MOST_PASSKEYS = 20
ARROW = " -> "


class Known(Roads, Protocol):
    """What is asked of the directory."""

    @property
    def sources(self) -> Collection[str] | None: ...
    def counts(self, domain: str) -> tuple[int, int]: ...
    def has_lists(self, domain: str) -> bool: ...
    def each_account(self, domain: str = "", after: str = "") -> Iterator[Account]: ...
    def each_alias(self, domain: str = "", after: str = "") -> Iterator[Alias]: ...
    def each_list(self, domain: str = "", after: str = "") -> Iterator[List]: ...
    def other_name(self, of: str) -> str:
        """One of the other names of a domain; empty where it has none."""
        ...


def domain(known: Known, new: Domain) -> None:
    """Another name has no addresses, and stands for a domain that is there and is not another name itself. Mail for the
    postmaster does not come back to the postmaster; whoever that is may be made later."""
    planned = Planned(known, "", domain=new)
    for role in lookup.ROLES if new.postmaster else ():
        name = comparable(f"{role}@{new.name}")
        if known.account(name) is not None or known.alias(name) is not None or known.mailing_list(name) is not None:
            continue  # that one gets its mail
        way = circle(planned, name, new.postmaster)
        if way:
            raise DirectoryError(f"postmaster: mail for {way[0]} would come back to it: {ARROW.join(way)}")
    if not new.alias_of:
        return
    if any(known.counts(new.name)) or known.has_lists(new.name):
        raise DirectoryError(f"{new.name} has addresses of its own: remove them, or let it be a domain")
    main = known.domain(new.alias_of)
    if main is None:
        raise DirectoryError(f"there is no domain {new.alias_of}; `fastmail domain list` shows them")
    if names.comparable(main.name) == names.comparable(new.name):
        raise DirectoryError(f"{new.name} would be another name of itself")
    if main.alias_of:
        raise DirectoryError(f"{main.name} is another name of {main.alias_of} itself: name that one")
    other = known.other_name(new.name)
    if other:
        raise DirectoryError(f"{other} is another name of {new.name}: there is one level of them only")
    _comes_back(planned, known, main, new)


def _comes_back(planned: Planned, known: Known, main: Domain, new: Domain) -> None:
    """Refuse another name of ``main`` by which mail for one of its addresses would come back to that address. Until now
    the name was another host's, so whoever sent mail there was right. A circle by way of the new name passes an address
    of ``main``, so only those are looked at."""
    for one in known.each_alias(main.name):
        _no_circle(planned, one.address, one.targets, new)
    for account in known.each_account(main.name):
        if account.forward:
            _no_circle(planned, account.address, account.forward, new)
    for row in known.each_list(main.name):
        local, _, name = row.address.rpartition("@")
        _no_circle(planned, f"{local}-{lookup.OWNER}@{name}", row.owners, new)
        for member in known.each_member(row.address):
            if names.comparable(member.address.rpartition("@")[2]) == names.comparable(new.name):
                _no_circle(planned, row.address, [member.address], new)


def _no_circle(planned: Planned, address: str, targets: Sequence[str], new: Domain) -> None:
    way = circle(planned, comparable(address), targets)
    if way:
        raise DirectoryError(
            f"with {new.name} as another name, mail for {address} would come back to it: {ARROW.join(way)}; "
            "change that alias, forward or member first"
        )


def source(known: Known, new: Domain) -> None:
    """The configuration has the source that a domain names; another name has the accounts of its domain."""
    if not new.source:
        return
    if new.alias_of:
        raise DirectoryError(
            f"{new.name} is another name of {new.alias_of}, whose accounts it has: set the source there"
        )
    if new.source == LOCAL or known.sources is None or new.source in known.sources:
        return
    there = ", ".join(sorted(filter(None, known.sources)))
    raise DirectoryError(
        f"the configuration has no source {new.source}; "
        + (f"it has {there}, " if there else f'write [[source]] with name = "{new.source}" there, ')
        + f"or say {LOCAL} for accounts that are kept here"
    )


def kept_here(domain: Domain | None, then: str) -> None:
    """The accounts of a domain are not those of a source that it names. ``then``: what to do where they are."""
    if domain is not None and domain.source not in ("", LOCAL):
        raise DirectoryError(f"the accounts of {domain.name} come from the source {domain.source}: {then}")


def full(domain: Domain, what: str, most: int) -> DirectoryError:
    """What is said where a domain has as many as it may. ``what``: accounts, aliases or lists."""
    called = "mailing lists" if what == "lists" else what
    more = f"`fastmail domain set {domain.name} most_{what}=NUMBER` allows more"
    return DirectoryError(f"domain {domain.name} has its {most} {called}: {more}")


def password(address: str, stored: str) -> None:
    """Nobody's logins keep those of others waiting."""
    why = hash_costs.refusal(stored)
    if why:
        raise DirectoryError(f"{address}: {why}")


def account(known: Known, old: Account, new: Account) -> None:
    """Limits of the domain, where its mail is forwarded to, and whether its password is kept here."""
    row = known.domain(new.address.rpartition("@")[2])
    if old.id and new.password != old.password:
        kept_here(row, "change the password there")
    most = row.most_storage if row is not None else 0
    if most and new.quota != old.quota and (new.quota.octets > most or new.quota.octets < 0):
        raise DirectoryError(f"an account of {new.address.rpartition('@')[2]} may have {most} octets at most")
    if new.forward != old.forward:
        _targets(Planned(known, new.address, account=new), new.address, new.forward, "the forward of", known)


def alias(known: Known, new: Alias) -> Alias:
    """Its targets lead to somebody, and not back to it."""
    if not new.targets:
        raise DirectoryError(f"alias {new.address} needs a target")
    if len(new.targets) > lookup.MAX_ALIAS_TARGETS:
        raise DirectoryError(f"alias {new.address} has more than {lookup.MAX_ALIAS_TARGETS} targets")
    planned = Planned(known, new.address, alias=msgspec.structs.replace(new, enabled=True, expires=0))
    _targets(planned, new.address, new.targets, "alias", known)
    if not _reaches(planned, known, new):
        raise DirectoryError(f"alias {new.address} would be too many aliases away from an account")
    return msgspec.structs.replace(new, targets=tuple(_kept(known, one) for one in new.targets))


def room_for_parts(address: str) -> None:
    """The name of a list leaves room for those of its parts."""
    room = LONGEST_LOCAL - max(map(len, lookup.PARTS)) - 1
    if len(address.rpartition("@")[0].encode("utf-8", "replace")) > room:
        raise DirectoryError(f"{address}: the name of a list has {room} octets at most")


def mailing_list(known: Known, new: List) -> None:
    """It has an owner, who is somebody, and a name that leaves room for those of its parts."""
    room_for_parts(new.address)
    if not new.owners:
        raise DirectoryError(f"list {new.address} needs an owner, who is told of its trouble: owners=ADDRESS")
    local, _, name = new.address.rpartition("@")
    planned = Planned(known, new.address, mailing_list=new)
    way = circle(planned, comparable(f"{local}-{lookup.OWNER}@{name}"), new.owners)
    if way:
        raise DirectoryError(f"the owner of {new.address} would lead to itself: {ARROW.join(way)}")
    _targets(planned, new.address, new.owners, "the owner of", known)
    for one in new.owners:
        found = landing(planned, comparable(one))
        if found is not None and found.part and found.mailing_list == new:
            raise DirectoryError(f"{one} is an address of list {new.address} itself, and cannot own it")


def member(known: Roads, of: str, address: str) -> None:
    """It is no mailing list, which would have posts that nobody let go there, and does not lead back to this one."""
    try:
        found = landing(known, comparable(address))
    except DamagedAccount:
        return  # nobody can say where it leads, and it can be mended
    if found is None:
        return  # of another host, as most are
    if found.mailing_list is not None and found.part != lookup.OWNER:
        raise DirectoryError(f"{address} is a mailing list, and no member of another one; an alias can lead to both")
    way = circle(known, comparable(of), [address])
    if way:
        raise DirectoryError(f"{address} leads back to {of}, and cannot be its member: {ARROW.join(way)}")


def _targets(planned: Planned, address: str, targets: Sequence[str], what: str, known: Known) -> None:
    name = comparable(address)
    way = circle(planned, name, targets)
    if way:
        _are_there(name, targets, known)
        by = f", by way of {way[1]}: {ARROW.join(way)}" if len(way) > 2 else ""
        raise DirectoryError(f"{what} {address} would lead to itself{by}")
    for target in targets:
        try:
            found = landing(planned, comparable(target))
        except DamagedAccount:
            continue  # it is there, and can be mended
        if found is not None and not found.name and not found.refusal:
            raise NoSuchUser(f"nobody here gets mail for {target}: it is an address of this server, and not there")


def _are_there(name: str, targets: Sequence[str], known: Known) -> None:
    """NoSuchUser where a catch-all leads to itself because a target is nobody's address: a typing error, not a
    circle."""
    for target in map(comparable, targets):
        local, _, domain = target.rpartition("@")
        there = known.account(target) or known.alias(target) or known.mailing_list(target)
        if local and f"@{domain}" == name and not there:
            raise NoSuchUser(f"nobody here gets mail for {target}: it is an address of this server, and not there")


def _reaches(planned: Planned, known: Known, new: Alias) -> bool:
    """Does an alias lead to somebody, as far as rows can be read?"""
    try:
        return bool(find(planned, new.address)) or _is_still(known, new.targets)
    except DamagedAccount:
        return True


def _is_still(known: Known, targets: Sequence[str]) -> bool:
    """Do they lead to accounts or domains that only take no mail now?"""
    found = [landing(known, comparable(one)) for one in targets]
    return any(one is not None and (bool(one.account or one.mailing_list or one.refusal)) for one in found)


def _kept(known: Known, target: str) -> str:
    """A target as it is kept: with the spelling that its account or domain has."""
    local, _, name = target.rpartition("@")
    try:
        row = known.account(target)
    except DamagedAccount:
        return target
    if row is not None and comparable(row.address) == comparable(target):
        return row.address
    found = known.domain(name)
    return f"{local}@{found.name}" if found is not None and not found.alias_of else target
