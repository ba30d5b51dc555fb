"""Random changes of a directory, against a plain model of what it should say: who gets mail for every address."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError
from fastmail.directory.following import Following
from fastmail.directory.local import LocalDirectory
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import Alias, Domain
from tests.support.examples import seeds

DOMAINS = ["a.test", "b.test", "c.test"]
LOCALS = ["x", "y", "z", "postmaster", ""]
FAR = ["one@far.test", "two@far.test"]
ADDRESSES = [f"{local}@{domain}" for domain in DOMAINS for local in LOCALS]
PROBES = [
    f"{local}@{domain}" for domain in DOMAINS for local in ["x", "Y", "x+1", "z-2", "nobody", "postmaster", "abuse"]
]


@dataclass
class Model:
    """What was done, in dictionaries; every question is answered by walking all over again."""

    domains: dict[str, Domain] = field(default_factory=dict)
    accounts: dict[str, tuple[bool, bool, tuple[str, ...]]] = field(default_factory=dict)  # receives, keeps, forward
    aliases: dict[str, tuple[bool, tuple[str, ...]]] = field(default_factory=dict)

    def land(self, address: str) -> str:
        """The row that an address leads to; ``far`` for another host's, empty for none."""
        local, _, name = address.lower().rpartition("@")
        if name not in self.domains:
            return "far"
        domain = self.domains[name]
        if domain.enabled and domain.alias_of:
            domain = self.domains[domain.alias_of]
        if not domain.enabled:
            return ""
        cut = min((local.find(c) for c in domain.separators if local.find(c) > 0), default=len(local))
        for one in (local, local[:cut]):
            if f"{one}@{domain.name}" in self.accounts.keys() | self.aliases.keys():
                return f"{one}@{domain.name}"
        return f"@{domain.name}" if f"@{domain.name}" in self.aliases else ""

    def targets(self, row: str) -> tuple[str, ...]:
        return self.accounts[row][2] if row in self.accounts else self.aliases[row][1]

    def reaches(self, row: str, targets: tuple[str, ...]) -> bool:
        """Does mail that ``row`` sends to these come back to it?"""
        todo, seen = list(targets), set()
        while todo:
            found = self.land(todo.pop())
            if found == row:
                return True
            if found not in ("", "far") and found not in seen:
                seen.add(found)
                todo += self.targets(found)
        return False

    def who(self, address: str, seen: frozenset[str] = frozenset(), top: bool = True) -> set[str]:
        """Accounts and addresses of other hosts."""
        row = self.land(address)
        if row == "far":
            return set() if top else {address.lower()}
        if not row or row in seen:
            return set()
        below = {one for to in self.targets(row) for one in self.who(to, seen | {row}, False)}
        if row in self.aliases:
            return below if self.aliases[row][0] else set()
        receives, keeps, _ = self.accounts[row]
        if not receives:
            return set()
        return below | ({row} if keeps or not below else set())


def some_targets(chance: random.Random) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(chance.choice([*ADDRESSES[:4], *ADDRESSES[5:9], *FAR]) for _ in range(chance.randint(1, 3)))
    )


def change(chance: random.Random, place: Following, model: Model) -> None:
    """One change of both, where the directory lets it be; that it does so is what the model says."""
    name, address = chance.choice(DOMAINS), chance.choice(ADDRESSES)
    home = model.domains.get(address.rpartition("@")[2])
    what = chance.choice(
        ["domain", "domain", "account", "account", "alias", "alias", "set", "off", "forward", "remove"]
    )
    try:
        if what == "domain":
            known = model.domains.get(name)
            used = any(one.endswith(f"@{name}") for one in model.accounts.keys() | model.aliases.keys())
            other = chance.choice(["", "", *DOMAINS])
            if known is None:
                new = Domain(name, alias_of=other)
                place.add_domain(new)
            else:
                new = replace(
                    known, enabled=chance.random() < 0.8, separators=chance.choice(["", "+", "+-"]), alias_of=other
                )
                place.change_domain(name, lambda _: new)
            if other and new != known:
                main = model.domains.get(other)
                levels = any(one.alias_of == name for one in model.domains.values())
                assert not used and main is not None and not main.alias_of and other != name and not levels
            model.domains[name] = new
        elif what == "account" and not address.startswith("@"):
            place.add_accounts([(address, "{PLAIN}x")])
            assert (
                home is not None and not home.alias_of and address not in model.accounts.keys() | model.aliases.keys()
            )
            model.accounts[address] = True, True, ()
        elif what == "alias":
            targets = some_targets(chance)
            place.put_alias(Alias(address, targets))
            assert (
                home is not None and not home.alias_of and address not in model.accounts.keys() | model.aliases.keys()
            )
            model.aliases[address] = True, targets
            assert not model.reaches(address, targets)
        elif what == "set":
            targets, on = some_targets(chance), chance.random() < 0.7
            place.change_alias(address, lambda old: replace(old, targets=targets, enabled=on))
            assert home is not None
            at = address if address in model.aliases else f"{address.partition('@')[0]}@{home.alias_of}"
            if targets != model.aliases[at][1]:
                model.aliases[at] = on, targets
                assert not model.reaches(at, targets)
            model.aliases[at] = on, targets
        elif what == "forward" and address in model.accounts:
            targets, keeps = some_targets(chance), chance.random() < 0.5
            place.change_account(address, lambda old: replace(old, forward=targets, keeps=keeps))
            before = model.accounts[address]
            model.accounts[address] = before[0], keeps, targets
            assert before[2] == targets or not model.reaches(address, targets)
        elif what == "off" and address in model.accounts:
            _, keeps, targets = model.accounts[address]
            receives = chance.random() < 0.6
            place.change_account(address, lambda old: replace(old, receives=receives))
            model.accounts[address] = receives, keeps, targets
        elif what == "remove" and address in model.accounts:
            place.remove_account(address)
            del model.accounts[address]
        elif what == "remove" and address in model.aliases:
            place.remove_alias(address)
            del model.aliases[address]
    except DirectoryError:
        return


def agree(place: Following, model: Model) -> None:
    for probe in PROBES:
        found = place.destinations(probe)
        got = {one.address for one in found.accounts} | {one.address.lower() for one in found.elsewhere}
        assert got == model.who(probe), probe
    assert {one.address for one in place.accounts()} == model.accounts.keys()
    assert {one.address for one in place.aliases()} == model.aliases.keys()
    for name in model.domains:
        count = [sum(one.endswith(f"@{name}") for one in rows) for rows in (model.accounts, model.aliases)]
        assert list(place.counts(name)) == count
    assert place.faults() == []


@pytest.mark.parametrize("seed", seeds(12))
def test_in_memory(seed: int) -> None:
    place, model, chance = MemoryDirectory(), Model(), random.Random(seed)
    for number in range(120):
        change(chance, place, model)
        if number % 4 == 0:
            agree(place, model)
    agree(place, model)


def test_on_disk_and_opened_again(tmp_path: Path) -> None:
    place: Following = LocalDirectory(str(tmp_path))
    model, chance = Model(), random.Random(99)
    for number in range(60):
        change(chance, place, model)
        if number % 20 == 19:
            place.close()
            place = LocalDirectory(str(tmp_path))
            agree(place, model)
