"""A server whose domains have their accounts from sources of their own, over the wire: what one of them says, and that it
is away, concerns its own domains only."""

import imaplib
import json
import smtplib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import databases
from tests.support.server import Server

LONG = 60.0  # s that something takes at most on a machine that is busy
SOURCES = """
[[source]]
name = "office"
passwd_file = "BASE/office"
domain = "office.test"

[[source]]
name = "shop"
sql = "DSN"
sql_accounts = "SELECT address, password FROM users"
sql_domains = "SELECT name, description, catch_all FROM domains"
sql_lists = "SELECT address, mode FROM lists"
sql_members = "SELECT list, address FROM members"
sql_every = 0.2
domain = "shop.test"

[[source]]
name = "asked"
sql = "sqlite:BASE/asked.sqlite"
sql_password_query = "SELECT user, password FROM users WHERE user = '%u'"
sql_every = 0.2
"""


class Base:
    """A server with three sources; ``rows`` replaces what the shop's database has."""

    def __init__(self, place: Path, dsn: str, run: Callable[[list[str]], None]) -> None:
        self.place, self._run = place, run
        run(
            [
                "CREATE TABLE users (address VARCHAR(200), password VARCHAR(200))",
                "CREATE TABLE domains (name VARCHAR(200), description VARCHAR(200), catch_all VARCHAR(200))",
                "CREATE TABLE lists (address VARCHAR(200), mode VARCHAR(20))",
                "CREATE TABLE members (list VARCHAR(200), address VARCHAR(200))",
            ]
        )
        self.rows(("dora", "{PLAIN}dora"))
        (place / "office").write_text("anna:{PLAIN}anna\n")
        self.asked = sqlite3.connect(place / "asked.sqlite", isolation_level=None)
        self.asked.execute("CREATE TABLE users (user TEXT, password TEXT)")
        self.asked.execute("INSERT INTO users VALUES ('ida@asked.test', '{PLAIN}ida')")
        self.server = Server(place / "server", SOURCES.replace("BASE", str(place)).replace("DSN", dsn))
        for name in ("office", "shop", "asked"):
            self.server.cli("domain", "add", f"{name}.test", "--source", name)

    def rows(self, *rows: tuple[str, str]) -> None:
        self._run(["DELETE FROM users", *(f"INSERT INTO users VALUES ('{user}', '{secret}')" for user, secret in rows)])

    def put(self, table: str, *rows: tuple[str, ...]) -> None:
        """Replace what a table of the shop's database has."""
        values = [", ".join(f"'{one}'" for one in row) for row in rows]
        self._run([f"DELETE FROM {table}", *(f"INSERT INTO {table} VALUES ({one})" for one in values)])

    def shown(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.server.cli(*words, "--json").stdout)
        return found

    def login(self, user: str, password: str) -> str:
        """What the server says to a login."""
        with imaplib.IMAP4("127.0.0.1", self.server.ports["imap"]) as imap:
            try:
                return str(imap.login(user, password)[0])
            except imaplib.IMAP4.error as error:
                return str(error)

    def rcpt(self, address: str) -> int:
        with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"]) as smtp:
            smtp.ehlo()
            smtp.mail("a@example.org")
            return smtp.rcpt(address)[0]

    def until(self, found: Callable[[], object]) -> None:
        deadline = time.monotonic() + LONG
        while not found():
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Base]:
    if request.param == "postgresql":
        with databases.postgresql() as peer:
            yield from _served(Base(tmp_path, peer.url, lambda all_: peer.run(all_, "")))
        return

    def run(statements: list[str]) -> None:
        with sqlite3.connect(tmp_path / "shop.sqlite") as there:
            for one in statements:
                there.execute(one)

    yield from _served(Base(tmp_path, f"sqlite:{tmp_path}/shop.sqlite", run))


def _served(base: Base) -> Iterator[Base]:
    base.server.start()
    yield base
    base.server.stop()
    base.asked.close()


def test_domains_have_sources_of_their_own(base: Base) -> None:
    base.until(lambda: base.login("anna@office.test", "anna") == "OK")
    base.until(lambda: base.login("dora@shop.test", "dora") == "OK")
    assert base.login("ida@asked.test", "ida") == "OK", "asked for when she logs in"
    assert base.login(base.server.user, base.server.password) == "OK", "kept here, as before"
    assert [base.rcpt(f"nobody@{name}.test") for name in ("office", "shop", "asked", "example")] == [550] * 4
    # what a source says of the domains of others does not count
    (base.place / "office").write_text(
        "anna:{PLAIN}anna\ndora@shop.test:{PLAIN}stolen\nuser@example.test:{PLAIN}stolen\nnew:{PLAIN}n\n"
    )
    base.until(lambda: base.login("new@office.test", "n") == "OK")
    for user in ("dora@shop.test", base.server.user):
        assert "AUTHENTICATIONFAILED" in base.login(user, "stolen")
    # one that is away concerns its own domains only
    (base.place / "office").unlink()
    base.until(lambda: base.rcpt("nobody@office.test") == 451)
    assert base.login("anna@office.test", "anna") == "OK" and base.rcpt("anna@office.test") == 250
    assert "UNAVAILABLE" in base.login("late@office.test", "x")
    assert [base.rcpt(f"nobody@{name}.test") for name in ("shop", "asked", "example")] == [550] * 3
    base.rows(("dora", "{PLAIN}dora"), ("otto", "{PLAIN}otto"))
    base.until(lambda: base.login("otto@shop.test", "otto") == "OK")
    assert "cannot be read now" in base.server.cli("domain", "show", "office.test").stdout
    (base.place / "office").write_text("anna:{PLAIN}anna\n")
    base.until(lambda: base.rcpt("nobody@office.test") == 550)
    assert base.rcpt("new@office.test") == 550, "who is gone from the source is switched off"
    assert "accounts_from" in base.server.cli("domain", "show", "office.test").stdout


def test_a_domain_gets_another_source_while_the_server_runs(base: Base) -> None:
    base.until(lambda: base.login("dora@shop.test", "dora") == "OK")
    base.server.cli("domain", "add", "new.test")
    base.server.cli("account", "add", "eva@new.test", "--password-stdin", stdin="here\n")
    assert base.login("eva@new.test", "here") == "OK"
    (base.place / "office").write_text("anna:{PLAIN}anna\neva@new.test:{PLAIN}there\n")
    base.server.cli("domain", "set", "new.test", "--source", "office")
    base.until(lambda: base.login("eva@new.test", "there") == "OK")
    assert "AUTHENTICATIONFAILED" in base.login("eva@new.test", "here")
    base.server.cli("domain", "set", "new.test", "--source", "local")
    base.server.cli("account", "passwd", "eva@new.test", "--password-stdin", stdin="again\n")
    assert base.login("eva@new.test", "again") == "OK"
    refused = base.server.cli("domain", "set", "new.test", "--source", "nowhere", check=False)
    assert refused.returncode == 1 and "no source nowhere; it has asked, office, shop" in " ".join(
        refused.stderr.split()
    )


def test_domains_and_lists_come_from_a_database(base: Base) -> None:
    """Mail to a list that a table names comes to the members that a table names; who leaves stays away."""
    base.until(lambda: base.login("dora@shop.test", "dora") == "OK")
    base.rows(("dora", "{PLAIN}dora"), ("otto", "{PLAIN}otto"))
    base.until(lambda: base.login("otto@shop.test", "otto") == "OK")
    base.put("domains", ("shop.test", "The shop", "dora@shop.test"), ("example.test", "stolen", ""))
    base.put("lists", ("team@shop.test", "public"))
    base.put("members", ("team@shop.test", "dora@shop.test"), ("team@shop.test", "otto@shop.test"))
    base.until(lambda: base.rcpt("team@shop.test") == 250)
    domain = base.shown("domain", "show", "shop.test")
    assert (domain["description"], domain["catch_all"]) == ("The shop", ["dora@shop.test"])
    assert domain["from_source"] == ["description", "enabled"]
    assert base.shown("domain", "show", "example.test")["description"] == "", "it is no domain of that source"
    refused = base.server.cli("domain", "set", "shop.test", "description=mine", check=False)
    assert refused.returncode == 1 and "the source shop says: change it there" in " ".join(refused.stderr.split())
    base.server.cli("domain", "set", "shop.test", "footer=kept here")
    assert base.rcpt("anything@shop.test") == 250, "the catch-all"
    assert base.shown("list", "show", "team@shop.test")["members"] == 2
    post(base, "one")
    base.until(lambda: "one" in subjects(base, "dora") and "one" in subjects(base, "otto"))
    base.server.cli("list", "member", "remove", "team@shop.test", "otto@shop.test")
    base.rows(*((name, f"{{PLAIN}}{name}") for name in ("dora", "otto", "new")))
    base.until(lambda: base.login("new@shop.test", "new") == "OK")  # a member that is no account goes to the catch-all
    base.put("members", *(("team@shop.test", f"{name}@shop.test") for name in ("dora", "otto", "new")))
    base.until(lambda: base.shown("list", "show", "team@shop.test")["members"] == 2)
    post(base, "two")
    base.until(lambda: "two" in subjects(base, "dora") and "two" in subjects(base, "new"))
    assert subjects(base, "otto") == ["one"]
    base.put("lists", ("other@shop.test", "public"))
    base.put("domains", ("shop.test", "The shop", ""))
    base.until(lambda: base.rcpt("team@shop.test") == 550)
    assert base.shown("list", "show", "team@shop.test")["members"] == 2, "it is off, and keeps its members"


def post(base: Base, subject: str) -> None:
    with smtplib.SMTP("127.0.0.1", base.server.ports["smtp"]) as smtp:
        text = f"From: a@example.org\r\nTo: team@shop.test\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.org>\r\n\r\nx\r\n"
        smtp.sendmail("a@example.org", ["team@shop.test"], text)


def subjects(base: Base, user: str) -> list[str]:
    with imaplib.IMAP4("127.0.0.1", base.server.ports["imap"]) as imap:
        imap.login(f"{user}@shop.test", user)
        if imap.select("INBOX")[1] == [b"0"]:
            return []
        found = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return [one[1].decode().partition(":")[2].strip() for one in found if isinstance(one, tuple)]
