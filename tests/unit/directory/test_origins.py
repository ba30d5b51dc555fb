"""Several sources at once: each has its own domains, and one that is away concerns nobody else."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.auth.verifier import Verifier
from fastmail.config.directories import Directory, Source
from fastmail.directory import ldap, sources
from fastmail.directory.database import Unreadable
from fastmail.directory.external import AccountSync, Content, PasswdFile, apply
from fastmail.directory.interface import Line, fresh
from fastmail.directory.live import Live, LiveByDomain
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import LOCAL, Domain
from fastmail.model.errors import TemporaryError
from fastmail.telemetry import log


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[LocalDirectory]:
    place = LocalDirectory(str(tmp_path / "data"))
    place.sources = frozenset(["office", "shop"])
    place.add_domain(Domain("office.test", source="office"))
    place.add_domain(Domain("shop.test", source="shop"))
    place.add_domain(Domain("own.test", source=LOCAL))
    place.add_accounts([("me@own.test", "{PLAIN}own")])
    yield place
    place.close()


def enabled(place: LocalDirectory) -> list[str]:
    return [one.address for one in place.accounts() if one.enabled]


def test_followers_keep_to_their_domains(directory: LocalDirectory, tmp_path: Path) -> None:
    office, shop = tmp_path / "office", tmp_path / "shop"
    followers = {
        name: AccountSync(directory, PasswdFile(str(path), f"{name}.test"), name)
        for name, path in (("office", office), ("shop", shop))
    }

    def take_in(name: str) -> int:
        return asyncio.run(followers[name].take_in())

    office.write_text("anna:{PLAIN}a\nbert@office.test:{PLAIN}b\nme@own.test:{PLAIN}stolen\nx@shop.test:{PLAIN}x\n")
    shop.write_text("dora:{PLAIN}d\n")
    assert take_in("office") == 2 and take_in("shop") == 1
    assert enabled(directory) == ["anna@office.test", "bert@office.test", "me@own.test", "dora@shop.test"]
    me = directory.account("me@own.test")
    assert me is not None and me.password == "{PLAIN}own", "a source has no say in the domains of others"
    office.write_text("anna:{PLAIN}a\n")
    assert take_in("office") == 1 and take_in("shop") == 0
    assert enabled(directory) == ["anna@office.test", "me@own.test", "dora@shop.test"]
    office.unlink()
    assert take_in("office") == -1 and take_in("shop") == 0
    names = ("office.test", "shop.test", "own.test")
    assert [directory.is_uncertain(one) for one in names] == [True, False, False]
    assert enabled(directory) == ["anna@office.test", "me@own.test", "dora@shop.test"], "accounts stay as known"


def test_a_domain_may_come_and_go(directory: LocalDirectory, tmp_path: Path) -> None:
    """What a file says that did not change counts for a domain that names it now."""
    path = tmp_path / "office"
    path.write_text("anna@office.test:{PLAIN}a\nzoe@zone.test:{PLAIN}z\n")
    follower = AccountSync(directory, PasswdFile(str(path), ""), "office")
    assert asyncio.run(follower.take_in()) == 1 and asyncio.run(follower.take_in()) == 0
    directory.add_domain(Domain("zone.test", source="office"))
    assert directory.is_uncertain("zone.test")
    assert asyncio.run(follower.take_in()) == 1 and not directory.is_uncertain("zone.test")
    assert "zoe@zone.test" in enabled(directory)
    directory.change_domain("zone.test", lambda old: replace(old, source=LOCAL))
    path.write_text("anna@office.test:{PLAIN}a\n")
    assert asyncio.run(follower.take_in()) == 0
    assert "zoe@zone.test" in enabled(directory), "it is kept here now"


def test_a_source_that_no_domain_names_is_not_read(directory: LocalDirectory, tmp_path: Path) -> None:
    follower = AccountSync(directory, PasswdFile(str(tmp_path / "nowhere"), ""), "unused")
    assert asyncio.run(follower.take_in()) == 0


def test_the_one_of_the_directory_section_has_all_others(directory: LocalDirectory) -> None:
    directory.sources = frozenset(["", "office", "shop"])
    directory.add_domain("rest.test")
    directory.add_alias("info@own.test", ["me@own.test"])
    lines = [Line(one, "{PLAIN}x") for one in ("a@rest.test", "a@new.test", "me@own.test", "a@office.test")]
    content = Content({one.address: one for one in lines}, aliases={"b@rest.test": ["a@rest.test"]})
    assert apply(directory, content) == 3
    assert enabled(directory) == ["a@new.test", "me@own.test", "a@rest.test"]
    assert [one.address for one in directory.aliases()] == ["info@own.test", "b@rest.test"]
    assert apply(directory, Content({})) == 2
    assert enabled(directory) == ["me@own.test"]


@pytest.mark.parametrize("source", ["", "office"])
def test_a_domain_whose_row_is_damaged_harms_no_other(directory: LocalDirectory, source: str) -> None:
    directory.sources = frozenset(["", "office", "shop"])
    names = ("good.test", "bad.test")
    for name in names:
        directory.add_domain(Domain(name, source=source))
    content = Content({f"a@{name}": Line(f"a@{name}", "{PLAIN}x") for name in names}, aliases={})
    assert apply(directory, content, source) == 2
    with directory._tables.write() as txn:
        txn.put("domains", b"bad.test", b"\x01damaged")
    again = Content({"b@good.test": Line("b@good.test", "{PLAIN}x"), "b@bad.test": Line("b@bad.test", "{PLAIN}x")})
    assert apply(directory, again, source) == 2
    assert enabled(directory) == ["a@bad.test", "b@good.test", "me@own.test"]
    assert directory.is_uncertain("bad.test")


def test_what_a_source_says_reaches_no_further_than_its_domains(directory: LocalDirectory) -> None:
    told = (("administers", ("own.test",)), ("role", "server"), ("senders", ("@own.test", "x@office.test")))
    line = Line("anna@office.test", "{PLAIN}a", told=told)
    assert apply(directory, Content({line.address: line}), "office") == 1
    found = directory.account(line.address)
    assert found is not None and (found.role, found.administers, found.senders) == ("", (), ("x@office.test",))
    assert apply(directory, Content({line.address: line}), "office") == 0


class Finder:
    """Accounts that are asked for; ``away`` lets it fail."""

    name = "finder"
    away = False

    def __init__(self, *lines: Line) -> None:
        self.lines = {one.address: one for one in lines}
        self.asked: list[str] = []

    async def lookup(self, user: str) -> Line | None:
        self.asked.append(user)
        if self.away:
            raise TemporaryError("away")
        return self.lines.get(user)

    async def close(self) -> None:
        self.closed = True


def test_each_address_is_asked_for_where_it_is_kept(directory: LocalDirectory) -> None:
    office = Finder(Line("anna@office.test", "{PLAIN}a"), Line("me@own.test", "{PLAIN}stolen"))
    office.lines["info@office.test"] = Line("dora@shop.test", "{PLAIN}stolen")
    shop = Finder(Line("dora@shop.test", "{PLAIN}d"))
    directory.add_domain(Domain("other.test", alias_of="office.test"))
    for name in ("office", "shop"):
        directory.settle(name, directory.uncertain_mark(name))

    async def work() -> None:
        asked = {name: Live(directory, one, 30.0, name) for name, one in (("office", office), ("shop", shop))}
        directory.live = live = LiveByDomain(directory, asked)
        verifier = Verifier(directory, 1)
        assert await verifier.check("anna@office.test", b"a") and await verifier.check("dora@shop.test", b"d")
        assert await verifier.check("anna@other.test", b"a"), "by another name of its domain"
        assert await verifier.check("me@own.test", b"own") and not await verifier.check("me@own.test", b"stolen")
        assert not await verifier.check("info@office.test", b"stolen"), "it names somebody of another source"
        assert not await verifier.check("dora@shop.test", b"stolen")
        assert not [one for one in office.asked + shop.asked if one.endswith("own.test")]
        office.away = True
        with pytest.raises(TemporaryError):
            await fresh(directory, "new@office.test")
        assert await verifier.check("dora@shop.test", b"d") and await verifier.check("me@own.test", b"own")
        await fresh(directory, "new@shop.test")
        verifier.close()
        await live.close()
        assert office.closed and shop.closed

    asyncio.run(work())


class Slow(ldap.Ldap):
    """A directory server that does not answer."""

    def __init__(self) -> None:
        super().__init__(ldap.Settings("ldap://127.0.0.1:1", base="dc=test", binds=True), "", 30.0)
        self.go_on = threading.Event()

    def check(self, stored: str, password: str) -> bool:
        self.go_on.wait(60)
        raise Unreadable("no answer")


def test_a_server_that_does_not_answer_keeps_no_others_waiting(directory: LocalDirectory) -> None:
    directory.bring([Line(f"u{n}@office.test", f"{{LDAP}}cn=u{n}") for n in range(400)], [])
    slow = Slow()

    async def work() -> None:
        verifier = Verifier(directory, 1, binder=sources.Binders(directory, {"office": slow}, ["office", "shop"]))
        waiting = [asyncio.ensure_future(verifier.check(f"u{n}@office.test", b"x")) for n in range(400)]
        await asyncio.sleep(0)
        assert await verifier.check("me@own.test", b"own"), "neither threads nor the queue are full"
        slow.go_on.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, TemporaryError) for one in found)
        with pytest.raises(TemporaryError, match="cannot be checked now"):
            await verifier.check("u1@office.test", b"x")
        verifier.close()
        slow.end()

    asyncio.run(work())


def test_a_password_is_checked_by_the_source_of_the_account(directory: LocalDirectory) -> None:
    asked: list[tuple[str, str]] = []

    class Asked(ldap.Ldap):
        def check(self, stored: str, password: str) -> bool:
            asked.append((self.name, stored))
            return True

    def made(name: str) -> ldap.Ldap:
        return Asked(ldap.Settings(f"ldap://127.0.0.1/{name}", base="dc=test"), "", 30.0)

    async def work() -> None:
        binders = sources.Binders(directory, {one: made(one) for one in ("office", "shop")}, ["office", "shop"])
        assert await binders.check("anna@office.test", "{LDAP}cn=anna", "x")
        assert await binders.check("dora@shop.test", "{LDAP}cn=dora", "x")
        assert not await binders.check("me@own.test", "{LDAP}cn=me", "x")
        without = sources.Binders(directory, {}, ["shop"])
        assert not await without.check("dora@shop.test", "{LDAP}cn=dora", "x")
        with pytest.raises(TemporaryError, match="office is not in the configuration"):
            await without.check("anna@office.test", "{LDAP}cn=anna", "x")
        binders.close()

    asyncio.run(work())
    assert asked == [("ldap://127.0.0.1/office", "{LDAP}cn=anna"), ("ldap://127.0.0.1/shop", "{LDAP}cn=dora")]


def test_sources_of_a_configuration(
    directory: LocalDirectory, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.sqlite", isolation_level=None)) as base:
        base.execute("CREATE TABLE users (address TEXT, password TEXT)")
        base.execute("INSERT INTO users VALUES ('dora', '{PLAIN}d')")
    (tmp_path / "office").write_text("anna:{PLAIN}a\n")
    named = [
        Source(name="office", passwd_file=str(tmp_path / "office"), domain="office.test"),
        Source(
            name="shop", sql=f"sqlite:{tmp_path}/shop.sqlite", sql_accounts="SELECT * FROM users", domain="shop.test"
        ),
    ]
    found = sources.origins(Directory(), named, "own.test")
    assert [one.name for one in found] == ["office", "shop"] and sources.live(directory, found) is None

    async def work() -> list[int]:
        return await asyncio.gather(*(one.take_in() for one in sources.account_syncs(directory, found)))

    assert asyncio.run(work()) == [1, 1]
    assert enabled(directory) == ["anna@office.test", "me@own.test", "dora@shop.test"]
    log.setup("text", "info")
    sources.account_syncs(directory, found[:1])
    said = capfd.readouterr().err
    assert "directory.no_source" in said and "source=shop" in said and "such_as=shop.test" in said
    default = Directory(passwd_file="x")
    assert [one.name for one in sources.origins(default, named, "")] == ["", "office", "shop"]


def test_hashes_of_a_source_stay_as_they_are(directory: LocalDirectory) -> None:
    """A better hash would be taken back at the next look at the source."""
    directory.bring([Line("anna@office.test", "{PLAIN}a")], [])

    async def work() -> None:
        verifier = Verifier(directory, 1, upgrade=True)
        assert await verifier.check("anna@office.test", b"a") and await verifier.check("me@own.test", b"own")
        deadline = time.monotonic() + 60
        while (me := directory.account("me@own.test")) is not None and me.password == "{PLAIN}own":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        verifier.close()

    asyncio.run(work())
    anna, me = directory.account("anna@office.test"), directory.account("me@own.test")
    assert anna is not None and anna.password == "{PLAIN}a" and me is not None and me.password.startswith("{ARGON2ID}")
