"""fastmail.directory.queries and live: Dovecot's own SQL, asked for each user."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastmail.app.homes import Homes
from fastmail.auth.verifier import Verifier
from fastmail.config.directories import Directory
from fastmail.directory import live as live_module
from fastmail.directory import sources
from fastmail.directory.external import AccountSync, parse_quota
from fastmail.directory.interface import fresh
from fastmail.directory.live import Live
from fastmail.directory.local import LocalDirectory
from fastmail.directory.queries import DovecotSql, Queries, compile_query, fill
from fastmail.directory.sources import source
from fastmail.model.errors import ConfigError, TemporaryError
from fastmail.model.quota import Quota

PASSWORD = "SELECT username, domain, password FROM users WHERE username = '%n' AND domain = '%d'"
USER = "SELECT home, 'maildir:~/Mail' AS mail, '*:bytes=' || quota AS quota_rule FROM users WHERE username = '%{user | username}' AND domain = '%Ld'"
ITERATE = "SELECT username, domain FROM users"


@pytest.mark.parametrize(
    ("text", "user", "expected"),
    [
        ("a = '%u' AND b='%n' AND c='%d' 100%%", "Bo@X.test", "a = 'Bo@X.test' AND b='Bo' AND c='X.test' 100%"),
        ("%Lu %Ud %{user} %{username} %{domain}", "Bo@x.test", "bo@x.test X.TEST Bo@x.test Bo x.test"),
        ("%{user | username | upper} %{user|domain} %{orig_user} %{auth_username}", "bo@x", "BO x bo@x bo"),
        ("enable%Ls = 1 AND %{protocol}", "bo", "enableimap = 1 AND imap"),
        ("'%u' '%d'", "o'brien@x.test", "'o''brien@x.test' 'x.test'"),
        ("'%n' '%d'", "bo", "'bo' ''"),
    ],
)
def test_variables(text: str, user: str, expected: str) -> None:
    assert fill(compile_query(text), user, False) == expected


def test_a_backslash_where_it_escapes() -> None:
    assert fill(compile_query("'%u'"), "a\\'b", True) == "'a\\\\''b'"


@pytest.mark.parametrize("text", ["%r", "%{rip}", "%{user | sha256}", "%x", "%{env:HOME}"])
def test_variables_that_mean_nothing_here(text: str) -> None:
    with pytest.raises(ConfigError, match="not known"):
        compile_query(text)


@pytest.mark.parametrize(
    ("rule", "quota"),
    [
        ("*:storage=10", Quota(10240)),
        ("*:storage=2G", Quota(2 << 30)),
        ("*:bytes=12345", Quota(12345)),
        ("*:bytes=1M:messages=3", None),
        ("1G", Quota(1 << 30)),
        (4096, Quota(4096)),
        ("1gB", Quota(1 << 30)),
        ("", None),
        (None, None),
        ("much", None),
    ],
)
def test_quotas(rule: object, quota: Quota | None) -> None:
    assert parse_quota(rule) == quota


@pytest.fixture
def base(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    base = sqlite3.connect(tmp_path / "users.sqlite", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("CREATE TABLE users (username TEXT, domain TEXT, password TEXT, home TEXT, quota INT, nets TEXT)")
    for name in ("anna", "o'brien"):
        add(base, name)
    yield base
    base.close()


def add(base: sqlite3.Connection, name: str, password: str = "{PLAIN}one") -> None:
    row = (name, "one.test", password, f"/srv/homes/{name}", 5000)
    base.execute("INSERT INTO users (username, domain, password, home, quota) VALUES (?, ?, ?, ?, ?)", row)


def made(tmp_path: Path, **changes: str) -> DovecotSql:
    queries = Queries(**{"password": PASSWORD, "user": USER, "iterate": ITERATE, "scheme": "PLAIN", **changes})
    return DovecotSql(f"sqlite:{tmp_path}/users.sqlite", queries, "one.test", 30.0, "/srv/homes")


def test_one_user(tmp_path: Path, base: sqlite3.Connection) -> None:
    async def work() -> None:
        source = made(tmp_path)
        line = await source.lookup("anna@one.test")
        assert line is not None and line.address == "anna@one.test" and line.password == "{PLAIN}one"
        assert (line.home, line.maildir, line.quota) == ("/srv/homes/anna", "/srv/homes/anna/Mail", Quota(5000))
        assert (await source.lookup("o'brien@one.test")) is not None
        for nobody in ("x@one.test", "anna@two.test", "' OR '1'='1@one.test", "a\\@one.test", "", "a\n@one.test"):
            assert await source.lookup(nobody) is None
        base.execute("UPDATE users SET home = '/etc' WHERE username = 'anna'")
        with pytest.raises(TemporaryError, match="not below"):
            await source.lookup("anna@one.test")
        base.execute("UPDATE users SET home = '/srv/homes/../../etc' WHERE username = 'anna'")
        with pytest.raises(TemporaryError, match="not below"):
            await source.lookup("anna@one.test")
        await source.close()

    asyncio.run(work())


INJECTIONS = [
    "' OR '1'='1@one.test",
    "anna'--@one.test",
    "anna';DROP/**/TABLE/**/users;--@one.test",
    "x'/**/UNION/**/SELECT/**/'root','{PLAIN}x'--@one.test",
    "anna\\'--@one.test",
    "%u@one.test",
    "%{user}@one.test",
    "anna@one.test'--",
    "\u02bc OR 1=1@one.test",
    "anna\0@one.test",
]


@pytest.mark.parametrize("name", INJECTIONS)
def test_s13_names_are_texts_in_queries(tmp_path: Path, base: sqlite3.Connection, name: str) -> None:
    """Nobody, nothing changed, and the next name is asked for as ever."""

    async def work() -> None:
        source = made(tmp_path)
        assert await source.lookup(name) is None
        assert await source.lookup("anna@one.test") is not None
        await source.close()

    asyncio.run(work())
    assert base.execute("SELECT count(*) FROM users").fetchone() == (2,)


def test_passwords_with_conditions_and_without_a_scheme(tmp_path: Path, base: sqlite3.Connection) -> None:
    async def work() -> None:
        with_nets = PASSWORD.replace("password FROM", "password, nets AS allow_nets FROM")
        source = made(tmp_path, password=with_nets)
        base.execute("UPDATE users SET nets = '10.0.0.0/8', password = 'secret' WHERE username = 'anna'")
        line = await source.lookup("anna@one.test")
        assert line is not None and line.password == "{PLAIN}secret" and line.nets == "10.0.0.0/8"
        base.execute("UPDATE users SET nets = NULL WHERE username = 'anna'")
        line = await source.lookup("anna@one.test")
        assert line is not None and line.password == "{PLAIN}secret" and line.nets == ""
        await source.close()
        for condition, wanted in (
            ("'Y' AS nologin", ("{PLAIN}secret", "logins to this account are not allowed")),
            ("0 AS nologin, 'Moved' AS reason", ("{PLAIN}secret", "Moved")),
            ("'' AS proxy, '10.1.1.1' AS host", ("{PLAIN}secret", "this account's mail is on another server")),
            ("'Y' AS proxy_maybe", ("{PLAIN}secret", "this account's mail is on another server")),
            ("'Y' AS nopassword", ("{NONE}!", "")),
            ("NULL AS nologin, NULL AS proxy, NULL AS nopassword", ("{PLAIN}secret", "")),
        ):
            source = made(tmp_path, password=PASSWORD.replace("password FROM", f"password, {condition} FROM"))
            line = await source.lookup("anna@one.test")
            assert line is not None and (line.password, line.nologin) == wanted, condition
            await source.close()

    asyncio.run(work())


def test_users_without_a_domain(tmp_path: Path, base: sqlite3.Connection) -> None:
    async def work() -> None:
        bare = "SELECT username AS user, password FROM users WHERE username = '%u'"
        source = made(tmp_path, password=bare, user="", iterate="SELECT username AS user FROM users")
        line = await source.lookup("anna@one.test")
        assert line is not None and line.address == "anna@one.test"
        content = await source.read()
        assert content is not None and set(content.lines) == {"anna@one.test", "o'brien@one.test"}
        assert await source.read() is None
        await source.close()

    asyncio.run(work())


def test_asked_when_somebody_comes(tmp_path: Path, base: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = 0.0

    def later(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead)
    monkeypatch.setattr(live_module, "time", clock)

    async def work() -> None:
        directory = LocalDirectory(str(tmp_path / "data"))
        directory.add_domain("one.test")
        source = made(tmp_path)
        live = Live(directory, source, 1.5)
        directory.live = live
        verifier = Verifier(directory, default_domain="one.test")
        record = await verifier.check("anna", b"one")
        assert record is not None and record.maildir == "/srv/homes/anna/Mail" and record.quota == Quota(5000)
        assert Homes(directory, "/x/{user}").note(record).root == "/srv/homes/anna/Mail"
        assert await verifier.check("anna", b"two") is None
        await fresh(directory, "o'brien+tag@one.test")
        assert [one.address for one in directory.resolve("o'brien+tag@one.test")] == ["o'brien@one.test"]
        # changes count when the answer is too old
        base.execute("UPDATE users SET password = '{PLAIN}two' WHERE username = 'anna'")
        assert await verifier.check("anna", b"two") is None
        later(1.6)
        assert await verifier.check("anna", b"two") is not None
        # many at once are one question
        asked = 0
        real = source.lookup

        async def counted(user: str) -> object:
            nonlocal asked
            asked += 1
            return await real(user)

        source.lookup = counted  # type: ignore[method-assign, assignment]
        later(1.6)
        await asyncio.gather(*(directory.freshen("anna@one.test") for _ in range(50)))
        assert asked == 1
        # one that is gone is disabled, and nobody else harmed
        base.execute("DELETE FROM users WHERE username = 'anna'")
        later(1.6)
        assert await verifier.check("anna", b"two") is None and directory.resolve("anna@one.test") == []
        number = record.id
        add(base, "anna")
        later(1.6)
        record = await verifier.check("anna", b"one")
        assert record is not None and record.id == number
        # the database goes away: who is known stays, who is not is a temporary failure
        base.execute("ALTER TABLE users RENAME TO gone")
        later(1.6)
        assert await verifier.check("anna", b"one") is not None
        with pytest.raises(TemporaryError):
            await verifier.check("new", b"one")
        with pytest.raises(TemporaryError):
            await fresh(directory, "new@one.test")
        base.execute("ALTER TABLE gone RENAME TO users")
        live._away = 0.0
        add(base, "new")
        assert await verifier.check("new", b"one") is not None
        # and all of them at once
        add(base, "more")
        assert await AccountSync(directory, source).take_in() >= 1
        assert directory.account("more@one.test") is not None
        await live.close()
        verifier.close()
        directory.close()

    asyncio.run(work())


def test_a_home_that_nobody_says(tmp_path: Path, base: sqlite3.Connection) -> None:
    async def work() -> None:
        directory = LocalDirectory(str(tmp_path / "data"))
        live = Live(directory, made(tmp_path, user=""), 1.0)
        directory.live = live
        await directory.freshen("anna@one.test")
        record = directory.account("anna@one.test")
        assert record is not None and directory.is_local("one.test")
        with pytest.raises(TemporaryError, match="home"):
            Homes(directory, "{home}/Maildir").note(record)
        await live.close()
        directory.close()

    asyncio.run(work())


# ---------------------------------------------------------------- beside other queries

TEAM = "team@one.test"
BESIDE = {
    "sql_domains": "SELECT name, description, catch_all FROM domains",
    "sql_aliases": "SELECT address, goto FROM aliases",
    "sql_lists": "SELECT address, owners FROM lists",
    "sql_members": "SELECT list, address FROM members",
}


class Beside:
    """A directory that asks Dovecot's queries for accounts, and queries of ours for the rest, as configured."""

    def __init__(self, tmp_path: Path, base: sqlite3.Connection, iterate: str = "", **more: str) -> None:
        base.executescript(
            "CREATE TABLE domains (name, description, catch_all); CREATE TABLE aliases (address, goto);"
            "CREATE TABLE lists (address, owners); CREATE TABLE members (list, address);"
            "INSERT INTO domains VALUES ('one.test', 'One', NULL), ('two.test', 'Two', 'anna@one.test');"
            "INSERT INTO aliases VALUES ('info@one.test', 'anna@one.test'), ('anna@one.test', 'anna@one.test');"
            f"INSERT INTO lists VALUES ('{TEAM}', 'anna@one.test'); INSERT INTO members VALUES ('{TEAM}', 'x@away.test')"
        )
        self.tmp_path, self.base, self.iterate = tmp_path, base, iterate
        self.place = LocalDirectory(str(tmp_path / "data"))
        self.place.sources = frozenset([""])
        self.ask(**(more or BESIDE))

    def ask(self, **more: str) -> None:
        """From now on with these queries."""
        settings = Directory(
            sql=f"sqlite:{self.tmp_path}/users.sqlite",
            sql_password_query=PASSWORD,
            sql_user_query=USER,
            sql_iterate_query=self.iterate,
            sql_scheme="PLAIN",
            **more,  # type: ignore[arg-type]
        )
        found = source(settings, "one.test", homes="/srv/homes")
        assert found is not None
        self.source = found
        self.sync = AccountSync(self.place, found)
        self.settings = settings

    def look(self) -> int:
        return asyncio.run(self.sync.take_in())

    async def freshen(self, address: str) -> str:
        finder = sources.finder(self.settings, "one.test", "/srv/homes")
        assert finder is not None
        live = Live(self.place, finder, 0.0)
        try:
            return await live.freshen(address)
        finally:
            await live.close()


def test_domains_and_lists_of_a_source_that_is_asked_for_accounts(tmp_path: Path, base: sqlite3.Connection) -> None:
    """Nobody is named by the looks, so nobody is switched off by them."""
    one = Beside(tmp_path, base)
    assert one.source.every == 30.0
    assert one.look() > 0 and one.look() == 0
    found = one.place.domain("two.test")
    assert found is not None and found.description == "Two" and list(one.place.each_account()) == []
    assert [row.address for row in one.place.each_member(TEAM)] == ["x@away.test"]
    assert asyncio.run(one.freshen("anna@one.test")) == "anna@one.test"
    for address in ("anna@one.test", "info@one.test", "nobody@two.test"):
        assert [row.address for row in one.place.resolve(address)] == ["anna@one.test"], address
    base.execute("UPDATE domains SET description = 'New' WHERE name = 'two.test'")
    base.execute("DELETE FROM aliases WHERE address = 'info@one.test'")
    base.execute("INSERT INTO members VALUES (?, 'y@away.test')", (TEAM,))
    assert one.look() > 0 and one.look() == 0
    record, found = one.place.account("anna@one.test"), one.place.domain("two.test")
    assert record is not None and record.enabled and found is not None and found.description == "New"
    assert one.place.alias("info@one.test") is None and one.place.alias("anna@one.test") is None
    assert one.place.count_members(TEAM) == 2
    base.execute("DELETE FROM users WHERE username = 'anna'")
    assert asyncio.run(one.freshen("anna@one.test")) == "anna@one.test"
    record = one.place.account("anna@one.test")
    assert record is not None and not record.enabled, "who is asked for and not there is switched off"
    one.place.close()


def test_domains_and_lists_beside_everybody(tmp_path: Path, base: sqlite3.Connection) -> None:
    """With iterate_query, who is not named is switched off, as without the other queries."""
    one = Beside(tmp_path, base, ITERATE)
    assert one.source.every == 300.0
    assert one.look() > 0 and one.look() == 0
    assert [row.address for row in one.place.each_account()] == ["anna@one.test", "o'brien@one.test"]
    assert one.place.count_members(TEAM) == 1 and one.place.alias("info@one.test") is not None
    base.execute("DELETE FROM users WHERE username = 'anna'")
    assert one.look() == 1
    record = one.place.account("anna@one.test")
    assert record is not None and not record.enabled and one.place.is_local("two.test")
    base.execute("DELETE FROM lists")
    assert one.look() == -1, "all lists at once are an outage"
    base.execute("INSERT INTO lists VALUES ('new@one.test', 'anna@one.test')")
    assert one.look() > 0
    old = one.place.mailing_list(TEAM)
    assert old is not None and not old.enabled
    one.place.close()


def test_queries_that_are_taken_away(tmp_path: Path, base: sqlite3.Connection) -> None:
    """What they said is kept here from then on, and may be changed here."""
    one = Beside(tmp_path, base)
    one.look()
    found = one.place.domain("one.test")
    assert found is not None and one.place.said_of(found) == ["description", "enabled"]
    one.ask()
    one.look()
    found = one.place.domain("one.test")
    assert found is not None and found.description == "One" and one.place.said_of(found) == []
    one.place.close()


def test_a_query_that_fails_changes_nothing(tmp_path: Path, base: sqlite3.Connection) -> None:
    one = Beside(tmp_path, base, ITERATE)
    one.look()
    base.execute("ALTER TABLE users RENAME TO away")
    assert one.look() == -1 and one.place.is_uncertain("one.test")
    base.execute("ALTER TABLE away RENAME TO users")
    base.execute("ALTER TABLE domains RENAME TO away")
    assert one.look() == -1
    base.execute("ALTER TABLE away RENAME TO domains")
    assert one.look() == 0 and not one.place.is_uncertain("one.test")
    assert all(row.enabled for row in one.place.each_account())
    one.place.close()
