"""Which addresses lead to the one for reports, and that what comes there is read whichever way it came."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.app.assembly import Assembly, beside
from fastmail.app.reporting import Ways
from fastmail.cli.common import read_config
from fastmail.directory.records import Alias, Domain
from fastmail.feedback.days import TOLD
from fastmail.policy.received import Received
from tests.support.reporting import received
from tests.unit.cli.place import USER, Place
from tests.unit.feedback.test_taking import mail

READER = "dmarc@example.test"


@pytest.fixture
def place(tmp_path: Path, made: Place) -> Place:
    return Place(tmp_path / "server", made)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("made") / "server")
    text = place.config.read_text()
    place.config.write_text(text + f'\n[policy]\nreports_address = "{READER}"\nkeep_reports = false\n')
    place.run("account", "add", READER, "--password-stdin", stdin="x\n")
    place.run("domain", "add", "example.org")
    return place


def within(place: Place, work: Callable[[Assembly], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with beside(read_config(str(place.config))) as assembly:
            directory = assembly.directory
            directory.put_alias(Alias("reports@example.test", (READER,)))
            directory.put_alias(Alias("both@example.test", (READER, "me@far.test")))
            directory.put_alias(Alias("others@example.test", (USER,)))
            directory.add_domain(Domain("uno.test", alias_of="example.test"))
            directory.add_domain(Domain("any.test"))
            directory.put_alias(Alias("@any.test", (READER,)))
            return await work(assembly)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("recipient", "same", "reaches"),
    [
        (READER, True, True),
        ("DMARC+x@Example.TEST", True, True),
        ("dmarc@uno.test", True, True),
        ("reports@example.test", False, True),
        ("both@example.test", False, True),
        ("whoever@any.test", False, True),
        (USER, False, False),
        ("others@example.test", False, False),
        ("nobody@example.test", False, False),
        ("dmarc@far.test", False, False),
    ],
)
def test_ways(place: Place, recipient: str, same: bool, reaches: bool) -> None:
    async def work(assembly: Assembly) -> tuple[bool, bool]:
        ways = Ways(READER, assembly.directory, assembly.deliverer)
        return ways.is_same(recipient), ways.reaches(recipient)

    assert within(place, work) == (same, reaches)


def test_ways_follow_the_directory(place: Place) -> None:
    """What is kept of a recipient holds until something changes, for it or for the address itself."""

    async def work(assembly: Assembly) -> None:
        directory = assembly.directory
        ways = Ways(READER, directory, assembly.deliverer)

        def asked(*recipients: str) -> list[tuple[bool, bool]]:
            found = [(ways.is_same(one), ways.reaches(one)) for one in recipients]
            fresh = Ways(READER, directory, assembly.deliverer)
            assert found == [(fresh.is_same(one), fresh.reaches(one)) for one in recipients]
            return found

        names = (READER, USER, "others@example.test", "whoever@any.test")
        for _ in range(2):
            assert asked(*names) == [(True, True), (False, False), (False, False), (False, True)]
        assert set(ways._kept) == set(names)
        directory.change_alias("others@example.test", lambda one: replace(one, targets=(READER,)))
        directory.change_alias("@any.test", lambda one: replace(one, targets=(USER,)))
        assert asked(*names) == [(True, True), (False, False), (False, True), (False, False)]
        directory.remove_account(READER)
        directory.put_alias(Alias(READER, (USER,)))
        assert asked(READER, USER) == [(True, True), (False, True)]

    within(place, work)


def test_a_catch_all_is_not_the_address(place: Place) -> None:
    """It may serve the address; what is for somebody else there must not end here."""

    async def work(assembly: Assembly) -> tuple[bool, bool]:
        ways = Ways("reader@any.test", assembly.directory, assembly.deliverer)
        return ways.is_same("whoever@any.test"), ways.reaches("whoever@any.test")

    assert within(place, work) == (False, True)


def counted(assembly: Assembly) -> int:
    return len(assembly.reporting.days.keys(TOLD))


@pytest.mark.parametrize(
    ("recipients", "ends"),
    [
        ([READER], True),
        (["dmarc@uno.test", READER], True),
        (["reports@example.test"], False),
        ([USER, "both@example.test"], False),
        (["whoever@any.test"], False),
    ],
)
def test_what_comes_there_is_read(place: Place, recipients: list[str], ends: bool) -> None:
    async def work(assembly: Assembly) -> None:
        feedback = assembly.reporting.feedback()
        assert feedback is not None
        assert await feedback.take(recipients, mail(), received()) is ends and counted(assembly) == 1
        assert not await feedback.take([USER], mail(ident="2@near.test"), received()) and counted(assembly) == 1

    within(place, work)


@pytest.mark.parametrize(
    ("checks", "login", "read"), [(received("fail"), "", 0), (received("fail"), USER, 1), (None, "", 1)]
)
def test_who_is_believed(place: Place, checks: Received | None, login: str, read: int) -> None:
    async def work(assembly: Assembly) -> None:
        feedback = assembly.reporting.feedback()
        assert feedback is not None
        await feedback.take(["reports@example.test"], mail(), checks, login)
        assert counted(assembly) == read

    within(place, work)


def test_commands_bring_reports_too(place: Place) -> None:
    text = mail().decode()
    done = place.call("deliver", READER, "-r", "postmaster@near.test", stdin=text)
    assert done.exit_code == 0, done.output
    assert place.rows("dmarc", "reports", "example.org")
    assert not list((place.base / "data" / "mail" / "example.test" / "dmarc").glob("new/*"))
