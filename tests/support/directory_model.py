"""A plain model of a directory: dictionaries, and every question answered by walking all over again. Addresses are in
lower case and in ASCII, so that comparing is the identity.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PARTS = ("request", "subscribe", "unsubscribe", "owner", "bounces")
FAR, NOWHERE = "far", ""


def part_of(local: str) -> tuple[str, str]:
    """(the list's local-part, the part) of an address like ``team-owner``; no part where it is none."""
    base, _, part = local.partition("+")[0].rpartition("-")
    return (base, part) if base and part in PARTS else ("", "")


@dataclass
class DomainModel:
    name: str
    enabled: bool = True
    alias_of: str = ""
    separators: str = "+"


@dataclass
class AccountModel:
    id: int
    receives: bool = True
    keeps: bool = True
    forward: tuple[str, ...] = ()
    apps: set[bytes] = field(default_factory=set)


@dataclass
class ListModel:
    owners: tuple[str, ...]
    members: dict[str, str] = field(default_factory=dict)  # state by address


@dataclass
class Model:
    """What was done. ``groups``: numbers of accounts by name; ``aliases``: whether on, and targets; ``reserved``: old
    names that nobody gets until the mail store has followed."""

    domains: dict[str, DomainModel] = field(default_factory=dict)
    accounts: dict[str, AccountModel] = field(default_factory=dict)
    aliases: dict[str, tuple[bool, tuple[str, ...]]] = field(default_factory=dict)
    lists: dict[str, ListModel] = field(default_factory=dict)
    groups: dict[str, set[int]] = field(default_factory=dict)
    made: int = 0

    def rows(self) -> set[str]:
        """All addresses that are taken."""
        return {*self.accounts, *self.aliases, *self.lists}

    def used(self, name: str) -> bool:
        return any(one.endswith(f"@{name}") for one in {*self.rows(), *self.groups})

    def home(self, name: str) -> DomainModel | None:
        found = self.domains.get(name)
        return self.domains.get(found.alias_of, found) if found and found.alias_of and found.enabled else found

    def land(self, address: str) -> str:
        """The row that an address leads to, or a part of a list; FAR for another host's, NOWHERE for none."""
        local, _, name = address.rpartition("@")
        domain = self.home(name)
        if domain is None:
            return FAR
        if not domain.enabled:
            return NOWHERE
        cut = min((local.find(c) for c in domain.separators if local.find(c) > 0), default=len(local))
        for one in (local, local[:cut]):
            if f"{one}@{domain.name}" in self.rows():
                return f"{one}@{domain.name}"
        base, part = part_of(local)
        if part and f"{base}@{domain.name}" in self.lists:
            return f"{base}-{part}@{domain.name}"
        return f"@{domain.name}" if f"@{domain.name}" in self.aliases else NOWHERE

    def list_part(self, row: str) -> tuple[str, str]:
        """(list, part) of what ``land`` gave, where it is one of a list."""
        if row in self.lists:
            return row, ""
        local, _, name = row.rpartition("@")
        base, part = part_of(local)
        return (f"{base}@{name}", part) if part and row not in self.rows() else ("", "")

    def follow(self, row: str, members: bool) -> tuple[str, ...]:
        """Where mail goes on to from a row. ``members``: also from a list to its members."""
        if row in self.accounts:
            return self.accounts[row].forward
        if row in self.aliases:
            return self.aliases[row][1]
        of, part = self.list_part(row)
        if part == "owner":
            return self.lists[of].owners
        return tuple(self.lists[of].members) if members and of and not part else ()

    def reaches(self, row: str, targets: tuple[str, ...]) -> bool:
        """Does mail that ``row`` sends to these come back to it?"""
        todo, seen = list(targets), set()
        while todo:
            found = self.land(todo.pop())
            if found == row:
                return True
            if found not in (NOWHERE, FAR) and found not in seen:
                seen.add(found)
                todo += self.follow(found, True)
        return False

    def dead(self, targets: tuple[str, ...]) -> bool:
        """Is one of them an address here that nobody has?"""
        return any(self.land(one) == NOWHERE and self._on(one) for one in targets)

    def _on(self, address: str) -> bool:
        home = self.home(address.rpartition("@")[2])
        return home is not None and home.enabled

    def who(self, address: str) -> set[str]:
        """Accounts, addresses of other hosts, and lists (or parts of them) that get mail. Each row is followed once, in
        the order of targets: where it comes again, it leads to somebody if it did before; within itself it leads to
        nobody."""
        found: set[str] = set()
        if self.land(address) != FAR:
            self._go(address, found, {})
        return found

    def _go(self, address: str, found: set[str], led: dict[str, bool]) -> bool:
        """Follow an address; does anybody get its mail?"""
        row = self.land(address)
        if row == FAR:
            found.add(address)
            return True
        if not row:
            return False
        if row not in led:
            led[row] = False
            led[row] = self._leads(row, found, led)
        return led[row]

    def _leads(self, row: str, found: set[str], led: dict[str, bool]) -> bool:
        of, part = self.list_part(row)
        if of and part != "owner":
            found.add(row)
            return True
        if row in self.aliases and not self.aliases[row][0]:
            return False
        if row in self.accounts and not self.accounts[row].receives:
            return False
        below = [self._go(to, found, led) for to in self.follow(row, False)]
        if of:
            return any(below) or self._go(f"postmaster@{of.rpartition('@')[2]}", found, led)
        if row in self.aliases:
            return any(below)
        if self.accounts[row].keeps or not any(below):
            found.add(row)
        return True

    # ---------------------------------------------------------------- new names

    def rename(self, old: str, new: str, keep: bool) -> None:
        """Of an account."""
        home_domain = self.domains[old.rpartition("@")[2]]

        def moved(address: str) -> str:
            local, _, name = address.rpartition("@")
            home = self.home(name)
            name = home.name if home is not None else name
            old_local = old.rpartition("@")[0]
            cut = min((local.find(c) for c in home_domain.separators if local.find(c) > 0), default=len(local))
            if name != home_domain.name or old_local not in (local, local[:cut]):
                return address
            return f"{new.rpartition('@')[0]}{local[len(old_local) :]}@{new.rpartition('@')[2]}"

        if new in self.aliases:
            del self.aliases[new]
        self.accounts[new] = self.accounts.pop(old)
        self._refer(moved)
        if keep:
            self.aliases[old] = True, (new,)

    def rename_domain(self, old: str, new: str, keep: bool) -> None:
        def moved(address: str) -> str:
            local, _, name = address.rpartition("@")
            return f"{local}@{new}" if name == old else address

        self.domains[new] = self.domains.pop(old)
        self.domains[new].name = new
        tables: tuple[dict[str, Any], ...] = self.accounts, self.aliases, self.lists, self.groups
        for rows in tables:
            for name in list(rows):
                rows[moved(name)] = rows.pop(name)
        for one in self.domains.values():
            one.alias_of = new if one.alias_of == old else one.alias_of
        self._refer(moved)
        if keep:
            self.domains[old] = DomainModel(old, alias_of=new)

    def _refer(self, moved: Callable[[str], str]) -> None:
        for name, (on, targets) in self.aliases.items():
            self.aliases[name] = on, tuple(map(moved, targets))
        for account in self.accounts.values():
            account.forward = tuple(map(moved, account.forward))
        for one in self.lists.values():
            one.owners = tuple(map(moved, one.owners))
            members: dict[str, str] = {}
            stay = [address for address in one.members if moved(address) == address]
            for address in [*stay, *(address for address in one.members if moved(address) != address)]:
                members.setdefault(moved(address), one.members[address])
            one.members = members
