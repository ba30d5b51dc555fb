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
from fastmail.directory import live as live_module
from fastmail.directory.external import AccountSync, parse_quota
from fastmail.directory.interface import fresh
from fastmail.directory.live import Live
from fastmail.directory.local import LocalDirectory
from fastmail.directory.queries import DovecotSql, Queries, compile_query, fill
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
