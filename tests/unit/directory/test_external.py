"""Accounts that are followed, in a file and in databases: what the source says holds, and what is wrong with it changes
nothing."""

import asyncio
import contextlib
import os
import pwd
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmail.auth.verifier import Verifier
from fastmail.directory.external import Follower, PasswdFile, Source, Sql, parse
from fastmail.directory.local import LocalDirectory
from fastmail.model.errors import ConfigError, TemporaryError
from fastmail.model.quota import Quota
from tests.support.server import free_ports

TEXT = """# comment
Anna@one.test:{SSHA256}abc::::/home/anna::userdb_quota_rule=*:storage=2G
bert:$6$salt$hash:1000:1000::/home/bert:/bin/false
broken line
:{PLAIN}x
bad name@one.test:{PLAIN}x

"""


def test_lines() -> None:
    one, two = parse(TEXT, "two.test")
    assert (one.address, one.password, one.quota) == ("anna@one.test", "{SSHA256}abc", Quota(2 << 30))
    assert (two.address, two.password, two.quota) == ("bert@two.test", "{CRYPT}$6$salt$hash", None)


class Kept:
    """A source in the test's hands: rows of (address, password, quota) and of (alias, targets)."""

    def __init__(
        self, source: Source, write: Callable[[list[tuple[str, str, int]], list[tuple[str, str]]], None]
    ) -> None:
        self.source, self.write = source, write
        self.aliases = not isinstance(source, PasswdFile)
        self.damage: list[Callable[[], None]] = []


def _file(tmp_path: Path) -> Iterator[Kept]:
    path = tmp_path / "users"

    def write(rows: list[tuple[str, str, int]], aliases: list[tuple[str, str]]) -> None:
        lines = [f"{a}:{p}::::::" + (f"userdb_quota_rule=*:storage={q}" if q else "") for a, p, q in rows]
        path.write_text("\n".join(lines) + "\n")

    kept = Kept(PasswdFile(str(path), "two.test"), write)
    kept.damage = [lambda: path.write_bytes(b""), lambda: path.write_bytes(b"\xff\xfe\x00"), lambda: os.unlink(path)]
    yield kept


ACCOUNTS = "SELECT address, password, quota * 1024 FROM users"
ALIASES = "SELECT address, targets FROM aliases"
TABLES = (
    "CREATE TABLE users (address TEXT, password TEXT, quota INT); CREATE TABLE aliases (address TEXT, targets TEXT)"
)


def _sqlite(tmp_path: Path) -> Iterator[Kept]:
    path = tmp_path / "users.sqlite"
    with sqlite3.connect(path) as base:
        base.executescript(TABLES)

    def write(rows: list[tuple[str, str, int]], aliases: list[tuple[str, str]]) -> None:
        with sqlite3.connect(path) as base:
            base.execute("DELETE FROM users")
            base.execute("DELETE FROM aliases")
            base.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
            base.executemany("INSERT INTO aliases VALUES (?, ?)", aliases)

    kept = Kept(Sql(f"sqlite:{path}", ACCOUNTS, ALIASES, "two.test", 30.0), write)
    kept.damage = [lambda: write([], []), lambda: os.unlink(path)]
    yield kept


def _postgresql(tmp_path: Path) -> Iterator[Kept]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found or os.geteuid() != 0 or shutil.which("runuser") is None:
        pytest.skip("PostgreSQL is not installed, or this is not root: apt-get install postgresql")
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed: pip install asyncpg")
    tools, place = found[-1].parent, tmp_path / "pg"
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o755)
    place.mkdir()
    who = pwd.getpwnam("postgres")
    os.chown(place, who.pw_uid, who.pw_gid)
    (port,) = free_ports(1)

    def run(*command: str) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *command], check=True, capture_output=True, timeout=60)

    run(str(tools / "initdb"), "-D", str(place / "data"), "-A", "trust", "--no-sync")
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(str(tools / "pg_ctl"), "-D", str(place / "data"), "-o", options, "-w", "-l", str(place / "log"), "start")
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def write(rows: list[tuple[str, str, int]], aliases: list[tuple[str, str]]) -> None:
        async def go() -> None:
            base = await asyncpg.connect(url)
            await base.execute("DELETE FROM users")
            await base.execute("DELETE FROM aliases")
            await base.executemany("INSERT INTO users VALUES ($1, $2, $3)", rows)
            await base.executemany("INSERT INTO aliases VALUES ($1, $2)", aliases)
            await base.close()

        asyncio.run(go())

    async def begin() -> None:
        base = await asyncpg.connect(url)
        await base.execute(TABLES)
        await base.close()

    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            run(str(tools / "pg_ctl"), "-D", str(place / "data"), "-m", "immediate", "stop")
        stopped = True

    try:
        asyncio.run(begin())
        kept = Kept(Sql(url, ACCOUNTS, ALIASES, "two.test", 30.0), write)
        kept.damage = [lambda: write([], []), stop]
        yield kept
    finally:
        stop()


@pytest.fixture(params=["file", "sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    make = contextlib.contextmanager({"file": _file, "sqlite": _sqlite, "postgresql": _postgresql}[request.param])
    with make(tmp_path) as one:
        yield one


def test_the_source_is_followed(kept: Kept, tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path / "data"))
    follower = Follower(directory, kept.source)

    def take_in() -> int:
        return asyncio.run(follower.take_in())

    kept.write(
        [("Anna@one.test", "{PLAIN}a", 2048), ("bert", "{PLAIN}b", 0)],
        [("team@one.test", "anna@one.test, bert@two.test")],
    )
    assert take_in() >= 2 and take_in() == 0
    anna, bert = directory.account("anna@one.test"), directory.account("bert@two.test")
    assert anna is not None and anna.enabled and anna.quota == Quota(2048 * 1024) and directory.is_local("two.test")
    assert bert is not None and bert.quota == Quota()
    if kept.aliases:
        assert {record.id for record in directory.resolve("team@one.test")} == {anna.id, bert.id}
    # a new password, one account gone and another one there
    kept.write([("anna@one.test", "{PLAIN}new", 2048), ("carl@two.test", "{PLAIN}x", 0)], [])
    assert take_in() >= 3
    gone = directory.account("bert@two.test")
    assert gone is not None and not gone.enabled and directory.resolve("bert@two.test") == []
    again = directory.account("anna@one.test")
    assert again is not None and again.id == anna.id and again.password == "{PLAIN}new"
    assert directory.resolve("team@one.test") == []
    # back again, with the same number and so the same mail
    kept.write([("anna@one.test", "{PLAIN}new", 0), ("carl@two.test", "{PLAIN}x", 0), ("bert", "{PLAIN}y", 0)], [])
    take_in()
    returned = directory.account("bert@two.test")
    assert returned is not None and returned.enabled and returned.id == bert.id
    # outages: what is known stays, and what is not known is not told to be unknown
    verifier = Verifier(directory, 1)
    for damage in kept.damage:
        damage()
        assert take_in() == -1 and directory.uncertain and directory.resolve("anna@one.test")
        assert asyncio.run(verifier.check("anna@one.test", b"new"))
        with pytest.raises(TemporaryError):
            asyncio.run(verifier.check("nobody@one.test", b"new"))
    verifier.close()
    directory.close()


def test_it_is_over_when_the_source_is_back(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path / "data"))
    path = tmp_path / "users"
    follower = Follower(directory, PasswdFile(str(path), "two.test"))
    assert asyncio.run(follower.take_in()) == -1 and directory.uncertain
    path.write_text("anna@one.test:{PLAIN}x\n")
    assert asyncio.run(follower.take_in()) == 1 and not directory.uncertain
    directory.close()


def test_what_cannot_work_is_said() -> None:
    for url, accounts in (("mysql://x/y", "SELECT"), ("sqlite:x", "")):
        with pytest.raises(ConfigError):
            Sql(url, accounts, "", "", 1.0)
