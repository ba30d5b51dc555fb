"""An account that was removed: what still holds it makes no directory and no row of the index for it (S47)."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime
from fastmail.model.errors import MailError
from fastmail.store import sharing
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.index import walk
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

TEXT = b"Subject: x\n\nbody\n"


def message() -> NewMessage:
    return NewMessage([TEXT], mime.scan(TEXT), len(TEXT) + 3, 1)


Act = Callable[[LocalStore, Account, bytes], Awaitable[Any]]
ACTS: dict[str, Act] = {
    "open": lambda store, account, key: store.open(account),
    "listing": lambda store, account, key: store.listing(account),
    "create": lambda store, account, key: store.create(account, "A/B"),
    "subscribe": lambda store, account, key: store.subscribe(account, "A", True),
    "annotate": lambda store, account, key: store.annotate(account, bytes(key[:8]) + bytes(4), {b"/x": b"y"}),
    "append": lambda store, account, key: store.append(account, key, [message()]),
    "deliver": lambda store, account, key: store.deliver([Delivery(account, key, message())]),
    "rename": lambda store, account, key: store.rename(account, "Work", "Other"),
    "rename of INBOX": lambda store, account, key: store.rename(account, "INBOX", "Other"),
    "delete": lambda store, account, key: store.delete(account, "Work"),
}


def rows(store: LocalStore, number: int) -> list[tuple[str, bytes]]:
    shard = store.commits.shards[0]
    found = []
    with shard.env.read() as txn:
        for name, table in shard.env.db.items():
            if name in ("new", "meta"):  # their keys are no accounts'
                continue
            prefix = number.to_bytes(8, "big")
            found += [(name, bytes(key)) for key, _ in walk.rows(txn, table, prefix)]
    return found


@pytest.mark.parametrize("known", [True, False], ids=["opened before", "never opened"])
@pytest.mark.parametrize("mail", [True, False], ids=["its mail stays", "its mail is gone"])
@pytest.mark.parametrize("what", ACTS)
def test_s47_nothing_is_made_for_it(tmp_path: Path, what: str, mail: bool, known: bool) -> None:
    async def main() -> None:
        removed: set[int] = set()
        store = local_store(str(tmp_path / "data"), gone=lambda account: account.id in removed)
        await store.start()
        account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
        key = bytes(7) + b"\1" + bytes(3) + b"\1"
        if known:
            await store.open(account)
            await store.create(account, "Work")
            key = store.find(account, "INBOX") or b""
            await store.append(account, key, [message()])
        elif mail:
            for part in ("cur", "new", "tmp", ".Work/cur"):
                os.makedirs(tmp_path / "mail" / "a" / part)
        opened = dict(store.paths.inboxes)
        removed.add(1)
        await store.forget(account)
        store.paths.inboxes = opened  # another worker, which heard nothing
        if not mail:
            shutil.rmtree(tmp_path / "mail", ignore_errors=True)
        elif (tmp_path / "mail" / "a" / ".Work").exists():
            os.utime(tmp_path / "mail" / "a" / ".Work", (1, 1))  # an old folder, which a listing takes in
        before = sorted(str(path) for path in (tmp_path / "mail").rglob("*"))
        with contextlib.suppress(MailError) if known and what in ("open", "listing") else pytest.raises(MailError):
            await ACTS[what](store, account, key)
        assert rows(store, 1) == []
        assert sorted(str(path) for path in (tmp_path / "mail").rglob("*")) == before
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("what", ["open", "create"])
def test_s47_removed_between_the_directory_and_the_index(tmp_path: Path, what: str) -> None:
    """It was there when the directories were made, and is not when the rows shall be."""

    async def main() -> None:
        asked: list[bool] = []

        def gone(account: Account) -> bool:
            asked.append(True)
            return account.id == 1 and len(asked) > 1

        store = local_store(str(tmp_path / "data"), gone=gone)
        await store.start()
        account = housed(1, "a@example.test", str(tmp_path / "mail"))
        with pytest.raises(MailError):
            await (store.open(account) if what == "open" else store.create(account, "A/B"))
        assert rows(store, 1) == [] and not [path for path in tmp_path.rglob("*") if path.name in ("cur", ".A")]
        await store.close()

    asyncio.run(main())


def test_what_stands_for_everybody_is_never_gone(tmp_path: Path) -> None:
    """Lists with ``anyone`` leave their mark under a number that no directory knows."""

    async def main() -> None:
        store = local_store(str(tmp_path / "data"), gone=lambda account: account.id != 1)
        await store.start()
        owner = housed(1, "user@example.test", str(tmp_path / "mail"))
        await store.open(owner)
        key = store.find(owner, "INBOX")
        assert key is not None
        assert await sharing.set_list(store, lambda name: None, owner, key, {"anyone": "lr"})
        assert sharing.givers(store, housed(2, "other@example.test")) == {owner.address}
        await store.close()

    asyncio.run(main())
