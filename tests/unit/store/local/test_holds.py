"""fastmail.store.local.holds: content that the queue and a mailbox share goes when the last of them lets go of it."""

import asyncio
import os
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.durable import segments
from fastmail.message import transaction
from fastmail.store.interface import Delivery, NewMessage
from fastmail.store.local.index import references
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

TEXT = b"Subject: shared\n\n" + b"x" * 400 + b"\n"


def message() -> NewMessage:
    summary = mime.scan(TEXT)
    return NewMessage((TEXT,), summary, int.from_bytes(summary[20:24], "little"), 1700000000)


def id_of(key: bytes) -> bytes:
    """Of the item 5 in the queue, another one for each mailbox."""
    return transaction.make(5, key[4:])


def dead(store: LocalStore) -> int:
    """How many records nothing refers to."""
    shard = store.commits.shards[0]
    with shard.env.read() as txn:
        return sum(len(references.dead_in(txn, shard.tables, one)) for one in segments.numbers(shard.directory))


@pytest.mark.parametrize("first", ["queue", "mailbox"])
def test_references_of_queue_and_mailboxes(tmp_path: Path, first: str) -> None:
    async def work() -> None:
        store = local_store(str(tmp_path / "data"), kind="segments")
        await store.start()
        account = housed(1, "a@example.test", str(tmp_path / "mail"))
        await store.open(account)
        await store.create(account, "Other")
        boxes = [store.find(account, name) or b"" for name in ("INBOX", "Other")]
        hold = await store.holds.keep(account, message(), 5)
        for key in boxes:
            await store.deliver([Delivery(account, key, message(), id_of(key), hold, again=True)])
        assert dead(store) == 0
        if first == "queue":
            await store.holds.let_go([5])
        else:
            for key in boxes:
                await store.expunge(account, key, UidSet.of([1]), 0)
            assert await store.holds.read(hold) == TEXT
        assert dead(store) == 0
        if first == "queue":
            assert [await store.content(account, key, 1) for key in boxes] == [TEXT, TEXT]
            await store.expunge(account, boxes[0], UidSet.of([1]), 0)
            assert dead(store) == 0 and await store.content(account, boxes[1], 1) == TEXT
            await store.expunge(account, boxes[1], UidSet.of([1]), 0)
        else:
            await store.holds.let_go([5])
        assert dead(store) == 1
        await store.close()

    asyncio.run(work())


def test_files_of_queue_and_mailboxes(tmp_path: Path) -> None:
    async def work() -> None:
        store = local_store(str(tmp_path / "data"))
        await store.start()
        account = housed(1, "a@example.test", str(tmp_path / "mail"))
        await store.open(account)
        key = store.find(account, "INBOX") or b""
        hold = await store.holds.keep(account, message(), 5)
        await store.deliver([Delivery(account, key, message(), id_of(key), hold, again=True)])
        (name,) = os.listdir(tmp_path / "mail" / "new")
        assert os.stat(tmp_path / "mail" / "new" / name).st_nlink == 2
        await store.holds.let_go([5])
        assert os.stat(tmp_path / "mail" / "new" / name).st_nlink == 1
        assert await store.content(account, key, 1) == TEXT
        await store.close()

    asyncio.run(work())
