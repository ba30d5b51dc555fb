"""Random changes of a directory of all kinds (domains, accounts, aliases, lists, members, groups, app passwords, new
names), in memory and on the disk, against a plain model of what it should say (tests.support.directory_model): who gets
mail for every address, who is in what, and whether what was done might be done."""

import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError
from fastmail.directory.local import LocalDirectory
from fastmail.directory.mailing import Mailing
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import ACTIVE, SUSPENDED, Alias, AppPassword, Domain, List, Member
from tests.support.directory_model import FAR, NOWHERE, AccountModel, DomainModel, ListModel, Model
from tests.support.examples import seeds

DOMAINS = ["a.test", "b.test", "c.test"]
LOCALS = ["x", "y", "z", "postmaster"]
OUTSIDE = ["one@far.test", "two@far.test"]
ADDRESSES = [f"{local}@{domain}" for domain in DOMAINS for local in LOCALS]
PARTS = [f"x{part}@{domain}" for domain in DOMAINS for part in ("-owner", "+1", "-request")]
CATCHING = [f"@{domain}" for domain in DOMAINS]
GROUPS = [f"g@{domain}" for domain in DOMAINS]
PROBES = [f"{local}@{domain}" for domain in DOMAINS
          for local in ["x", "Y", "x+1", "z-2", "nobody", "postmaster", "abuse", "x-owner", "y-owner", "z-request", "x-bounces+t"]]  # fmt: skip
Change = Callable[[random.Random, Mailing, Model], None]


def some_targets(chance: random.Random) -> tuple[str, ...]:
    every = [*ADDRESSES[:3], *ADDRESSES[4:7], *PARTS, *OUTSIDE]
    return tuple(dict.fromkeys(chance.choice(every) for _ in range(chance.randint(1, 3))))


def may_be_new(model: Model, address: str) -> bool:
    """Is an address free, in a domain that has addresses of its own?"""
    home = model.domains.get(address.rpartition("@")[2])
    return home is not None and not home.alias_of and address not in model.rows()


def find_row(model: Model, rows: dict[str, object], address: str) -> str:
    """The row with that address, also by another name of its domain."""
    if address in rows:
        return address
    local, _, name = address.rpartition("@")
    return f"{local}@{model.domains[name].alias_of}"


def domains(chance: random.Random, place: Mailing, model: Model) -> None:
    name, other = chance.choice(DOMAINS), chance.choice(["", "", *DOMAINS])
    known = model.domains.get(name)
    if known is not None and chance.random() < 0.2:
        place.remove_domain(name)
        assert not model.used(name) and not any(one.alias_of == name for one in model.domains.values())
        del model.domains[name]
        return
    new = DomainModel(name, True, other, "+")
    if known is None:
        place.add_domain(Domain(name, alias_of=other))
    else:
        new = DomainModel(name, chance.random() < 0.8, other, chance.choice(["", "+", "+-"]))
        values = {"enabled": new.enabled, "alias_of": other, "separators": new.separators}
        place.change_domain(name, lambda old: replace(old, **values))
    if other and new != known:
        main = model.domains.get(other)
        levels = any(one.alias_of == name for one in model.domains.values())
        assert main is not None and not main.alias_of and other != name and not levels
        assert not any(one.endswith(f"@{name}") for one in model.rows())
    model.domains[name] = new


def accounts(chance: random.Random, place: Mailing, model: Model) -> None:
    address = chance.choice(ADDRESSES)
    known = model.accounts.get(address)
    what = chance.choice(["off", "forward", "forward", "remove"])
    if known is None:
        place.add_accounts([(address, "{PLAIN}x")])
        assert may_be_new(model, address)
        model.made += 1
        model.accounts[address] = AccountModel(model.made)
    elif what == "off":
        known.receives = chance.random() < 0.6
        place.change_account(address, lambda old: replace(old, receives=known.receives))
    elif what == "remove":
        place.remove_account(address)
        del model.accounts[address]
        for members in model.groups.values():
            members.discard(known.id)
    else:
        targets, keeps = some_targets(chance), chance.random() < 0.5
        place.change_account(address, lambda old: replace(old, forward=targets, keeps=keeps))
        assert targets == known.forward or not (model.reaches(address, targets) or model.dead(targets))
        known.forward, known.keeps = targets, keeps


def aliases(chance: random.Random, place: Mailing, model: Model) -> None:
    address = chance.choice([*ADDRESSES, *ADDRESSES, *CATCHING])
    targets, on = some_targets(chance), chance.random() < 0.7
    what = chance.choice(["add", "add", "set", "remove"])
    if what == "add":
        place.put_alias(Alias(address, targets))
        assert may_be_new(model, address) and not model.dead(targets)
        model.aliases[address] = True, targets
        assert not model.reaches(address, targets)
    elif what == "set":
        place.change_alias(address, lambda old: replace(old, targets=targets, enabled=on))
        at = find_row(model, dict(model.aliases), address)
        same = targets == model.aliases[at][1]
        assert same or not (model.reaches(at, targets) or model.dead(targets))
        model.aliases[at] = on, targets
    else:
        place.remove_alias(address)
        del model.aliases[find_row(model, dict(model.aliases), address)]


def lists(chance: random.Random, place: Mailing, model: Model) -> None:
    address, owners = chance.choice(ADDRESSES), some_targets(chance)
    if address in model.lists and chance.random() < 0.3:
        assert place.remove_list(address) == len(model.lists[address].members)
        del model.lists[address]
    elif address in model.lists:
        place.change_list(address, lambda old: replace(old, owners=owners))
        known = model.lists[address]
        local, _, name = address.rpartition("@")
        circle = model.reaches(address, owners) or model.reaches(f"{local}-owner@{name}", owners)
        assert owners == known.owners or not (circle or model.dead(owners))
        known.owners = owners
    else:
        place.put_list(List(address, owners=owners))
        assert may_be_new(model, address) and not model.dead(owners)
        model.lists[address] = ListModel(owners)
        assert not model.reaches(address, owners)


def members(chance: random.Random, place: Mailing, model: Model) -> None:
    if not model.lists:
        return
    address, one = chance.choice(sorted(model.lists)), chance.choice([*ADDRESSES, *PARTS, *OUTSIDE, *OUTSIDE])
    known = model.lists[address].members
    what = chance.choice(["join", "join", "all", "state", "leave"])
    if what == "join":
        place.put_members(address, [Member(one)])
        if one not in known:
            of, part = model.list_part(model.land(one))
            assert (not of or part == "owner") and not model.reaches(address, (one,))
            known[one] = ACTIVE
    elif what == "all":
        wanted = some_targets(chance)
        place.change_list(address, lambda old: old, [Member(each) for each in wanted])
        model.lists[address].members = {each: known.get(each, ACTIVE) for each in wanted}
    elif what == "state":
        place.change_member(address, one, lambda old: replace(old, state=SUSPENDED))
        known[one] = SUSPENDED
    else:
        place.remove_member(address, one)
        del known[one]


def groups(chance: random.Random, place: Mailing, model: Model) -> None:
    name, some = chance.choice(GROUPS), chance.sample(ADDRESSES, 2)
    home = model.domains.get(name.rpartition("@")[2])
    if name in model.groups and chance.random() < 0.2:
        place.remove_group(name)
        del model.groups[name]
        return
    if name in model.groups:
        place.change_group(name, join=some[:1], leave=some[1:])
        joined, left = ({model.accounts[find_row(model, dict(model.accounts), one)].id} for one in some)
        model.groups[name] = (model.groups[name] | joined) - left
        return
    place.put_group(name, some)
    assert home is not None and not home.alias_of
    model.groups[name] = {model.accounts[find_row(model, dict(model.accounts), one)].id for one in some}


def apps(chance: random.Random, place: Mailing, model: Model) -> None:
    address, digest = chance.choice(ADDRESSES), bytes([chance.randrange(4)]) * 32
    app = AppPassword(digest, "phone")
    if chance.random() < 0.6:
        place.add_app_password(address, app)
        model.accounts[find_row(model, dict(model.accounts), address)].apps.add(digest)
    else:
        place.remove_app_password(address, app)
        model.accounts[find_row(model, dict(model.accounts), address)].apps.remove(digest)


def names(chance: random.Random, place: Mailing, model: Model) -> None:
    keep = chance.random() < 0.6
    if chance.random() < 0.2:
        old, new = chance.sample(DOMAINS, 2)
        place.rename_domain(old, new, keep)
        other = model.domains.get(new)
        assert not model.domains[old].alias_of and (other is None or other.alias_of == old)
        assert not any(one.endswith(f"@{new}") for one in model.rows())
        model.rename_domain(old, new, keep)
    else:
        old, new = chance.sample(ADDRESSES, 2)
        place.rename_account(old, new, keep)
        old = find_row(model, dict(model.accounts), old)
        assert may_be_new(model, new) or model.aliases.get(new, (True, ()))[1] == (old,)
        model.rename(old, new, keep)
    for number, _ in list(place.renames()):
        place.followed(number)


CHANGES: list[Change] = [domains, domains, accounts, accounts, accounts, aliases, aliases, aliases,
                         lists, lists, members, members, groups, apps, names]  # fmt: skip


def change(chance: random.Random, place: Mailing, model: Model) -> None:
    """One change of both, where the directory lets it be; that it may is what the model says."""
    try:
        chance.choice(CHANGES)(chance, place, model)
    except DirectoryError:
        return


def agree(place: Mailing, model: Model) -> None:
    for probe in PROBES:
        found = place.destinations(probe)
        got = {one.address for one in found.accounts} | {one.address.lower() for one in found.elsewhere}
        for one in found.lists:
            local, _, name = one.row.address.rpartition("@")
            got.add(f"{local}-{one.part}@{name}" if one.part else one.row.address)
        assert got == model.who(probe.lower()), probe
        assert place.is_local(probe.rpartition("@")[2]) == (probe.rpartition("@")[2] in model.domains)
    assert {one.address: one.id for one in place.each_account()} == {k: v.id for k, v in model.accounts.items()}
    assert {one.address for one in place.each_alias()} == model.aliases.keys()
    for address, row in model.lists.items():
        assert {one.address: one.state for one in place.each_member(address)} == row.members
        found_list = place.mailing_list(address)
        assert found_list is not None and found_list.owners == row.owners
    assert {one.address for one in place.each_list()} == model.lists.keys()
    assert {one.name: set(one.members) for one in place.each_group()} == model.groups
    for account in model.accounts.values():
        assert place.groups_of(account.id) == {name for name, ids in model.groups.items() if account.id in ids}
        assert {one.digest for one in place.app_passwords(account.id)} == account.apps
    for name, domain in model.domains.items():
        count = [sum(one.endswith(f"@{name}") for one in rows) for rows in (model.accounts, model.aliases)]
        assert list(place.counts(name)) == count
        others = {one.name for one in model.domains.values() if one.alias_of == name}
        assert place.other_name(name) in (others or {""}) and domain.name == name
    assert place.faults() == []


@pytest.mark.parametrize("seed", seeds(12))
def test_in_memory(seed: int) -> None:
    place, model, chance = MemoryDirectory(), Model(), random.Random(seed)
    for number in range(250):
        change(chance, place, model)
        if number % 5 == 0:
            agree(place, model)
    agree(place, model)


@pytest.mark.parametrize("seed", seeds(4))
def test_on_disk_and_opened_again(tmp_path: Path, seed: int) -> None:
    place: Mailing = LocalDirectory(str(tmp_path))
    model, chance = Model(), random.Random(1000 + seed)
    for number in range(120):
        if number % 3 == 0:
            with place.batch():  # what is done in it sees what was done before in it
                for _ in range(5):
                    change(chance, place, model)
        else:
            change(chance, place, model)
        if number % 20 == 19:
            place.close()
            place = LocalDirectory(str(tmp_path))
            agree(place, model)
    place.close()


@pytest.mark.parametrize("seed", seeds(4))
def test_what_is_tried_on_a_copy_changes_nothing(tmp_path: Path, seed: int) -> None:
    place, model, chance = LocalDirectory(str(tmp_path / "one")), Model(), random.Random(2000 + seed)
    with place.batch():
        for _ in range(60):
            change(chance, place, model)
    copy = place.copied(str(tmp_path / "two"))
    agree(copy, model)
    with copy.batch():
        before = deepcopy(model)
        for _ in range(40):
            change(chance, copy, model)
    agree(copy, model)
    agree(place, before)
    copy.close()
    place.close()


def test_the_model_itself() -> None:
    """A circle, a way out and a dead end are what they are called."""
    model = Model({"a.test": DomainModel("a.test")})
    model.accounts["x@a.test"] = AccountModel(1, forward=("one@far.test",), keeps=False)
    model.lists["l@a.test"] = ListModel(("x@a.test",), {"y@a.test": ACTIVE})
    model.aliases["y@a.test"] = True, ("x@a.test",)
    assert model.land("l-owner@a.test") == "l-owner@a.test" and model.land("no@a.test") == NOWHERE
    assert model.land("x@far.test") == FAR and model.dead(("no@a.test",))
    assert model.who("l-owner@a.test") == {"one@far.test"} and model.who("l@a.test") == {"l@a.test"}
    assert model.reaches("y@a.test", ("l@a.test",)) and not model.reaches("y@a.test", ("l-owner@a.test",))
