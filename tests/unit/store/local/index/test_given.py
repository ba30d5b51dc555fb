"""fastmail.store.local.index.given: deliveries are known by their ids after a restart and a crash, and for a day."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.durable import segments
from fastmail.message import transaction
from fastmail.model.errors import NoSuchMailbox, StorageFailed
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.index import given, mailboxes, references
from fastmail.store.local.recovery import consistent_rows
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

TEXT = b"Subject: once\n\nbody\n"
Scenario = Callable[[LocalStore, Account, bytes], Awaitable[None]]


def message(text: bytes = TEXT) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1_700_000_000)


def run(path: Path, kind: str, *scenarios: Scenario, shards: int = 1) -> None:
    """One after the other, each with the store opened anew."""

    async def main(scenario: Scenario) -> None:
        store = local_store(str(path / "data"), shards, kind=kind)
        await store.start()
        account = housed(1, "a@example.test", str(path / "mail" / "a"))
        await store.open(account)
        try:
            await scenario(store, account, store.find(account, "INBOX") or b"")
        finally:
            await store.close()

    for scenario in scenarios:
        asyncio.run(main(scenario))


def uids(store: LocalStore, account: Account, key: bytes) -> list[int]:
    with store.snapshot(account) as snapshot:
        return [record[0] for page in snapshot.pages(key) for record in pages.records(page)]


def rows(store: LocalStore) -> list[bytes]:
    """Keys of the table, of the first shard."""
    shard = store.commits.shards[0]
    with shard.env.read() as txn:
        return [bytes(key) for key in txn.cursor(db=shard.tables.given).iternext(values=False)]


kinds = pytest.mark.parametrize("kind", ["maildir", "segments"])


@kinds
def test_a_repeat_after_a_restart(tmp_path: Path, kind: str) -> None:
    ident = transaction.new_id()

    async def first(store: LocalStore, account: Account, key: bytes) -> None:
        (placed,) = await store.deliver([Delivery(account, key, message(), ident)])
        assert placed.uids == [1]

    async def again(store: LocalStore, account: Account, key: bytes) -> None:
        item = Delivery(account, key, message(), ident)
        (placed,) = await store.deliver([item])
        assert placed.uids == [1] and placed.repeated and placed.modseq and placed.key == key
        assert await store.given([item]) == [placed]
        assert uids(store, account, key) == [1] and await store.content(account, key, 1) == TEXT

    run(tmp_path, kind, first, again, again)


@kinds
def test_the_content_of_a_repeat_goes(tmp_path: Path, kind: str) -> None:
    """No file and no record is left of it; the message's own stays."""

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        item = Delivery(account, key, message(), transaction.new_id())
        for _ in range(3):
            await store.deliver([item])
        await store.expunge(account, key, UidSet.of([1]), 0)
        await store.deliver([item])
        await store.deliver([Delivery(account, key, message(), transaction.new_id())])

    async def after(store: LocalStore, account: Account, key: bytes) -> None:
        assert len(os.listdir(tmp_path / "mail/a/new") if kind == "maildir" else [1]) == 1
        await store.sync(account, key)
        assert uids(store, account, key) == [2]
        assert await store.content(account, key, 2) == TEXT
        if kind == "segments":
            shard = store.commits.shards[0]
            with shard.env.read() as txn:
                dead = [len(references.dead_in(txn, shard.tables, n)) for n in segments.numbers(shard.directory)]
            assert sum(dead) == 4

    run(tmp_path, kind, scenario, after)


@pytest.mark.parametrize("moved", [True, False])
def test_a_repeat_from_the_queue_brings_back_no_file(tmp_path: Path, moved: bool, monkeypatch) -> None:
    """Its file has the same name again; the owner had moved or removed the message meanwhile."""

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        trash = store.find(account, "Trash") or b""
        item = Delivery(account, key, message(), transaction.new_id(), again=True)
        monkeypatch.setattr(store._deliveries, "_is_given", lambda item: False)  # both at the same time
        await store.deliver([item])
        if moved:
            await store.copy(account, key, UidSet.of([1]), trash, move=True)
        else:
            await store.expunge(account, key, UidSet.of([1]), 0)
        (placed,) = await store.deliver([item])
        assert placed.repeated

    async def after(store: LocalStore, account: Account, key: bytes) -> None:
        assert os.listdir(tmp_path / "mail/a/new") == os.listdir(tmp_path / "mail/a/cur") == []
        await store.sync(account, key)
        assert uids(store, account, key) == []
        assert uids(store, account, store.find(account, "Trash") or b"") == [1] * moved

    run(tmp_path, "maildir", scenario, after)


def test_the_file_of_a_flagged_message_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has been seen, so its file is in cur/; the repeat's is in new/ under the same base name."""

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        item = Delivery(account, key, message(), transaction.new_id(), again=True)
        await store.deliver([item])
        await store.store(account, key, UidSet.of([1]), 1, 1, [])
        for _ in range(100):
            if os.listdir(tmp_path / "mail/a/cur"):
                break
            await asyncio.sleep(0.05)
        monkeypatch.setattr(store._deliveries, "_is_given", lambda item: False)
        (placed,) = await store.deliver([item])
        assert placed.repeated
        await store.sync(account, key)
        assert uids(store, account, key) == [1] and await store.content(account, key, 1) == TEXT

    async def after(store: LocalStore, account: Account, key: bytes) -> None:
        assert os.listdir(tmp_path / "mail/a/new") == [] and len(os.listdir(tmp_path / "mail/a/cur")) == 1
        await store.follower.sync(account, key, force=True)
        assert uids(store, account, key) == [1] and await store.content(account, key, 1) == TEXT

    run(tmp_path, "maildir", scenario, after)


def test_a_repeat_while_the_file_is_renamed_leaves_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message's file is in cur/ already, and its row does not say so yet."""

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        item = Delivery(account, key, message(), transaction.new_id(), again=True)
        await store.deliver([item])
        monkeypatch.setattr(store._deliveries, "_is_given", lambda item: False)
        (name,) = os.listdir(tmp_path / "mail/a/new")
        os.rename(tmp_path / "mail/a/new" / name, tmp_path / "mail/a/cur" / f"{name}:2,S")
        (placed,) = await store.deliver([item])
        assert placed.repeated

    async def after(store: LocalStore, account: Account, key: bytes) -> None:
        assert os.listdir(tmp_path / "mail/a/new") == [] and len(os.listdir(tmp_path / "mail/a/cur")) == 1
        await store.follower.sync(account, key, force=True)
        assert uids(store, account, key) == [1] and await store.content(account, key, 1) == TEXT

    run(tmp_path, "maildir", scenario, after)


@kinds
def test_a_commit_that_fails_after_it_was_made(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same operation runs again: what it has put in place stays."""

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        shard = store.commits.shards[0]
        await store.append(account, key, [message()])  # a segment is open
        begin, left = shard.env.begin, [1]

        class Late:
            def __init__(self, txn) -> None:
                self._txn = txn

            def __getattr__(self, name: str):
                return getattr(self._txn, name)

            def commit(self) -> None:
                self._txn.commit()
                if left.pop() if left else 0:
                    raise OSError(5, "after the commit")

        monkeypatch.setattr(
            shard.env, "begin", lambda write=False: Late(begin(write=True)) if write and left else begin(write=write)
        )
        (placed,) = await store.deliver([Delivery(account, key, message(), transaction.new_id())])
        assert not left and placed.uids == [2]
        assert uids(store, account, key) == [1, 2] and await store.content(account, key, 2) == TEXT

    async def after(store: LocalStore, account: Account, key: bytes) -> None:
        await store.sync(account, key)
        assert uids(store, account, key) == [1, 2] and await store.content(account, key, 2) == TEXT

    run(tmp_path, kind, scenario, after)


def test_rows_go_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        now, day = transaction.new_number(), int(given.KEEP * 1e6) << 12
        old = [transaction.make(now - day - n, b"salted..") for n in range(1, 6)]
        young = [transaction.make(now - day // 2 - n, b"salted..") for n in range(5)]
        items = [Delivery(account, key, message(), ident) for ident in old + young]
        await store.deliver(items)
        assert len(rows(store)) == 10
        queued = transaction.number_of(old[2])
        monkeypatch.setattr(given, "BATCH", 2)
        assert await given.trim(store.commits.shards[0], lambda number: number == queued) == 4
        assert [key[:16] for key in rows(store)] == sorted([old[2], *young])
        assert await given.trim(store.commits.shards[0], lambda number: number == queued) == 0
        found = await store.given(items)
        assert [one is not None for one in found] == [False, False, True, False, False] + [True] * 5
        assert await given.trim(store.commits.shards[0]) == 1
        monkeypatch.setattr(given, "MOST", 2)
        assert await given.trim(store.commits.shards[0]) == 3
        assert [key[:16] for key in rows(store)] == sorted(young)[-2:]

    run(tmp_path, "maildir", scenario)


def test_it_is_trimmed_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "EVERY", 0.01)
    monkeypatch.setattr(given, "MOST", 1)

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.deliver([Delivery(account, key, message(), transaction.new_id()) for _ in range(5)])
        for _ in range(200):
            if len(rows(store)) == 1:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nothing is trimmed")

    run(tmp_path, "maildir", scenario)


def test_nothing_to_trim(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        assert await given.trim(store.commits.shards[0]) == 0

    run(tmp_path, "maildir", scenario)


def test_deliveries_from_before_there_were_ids_are_known(tmp_path: Path) -> None:
    """Rows that an older server wrote for messages that are still in the queue."""

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        number = transaction.new_number()
        (placed,) = await store.deliver([Delivery(account, key, message())])
        row = number.to_bytes(8, "big") + b"d" + key
        value = placed.uidvalidity.to_bytes(4, "big") + placed.uids[0].to_bytes(4, "big")
        await store.commits.submit(account, lambda txn, t: txn.put(row, value, db=t.held))
        item = Delivery(account, key, message(), transaction.make(number, b""), again=True)
        (again,) = await store.deliver([item])
        assert again.uids == placed.uids and again.repeated and uids(store, account, key) == [1]
        await store.holds.let_go([number])
        (fresh,) = await store.deliver([replace(item, id=transaction.new_id())])
        assert fresh.uids == [2]

    run(tmp_path, "maildir", scenario)


def test_a_row_that_is_forgotten_while_it_is_asked_for_costs_no_message(tmp_path: Path, monkeypatch) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        monkeypatch.setattr(store._deliveries, "_is_given", lambda item: True)
        item = Delivery(account, key, message(), transaction.new_id(), again=True)
        with pytest.raises(StorageFailed):
            await store.deliver([item])
        monkeypatch.undo()
        assert (await store.deliver([item]))[0].uids == [1]

    run(tmp_path, "maildir", scenario)


def test_one_that_fails_keeps_nothing_of_its_shard_and_is_not_known(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        ident = transaction.new_id()
        bad = Delivery(account, key[:11] + b"\xff", message(), ident, copy=1)
        good = Delivery(account, key, message(), ident)
        with pytest.raises(NoSuchMailbox):
            await store.deliver([good, bad])
        assert await store.given([good, bad]) == [None, None] and uids(store, account, key) == []
        assert (await store.deliver([good]))[0].uids == [1]

    run(tmp_path, "maildir", scenario)


def test_with_several_shards_each_answer_is_in_its_place(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        accounts = [account, *(housed(n, f"a{n}@example.test", str(tmp_path / f"mail/a{n}")) for n in range(2, 9))]
        for one in accounts[1:]:
            await store.open(one)
        ident = transaction.new_id()
        items = [Delivery(one, store.find(one, "INBOX") or b"", message(), ident) for one in accounts]
        await store.deliver(items[3:5])
        placed = await store.deliver(items)
        assert [one.key for one in placed] == [item.key for item in items]
        assert [one.repeated for one in placed] == [False, False, False, True, True, False, False, False]
        assert await store.given(items[::-1]) == placed[::-1]

    run(tmp_path, "maildir", scenario, shards=3)


def test_damaged_rows_go(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        item = Delivery(account, key, message(), transaction.new_id())
        await store.deliver([item])

        def damage(txn, t) -> None:
            txn.put(b"short", bytes(20), db=t.given)
            txn.put(bytes(25), b"short", db=t.given)

        await store.commits.submit(account, damage)
        await store.commits.submit(account, consistent_rows.make_consistent)
        assert rows(store) == [given.key_of(item)]

    run(tmp_path, "maildir", scenario)


@kinds
def test_a_file_with_the_number_in_its_name_is_known(tmp_path: Path, kind: str) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        number = transaction.new_number()
        item = Delivery(account, key, message(), transaction.make(number, b"salted.."), again=True)
        await store.deliver([item])
        shard = store.commits.shards[0]
        with shard.env.read() as txn:
            found = given.find_number(txn, shard.tables, number, key)
            assert found is not None and found.uids == [1]
            assert given.find_number(txn, shard.tables, number, key[:11] + b"\x09") is None
            assert given.find_number(txn, shard.tables, number + 1, key) is None
            assert mailboxes.find(txn, shard.tables, 1, "INBOX") == key

    run(tmp_path, kind, scenario)
