"""Circles, targets that are not there, and rows that are damaged: what every directory refuses, with the way that mail
would take, and what damage does to no other row."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.mailing import Mailing
from fastmail.directory.records import Domain, List, Member
from fastmail.directory.rows import address_key, domain_key, member_key
from fastmail.model.errors import DamagedAccount
from tests.support.directories import MAKERS


@pytest.fixture(params=MAKERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailing]:
    """Two accounts, an alias to one, a list with the other; another name of the domain."""
    made = MAKERS[request.param](tmp_path)
    made.add_domain("d.test")
    made.add_domain(Domain("other.test", alias_of="d.test"))
    made.add_accounts([("a@d.test", "{PLAIN}x"), ("b@d.test", "{PLAIN}y")])
    made.add_alias("x@d.test", ["a@d.test"])
    made.put_list(List("l@d.test", owners=("a@d.test",)))
    made.put_members("l@d.test", [Member("b@d.test"), Member("z@far.test")])
    yield made
    made.close()


def join(of: str, address: str) -> Callable[[Mailing], object]:
    return lambda place: place.put_members(of, [Member(address)])


def lead(alias: str, *targets: str) -> Callable[[Mailing], object]:
    return lambda place: place.change_alias(alias, lambda old: replace(old, targets=targets))


def forward(account: str, *targets: str) -> Callable[[Mailing], object]:
    return lambda place: place.change_account(account, lambda old: replace(old, forward=targets))


def own(of: str, *owners: str) -> Callable[[Mailing], object]:
    return lambda place: place.change_list(of, lambda old: replace(old, owners=owners))


def postmaster(*targets: str) -> Callable[[Mailing], object]:
    return lambda place: place.change_domain("d.test", lambda old: replace(old, postmaster=targets))


@pytest.mark.parametrize(
    ("before", "then", "way"),
    [
        ([], lead("x@d.test", "X@other.test"), "alias x@d.test would lead to itself"),
        ([], forward("a@d.test", "a+tag@d.test"), "forward of a@d.test would lead to itself"),
        ([], forward("a@d.test", "x@d.test"), "a@d.test -> x@d.test -> a@d.test"),
        ([forward("b@d.test", "x@d.test")], forward("a@d.test", "B@OTHER.test"), "a@d.test -> b@d.test -> x@d.test"),
        # by members of a list
        ([], forward("b@d.test", "l@d.test"), "b@d.test -> l@d.test -> b@d.test"),
        ([lead("x@d.test", "l@d.test")], join("l@d.test", "x@d.test"), "l@d.test -> x@d.test -> l@d.test"),
        ([lead("x@d.test", "l@d.test")], join("l@d.test", "X+1@other.test"), "l@d.test -> x@d.test -> l@d.test"),
        ([join("l@d.test", "x@d.test")], lead("x@d.test", "l@d.test"), "x@d.test -> l@d.test -> x@d.test"),
        ([join("l@d.test", "x@d.test")], forward("a@d.test", "l+1@d.test"), "a@d.test -> l@d.test -> x@d.test -> a@d"),
        # by owners
        ([], own("l@d.test", "l@d.test"), "owner of l@d.test would lead to itself"),
        ([], own("l@d.test", "l-owner@d.test"), "l-owner@d.test -> l-owner@d.test"),
        ([lead("x@d.test", "l-owner@d.test")], own("l@d.test", "x@d.test"), "l-owner@d.test -> x@d.test -> l-owner"),
        ([own("l@d.test", "x@d.test")], lead("x@d.test", "l-owner@d.test"), "x@d.test -> l-owner@d.test -> x@d.test"),
        ([], forward("a@d.test", "l-owner@d.test"), "a@d.test -> l-owner@d.test -> a@d.test"),
        # by the postmaster
        ([], postmaster("postmaster@d.test"), "postmaster@d.test -> postmaster@d.test"),
        ([], postmaster("abuse@other.test"), "abuse@d.test -> abuse@d.test"),
        ([lead("x@d.test", "postmaster@far.test"), postmaster("x@d.test")], lead("x@d.test", "abuse@d.test"), "x@d.test -> abuse@d.test -> x@d"),
    ],
)  # fmt: skip
def test_a_circle_is_refused_with_its_way(
    place: Mailing, before: list[Callable[[Mailing], object]], then: Callable[[Mailing], object], way: str
) -> None:
    for one in before:
        one(place)
    with pytest.raises(DirectoryError) as told:
        then(place)
    assert way in str(told.value)


def test_a_circle_through_a_list_that_is_made_anew(place: Mailing) -> None:
    place.add_alias("y@d.test", ["l@d.test"])
    place.remove_list("l@d.test")
    with pytest.raises(DirectoryError, match="y@d.test -> l@d.test"):
        place.put_list(List("l@d.test", owners=("a@d.test",)), [Member("y@d.test")])
    assert place.mailing_list("l@d.test") is None


def test_what_is_no_circle(place: Mailing) -> None:
    place.put_list(List("m@d.test", owners=("l-owner@d.test",)), [Member("l-owner@d.test"), Member("b@d.test")])
    place.add_alias("both@d.test", ["l@d.test", "m@d.test"])
    place.add_accounts([("postmaster@d.test", "{PLAIN}z")])
    postmaster("postmaster@d.test")(place)
    found = place.destinations("both@d.test")
    assert {one.row.address for one in found.lists} == {"l@d.test", "m@d.test"}


@pytest.mark.parametrize(
    "then",
    [
        lead("x@d.test", "a@d.test", "no@d.test"),
        lead("x@d.test", "no@other.test"),
        lead("x@d.test", "no-owner@d.test"),
        forward("a@d.test", "no+tag@d.test"),
        own("l@d.test", "no@d.test"),
        lambda place: place.put_list(List("n@d.test", owners=("no@d.test",))),
        lambda place: place.put_group("g@d.test", ["a@d.test", "no@d.test"]),
    ],
)
def test_a_target_that_is_not_there_is_refused(place: Mailing, then: Callable[[Mailing], object]) -> None:
    before = list(place.each_alias()), list(place.each_account()), list(place.each_list()), list(place.each_group())
    with pytest.raises(NoSuchUser):
        then(place)
    after = list(place.each_alias()), list(place.each_account()), list(place.each_list()), list(place.each_group())
    assert after == before


def test_a_change_that_fails_within_many_leaves_nothing(place: Mailing) -> None:
    with place.batch():
        with pytest.raises(DirectoryError):
            place.put_members("l@d.test", [Member("new@far.test"), Member("l@d.test")])
        with pytest.raises(DirectoryError):
            place.put_list(List("n@d.test", owners=("a@d.test",)), [Member("new@far.test"), Member("l@d.test")])
        with pytest.raises(DirectoryError):
            place.change_list("l@d.test", lambda old: replace(old, tag="[l]"), [Member("l@d.test")])
    assert [one.address for one in place.each_member("l@d.test")] == ["b@d.test", "z@far.test"]
    assert place.mailing_list("n@d.test") is None
    found = place.mailing_list("l@d.test")
    assert found is not None and found.tag == ""


# ---------------------------------------------------------------- damage


def spoil(place: Mailing, table: str, key: bytes) -> None:
    """One bit of a row is another one."""
    with place._tables.write() as txn:
        row = txn.get(table, key)
        assert row is not None
        txn.put(table, key, row[:-1] + bytes([row[-1] ^ 1]))
        place._note(txn, "damage", table, "")


def test_a_damaged_alias(place: Mailing) -> None:
    place.add_alias("y@d.test", ["x@d.test", "b@d.test"])
    spoil(place, "aliases", address_key("x@d.test"))
    for probe in ("x@d.test", "y@d.test"):
        with pytest.raises(DamagedAccount):  # a temporary failure: no copy is lost
            place.destinations(probe)
    assert [one.address for one in place.resolve("a@d.test")] == ["a@d.test"]
    assert [one.address for one in place.each_alias()] == ["y@d.test"]
    place.add_alias("z@d.test", ["y@d.test"])
    place.put_members("l@d.test", [Member("x@d.test")])
    lead("y@d.test", "l@d.test")(place)  # a circle search ends at it
    assert [name for name, _ in place.faults()] == ["x@d.test"]
    place.remove_alias("x@d.test")
    place.add_alias("x@d.test", ["a@d.test"])
    assert place.faults() == [] and place.counts("d.test") == (2, 3)


def test_a_damaged_domain(place: Mailing) -> None:
    place.add_domain("e.test")
    place.add_accounts([("a@e.test", "{PLAIN}x")])
    spoil(place, "domains", domain_key("d.test"))
    with pytest.raises(DamagedAccount):
        place.destinations("a@d.test")
    assert place.is_local("d.test") and [one.address for one in place.resolve("a@e.test")] == ["a@e.test"]
    assert [one.name for one in place.each_domain()] == ["e.test", "other.test"]
    place.add_domain("d.test")
    assert [one.address for one in place.resolve("a@d.test")] == ["a@d.test"] and place.faults() == []


def test_a_damaged_list(place: Mailing) -> None:
    place.put_list(List("m@d.test", owners=("a@d.test",)))
    spoil(place, "lists", address_key("l@d.test"))
    for probe in ("l@d.test", "l-owner@d.test"):
        with pytest.raises(DamagedAccount):
            place.destinations(probe)
    assert place.destinations("m@d.test") and [one.address for one in place.each_list()] == ["m@d.test"]
    assert place.note_bounce("l@d.test", "b@d.test", 5) is None
    place.put_list(List("l@d.test", owners=("a@d.test",)))
    assert place.count_members("l@d.test") == 2 and place.faults() == [], "its members stayed"


def test_a_damaged_member(place: Mailing) -> None:
    spoil(place, "list_members", member_key(address_key("l@d.test"), "b@d.test"))
    assert [one.address for one in place.each_member("l@d.test")] == ["z@far.test"]
    with pytest.raises(DamagedAccount):
        place.member("l@d.test", "b@d.test")
    assert place.note_bounce("l@d.test", "b@d.test", 5) is None
    lead("x@d.test", "l@d.test")(place)
    assert place.put_members("l@d.test", [Member("b@d.test")], again=True) == 0
    assert place.count_members("l@d.test") == 2 and place.faults() == []


def test_a_damaged_group(place: Mailing) -> None:
    place.put_group("g@d.test", ["a@d.test", "b@d.test"])
    place.put_group("h@d.test", ["a@d.test"])
    spoil(place, "groups", address_key("g@d.test"))
    assert [one.name for one in place.each_group()] == ["h@d.test"]
    found = place.account("a@d.test")
    assert found is not None and "h@d.test" in place.groups_of(found.id)
    with pytest.raises(DamagedAccount):
        place.group("g@d.test")
    place.remove_account("b@d.test")
    place.remove_group("g@d.test")
    assert place.groups_of(found.id) == {"h@d.test"}
    place.put_group("g@d.test", ["a@d.test"])
    assert place.groups_of(found.id) == {"g@d.test", "h@d.test"} and place.faults() == []


def test_a_damaged_account(place: Mailing) -> None:
    spoil(place, "accounts", address_key("b@d.test"))
    with pytest.raises(DamagedAccount):
        place.destinations("b@d.test")
    assert [one.address for one in place.each_account()] == ["a@d.test"]
    assert [one.address for one in place.resolve("x@d.test")] == ["a@d.test"]
    forward("a@d.test", "l@d.test")(place)  # a list with a damaged member
    place.add_alias("to@d.test", ["b@d.test"])
    place.add_accounts([("b@d.test", "{PLAIN}y")], replace=True)
    assert [one.address for one in place.resolve("to@d.test")] == ["b@d.test"] and place.faults() == []


def test_a_forward_to_somebody_who_has_the_mail_already_leads_somewhere(place: Mailing) -> None:
    place.change_account("a@d.test", lambda old: replace(old, forward=("b@d.test",), keeps=False))
    place.add_alias("both@d.test", ["b@d.test", "a@d.test"])
    assert [one.address for one in place.resolve("both@d.test")] == ["b@d.test"]


@pytest.mark.parametrize("part", ["request", "subscribe", "bounces"])
def test_a_list_is_not_owned_by_its_own_address(place: Mailing, part: str) -> None:
    with pytest.raises(DirectoryError, match="of list l@d.test itself"):
        own("l@d.test", f"l-{part}@other.test")(place)


def test_other_names_within_a_batch(place: Mailing) -> None:
    """They are gathered once in it, and follow what it does."""
    with place.batch():
        assert place.other_name("d.test") == "other.test" and place.other_name("e.test") == ""
        place.add_domain("e.test")
        place.add_domain(Domain("f.test", alias_of="e.test"))
        assert place.other_name("e.test") == "f.test"
        with pytest.raises(DirectoryError, match=r"f\.test is another name"):
            place.change_domain("e.test", lambda old: replace(old, alias_of="d.test"))
        with pytest.raises(DirectoryError, match=r"f\.test is another name"):
            place.remove_domain("e.test")
        place.change_domain("f.test", lambda old: replace(old, alias_of="d.test"))
        place.remove_domain("e.test")
        place.rename_domain("d.test", "g.test", False)
        assert place.other_name("g.test") == "f.test" and place.other_name("d.test") == ""
        place.remove_domain("f.test")
        assert place.other_name("g.test") == "other.test"
    assert place.other_name("g.test") == "other.test"


@pytest.mark.parametrize(
    "prepare",
    [
        lambda place: place.add_alias("z@d.test", ["z@new.test"]),
        lambda place: place.add_alias("@d.test", ["caught@new.test"]),
        lambda place: place.change_account("a@d.test", lambda old: replace(old, forward=("a@new.test",))),
        lambda place: place.put_members("l@d.test", [Member("L@new.test")]),
        lambda place: place.change_list("l@d.test", lambda old: replace(old, owners=("l-owner@new.test",))),
    ],
)
def test_another_name_that_closes_a_circle_is_refused(place: Mailing, prepare: Callable[[Mailing], object]) -> None:
    """The addresses at that name were another host's before."""
    prepare(place)
    with pytest.raises(DirectoryError, match=r"with new\.test as another name, mail for .*d\.test would come back"):
        place.add_domain(Domain("new.test", alias_of="d.test"))
    assert place.domain("new.test") is None


def test_a_circle_by_way_of_another_domain(place: Mailing) -> None:
    place.add_domain("e.test")
    place.add_alias("y@e.test", ["z@new.test"])
    place.add_alias("z@d.test", ["y@e.test"])
    with pytest.raises(DirectoryError, match=r"z@d\.test -> y@e\.test -> z@d\.test"):
        place.add_domain(Domain("new.test", alias_of="d.test"))
    place.add_domain(Domain("new.test", alias_of="e.test"))
