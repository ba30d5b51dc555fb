"""Brings the records of a site into a directory, by the requests that batches use, and says what became of each.

What is not there is made. What is there and differs is shown, and only changed with ``overwrite``; what the site does
not say is never compared. So a second run changes nothing. A password counts where the account is new: a login here
gives it a better form, so one that was made here is no difference unless ``overwrite`` is wanted.

A bad row is an outcome of its own and stops no other. Records are taken AT_ONCE in a transaction, and told of when that
is on the disk: an import that was stopped is run again. Memory holds domains, and aliases and forwards whose targets
come later; all else streams.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import msgspec

from fastmail.directory import audit, fields
from fastmail.directory.errors import DirectoryError
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import OF_DOMAINS, Account, Alias, Domain, List, Member, Script
from fastmail.directory.requests import perform
from fastmail.migrate.sites import asked as asking
from fastmail.migrate.sites import lists
from fastmail.migrate.sites.asked import ACCOUNT, DOMAIN, LIST, Asked
from fastmail.migrate.sites.linking import Waiting, wrong
from fastmail.migrate.sites.model import (
    BadRow,
    Hint,
    NotTaken,
    Record,
    RelayDomain,
    SiteAccount,
    SiteAlias,
    SiteDomain,
    SiteList,
    SiteScript,
)
from fastmail.model import domain as names
from fastmail.model.address import comparable, domain_name
from fastmail.model.errors import BadAddress, ClientError, CorruptData

NEW, SAME, DIFFERS, CHANGED = "new", "same", "differs", "changed"
SKIPPED = "skipped"  # a bad row
PART = "in part"  # something of a row was left out
NOT_HERE = "not here"  # no equivalent
ELSEWHERE = "elsewhere"  # outside the database
SAID = "said"  # how something was taken that is not quite the same here
STATES = (NEW, SAME, DIFFERS, CHANGED, SKIPPED, PART, SAID, NOT_HERE, ELSEWHERE)
replace = msgspec.structs.replace
AT_ONCE = 5000  # records of one transaction
MADE_HERE = "{ARGON2ID}"
RELAYED = "addresses of domains that are only relayed"
SHOWN = 3  # members that a difference names
Known = Domain | Account | Alias | List
# fields with addresses, by record
LINKS: dict[type, tuple[str, ...]] = {
    Domain: (),
    Account: ("forward",),
    Alias: ("targets",),
    List: ("owners", "announcers"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a record, or of ``count`` of them."""

    state: str
    kind: str
    name: str
    text: str = ""
    count: int = 1


class Importer:
    """One run. ``counts``: outcomes by state and kind, complete when ``bring`` has ended. ``maildirs``: the directory
    of all mail, where the site's word on where each Maildir is shall count."""

    def __init__(self, place: LocalDirectory, overwrite: bool = False, maildirs: str = "") -> None:
        self._place, self._overwrite, self._maildirs = place, overwrite, maildirs
        self._elsewhere: set[str] = set()
        self._made: set[str] = set()  # domains
        self._names: list[SiteDomain] = []  # other names of domains, which have to be there first
        self._limited: list[SiteDomain] = []
        self._most: dict[str, int] = {}  # octets that an account of a domain may have
        self._admins: dict[str, str] = {}  # of domains: the first account with that role
        self._waiting = Waiting(place)
        self.counts: Counter[tuple[str, str]] = Counter()

    def bring(self, records: Iterable[Record]) -> Iterator[Outcome]:
        """Take all of them, and tell what became of each."""
        yield from self._taken(records, self._take, ahead=True)
        yield from self._taken(self._names, self._name)
        yield from self._taken(self._waiting.in_order(), self._link)
        yield from self._taken(self._limited, self._limit)

    def _taken(
        self, things: Iterable[Any], work: Callable[[Any], Iterator[Outcome]], ahead: bool = False
    ) -> Iterator[Outcome]:
        """Work on things, AT_ONCE in a transaction. ``ahead``: they are read before it begins, so that the directory
        waits for no other database; else each is asked for when the one before is done."""
        rest = iter(things)
        for first in rest:
            chunk: Iterable[Any] = chain([first], islice(rest, AT_ONCE - 1))
            if ahead:
                chunk = list(chunk)
            with self._place.batch():
                found = [outcome for one in chunk for outcome in self._safely(one, work)]
            for outcome in found:
                self.counts[outcome.state, outcome.kind] += outcome.count
            yield from found

    def _safely(self, one: Any, work: Callable[[Any], Iterator[Outcome]]) -> list[Outcome]:
        """What became of it, and of what had to be made first."""
        found: list[Outcome] = []
        try:
            found.extend(work(one))
        except (ClientError, CorruptData) as error:
            kind, name = _called(one)
            found.append(Outcome(SKIPPED, kind, name, str(error)))
        return found

    def _take(self, one: Record) -> Iterator[Outcome]:
        match one:
            case SiteDomain():
                yield from self._domain(one)
            case RelayDomain():
                self._elsewhere.add(names.comparable(one.name))
                yield Outcome(NOT_HERE, "domains that are only relayed", one.name, "set [relay] routes")
            case NotTaken():
                yield Outcome(NOT_HERE, one.what, one.name, one.say, one.count)
            case Hint():
                yield Outcome(ELSEWHERE, one.what, one.place, one.say)
            case SiteScript():
                yield from self._script(one)
            case BadRow():
                yield Outcome(SKIPPED, one.kind, one.name, one.why)
            case _:
                if self._names:
                    others, self._names = self._names, []
                    for name in others:
                        yield from self._safely(name, self._name)
                yield from self._linked(one)

    def _script(self, one: SiteScript) -> Iterator[Outcome]:
        """One that was changed here stays, unless what differs is overwritten."""
        account = self._place.account(one.address)
        if account is None:
            yield Outcome(SKIPPED, "script", one.address, f"{one.name}: there is no such account")
            return
        new = Script(one.name, one.text, one.active, one.stage)
        known = {each.name: each for each in self._place.scripts(account.id)}
        old = known.get(one.name)
        name = f"{account.address} {one.name}"
        if old == new:
            yield Outcome(SAME, "script", name)
        elif old is not None and not self._overwrite:
            yield Outcome(DIFFERS, "script", name, "its text or state")
        else:
            self._place.put_script(account.address, new)
            yield Outcome(NEW if old is None else CHANGED, "script", name, "kept; filters are not run yet")

    # ---------------------------------------------------------------- domains

    def _domain(self, one: SiteDomain) -> Iterator[Outcome]:
        if one.alias_of:
            self._names.append(one)
            return
        name = domain_name(one.name)
        if one.most_storage:
            self._most[names.comparable(name)] = one.most_storage
        if asking.limits(one):
            self._limited.append(one)
        given, left = asking.domain(one)
        done = self._put(DOMAIN, name, given)
        if done.state == NEW:
            self._made.add(name)
        yield done
        for text in left:
            yield Outcome(PART, DOMAIN, name, text)

    def _name(self, one: SiteDomain) -> Iterator[Outcome]:
        """Another name of a domain."""
        given: dict[str, Any] = {"enabled": one.enabled, "alias_of": domain_name(one.alias_of)}
        yield self._put(DOMAIN, domain_name(one.name), given)

    def _limit(self, one: SiteDomain) -> Iterator[Outcome]:
        """Limits come when all is there that they might keep out. They are a part of a domain that was just made."""
        name = domain_name(one.name)
        fresh = name in self._made
        if fresh or self._place.domain(name) is not None:
            done = self._put(DOMAIN, name, asking.limits(one), overwrite=fresh)
            if done.state == DIFFERS or (done.state == CHANGED and not fresh):
                yield done

    # ---------------------------------------------------------------- accounts, aliases, lists

    def _linked(self, one: SiteAccount | SiteAlias | SiteList) -> Iterator[Outcome]:
        domain = names.comparable(one.address.rpartition("@")[2])
        if domain in self._elsewhere:
            yield Outcome(NOT_HERE, RELAYED, one.address, "the other host knows them")
            return
        wanted = asking.asked(one, self._most.get(domain, 0), self._maildirs)
        if wanted in self._waiting:
            raise DirectoryError(f"{wanted.name} is there more than once")
        for name in wanted.fields.get("administers", ()) if wanted.fields.get("role") == OF_DOMAINS else ():
            self._admins.setdefault(names.comparable(name), wanted.name)
        if any(wrong(self._place, wanted, target)[1] for target in wanted.links):
            self._waiting.add(wanted)
            return
        yield from self._link(wanted)

    def _link(self, one: Asked) -> Iterator[Outcome]:
        """Make it, with those of its targets that can be."""
        good, why = [], []
        for target in one.targets:
            text, missing = wrong(self._place, one, target)
            if missing and self._waiting.waits(target):
                why.append(f"{target}: leads back to it: left out")
            elif text:
                why.append(text)
            else:
                good.append(target)
        kept = one.without(good, why)
        if kept.kind == LIST:
            yield from self._list(kept)
            return
        if kept.kind != ACCOUNT and not good:
            raise DirectoryError("; ".join(kept.left) or "it has no targets")
        given = dict(kept.fields)
        given["forward" if kept.kind == ACCOUNT else "targets"] = good
        if kept.kind == ACCOUNT and not good:
            given["keeps"] = True
        if kept.kind == ACCOUNT and kept.password:
            given["hash"] = kept.password
        yield self._put(kept.kind, kept.name, given, maildir=kept.maildir)
        for text in kept.left:
            yield Outcome(PART, kept.kind, kept.name, text)

    def _list(self, one: Asked) -> Iterator[Outcome]:
        """Make a mailing list with its members, of which those that cannot be were taken out."""
        owners, left, say = [], list(one.left), [one.say] if one.say else []
        for address in one.owners:
            text, _ = wrong(self._place, one, address)
            if text:
                left.append(f"owner {text}")
            else:
                owners.append(address)
        given = dict(one.fields)
        if owners:
            given["owners"] = owners
        if self._known(LIST, one.name) is None:
            given |= one.first
            if not owners:
                admin = self._admins.get(names.comparable(one.name.rpartition("@")[2]), "")
                found = lists.owner(self._place, one, admin)
                if not found:
                    raise DirectoryError(lists.NOBODY)
                given["owners"] = [found]
                say.append(f"its owner is {found}")
        yield self._put(LIST, one.name, given, members=one.targets)
        for text in left:
            yield Outcome(PART, LIST, one.name, text)
        if say:
            yield Outcome(SAID, LIST, one.name, "; ".join(say))

    # ---------------------------------------------------------------- one row

    def _put(
        self,
        kind: str,
        name: str,
        given: dict[str, Any],
        overwrite: bool = False,
        maildir: str = "",
        members: Sequence[str] = (),
    ) -> Outcome:
        """Make it, or compare it. ``members``: of a mailing list; those that are only here stay."""
        old = self._known(kind, name)
        if old is None:
            self._do(f"{kind}.add", name, given)
            self._lay(name, maildir)
            self._join(name, members)
            return Outcome(NEW, kind, name)
        plain = {key: value for key, value in given.items() if key != "hash"}
        new = _changed(old, fields.read(kind, plain))
        if isinstance(new, Account) and maildir:
            new = replace(new, maildir=maildir)
        hashed = given.get("hash", "")
        if isinstance(old, Account) and not self._another(old, hashed):
            hashed = ""
        missing = [one for one in members if self._place.member(name, one) is None]
        if new == old and not hashed and not missing:
            return Outcome(SAME, kind, name)
        parts = [audit.difference(old, new) if new != old else "", "password" if hashed else "", _members(missing)]
        text = "; ".join(filter(None, parts))
        if not (self._overwrite or overwrite):
            return Outcome(DIFFERS, kind, name, text)
        plain |= {one: list(getattr(new, one)) for one in LINKS[type(old)] if one in plain}
        self._do(f"{kind}.set", name, plain | ({"hash": hashed} if hashed else {}))
        self._lay(name, maildir)
        self._join(name, missing)
        return Outcome(CHANGED, kind, name, text)

    def _lay(self, name: str, maildir: str) -> None:
        """Say where an account's Maildir is. That is no field that people set: only a source of accounts says it."""
        if maildir:
            self._place.change_account(name, lambda old: replace(old, maildir=maildir))

    def _join(self, name: str, members: Sequence[str]) -> None:
        if members:
            self._place.put_members(name, map(Member, members))

    def _known(self, kind: str, name: str) -> Known | None:
        if kind == DOMAIN:
            return self._place.domain(name)
        domain = self._place.domain(name.rpartition("@")[2])
        if domain is not None and domain.alias_of:
            return None  # adding it says what is wrong
        if kind == LIST:
            return self._place.mailing_list(name)
        return self._place.account(name) if kind == ACCOUNT else self._place.alias(name)

    def _another(self, old: Account, hashed: str) -> bool:
        """Is it another password than ours, as far as one can say?"""
        if not hashed or old.password == hashed:
            return False
        made_here = old.password.startswith(MADE_HERE) and not hashed.startswith(MADE_HERE)
        return self._overwrite or not made_here

    def _do(self, what: str, name: str, given: dict[str, Any]) -> None:
        perform(self._place, {"do": what, "name": name, "fields": given}, _no_hash)


def _changed(old: Known, values: dict[str, Any]) -> Known:
    """The record with these values, in our spelling of addresses that are the same."""
    mine = {one: getattr(old, one) for one in LINKS[type(old)] if one in values}
    return fields.changed(old, values | {one: value for one, value in mine.items() if _same(value, values[one])})


def _members(missing: Sequence[str]) -> str:
    """What is said of members that are only there."""
    more = ", ..." if len(missing) > SHOWN else ""
    return f"{len(missing)} members more: {', '.join(missing[:SHOWN])}{more}" if missing else ""


def _same(mine: Iterable[str], theirs: Iterable[str]) -> bool:
    """Order does not count."""
    return {*map(comparable, mine)} == {*map(comparable, theirs)}


def _called(one: object) -> tuple[str, str]:
    """(kind, key) of a record, for the report."""
    match one:
        case Asked():
            return one.kind, one.name
        case SiteDomain():
            return DOMAIN, one.name
        case SiteAccount():
            return ACCOUNT, one.address
        case SiteAlias():
            return asking.ALIAS, one.address
        case SiteList():
            return LIST, one.address
    return type(one).__name__, ""


def _no_hash(password: str) -> tuple[str, str]:
    raise BadAddress("a password in clear has its scheme in front")  # never asked: each account comes with a hash
