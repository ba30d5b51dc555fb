"""After a loss of power each file is made whole where it belongs: several of one name, and those whose mailbox was being
renamed; and what a command that was cut short left behind is told from mail."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.message import transaction
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.maildir import folders
from fastmail.store.local.store import LocalStore
from tests.support.homes import home_of, housed, local_store

ALL = UidSet.of_ranges((1, 0xFFFFFFFF))


def message(text: bytes) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1_700_000_000)


def accounts(place: Path) -> dict[int, Account]:
    return {n: housed(n, f"u{n}@example.test", str(place / "mail" / f"u{n}")) for n in (1, 2)}


def store_at(place: Path, instance: str) -> LocalStore:
    return local_store(str(place), instance=instance, resolve=accounts(place).get)


async def key_of(store: LocalStore, account: Account, name: str = "INBOX") -> bytes:
    await store.open(account)
    key = store.find(account, name)
    assert key is not None
    return key


def after_a_loss(
    tmp_path: Path,
    work: Callable[[LocalStore, dict[int, Account]], Awaitable[None]],
    hurt: Callable[[Path], None],
    look: Callable[[LocalStore, dict[int, Account]], Awaitable[None]],
) -> None:
    """Work on a store, take its files as they are then, hurt them, and look at what a start makes of them."""
    before, left = tmp_path / "before", tmp_path / "left"

    async def first() -> None:
        store = store_at(before, "0123abcd")
        await store.start()
        try:
            await work(store, accounts(before))
            shutil.copytree(before, left)
        finally:
            await store.close()

    async def second() -> None:
        store = store_at(left, "89abcdef")
        await store.start()
        try:
            await look(store, accounts(left))
        finally:
            await store.close()

    asyncio.run(first())
    hurt(left)
    asyncio.run(second())


async def texts(store: LocalStore, account: Account, name: str = "INBOX") -> list[bytes]:
    key = await key_of(store, account, name)
    await store.sync(account, key)
    with store.snapshot(account) as snapshot:
        marks = snapshot.marks(key, ALL)
    found = [await store.content(account, key, uid) for uid in sorted(marks)]
    return [bytes(one or b"") for one in found]


def empty_new_mail(place: Path) -> None:
    for path in place.glob("mail/**/new/*"):
        os.truncate(path, 0)


def test_deliveries_of_one_number_have_one_name_and_their_own_content(tmp_path: Path) -> None:
    own = {n: b"Subject: yours\nTo: u%d@example.test\n\n" % n for n in (1, 2)}

    async def work(store: LocalStore, every: dict[int, Account]) -> None:
        for n, account in every.items():
            await store.deliver(
                [Delivery(account, await key_of(store, account), message(own[n]), id=transaction.make(77 << 12, b""))]
            )

    async def look(store: LocalStore, every: dict[int, Account]) -> None:
        for n, account in every.items():
            assert await texts(store, account) == [own[n]]

    after_a_loss(tmp_path, work, empty_new_mail, look)


@pytest.mark.parametrize("named", [True, False])
def test_a_message_of_a_mailbox_that_was_being_renamed_stays(tmp_path: Path, named: bool) -> None:
    """The directory was renamed, and the rows do not know. ``named``: the disk has the file's name."""
    text = b"Subject: fresh\n\nx\n"

    async def work(store: LocalStore, every: dict[int, Account]) -> None:
        await store.open(every[1])
        await store.create(every[1], "Old")
        await store.append(every[1], await key_of(store, every[1], "Old"), [message(text)])

    def hurt(place: Path) -> None:
        account = accounts(place)[1]
        folders.rename(home_of(account), [("Old", "Fresh")])
        for path in (place / "mail" / "u1" / ".Fresh" / "new").iterdir():
            os.truncate(path, 0)
            if not named:
                path.unlink()
        for directory in (place / "mail").rglob("*"):
            if directory.is_dir():
                os.utime(directory, (1e9, 1e9))

    async def look(store: LocalStore, every: dict[int, Account]) -> None:
        await store.open(every[1])
        names = {box.name for box in (await store.listing(every[1])).mailboxes}
        assert ("Fresh" if named else "Old") in names
        assert await texts(store, every[1], "Fresh" if named else "Old") == [text]

    after_a_loss(tmp_path, work, hurt, look)


def test_a_move_that_was_not_answered_leaves_one_message(tmp_path: Path) -> None:
    """Its link is there, its record is not; the message itself is written anew, so the two are files of their own."""
    text = b"Subject: moved\n\nx\n"

    async def work(store: LocalStore, every: dict[int, Account]) -> None:
        await store.append(every[1], await key_of(store, every[1]), [message(text)])

    def hurt(place: Path) -> None:
        (path,) = (place / "mail" / "u1" / "new").iterdir()
        base = path.name.replace("I0123abcd", "I01234567").replace("Q1.", "Q9C.")
        assert base != path.name
        path.rename(place / "mail" / "u1" / ".Archive" / "cur" / (base + ":2,"))

    async def look(store: LocalStore, every: dict[int, Account]) -> None:
        assert await texts(store, every[1]) == [text]
        assert await texts(store, every[1], "Archive") == []

    after_a_loss(tmp_path, work, hurt, look)


def test_a_mailbox_that_was_removed_is_synced_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = accounts(tmp_path)[1]
    folders.make_all(home_of(account), ["INBOX", "Gone"])
    synced: list[str] = []
    monkeypatch.setattr(folders, "sync_directories", lambda paths: synced.extend(paths))
    folders.move_away(
        home_of(account), "Gone", os.path.join(folders.folder(home_of(account), "INBOX"), "tmp", "deleted.1")
    )
    top = os.path.normpath(home_of(account).root)
    assert {top, os.path.join(top, "tmp")} <= {os.path.normpath(path) for path in synced}


def test_a_link_has_the_content_of_the_one_it_was_made_from(tmp_path: Path) -> None:
    """Where several mailboxes have a file of that name, the mailbox's own counts."""
    own = {n: b"Subject: yours\nTo: u%d@example.test\n\n" % n for n in (1, 2)}

    async def work(store: LocalStore, every: dict[int, Account]) -> None:
        for n, account in every.items():
            await store.deliver(
                [Delivery(account, await key_of(store, account), message(own[n]), id=transaction.make(77 << 12, b""))]
            )
        for account in every.values():
            await store.copy(account, await key_of(store, account), ALL, await key_of(store, account, "Archive"))

    def hurt(place: Path) -> None:
        for path in place.glob("mail/**/cur/*"):
            path.unlink()
            path.touch()

    async def look(store: LocalStore, every: dict[int, Account]) -> None:
        for n, account in every.items():
            assert await texts(store, account, "Archive") == [own[n]]

    after_a_loss(tmp_path, work, hurt, look)
