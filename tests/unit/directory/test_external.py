"""Accounts that are followed, in a file and in databases: what the source says holds, and what is wrong with it changes
nothing."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmail.auth.verifier import Verifier
from fastmail.config.directories import Directory
from fastmail.directory import ldap
from fastmail.directory.external import AccountSync, PasswdFile, Source, parse
from fastmail.directory.local import LocalDirectory
from fastmail.directory.sources import source
from fastmail.directory.sql import Sql, Statements
from fastmail.model.errors import ConfigError, StorageFull, TemporaryError
from fastmail.model.quota import Quota
from tests.support import databases
from tests.support.ports import free_ports

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

    kept = Kept(Sql(f"sqlite:{path}", Statements(ACCOUNTS, ALIASES), "two.test", 30.0), write)
    kept.damage = [lambda: write([], []), lambda: os.unlink(path)]
    yield kept


def _postgresql(tmp_path: Path) -> Iterator[Kept]:
    with databases.postgresql() as server:
        import asyncpg

        def write(rows: list[tuple[str, str, int]], aliases: list[tuple[str, str]]) -> None:
            async def go() -> None:
                base = await asyncpg.connect(server.url)
                await base.execute("DELETE FROM users")
                await base.execute("DELETE FROM aliases")
                await base.executemany("INSERT INTO users VALUES ($1, $2, $3)", rows)
                await base.executemany("INSERT INTO aliases VALUES ($1, $2)", aliases)
                await base.close()

            asyncio.run(go())

        server.run(TABLES.split(";"), "")
        kept = Kept(Sql(server.url, Statements(ACCOUNTS, ALIASES), "two.test", 30.0), write)
        kept.damage = [lambda: write([], []), server.stop]
        yield kept


def _mysql(tmp_path: Path) -> Iterator[Kept]:
    with databases.mariadb() as server:
        import pymysql

        def write(rows: list[tuple[str, str, int]], aliases: list[tuple[str, str]]) -> None:
            base = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True, database="mail")
            with base.cursor() as cursor:
                cursor.execute("DELETE FROM users")
                cursor.execute("DELETE FROM aliases")
                if rows:
                    cursor.executemany("INSERT INTO users VALUES (%s, %s, %s)", rows)
                if aliases:
                    cursor.executemany("INSERT INTO aliases VALUES (%s, %s)", aliases)
            base.close()

        server.run(TABLES.split(";"), "mail")
        kept = Kept(Sql(server.url, Statements(ACCOUNTS, ALIASES), "two.test", 30.0), write)
        kept.damage = [lambda: write([], []), server.stop]
        yield kept


SLAPD = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {place}/pid
database mdb
suffix "dc=test"
rootdn "cn=root,dc=test"
rootpw secret
directory {place}/data
"""


def _ldap(tmp_path: Path) -> Iterator[Kept]:
    program = shutil.which("slapd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        pytest.skip("OpenLDAP is not installed: apt-get install slapd")
    ldap3 = pytest.importorskip("ldap3", reason="ldap3 is not installed: pip install ldap3")
    place = tmp_path / "ldap"
    (place / "data").mkdir(parents=True)
    (place / "slapd.conf").write_text(SLAPD.format(place=place))
    (port,) = free_ports(1)
    log = tmp_path / "ldap.log"
    with open(log, "wb") as out:
        command = [program, "-f", str(place / "slapd.conf"), "-h", f"ldap://127.0.0.1:{port}", "-d", "0"]
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def connect() -> Any:
        return ldap3.Connection(f"127.0.0.1:{port}", "cn=root,dc=test", "secret", auto_bind=True)

    def up() -> bool:
        try:
            connect().unbind()
            return True
        except ldap3.core.exceptions.LDAPException:
            return False

    def write(rows: list[tuple[str, str, int]], aliases: list[tuple[str, str]]) -> None:
        base = connect()
        base.search("ou=people,dc=test", "(objectClass=inetOrgPerson)")
        for entry in list(base.response):
            base.delete(entry["dn"])
        for number, (address, password, quota) in enumerate(rows):
            others = [one for one, targets in aliases if address.lower() in targets or f"{address}@two.test" in targets]
            values: dict[str, Any] = {"cn": "x", "sn": "x", "mail": [address, *others], "userPassword": password}
            if quota:
                values["employeeNumber"] = str(quota * 1024)
            assert base.add(f"uid=u{number},ou=people,dc=test", "inetOrgPerson", {"uid": f"u{number}", **values})
        base.unbind()

    try:
        databases.until(process, up, log)
        base = connect()
        assert base.add("dc=test", ["dcObject", "organization"], {"dc": "test", "o": "test"})
        assert base.add("ou=people,dc=test", "organizationalUnit")
        base.unbind()
        settings = ldap.Settings(
            f"ldap://127.0.0.1:{port}", "cn=root,dc=test", "secret", "ou=people,dc=test", quota="employeeNumber"
        )
        kept = Kept(ldap.Ldap(settings, "two.test", 30.0), write)
        kept.damage = [lambda: write([], []), lambda: databases.end(process)]
        yield kept
    finally:
        databases.end(process)


SOURCES = {"file": _file, "sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql, "ldap": _ldap}


@pytest.fixture(
    params=["file", "sqlite", *(pytest.param(name, marks=pytest.mark.peer) for name in ("postgresql", "mysql", "ldap"))]
)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    with contextlib.contextmanager(SOURCES[request.param])(tmp_path) as one:
        yield one


def test_the_source_is_followed(kept: Kept, tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path / "data"))
    follower = AccountSync(directory, kept.source)

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
        assert take_in() == -1
        assert take_in() == -1 and directory.is_uncertain("one.test") and directory.resolve("anna@one.test")
        assert asyncio.run(verifier.check("anna@one.test", b"new"))
        with pytest.raises(TemporaryError):
            asyncio.run(verifier.check("nobody@one.test", b"new"))
    verifier.close()
    directory.close()


def test_it_is_over_when_the_source_is_back(tmp_path: Path) -> None:
    directory = LocalDirectory(str(tmp_path / "data"))
    path = tmp_path / "users"
    follower = AccountSync(directory, PasswdFile(str(path), "two.test"))
    assert asyncio.run(follower.take_in()) == -1 and directory.is_uncertain("one.test")
    path.write_text("anna@one.test:{PLAIN}x\n")
    assert asyncio.run(follower.take_in()) == 1 and not directory.is_uncertain("one.test")
    directory.close()


def test_what_could_not_be_brought_over_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = LocalDirectory(str(tmp_path / "data"))
    path = tmp_path / "users"
    path.write_text("anna@one.test:{PLAIN}x\n")
    follower = AccountSync(directory, PasswdFile(str(path), "two.test"))

    def full(*given: object) -> None:
        raise StorageFull("no room")

    with monkeypatch.context() as patched, pytest.raises(StorageFull):
        patched.setattr(directory, "bring", full)
        asyncio.run(follower.take_in())
    assert asyncio.run(follower.take_in()) == 1 and directory.account("anna@one.test") is not None
    directory.close()


def test_what_cannot_work_is_said() -> None:
    for url, accounts in (("oracle://x/y", "SELECT"), ("sqlite:x", "")):
        with pytest.raises(ConfigError):
            Sql(url, Statements(accounts), "", 1.0)
    for url, base in (("http://x", "dc=x"), ("ldap://", "dc=x"), ("ldap://x", "")):
        with pytest.raises(ConfigError):
            ldap.Ldap(ldap.Settings(url, base=base), "", 1.0)
    both = Directory(passwd_file="users", ldap="ldap://x")
    with pytest.raises(ConfigError, match="passwd_file and ldap: give one of them"):
        source(both, "")
    dovecot = {"sql": "sqlite:x", "sql_password_query": "SELECT 1"}
    for given, say in (
        (dovecot | {"sql_accounts": "SELECT 1"}, "the other queries go with either"),
        (dovecot | {"sql_members": "SELECT 1"}, "sql_members needs sql_lists"),
        ({"sql": "sqlite:x", "sql_domains": "SELECT 1"}, "sql_accounts is needed, .* or sql_password_query"),
        ({"sql": "sqlite:x", "sql_accounts": "SELECT 1", "sql_user_query": "x"}, "sql_user_query needs sql_password_q"),
        ({"passwd_file": "users", "sql_domains": "SELECT 1"}, "sql_domains is for sql, .* `fastmail domain`"),
        ({"passwd_file": "users", "sql_iterate_query": "SELECT 1"}, "sql_iterate_query is for sql, which is not set"),
        ({"ldap": "ldap://x", "ldap_base": "dc=x", "sql_lists": "SELECT 1"}, "ldap_lists says which"),
    ):
        with pytest.raises(ConfigError, match=say):
            source(Directory(**given), "")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot read it"):
        source(Directory(ldap="ldap://x", ldap_base="dc=x", ldap_password_file="nowhere"), "")
