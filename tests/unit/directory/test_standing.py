"""Which changes of an account take its logins back, and that no login slips through while one is made."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.auth import sasl, schemes
from fastmail.auth.verifier import Verifier
from fastmail.directory import apps
from fastmail.directory.external import Content, apply
from fastmail.directory.interface import Line
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import AppPassword
from fastmail.directory.standing import (
    APP_OFF,
    BARRED,
    CHANGED,
    EXPIRED,
    GONE,
    OFF,
    RESTRICTED,
    Standing,
    ended,
    is_gone,
)
from fastmail.model.quota import Quota

NAME = "a@example.test"


@pytest.fixture
def directory(tmp_path: Path) -> LocalDirectory:
    place = LocalDirectory(str(tmp_path))
    place.add_domain("example.test")
    place.add_accounts([(NAME, "{PLAIN}one"), ("b@example.test", "{PLAIN}one")])
    return place


def upgrade(place: LocalDirectory) -> None:
    record = place.account(NAME)
    assert record is not None and place.upgrade_password(record, schemes.hash_password("one"), "")


def again(place: LocalDirectory) -> None:
    place.remove_account(NAME)
    place.add_accounts([(NAME, "{PLAIN}one")])


def off_and_on(place: LocalDirectory) -> None:
    place.enable(NAME, False)
    place.enable(NAME, True)


def followed(**lines: str) -> Callable[[LocalDirectory], object]:
    rows = {f"{name}@example.test": Line(f"{name}@example.test", password) for name, password in lines.items()}
    return lambda place: apply(place, Content(rows))


CHANGES: list[tuple[str, Callable[[LocalDirectory], object], str]] = [
    ("passwd", lambda place: place.set_password(NAME, "{PLAIN}two"), CHANGED),
    ("import", lambda place: place.add_accounts([(NAME, "{PLAIN}two")], replace=True), CHANGED),
    ("the same import", lambda place: place.add_accounts([(NAME, "{PLAIN}one")], replace=True), ""),
    ("nologin", lambda place: place.add_accounts([(NAME, "{PLAIN}one", "", "", "no")], replace=True), BARRED),
    ("elsewhere", lambda place: place.add_accounts([(NAME, "{PLAIN}one", "", "192.0.2.0/24")], replace=True), BARRED),
    ("off", lambda place: place.enable(NAME, False), OFF),
    ("off and on", off_and_on, CHANGED),
    ("removed", lambda place: place.remove_account(NAME), GONE),
    ("removed and made anew", again, GONE),
    ("a better hash", upgrade, ""),
    ("a quota", lambda place: place.set_quota(NAME, Quota(5)), ""),
    ("another account", lambda place: place.set_password("b@example.test", "{PLAIN}two"), ""),
    ("an alias", lambda place: place.add_alias("c@example.test", [NAME]), ""),
    ("a source has another password", followed(a="{PLAIN}two", b="{PLAIN}one"), CHANGED),
    ("a source has it no more", followed(b="{PLAIN}one"), OFF),
    ("a source says the same", followed(a="{PLAIN}one", b="{PLAIN}one"), ""),
]


@pytest.mark.parametrize(("change", "why"), [(c, w) for _, c, w in CHANGES], ids=[name for name, *_ in CHANGES])
def test_what_ends_a_login(directory: LocalDirectory, change: Callable[[LocalDirectory], object], why: str) -> None:
    record = directory.account(NAME)
    assert record is not None
    login = Standing(record.id, record.address, "127.0.0.1", directory.revision)
    assert not ended(directory, login)
    before = directory.revision
    change(directory)
    assert ended(directory, login) == why
    if why:
        assert directory.revision > before, "workers look at their sessions only when this has grown"
    now = directory.account(NAME)
    if now is not None and why in (CHANGED, GONE):
        assert not ended(directory, Standing(now.id, now.address, "127.0.0.1", directory.revision))
    assert is_gone(directory, record.id, record.address) == (why == GONE)


def test_another_process_sees_it(directory: LocalDirectory, tmp_path: Path) -> None:
    """A command changes the directory in a process of its own (two environments of one process stand for them)."""
    record = directory.account(NAME)
    assert record is not None
    login = Standing(record.id, record.address, "127.0.0.1", directory.revision)
    directory.close()
    command = LocalDirectory(str(tmp_path))
    command.set_password(NAME, "{PLAIN}two")
    command.close()
    assert ended(LocalDirectory(str(tmp_path)), login) == CHANGED


def test_a_password_that_is_changed_while_it_is_checked(directory: LocalDirectory) -> None:
    """The old one was right when it was looked up, and is none any more when its hash is done."""

    async def main() -> None:
        verifier = Verifier(directory, 1)
        check = verifier._check

        async def slow(login: str, password: bytes, *more: str) -> object:
            found = await check(login, password, *more)
            directory.set_password(NAME, "{PLAIN}two")
            return found

        verifier._check = slow  # type: ignore[method-assign, assignment]
        assert await verifier.admit(sasl.Credentials(NAME, b"one")) is None
        verifier._check = check  # type: ignore[method-assign]
        entry = await verifier.admit(sasl.Credentials(NAME, b"two"))
        assert entry is not None and not verifier.ended(entry.login)
        verifier.close()

    asyncio.run(main())


def test_a_scram_exchange_that_outlives_its_password(directory: LocalDirectory) -> None:
    """Its keys were looked up before the change: the last message comes after it."""

    async def main() -> None:
        verifier = Verifier(directory, 1)
        begun = directory.revision
        assert await verifier.admit(sasl.Verified(NAME, begun)) is not None
        directory.set_password(NAME, "{PLAIN}two")
        assert await verifier.admit(sasl.Verified(NAME, begun)) is None
        assert await verifier.admit(sasl.Verified(NAME, directory.revision)) is not None
        assert await verifier.admit(sasl.Verified(NAME)) is not None, "a certificate is no password"
        verifier.close()

    asyncio.run(main())


def test_a_login_with_an_app_password_ends_when_that_expires(
    directory: LocalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = Standing(1, NAME, "192.0.2.1", directory.revision, b"digest", 2_000_000_000)
    monkeypatch.setattr("fastmail.directory.standing.time.time", lambda: 1_999_999_999.9)
    assert ended(directory, login) == ""
    monkeypatch.setattr("fastmail.directory.standing.time.time", lambda: 2_000_000_000.0)
    assert ended(directory, login) == EXPIRED


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": "tablet"}, ""),
        ({"protocols": ("imap", "smtp")}, ""),
        ({"nets": "192.0.2.0/24"}, ""),
        ({"protocols": ("smtp",)}, RESTRICTED),
        ({"nets": "198.51.100.0/24"}, RESTRICTED),
        ({"expires": 2_100_000_000}, RESTRICTED),
        ({"enabled": False}, APP_OFF),
    ],
)
def test_a_session_ends_when_its_app_password_allows_it_no_more(
    directory: LocalDirectory, fields: dict[str, Any], why: str
) -> None:
    text = apps.make().encode()
    made = AppPassword(apps.digest(text), "phone")
    directory.add_app_password(NAME, made)

    async def main() -> None:
        verifier = Verifier(directory, 1)
        entry = await verifier.admit(sasl.Credentials(NAME, text), "192.0.2.1", "imap")
        assert entry is not None and not verifier.ended(entry.login)
        directory.change_app_password(NAME, replace(made, **fields))
        assert verifier.ended(entry.login) == why
        verifier.close()

    asyncio.run(main())


def test_the_verifier_says_once_that_one_has_expired(
    directory: LocalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 2_000_000_000
    monkeypatch.setattr("fastmail.auth.verifier.time.time", lambda: float(now))
    monkeypatch.setattr("fastmail.directory.standing.time.time", lambda: float(now))
    monkeypatch.setattr("fastmail.directory.apps.time.time", lambda: float(now))
    made = [apps.make().encode() for _ in range(3)]
    for at, one in zip((5, 9, 0), made, strict=True):
        directory.add_app_password(NAME, AppPassword(apps.digest(one), "x", expires=now + at if at else 0))

    async def main() -> None:
        nonlocal now
        verifier = Verifier(directory, 1)
        logins = [await verifier.admit(sasl.Credentials(NAME, one), "192.0.2.1") for one in (*made, made[0])]
        standings = [one.login for one in logins if one is not None]
        assert len(standings) == 4 and not verifier.has_expired()
        now += 5
        assert verifier.has_expired() and not verifier.has_expired()
        assert [verifier.ended(one) for one in standings] == [EXPIRED, "", "", EXPIRED]
        assert await verifier.admit(sasl.Credentials(NAME, made[0]), "192.0.2.1") is None
        now += 4
        assert verifier.has_expired() and not verifier.has_expired()
        verifier.close()

    asyncio.run(main())
