"""Many messages with long summaries: no transaction writes, and nothing reads, more than a few of them at once."""

import asyncio
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import idents, mime
from fastmail._core.uidset import UidSet
from fastmail.durable.env import Environment
from fastmail.message import identity
from fastmail.message import summary as summaries
from fastmail.message.preview import scanned
from fastmail.model.errors import StorageFailed
from fastmail.store import transfer
from fastmail.store.interface import Account, Copied, Delivery, NewMessage
from fastmail.store.local import long_copies
from fastmail.store.local.index import box_rows
from fastmail.store.local.maildir import looking
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.segments import convert
from fastmail.store.local.store import LocalStore
from fastmail.store.room import Room
from tests.support.homes import housed, local_store

BOMB = b"Subject: s\nFrom: " + b":;" * 4000 + b"\n\nbody\n"
MADE = scanned(BOMB)
ONE = len(MADE) + 200  # with its row's key and name
COUNT = 20
ALL = UidSet.of_ranges((1, 0xFFFFFFFF))
Scenario = Callable[[LocalStore, Account, bytes], Awaitable[None]]


class Counted:
    """A writer's transaction that counts the octets which it is given."""

    most = 0

    def __init__(self, txn: Any) -> None:
        self._txn = txn
        self._octets = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)

    def _add(self, octets: int) -> None:
        self._octets += octets
        Counted.most = max(Counted.most, self._octets)

    def put(self, key: bytes, value: bytes, **more: Any) -> bool:
        self._add(len(value))
        return bool(self._txn.put(key, value, **more))

    def cursor(self, **more: Any) -> Any:
        cursor = self._txn.cursor(**more)
        return CountedCursor(cursor, self._add)


class CountedCursor:
    def __init__(self, cursor: Any, add: Callable[[int], None]) -> None:
        self._cursor = cursor
        self._add = add

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def putmulti(self, rows: list[tuple[bytes, bytes]]) -> Any:
        self._add(sum(len(value) for _, value in rows))
        return self._cursor.putmulti(rows)


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that few messages reach."""
    assert len(MADE) > 100_000
    monkeypatch.setattr(box_rows, "WRITTEN", 3 * ONE)
    monkeypatch.setattr(box_rows, "OCTETS", ONE)
    begin = Environment.begin

    def counted(self: Environment, write: bool = False) -> Any:
        txn = begin(self, write)
        return Counted(txn) if write else txn

    monkeypatch.setattr(Environment, "begin", counted)


def run(place: Path, scenario: Scenario, count: int = COUNT, kind: str = "maildir") -> None:
    async def main() -> None:
        store = local_store(str(place / "data"), kind=kind)
        await store.start()
        try:
            account = housed(1, "a@example.test", str(place / "mail" / "a"))
            await store.open(account)
            await store.create(account, "There")
            key = store.find(account, "INBOX")
            assert key is not None
            for _ in range(count):
                await store.deliver([Delivery(account, key, NewMessage((BOMB,), MADE, mime.served_size(BOMB), 1000))])
            Counted.most = 0
            await scenario(store, account, key)
            assert Counted.most < 5 * ONE, f"{Counted.most // ONE} summaries in one transaction"
        finally:
            await store.close()

    asyncio.run(main())


def marks(store: LocalStore, account: Account, key: bytes) -> list[bytes]:
    """What names each message; AssertionError where its summary is not what it was."""
    with store.snapshot(account) as snapshot:
        found = snapshot.summaries(key, ALL)
        rows = sorted((uid, bytes(one)) for uid, one in found.items())
    assert all(one[: len(MADE)] == MADE and len(one) == len(MADE) + identity.TRAIL.size for _, one in rows)
    return [identity.email_id(one) for _, one in rows]


def target_of(store: LocalStore, account: Account) -> bytes:
    found = store.find(account, "There")
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["maildir", "segments"])
@pytest.mark.parametrize("move", [False, True])
def test_copy_and_move_go_in_parts(tmp_path: Path, kind: str, move: bool) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        target, before = target_of(store, account), marks(store, account, key)
        done = await store.copy(account, key, ALL, target, move)
        assert marks(store, account, target) == before
        assert done.source == list(range(1, COUNT + 1)) and done.target.uids == done.source
        assert (done.expunged is not None) == move
        assert marks(store, account, key) == ([] if move else before)
        for uid in (1, COUNT):
            assert await store.content(account, target, uid) == BOMB
        with store.snapshot(account) as snapshot:
            assert snapshot.holding(1).kept == (1 if move else 2) * COUNT * (len(MADE) + identity.TRAIL.size - 4096)

    run(tmp_path, scenario, kind=kind)


@pytest.mark.parametrize("move", [False, True])
def test_nothing_is_left_of_a_copy_that_fails(tmp_path: Path, move: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        target, before = target_of(store, account), marks(store, account, key)
        real, calls = store._copies._once, 0

        async def fails(*args: Any) -> Copied:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise StorageFailed("for a test")
            return await real(*args)

        monkeypatch.setattr(store._copies, "_once", fails)
        with pytest.raises(StorageFailed):
            await store.copy(account, key, ALL, target, move)
        assert marks(store, account, target) == [] and marks(store, account, key) == before

    run(tmp_path, scenario)


def test_parts_hold_every_message_once() -> None:
    uids = UidSet.of_ranges((1, 9, 20, 40))
    assert long_copies.split(uids, {}) == [uids]
    every = long_copies.split(uids, {3: 2 * ONE, 5: 2 * ONE, 25: 4 * ONE, 40: ONE})
    assert [list(one) for one in every] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, *range(20, 26)], list(range(26, 41))]
    assert long_copies.split(UidSet.of([7]), {7: 9 * ONE}) == [UidSet.of([7])]
    assert long_copies.split(UidSet(), {}) == [UidSet()]


def test_rows_are_read_few_at_a_time(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        target = target_of(store, account)
        await store.copy(account, key, ALL, target)
        await store.delete(account, "There")
        await store.expunge(account, key, ALL, 0)
        with store.snapshot(account) as snapshot:
            assert snapshot.holding(1).kept == 0

    tracemalloc.start()
    try:
        run(tmp_path, scenario)
        assert tracemalloc.get_traced_memory()[1] < 12 * ONE
    finally:
        tracemalloc.stop()


def test_names_that_follow_flags_are_written_in_parts(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        before = marks(store, account, key)
        await store.take_recent(account, key)
        await store._tidier._tidy(account, key)
        assert len(os.listdir(tmp_path / "mail" / "a" / "cur")) == COUNT
        assert marks(store, account, key) == before
        with store.commits.shards[0].env.read() as txn:
            assert txn.stat(store.commits.shards[0].tables.todo)["entries"] == 0

    run(tmp_path, scenario)


def test_names_that_others_give_are_written_in_parts(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.take_recent(account, key)
        await store._tidier._tidy(account, key)
        cur = tmp_path / "mail" / "a" / "cur"
        for name in os.listdir(cur):
            os.rename(cur / name, cur / (name + "F"))
        await store.follower.sync(account, key, force=True)
        marks(store, account, key)
        with store.snapshot(account) as snapshot:
            assert all(name.endswith(b"F") for _, name in snapshot.files(key))

    run(tmp_path, scenario)


def test_files_of_others_are_taken_in_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = looking.examine

    def examine(*args: Any) -> Any:
        found, count = real(*args)
        looked.append(len(found))
        return found, count

    monkeypatch.setattr(looking, "examine", examine)

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        for number in range(COUNT):
            (tmp_path / "mail" / "a" / "new" / f"100{number:02}.x.y").write_bytes(BOMB)
        await store.follower.sync(account, key, force=True)
        assert len(set(marks(store, account, key))) == COUNT
        assert max(looked) <= 5 and sum(looked) == COUNT
        with store.snapshot(account) as snapshot:
            assert [name for _, name in snapshot.files(key)] == [b"n100%02d.x.y" % number for number in range(COUNT)]

    run(tmp_path, scenario, count=0)


def test_a_mailbox_is_rebuilt_without_all_of_them_in_memory(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [NewMessage((b"Subject: x\n\nx\n",), mime.scan(b"\n"), 14, 1000)])
        with store.snapshot(account) as snapshot:
            before = {uid: identity.email_id(one) for uid, one in snapshot.summaries(key, ALL).items()}
        assert all(one.problems == 0 for one in await rebuild_account.rebuild(store, account))
        with store.snapshot(account) as snapshot:
            after = {uid: identity.email_id(one) for uid, one in snapshot.summaries(key, ALL).items()}
            assert all(summaries.read(one) is not None for _, one in snapshot.summaries(key, ALL).items())
            assert snapshot.holding(1).kept == COUNT * (len(MADE) + identity.TRAIL.size - 4096)
        assert after == before

    run(tmp_path, scenario)


def test_they_are_converted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "OCTETS", 3 * ONE)

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        before = marks(store, account, key)
        done = await convert.convert(store, account, "maildir", lambda count: None)
        assert done.converted == COUNT and done.left == 0
        assert marks(store, account, key) == before

    run(tmp_path, scenario, kind="segments")


def test_sessions_that_deliver_at_once_wait_for_each_other(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        store._room = Room(3 * ONE)
        message = NewMessage((BOMB,), MADE, mime.served_size(BOMB), 1000)
        await asyncio.gather(*(store.deliver([Delivery(account, key, message)]) for _ in range(COUNT)))
        await asyncio.gather(*(store.append(account, key, [message]) for _ in range(COUNT)))
        assert len(marks(store, account, key)) == 2 * COUNT

    run(tmp_path, scenario, count=0)


def test_between_accounts_they_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmail.store.transfer.BATCH", 3 * ONE)

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        other = housed(2, "b@example.test", str(tmp_path / "mail" / "b"))
        await store.open(other)
        to = store.find(other, "INBOX")
        assert to is not None
        before = marks(store, account, key)
        tracemalloc.reset_peak()
        at_rest = tracemalloc.get_traced_memory()[0]
        done = await transfer.copy(store, account, key, ALL, other, to, 31, True)
        assert tracemalloc.get_traced_memory()[1] - at_rest < 14 * ONE
        assert len(done.source) == COUNT and marks(store, other, to) == before

    tracemalloc.start()
    try:
        run(tmp_path, scenario)
    finally:
        tracemalloc.stop()


def test_previews_are_kept_in_parts(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        for _ in range(COUNT):
            message = NewMessage((BOMB,), mime.scan(BOMB), mime.served_size(BOMB), 1000)
            await store.deliver([Delivery(account, key, message)])
        with store.snapshot(account) as snapshot:
            before = snapshot.holding(account.id)
        names = [email for email, _ in previews(store, account, key)]
        await store.learn_previews(account, key, dict.fromkeys(range(1, COUNT + 1), b"body"))
        assert previews(store, account, key) == [(name, b"body") for name in names]
        with store.snapshot(account) as snapshot:
            after = snapshot.holding(account.id)
            assert after.modseq == before.modseq, "nobody is told of it"
            found = snapshot.summaries(key, ALL)
            assert after.kept == sum(mime.counted(one) for _, one in found.items())

    run(tmp_path, scenario, 0)


def previews(store: LocalStore, account: Account, key: bytes) -> list[tuple[bytes, bytes | None]]:
    with store.snapshot(account) as snapshot:
        return [(identity.email_id(one), idents.preview(one)) for _, one in snapshot.summaries(key, ALL).items()]


def test_a_mailbox_is_removed_without_all_of_them_in_memory(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.copy(account, key, ALL, target_of(store, account))
        tracemalloc.reset_peak()
        at_rest = tracemalloc.get_traced_memory()[0]
        await store.delete(account, "There")
        assert tracemalloc.get_traced_memory()[1] - at_rest < 8 * ONE
        with store.snapshot(account) as snapshot:
            assert snapshot.holding(account.id).messages == COUNT

    tracemalloc.start()
    try:
        run(tmp_path, scenario)
    finally:
        tracemalloc.stop()


def test_what_is_kept_of_a_removed_message_has_its_name(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        names = [email for email, _ in previews(store, account, key)]
        for _ in range(2):
            await store.views.begin(key)
        await store.expunge(account, key, None, 0)
        with store.snapshot(account) as snapshot:
            snapshot.recall(key, ALL.both(UidSet.of_ranges((1, COUNT))))
            found = dict(snapshot.summaries(key, ALL).items())
            assert [identity.email_id(found[uid]) for uid in sorted(found)] == names
            assert all(len(one) < 100 and summaries.read(one) is None for one in found.values())

    run(tmp_path, scenario)
