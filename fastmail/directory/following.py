"""Domains, accounts, aliases and groups as another source has them (directory.external, directory.live): those of one
kind are written in one transaction.

What the source does not say of one (its limits, forwards, states, app passwords) is kept here beside it; what it says
is in the row's field ``said``. A domain or an account that the source has no more is switched off, never removed.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from fastmail.directory import checks, fields, membership, once, origins, taken
from fastmail.directory.errors import DirectoryError
from fastmail.directory.interface import Line
from fastmail.directory.membership import GROUP_TABLE, MOST
from fastmail.directory.origins import uncertain_key
from fastmail.directory.records import Alias, Domain, Group, List
from fastmail.directory.renaming import Renames
from fastmail.directory.rows import ALIASES, DOMAINS, GROUPS, LISTS, U64, address_key, domain_key
from fastmail.directory.tables import META, Txn
from fastmail.directory.told import Told, counting
from fastmail.directory.writing import SOURCE, Writing
from fastmail.model import hash_costs
from fastmail.model.address import domain_name
from fastmail.model.errors import CorruptData, DamagedAccount

replace = msgspec.structs.replace


Kept = TypeVar("Kept", Domain, List)
ON = "enabled"  # a source says it of each domain and list, by naming them


class Following(Renames):
    """See directory.external for who calls."""

    def bring_domains(self, wanted: Mapping[str, Told], source: str = "") -> int:
        """Make the domains of a source what it says of them; how many changed. Domains that are not there are added for
        the source of the [directory] section. Those that it named before and does not now are switched off."""
        named: dict[bytes, str] = {}
        changed: dict[str, Told | None] = {}  # None: it is gone
        for name, told in wanted.items():
            row = self._readable(name)
            if row is not None and not self.is_from(source, f"@{name}"):
                continue
            key = domain_key(name)
            if (row is None and source) or named.setdefault(key, name) != name:
                continue
            if row is None or brought(row, told) != row:
                changed[name] = told
        for row in self.each_domain():
            if row.said and domain_key(row.name) not in named and self.is_from(source, f"@{row.name}"):
                changed[row.name] = None
        # what others are another name of has to be there
        first = {name: told for name, told in changed.items() if not dict(told or ()).get("alias_of")}
        rest = {name: told for name, told in changed.items() if name not in first}
        return self._put_domains(first) + self._put_domains(rest)

    def _readable(self, name: str) -> Domain | None:
        """A domain; for a damaged row a new one, which the source makes good."""
        try:
            return self.domain(name)
        except DamagedAccount:
            return Domain(name)

    def _put_domains(self, changed: Mapping[str, Told | None]) -> int:
        if not changed:
            return 0
        with self._write() as txn:
            return sum(self._bring_domain(txn, name, told) for name, told in changed.items())

    def _bring_domain(self, txn: Txn, name: str, told: Told | None) -> bool:
        """False where it cannot be, which leaves it as it is."""
        key = domain_key(name)
        row = txn.get("domains", key)
        old = None
        with suppress(DamagedAccount):
            old = DOMAINS.unpack(key, row) if row is not None else None
        new = brought(old or Domain(domain_name(name)), told) if told is not None else switched_off(old)
        if new is None or new == old:
            return False
        try:
            if told is not None:
                checks.domain(self, new)
            if row is None:
                taken.refuse_while_renaming(txn, f"@{new.name}")
        except DirectoryError as error:
            left_out(new.name, str(error))
            return False
        self._put_domain(txn, key, old, new, SOURCE)
        return True

    def release(self, source: str, domains: bool, lists: bool) -> None:
        """The source does not say anything of ``domains``, or of ``lists``, any more: what it said is kept here now."""
        mine = [one for one in self.each_domain() if domains and one.said and self.is_from(source, f"@{one.name}")]
        rows = [one for one in self.each_list() if lists and one.said and self.is_from(source, one.address)]
        if not mine and not rows:
            return
        with self._write() as txn:
            for one in mine:
                txn.put("domains", key := domain_key(one.name), DOMAINS.pack(key, replace(one, said=())))
            for row in rows:
                txn.put("lists", key := address_key(row.address), LISTS.pack(key, replace(row, said=())))
            self._note(txn, "source", source or "default", f"{len(mine) + len(rows)} rows are kept here now", SOURCE)

    def bring(self, lines: Iterable[Line], gone: Iterable[str]) -> None:
        """Accounts as the source has them, with their domains, and some that it has no more."""
        with self._write() as txn:
            for line in lines:
                self._bring(txn, line)
            for one in gone:
                self._leave(txn, one)

    def _bring(self, txn: Txn, line: Line) -> None:
        domain = self._have_domain(txn, line.address)
        _, address, key = self._named(txn, line.address)
        if domain.alias_of:
            left_out(address, f"{domain.name} is another name of {domain.alias_of}, which has the accounts")
            return
        if txn.get("lists", key) is not None:
            left_out(address, "a mailing list has that address")
            return
        row = txn.get("accounts", key)
        old = self._present(txn, key, address, row) if row is not None else None
        row_of = old
        if row_of is None:
            if txn.delete("aliases", key):  # an account goes before an alias
                self._count(txn, key, 0, -1)
            row_of = self._new_account(txn, key, address, row is None)
        new = replace(
            row_of,
            enabled=True,
            password=line.password,
            scram=row_of.scram if row_of.password == line.password else "",
            home=line.home,
            maildir=line.maildir,
            nets=line.nets,
            nologin=line.nologin,
            quota=line.quota if line.quota is not None else row_of.quota,
            said=said_of(line),
        )
        if (row_of.password != line.password) and (why := hash_costs.refusal(line.password)):
            once.event("directory.password", address=address, why=why, then="nobody logs in by it")
        new = fields.changed(new, dict(counting(line.told, old)))
        self._put_account(txn, key, old, new, revokes=True, who=SOURCE)

    def _leave(self, txn: Txn, asked: str) -> None:
        _, address, key = self._named(txn, asked)
        row = txn.get("accounts", key)
        old = self._present(txn, key, address, row) if row is not None else None
        if old is not None:
            self._put_account(txn, key, old, replace(old, enabled=False), revokes=True, who=SOURCE)

    def replace_aliases(self, wanted: Mapping[str, Sequence[str]], source: str = "") -> int:
        """Make these the aliases that the source keeps in its domains; how many changed. Those that were made here
        stay, and go before one of the source with the same address; one of the same targets is the source's from now
        on. An account or a mailing list goes before an alias, too. Targets are not looked up: they may come later."""
        known = {one.address: one for one in self.aliases() if self.is_from(source, one.address)}
        asked = {_spelled(self, address): tuple(targets) for address, targets in wanted.items()}
        gone = [address for address, one in known.items() if one.source and address not in asked]
        new = {address: targets for address, targets in asked.items() if _takes(known.get(address), targets)}
        if not new and not gone:
            return 0
        # Each row is read again: it may have been changed here since.
        with self._write() as txn:
            removed = sum([self._drop_alias(txn, address) for address in gone])
            changed = sum([self._take_alias(txn, address, targets) for address, targets in new.items()])
            if changed or removed:
                self._note(txn, "alias set", SOURCE, f"{changed} changed, {removed} removed", SOURCE)
        return changed + removed

    def _drop_alias(self, txn: Txn, address: str) -> bool:
        """The source has it no more. False if it is not the source's."""
        key = address_key(address)
        old = _alias_in(txn, key)
        if old is None or not old.source:
            return False
        txn.delete("aliases", key)
        self._count(txn, key, 0, -1)
        return True

    def _take_alias(self, txn: Txn, address: str, targets: tuple[str, ...]) -> bool:
        """Write it as the source has it. False if something that was made here goes before it."""
        key = address_key(address)
        if txn.get("accounts", key) is not None or txn.get("lists", key) is not None:
            left_out(address, "an account or a mailing list has that address")
            return False
        old = _alias_in(txn, key)
        if not _takes(old, targets):
            return False
        if txn.get("aliases", key) is None:
            self._count(txn, key, 0, 1)
        new = replace(old or Alias(address, targets), targets=targets, source=True)
        txn.put("aliases", key, ALIASES.pack(key, new))
        return True

    def replace_groups(self, wanted: Mapping[str, Sequence[str]], source: str = "") -> int:
        """Make these the groups that the source keeps in its domains; how many changed. Those that were made here stay,
        and go before one of the source with the same name."""
        known = {one.name: one for one in self.each_group() if self.is_from(source, one.name)}
        new: dict[str, Group] = {}
        for name, members in wanted.items():
            numbers = (found.id for one in members if (found := self.account(one)) is not None)
            new[name] = Group(name, tuple(dict.fromkeys(numbers))[:MOST], source=True)
        # what becomes of each: None if it is gone
        due: dict[str, Group | None] = {name: None for name, one in known.items() if one.source and name not in new}
        due |= {name: one for name, one in new.items() if known.get(name, one).source and known.get(name) != one}
        if not due:
            return 0
        with self._write() as txn:
            changed = sum([self._take_group(txn, name, group) for name, group in due.items()])
            if changed:
                self._revoke(txn, ())  # sessions look at their rights again
                self._note(txn, "group set", SOURCE, f"{changed} changed or removed", SOURCE)
        return changed

    def _take_group(self, txn: Txn, name: str, group: Group | None) -> bool:
        """Write a group as the source has it, or remove it. False if one that was made here goes before it. The row is
        read again: it may have been changed since."""
        key = address_key(name)
        row = txn.get(GROUP_TABLE, key)
        old = None
        with suppress(CorruptData):
            old = GROUPS.unpack(key, row) if row is not None else None
        if old == group or (old is not None and not old.source):
            return False
        if row is not None and old is None:
            membership.remove_damaged(txn, key)
        if group is not None:
            self._have_domain(txn, name)
            there = tuple(one for one in group.members if txn.get("numbers", U64.pack(one)) is not None)
            group = replace(group, members=there)
        membership.put(txn, key, old, group)
        return True

    def set_uncertain(self, source: str = "") -> None:
        """The source cannot be read."""
        with self._write() as txn:
            origins.mark(txn, source)

    def settle(self, source: str, mark: bytes) -> None:
        """The source was read for all of its domains since ``mark`` was there. Another mark than that one stays: a
        domain came in meanwhile."""
        with self._write() as txn:
            if txn.get(META, uncertain_key(source)) == mark:
                txn.delete(META, uncertain_key(source))


def _alias_in(txn: Txn, key: bytes) -> Alias | None:
    """The alias with a key; None where there is none, or none that can be read."""
    row = txn.get("aliases", key)
    with suppress(CorruptData):
        return ALIASES.unpack(key, row) if row is not None else None
    return None


def _takes(old: Alias | None, targets: tuple[str, ...]) -> bool:
    """True if an alias is written as its source has it: one that was made here stays, unless it says the same."""
    return old is None or (old.targets != targets if old.source else old.targets == targets)


def said_of(line: Line) -> tuple[str, ...]:
    """The fields that a source says of an account, beside what it says of each."""
    names = [name for name, _ in line.told]
    return tuple(sorted([*names, fields.QUOTA_FIELDS[0]] if line.quota is not None else names))


def brought(old: Kept, told: Told) -> Kept:
    """A domain or a list with what its source says of it. It is switched on, unless the source says otherwise."""
    values = {ON: True, **dict(told)}
    return replace(fields.changed(old, values), said=tuple(sorted(values)), gone=False)


def switched_off(old: Kept | None) -> Kept | None:
    """The same where its source says nothing of it any more."""
    return replace(old, enabled=False, said=(), gone=True) if old is not None and old.said else old


def left_out(address: str, why: str) -> None:
    once.event("directory.left_out", address=address, why=why)


def _spelled(place: Writing, address: str) -> str:
    local, _, name = address.rpartition("@")
    domain = place.domain(name)
    return f"{local}@{domain.name}" if domain is not None else address
