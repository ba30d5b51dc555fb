"""fastmail.backup.save: what a run holds, what the next one need not read again, and damage that is named."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime
from fastmail.backup import save
from fastmail.backup.vault import Vault
from fastmail.directory.local import LocalDirectory
from fastmail.model.flags import SEEN
from fastmail.store.interface import Account, NewMessage
from tests.support.homes import housed, local_store

USER = "user@example.test"
TEXT = b"Subject: %d\n\nbody\n"


class House:
    """A store with one account, a directory that knows it, and a vault."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.account = housed(1, USER, str(base / "mail"))
        self.vault = Vault(str(base / "vault"))
        self.read: list[int] = []  # UIDs whose content was asked for

    def run(self, work: Callable[["House"], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            self.directory = LocalDirectory(str(self.base / "data"))
            self.store = local_store(str(self.base / "data"))
            await self.store.start()
            await self.store.open(self.account)
            content = self.store.content

            async def noted(account: Account, key: bytes, uid: int) -> Any:
                self.read.append(uid)
                return await content(account, key, uid)

            self.store.content = noted  # type: ignore[method-assign]
            try:
                return await work(self)
            finally:
                await self.store.close()
                self.directory.close()

        return asyncio.run(main())

    @property
    def inbox(self) -> bytes:
        key = self.store.find(self.account, "INBOX")
        assert key is not None
        return key

    async def append(self, *numbers: int) -> None:
        for number in numbers:
            text = TEXT % number
            message = NewMessage((text,), mime.scan(text), mime.served_size(text), 1_700_000_000, SEEN)
            await self.store.append(self.account, self.inbox, [message])

    async def save(self) -> tuple[str, save.Saved]:
        with self.vault.locked():
            name, (saved,) = await save.save(
                self.vault, self.directory, self.store, [self.account], lambda one: None, self.store.commits.help
            )
        return name, saved


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def messages(house: House, run: str = "") -> dict[int, bytes]:
    rows = [row for row in house.vault.rows(USER, run) if "uid" in row]
    return {row["uid"]: house.vault.read(row["object"]) for row in rows}


def test_a_run_holds_every_message_with_its_uid(house: House) -> None:
    async def work(house: House) -> save.Saved:
        await house.append(1, 2, 3)
        return (await house.save())[1]

    saved = house.run(work)
    assert (saved.account, saved.messages, saved.new, saved.problems) == (USER, 3, 3, [])
    assert saved.octets == sum(len(TEXT % n) for n in (1, 2, 3))
    assert messages(house) == {n: TEXT % n for n in (1, 2, 3)}
    head, *rows = house.vault.rows(USER)
    assert head["account"] == USER and "INBOX" in head["subscribed"]
    assert all(row["flags"] == SEEN for row in rows if "uid" in row)
    assert save.verify(house.vault, "", lambda count: None) == []


def test_the_next_run_reads_what_is_new(house: House) -> None:
    async def work(house: House) -> save.Saved:
        await house.append(1, 2)
        await house.save()
        await house.append(3)
        house.read.clear()
        return (await house.save())[1]

    saved = house.run(work)
    assert house.read == [3] and (saved.messages, saved.new) == (3, 1)
    assert len(messages(house)) == 3


def test_what_was_damaged_meanwhile_is_read_and_kept_again(house: House) -> None:
    async def work(house: House) -> save.Saved:
        await house.append(1)
        await house.save()
        (row,) = [row for row in house.vault.rows(USER) if "uid" in row]
        Path(house.vault.object_path(row["object"])).write_bytes(b"cut")
        return (await house.save())[1]

    assert house.run(work).new == 1
    assert messages(house) == {1: TEXT % 1}


def test_an_account_that_cannot_be_read_is_named(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(house: House) -> save.Saved:
        await house.append(1)

        async def broken(account: Account) -> Any:
            raise OSError("no such disk")

        monkeypatch.setattr(house.store, "listing", broken)
        return (await house.save())[1]

    saved = house.run(work)
    assert saved.problems == ["no such disk"] and saved.messages == 0


def test_verify_names_what_is_damaged_or_missing(house: House) -> None:
    async def work(house: House) -> None:
        await house.append(1, 2, 3)
        await house.save()

    house.run(work)
    one, two, _ = (row["object"] for row in house.vault.rows(USER) if "uid" in row)
    Path(house.vault.object_path(one)).write_bytes(b"other octets")
    Path(house.vault.object_path(two)).unlink()
    counts: list[int] = []
    found = save.verify(house.vault, "", counts.append)
    assert [text.partition(": object")[0] for text in found] == [f"{USER}: INBOX: UID 1", f"{USER}: INBOX: UID 2"]
    assert counts == [1, 2, 3]
