"""Domains and mailing lists that a source keeps: what it says holds, what it does not say is kept here beside it."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.directory import fields, once
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.external import AccountSync
from fastmail.directory.incoming import Incoming
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import LEFT, SUSPENDED, Alias, Domain, List, Member
from fastmail.directory.sql import Sql, Statements
from fastmail.model.errors import ConfigError
from fastmail.model.quota import Quota
from tests.support import databases

TABLES = """
CREATE TABLE users (address, password);
CREATE TABLE domains (name, enabled, description, quota_storage, catch_all, alias_of, separators, dkim, source);
CREATE TABLE lists (address, name, owners, mode);
CREATE TABLE members (list, address, name);
"""
ALL = Statements(
    "SELECT address, password FROM users",
    domains="SELECT * FROM domains",
    lists="SELECT * FROM lists",
    members="SELECT * FROM members",
)
TEAM = "team@one.test"


class Followed:
    """A database, and a directory that follows it."""

    def __init__(self, path: Path, asked: Statements = ALL, name: str = "") -> None:
        self.base = sqlite3.connect(path / "base", isolation_level=None)
        self.base.executescript(TABLES)
        self.rows("users", [("anna@one.test", "{PLAIN}x"), ("bert@one.test", "{PLAIN}y")])
        self.place = LocalDirectory(str(path / "data"))
        self.place.sources = frozenset([name])
        self.sync = AccountSync(self.place, Sql(f"sqlite:{path / 'base'}", asked, "one.test", 1.0), name)

    def rows(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self.base.execute(f"DELETE FROM {table}")
        for row in rows:
            self.base.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def domain(self, name: str = "one.test", **said: Any) -> tuple[Any, ...]:
        names = ("enabled", "description", "quota_storage", "catch_all", "alias_of", "separators", "dkim", "source")
        return (name, *(said.get(one) for one in names))

    def look(self) -> int:
        return asyncio.run(self.sync.take_in())

    def members(self) -> list[str]:
        return [one.address for one in self.place.each_member(TEAM)]

    def close(self) -> None:
        self.place.close()
        self.base.close()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Followed]:
    once.forget()
    made = Followed(tmp_path)
    yield made
    made.close()


def there(found: Any) -> Any:
    assert found is not None
    return found


# ---------------------------------------------------------------- domains


def test_fields_of_domains(one: Followed) -> None:
    said = one.domain(description="One", quota_storage=1 << 30, catch_all="anna@one.test", separators="+-")
    one.rows("domains", [said, one.domain("other.test", alias_of="one.test")])
    assert one.look() > 0 and one.look() == 0
    found = there(one.place.domain("one.test"))
    assert (found.description, found.quota, found.separators) == ("One", Quota(1 << 30), "+-")
    assert [each.address for each in one.place.resolve("nobody@other.test")] == ["anna@one.test"]
    assert one.place.said_of(found) == ["description", "enabled", "quota_storage", "separators"]
    # what it does not say is kept here, and what it does say is changed there
    one.place.change_domain("one.test", lambda old: replace(old, footer="bye", most_accounts=7))
    for change in (lambda old: replace(old, description="x"), lambda old: replace(old, enabled=False)):
        with pytest.raises(DirectoryError, match="says: change it there"):
            one.place.change_domain("one.test", change)
    one.rows("domains", [one.domain(description="Two"), one.domain("other.test", alias_of="one.test")])
    assert one.look() > 0
    found = there(one.place.domain("one.test"))
    assert (found.description, found.footer, found.most_accounts) == ("Two", "bye", 7)
    assert found.separators == "+-", "what it says no more stays as it was said last"
    assert not one.place.resolve("nobody@one.test"), "the catch-all is gone with the source's word"
    one.place.change_domain("one.test", lambda old: replace(old, separators="+"))


def test_a_domain_that_is_gone_is_switched_off(one: Followed) -> None:
    one.rows("domains", [one.domain(), one.domain("two.test", enabled=0)])
    one.look()
    assert there(one.place.domain("one.test")).enabled and not there(one.place.domain("two.test")).enabled
    one.rows("domains", [one.domain("two.test", enabled=1)])
    one.look()
    gone = there(one.place.domain("one.test"))
    assert (gone.enabled, gone.gone, gone.said) == (False, True, ()) and there(one.place.domain("two.test")).enabled
    assert not one.place.resolve("anna@one.test")
    one.rows("domains", [one.domain(), one.domain("two.test")])
    one.look()
    assert there(one.place.domain("one.test")).enabled and one.place.resolve("anna@one.test")
    # or somebody keeps it here
    one.rows("domains", [one.domain("two.test")])
    one.look()
    one.place.change_domain("one.test", lambda old: replace(old, enabled=True))
    one.rows("domains", [one.domain("two.test", description="x")])
    one.look()
    assert there(one.place.domain("one.test")).enabled


def test_no_domains_at_all_is_an_outage(one: Followed) -> None:
    one.rows("domains", [one.domain()])
    one.look()
    one.rows("domains", [])
    assert one.look() == -1 and one.look() == -1
    assert there(one.place.domain("one.test")).enabled and one.place.is_uncertain("one.test")
    one.rows("domains", [one.domain()])
    assert one.look() == 0 and not one.place.is_uncertain("one.test")


def test_what_a_domain_may_not_be_is_left_out(one: Followed, capsys: pytest.CaptureFixture[str]) -> None:
    one.place.add_domain("mine.test")
    rows = [
        one.domain(description="good", dkim="x", source="office"),
        one.domain("mine.test", alias_of="one.test"),
        one.domain("bad..name"),
        one.domain("circle.test", alias_of="circle.test"),
        one.domain("nowhere.test", alias_of="not-there.test"),
        one.domain("odd.test", quota_storage="plenty", description="odd"),
    ]
    one.place.add_accounts([("eva@mine.test", "{PLAIN}x")])
    one.rows("domains", rows)
    one.rows("users", [("anna@one.test", "{PLAIN}x"), ("eva@mine.test", "{PLAIN}x")])
    assert one.look() > 0 and one.look() == 0
    assert sorted(each.name for each in one.place.each_domain()) == ["mine.test", "odd.test", "one.test"]
    found = there(one.place.domain("one.test"))
    assert (found.description, found.source, found.dkim) == ("good", "", ())
    assert there(one.place.domain("odd.test")).description == "odd"
    said = capsys.readouterr().err
    for name in ("mine.test", "bad..name", "circle.test", "nowhere.test", "odd.test"):
        assert said.count(f"={name} ") + said.count(f"=@{name} ") == 1, name


def test_a_source_with_a_name_has_its_own_domains_only(tmp_path: Path) -> None:
    office = Followed(tmp_path, name="office")
    office.place.add_domain(Domain("one.test", source="office"))
    office.place.add_domain("others.test")
    office.place.add_domain(Domain("two.test", alias_of="one.test"))
    rows = [
        office.domain(description="ours"),
        office.domain("others.test", description="taken", alias_of="one.test"),
        office.domain("gmail.test", alias_of="one.test"),
        office.domain("two.test", alias_of="others.test"),
    ]
    office.rows("domains", rows)
    office.rows("lists", [(TEAM, None, None, None), ("all@others.test", None, None, None)])
    office.look()
    assert there(office.place.domain("one.test")).description == "ours"
    assert there(office.place.domain("others.test")) == Domain("others.test")
    assert office.place.domain("gmail.test") is None and there(office.place.domain("two.test")).alias_of == "one.test"
    assert [each.address for each in office.place.each_list()] == [TEAM]
    # with another source, or none, nobody says anything of it any more
    office.place.change_domain("one.test", lambda old: replace(old, source="local"))
    office.place.change_domain("one.test", lambda old: replace(old, description="mine"))
    office.place.change_list(TEAM, lambda old: replace(old, enabled=False))
    office.close()


def test_a_query_that_is_taken_away_leaves_its_fields_here(one: Followed, tmp_path: Path) -> None:
    one.rows("domains", [one.domain(description="said")])
    one.rows("lists", [(TEAM, "Team", None, None)])
    one.look()
    one.sync = AccountSync(one.place, Sql(f"sqlite:{tmp_path / 'base'}", Statements(ALL.accounts), "one.test", 1.0))
    one.look()
    assert one.place.change_domain("one.test", lambda old: replace(old, description="mine")).said == ()
    assert one.place.change_list(TEAM, lambda old: replace(old, name="Mine")).said == ()


# ---------------------------------------------------------------- lists


def test_lists_and_members(one: Followed) -> None:
    one.rows("lists", [("Team", "The team", "anna@one.test", "domain")])
    one.rows(
        "members", [("team", "bert@one.test", "Bert"), ("team", "x@far.test", None), (TEAM, "X@far.test", "again")]
    )
    assert one.look() > 0 and one.look() == 0
    row = there(one.place.mailing_list(TEAM))
    assert (row.name, row.owners, row.mode, row.enabled) == ("The team", ("anna@one.test",), "domain", True)
    assert one.members() == ["bert@one.test", "x@far.test"] and one.place.count_members(TEAM) == 2
    assert there(one.place.member(TEAM, "bert@one.test")).name == "Bert"
    # who is added here stays, who is gone there leaves, and the state of each is kept here
    one.place.put_members(TEAM, [Member("mine@far.test")])
    one.place.change_member(TEAM, "x@far.test", lambda old: replace(old, state=SUSPENDED))
    one.rows("members", [("team", "x@far.test", "X"), ("team", "new@far.test", None)])
    assert one.look() > 0
    assert one.members() == ["mine@far.test", "new@far.test", "x@far.test"]
    found = there(one.place.member(TEAM, "x@far.test"))
    assert (found.state, found.name) == (SUSPENDED, "X")
    one.rows("members", [])
    one.look()
    assert one.members() == ["mine@far.test"]


def test_who_left_stays_away(one: Followed) -> None:
    one.rows("lists", [(TEAM, None, None, None)])
    one.rows("members", [(TEAM, "a@far.test", None), (TEAM, "b@far.test", None)])
    one.look()
    one.place.remove_member(TEAM, "a@far.test")
    assert one.members() == ["b@far.test"] and one.place.member(TEAM, "a@far.test") is None
    assert one.place.count_members(TEAM) == 1
    with pytest.raises(NoSuchUser):
        one.place.remove_member(TEAM, "a@far.test")
    one.rows("members", [(TEAM, "a@far.test", "A"), (TEAM, "b@far.test", None), (TEAM, "c@far.test", None)])
    one.look()
    assert one.members() == ["b@far.test", "c@far.test"]
    assert next(each.state for each in one.place.each_member(TEAM, left=True)) == LEFT
    # it may come back by itself, and is the source's then as before
    assert one.place.put_members(TEAM, [Member("a@far.test")]) == 1
    assert one.members() == ["a@far.test", "b@far.test", "c@far.test"]
    one.rows("members", [(TEAM, "b@far.test", None)])
    one.look()
    assert one.members() == ["b@far.test"]
    # a wanted state that leaves somebody out is a leaving too
    one.place.change_list(TEAM, lambda old: old, [Member("mine@far.test")])
    one.rows("members", [(TEAM, "b@far.test", "B")])
    one.look()
    assert one.members() == ["mine@far.test"]


def test_a_list_that_is_gone_is_switched_off_with_its_members(one: Followed) -> None:
    other = ("other@one.test", None, None, None)
    one.rows("lists", [(TEAM, None, None, None), other])
    one.rows("members", [(TEAM, "a@far.test", None)])
    one.look()
    for refused in (
        lambda: one.place.remove_list(TEAM),
        lambda: one.place.change_list(TEAM, lambda old: replace(old, enabled=False)),
    ):
        with pytest.raises(DirectoryError, match="there"):
            refused()
    one.rows("lists", [other])
    one.rows("members", [])
    one.look()
    assert not there(one.place.mailing_list(TEAM)).enabled and one.members() == ["a@far.test"]
    one.rows("lists", [other, (TEAM, "Back", None, None)])
    one.look()
    assert there(one.place.mailing_list(TEAM)).enabled and one.members() == []
    one.rows("lists", [])
    assert one.look() == -1, "no lists at all is an outage"
    assert there(one.place.mailing_list(TEAM)).enabled
    one.rows("lists", [other])
    one.look()
    one.place.remove_list(TEAM)
    assert one.place.mailing_list(TEAM) is None


def test_what_is_here_goes_before_a_list_of_the_source(one: Followed) -> None:
    one.place.add_domain("one.test")
    one.place.put_alias(Alias("alias@one.test", ("x@far.test",)))
    one.place.put_list(List("mine@one.test", owners=("x@far.test",)))
    rows = [(name, "theirs", None, None) for name in ("anna@one.test", "alias@one.test", "mine@one.test", TEAM)]
    one.rows("lists", rows)
    one.rows("members", [(name, "m@far.test", None) for name, *_ in rows])
    one.look()
    assert one.look() == 0
    assert [each.address for each in one.place.each_list()] == ["mine@one.test", TEAM]
    assert there(one.place.mailing_list("mine@one.test")).name == "" and one.place.alias("alias@one.test") is not None
    assert [*one.place.each_member("mine@one.test")] == [] and one.members() == ["m@far.test"]


def test_members_that_cannot_be(one: Followed, capsys: pytest.CaptureFixture[str]) -> None:
    one.rows("lists", [(TEAM, None, None, None), ("other@one.test", None, None, None)])
    bad = ["no address", "a@b@c", "x" * 400 + "@far.test", "other@one.test", "", None, "a\nb@far.test", "team@one.test"]
    one.rows("members", [(TEAM, address, None) for address in [*bad, "good@far.test"]])
    one.look()
    assert one.members() == ["good@far.test"]
    assert capsys.readouterr().err.count("directory.member") == 4
    assert one.look() == 0


def test_many_members_come_in_batches(one: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmail.directory.followed_lists.BATCH", 7)
    monkeypatch.setattr("fastmail.directory.database.PIECE", 5)
    monkeypatch.setattr("fastmail.directory.incoming.PAGE", 3)
    one.rows("lists", [(TEAM, None, None, None)])
    names = [f"m{number}@far.test" for number in range(100)]
    one.rows("members", [(TEAM, each, None) for each in reversed(names)])
    one.look()
    assert one.members() == sorted(names)
    one.rows("members", [(TEAM, each, None) for each in names[::3]])
    one.look()
    assert one.members() == sorted(names[::3])
    one.rows("members", [(TEAM, each, None) for each in names[::-3]] + [(TEAM, "zz@far.test", "Z")])
    one.look()
    assert one.members() == sorted({*names[::-3], "zz@far.test"})


def test_readings_are_equal_in_any_order() -> None:
    rows = [(TEAM, "a@x.test", "A"), (TEAM, "b@x.test", ""), ("o@x.test", "a@x.test", "A")]

    def read(some: Sequence[tuple[str, str, str]]) -> Incoming:
        made = Incoming()
        made.add(some)
        made.close()
        return made

    assert read(rows) == read(rows[::-1])
    for other in (
        rows[:2],
        [*rows, rows[0]],
        [(TEAM, "a@x.test", "B"), *rows[1:]],
        [("p@x.test", "a@x.test", "A"), *rows[:2]],
    ):
        assert read(rows) != read(other)


def test_queries_that_go_together(tmp_path: Path) -> None:
    for statements in (Statements(), Statements("SELECT 1", members="SELECT 2")):
        with pytest.raises(ConfigError):
            Sql("sqlite:x", statements, "one.test", 1.0)
    one = Followed(tmp_path, Statements(ALL.accounts, lists=ALL.lists, members="SELECT list FROM members"))
    one.rows("lists", [(TEAM, None, None, None)])
    one.rows("members", [(TEAM, "x", None)])
    assert one.look() == -1
    one.close()


# ---------------------------------------------------------------- accounts


def test_accounts_say_what_comes_from_where(tmp_path: Path) -> None:
    asked = Statements("SELECT address, password, 1024 AS quota, 'Anna' AS name FROM users")
    one = Followed(tmp_path, asked)
    one.look()
    found = there(one.place.account("anna@one.test"))
    assert one.place.said_of(found) == ["name", "quota_storage"]
    with pytest.raises(DirectoryError, match="name of anna@one.test is what"):
        one.place.change_account("anna@one.test", lambda old: fields.changed(old, {"name": "Other"}))
    with pytest.raises(DirectoryError, match="quota_storage"):
        one.place.set_quota("anna@one.test", Quota(5))
    one.place.change_account("anna@one.test", lambda old: fields.changed(old, {"notes": "mine"}))
    assert one.look() == 0
    one.close()


def test_that_a_source_begins_to_say_what_is_so_is_no_change(tmp_path: Path) -> None:
    one = Followed(
        tmp_path, Statements("SELECT address, password, '' AS quota, name FROM (SELECT *, NULL AS name FROM users)")
    )
    one.look()
    one.place.change_account("anna@one.test", lambda old: replace(old, name="Anna"))
    before = len(list(one.place.audit()))
    asked = Statements("SELECT address, password, '' AS quota, 'Anna' AS name FROM users WHERE address LIKE 'anna%'"
                       " UNION SELECT address, password, '', NULL FROM users WHERE address LIKE 'bert%'")  # fmt: skip
    again = AccountSync(one.place, Sql(f"sqlite:{tmp_path / 'base'}", asked, "one.test", 1.0))
    assert asyncio.run(again.take_in()) == 1 and len(list(one.place.audit())) == before
    assert there(one.place.account("anna@one.test")).said == ("name",)
    one.close()


# ---------------------------------------------------------------- other databases


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_members_stream_from_other_databases(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmail.directory.database.PIECE", 100)
    start = databases.postgresql if kind == "postgresql" else databases.mariadb
    with start() as server:
        rows = ", ".join(f"('team', 'm{number}@far.test')" for number in range(1050))
        statements = [
            "CREATE TABLE domains (name VARCHAR(200), enabled BOOLEAN, quota_storage NUMERIC(20), text VARCHAR(200))",
            "INSERT INTO domains VALUES ('one.test', TRUE, 1073741824, 'One'), ('off.test', FALSE, NULL, NULL)",
            "CREATE TABLE members (list VARCHAR(200), address VARCHAR(200))",
            f"INSERT INTO members VALUES {rows}",
        ]
        server.run(statements, "" if kind == "postgresql" else "mail")
        asked = Statements(
            "SELECT 'anna@one.test', '{PLAIN}x'",
            domains="SELECT name, enabled, quota_storage, text AS description FROM domains",
            lists="SELECT 'team@one.test', 'The team' AS name",
            members="SELECT list, address FROM members",
        )
        place = LocalDirectory(str(tmp_path / "data"))
        place.sources = frozenset([""])
        sync = AccountSync(place, Sql(server.url, asked, "one.test", 1.0))
        assert asyncio.run(sync.take_in()) > 1050 and asyncio.run(sync.take_in()) == 0
        found = there(place.domain("one.test"))
        assert (found.description, found.quota, found.enabled) == ("One", Quota(1 << 30), True)
        assert not there(place.domain("off.test")).enabled and place.count_members(TEAM) == 1050
        server.run(["DELETE FROM members WHERE address LIKE '%0@far.test'"], "" if kind == "postgresql" else "mail")
        assert asyncio.run(sync.take_in()) == 105 and place.count_members(TEAM) == 945
        place.close()
