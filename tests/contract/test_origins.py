"""Where the accounts of each domain come from: one suite over the directory in memory and the one in LMDB."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory import fields
from fastmail.directory.errors import DirectoryError
from fastmail.directory.interface import Line
from fastmail.directory.mailing import Mailing
from fastmail.directory.records import LOCAL, Domain, List
from fastmail.directory.tables import Txn
from tests.support.directories import MAKERS


@pytest.fixture(params=MAKERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailing]:
    made = MAKERS[request.param](tmp_path)
    made.sources = frozenset(["", "office", "shop"])
    for name, source in (("rest.test", ""), ("own.test", LOCAL), ("office.test", "office"), ("shop.test", "shop")):
        made.add_domain(Domain(name, source=source))
    made.add_domain(Domain("other.test", alias_of="office.test"))
    yield made
    made.close()


def test_each_domain_has_its_source(place: Mailing) -> None:
    names = ("rest.test", "own.test", "office.test", "OTHER.test", "shop.test", "far.test", "")
    assert [place.source_of(one) for one in names] == ["", LOCAL, "office", "office", "shop", "", ""]
    assert [place.is_followed(one) for one in names[:5]] == [True, False, True, True, True]
    assert place.names("office") == {"office.test"} and place.names("") == {"own.test", "office.test", "shop.test"}
    place.sources = frozenset(["office"])
    assert not place.is_followed("rest.test") and place.is_followed("shop.test")


def test_what_was_not_read_yet_is_uncertain_there_alone(place: Mailing) -> None:
    for source, name in (("office", "office.test"), ("shop", "shop.test")):
        assert place.is_uncertain(name), "nobody has read it for this domain"
        place.settle(source, place.uncertain_mark(source))
    names = ("rest.test", "own.test", "office.test", "other.test", "shop.test")
    assert not any(map(place.is_uncertain, names))
    place.set_uncertain("office")
    assert [place.is_uncertain(one) for one in names] == [False, False, True, True, False]
    place.set_uncertain()
    assert [place.is_uncertain(one) for one in names] == [True, False, True, True, False] and place.is_uncertain(
        "x.test"
    )


def test_a_domain_that_comes_in_meanwhile_stays_uncertain(place: Mailing) -> None:
    before = place.uncertain_mark("shop")
    place.change_domain("own.test", lambda old: replace(old, source="shop"))
    place.settle("shop", before)
    assert place.is_uncertain("own.test")
    place.settle("shop", place.uncertain_mark("shop"))
    assert not place.is_uncertain("own.test")
    place.settle("", place.uncertain_mark(""))
    place.change_domain("own.test", lambda old: replace(old, source=""))
    assert place.is_uncertain("own.test")


def test_a_source_that_is_not_in_the_configuration(place: Mailing) -> None:
    with pytest.raises(DirectoryError, match=r"no source shoe; it has office, shop, or say local"):
        place.change_domain("own.test", lambda old: replace(old, source="shoe"))
    with pytest.raises(DirectoryError, match=r"no source shoe"):
        place.add_domain(Domain("new.test", source="shoe"))
    with pytest.raises(DirectoryError, match=r"another name of office.test.*set the source there"):
        place.change_domain("other.test", lambda old: replace(old, source="shop"))
    place.sources = frozenset()
    with pytest.raises(DirectoryError, match=r'write \[\[source\]\] with name = "shop"'):
        place.change_domain("own.test", lambda old: replace(old, source="shop"))
    place.settle("office", place.uncertain_mark("office"))
    assert place.is_uncertain("office.test"), "it was removed from the configuration: nobody can say who is there"
    place.change_domain("office.test", lambda old: replace(old, description="as before"))
    assert not place.is_uncertain("rest.test")


def test_accounts_of_a_source_are_made_and_changed_there(place: Mailing) -> None:
    place.bring([Line("a@office.test", "{PLAIN}x")], [])
    tries: list[Callable[[], object]] = [
        lambda: place.add_accounts([("b@office.test", "{PLAIN}x")]),
        lambda: place.set_password("a@office.test", "{PLAIN}y"),
        lambda: place.rename_account("a@office.test", "c@office.test"),
        lambda: place.rename_domain("office.test", "new.test"),
    ]
    for one in tries:
        with pytest.raises(DirectoryError, match=r"the accounts of office.test come from the source office: "):
            one()
    place.change_account("a@office.test", lambda old: replace(old, forward=("far@far.test",), role="server"))
    place.bring([Line("a@office.test", "{PLAIN}z")], [])
    record = place.account("a@office.test")
    assert record is not None and (record.password, record.role) == ("{PLAIN}z", "server"), "the rest is kept here"
    place.add_accounts([("b@own.test", "{PLAIN}x"), ("b@rest.test", "{PLAIN}x")])
    place.rename_account("b@own.test", "c@own.test")
    with pytest.raises(DirectoryError, match="rename it there"):
        place.rename_account("c@own.test", "c@shop.test")


def test_aliases_and_groups_of_other_domains_stay(place: Mailing) -> None:
    place.bring([Line("a@office.test", "{PLAIN}x"), Line("a@shop.test", "{PLAIN}x")], [])
    place.add_alias("own@own.test", ["a@shop.test"])
    assert place.replace_aliases({"info@office.test": ["a@office.test"]}, "office") == 1
    assert place.replace_aliases({"info@shop.test": ["a@shop.test"]}, "shop") == 1
    assert place.replace_groups({"team@office.test": ["a@office.test"]}, "office") == 1
    assert place.replace_groups({"team@shop.test": ["a@shop.test"]}, "shop") == 1
    assert place.replace_aliases({}, "office") == 1 and place.replace_groups({}, "office") == 1
    assert [one.address for one in place.aliases()] == ["own@own.test", "info@shop.test"]
    assert [one.name for one in place.each_group()] == ["team@shop.test"]


def test_what_is_shown_can_be_set_again(place: Mailing) -> None:
    shown = {one: fields.shown(place.domain(one) or Domain("")) for one in ("rest.test", "own.test", "office.test")}
    assert [one["source"] for one in shown.values()] == ["default", "local", "office"]
    for name, found in shown.items():
        before = place.domain(name)
        assert before is not None and fields.changed(before, fields.read("domain", found)) == before
    with pytest.raises(DirectoryError, match="the name of a source"):
        fields.read("domain", {"source": "No Such"})


def test_aliases_that_were_made_here_stay(place: Mailing) -> None:
    """A source changes and removes the aliases that it made, and no others."""
    place.bring([Line("a@office.test", "{PLAIN}x"), Line("b@office.test", "{PLAIN}x")], [])
    place.add_alias("mine@office.test", ["a@office.test"])
    place.add_alias("@office.test", ["b@office.test"])
    wanted = {"info@office.test": ["a@office.test"], "mine@office.test": ["b@office.test"]}
    assert place.replace_aliases(wanted, "office") == 1
    assert place.replace_aliases(wanted, "office") == 0
    assert place.replace_aliases({"info@office.test": ["b@office.test"]}, "office") == 1
    assert {one.address: (one.targets, one.source) for one in place.each_alias("office.test")} == {
        "@office.test": (("b@office.test",), False),
        "info@office.test": (("b@office.test",), True),
        "mine@office.test": (("a@office.test",), False),
    }
    assert place.replace_aliases({}, "office") == 1 and place.alias("info@office.test") is None
    assert place.counts("office.test") == (2, 2)
    same = {"mine@office.test": ["a@office.test"]}
    assert place.replace_aliases(same, "office") == 1, "the source says the same: it is the source's now"
    assert place.replace_aliases({}, "office") == 1 and place.alias("mine@office.test") is None


def test_what_has_an_address_already_keeps_it(place: Mailing) -> None:
    place.bring([Line("a@office.test", "{PLAIN}x")], [])
    place.put_list(List("crew@office.test", owners=("a@office.test",)))
    place.bring([Line("crew@office.test", "{PLAIN}x"), Line("b@other.test", "{PLAIN}x")], [])
    assert place.account("crew@office.test") is None and place.mailing_list("crew@office.test") is not None
    assert place.account("b@other.test") is None and place.counts("other.test") == (0, 0)
    wanted = {"crew@office.test": ["a@office.test"], "a@office.test": ["x@far.test"]}
    assert place.replace_aliases(wanted, "office") == 0 and list(place.each_alias()) == []


def meanwhile(place: Mailing, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have somebody make a change between what the next one reads and its transaction."""
    write = place._write

    def later() -> AbstractContextManager[Txn]:
        monkeypatch.setattr(place, "_write", write)
        change()
        return write()

    monkeypatch.setattr(place, "_write", later)


def test_no_change_of_an_alias_is_lost(place: Mailing, monkeypatch: pytest.MonkeyPatch) -> None:
    place.bring([Line("a@office.test", "{PLAIN}x"), Line("b@office.test", "{PLAIN}x")], [])
    meanwhile(place, monkeypatch, lambda: place.add_alias("info@office.test", ["b@office.test"]))
    assert place.replace_aliases({"info@office.test": ["a@office.test"]}, "office") == 0
    found = place.alias("info@office.test")
    assert found is not None and found.targets == ("b@office.test",) and not found.source

    assert place.replace_aliases({"help@office.test": ["a@office.test"]}, "office") == 1

    def made_here() -> None:
        place.remove_alias("help@office.test")
        place.add_alias("help@office.test", ["b@office.test"])

    meanwhile(place, monkeypatch, made_here)
    assert place.replace_aliases({}, "office") == 0
    assert place.alias("help@office.test") is not None and place.counts("office.test") == (2, 2)


def test_no_change_of_a_group_is_lost(place: Mailing, monkeypatch: pytest.MonkeyPatch) -> None:
    place.bring([Line("a@office.test", "{PLAIN}x"), Line("b@office.test", "{PLAIN}x")], [])
    meanwhile(place, monkeypatch, lambda: place.put_group("team@office.test", ["b@office.test"]))
    assert place.replace_groups({"team@office.test": ["a@office.test"]}, "office") == 0
    found = place.group("team@office.test")
    assert found is not None and place.members(found) == ["b@office.test"] and not found.source

    meanwhile(place, monkeypatch, lambda: place.remove_account("a@office.test"))
    assert place.replace_groups({"crew@office.test": ["a@office.test", "b@office.test"]}, "office") == 1
    found = place.group("crew@office.test")
    assert found is not None and place.members(found) == ["b@office.test"] and len(found.members) == 1
