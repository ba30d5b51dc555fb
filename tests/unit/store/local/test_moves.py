"""MOVE to another account: whatever is killed, and whenever, each message is in one of the two mailboxes afterwards."""

import asyncio
import os
import shutil
import threading
from pathlib import Path

import pytest

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.durable.env import Environment
from fastmail.model.errors import StorageFailed
from fastmail.store import transfer
from fastmail.store.interface import Account, Appended, Copied, NewMessage, Origin
from fastmail.store.local.index import moving
from fastmail.store.local.maildir.names import NameMaker
from fastmail.store.local.recovery import check_account as checking
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store
from tests.support.journals import crashed
from tests.support.waiting import until

ALL = UidSet.of_ranges((1, 1 << 31))
KINDS = [("maildir", 1), ("maildir", 2), ("segments", 1), ("segments", 2)]
every = pytest.mark.parametrize("kind,shards", KINDS)


def text(n: int) -> bytes:
    return b"Subject: %d\n\n" % n + b"body\n" * 40


def message(n: int) -> NewMessage:
    return NewMessage((text(n),), mime.scan(text(n)), mime.served_size(text(n)), 1_700_000_000 + n)


class Place:
    """A store with two accounts, which are in different shards if there are two. ``data`` has everything."""

    def __init__(self, data: Path, kind: str, shards: int) -> None:
        self.data = data
        self.one, self.two = (housed(n, f"a{n}@example.test", str(data / f"mail{n}")) for n in (1, 2))
        known = {1: self.one, 2: self.two}
        self.store: LocalStore = local_store(str(data), shards, kind=kind, map_size=1 << 26, resolve=known.get)

    def key(self, account: Account) -> bytes:
        found = self.store.find(account, "INBOX")
        assert found is not None
        return found

    async def texts(self, account: Account) -> list[bytes]:
        await self.store.open(account)
        with self.store.snapshot(account) as snapshot:
            uids = [r[0] for page in snapshot.pages(self.key(account)) for r in pages.records(page)]
        return [await self.store.content(account, self.key(account), uid) or b"" for uid in uids]

    async def move(self, uids: UidSet = ALL) -> Copied:
        done = Copied(Appended(self.key(self.two), 0, []), [])
        source, target = self.key(self.one), self.key(self.two)
        await transfer.move(self.store, self.one, source, uids, self.two, target, 0xFF, True, done)
        return done

    async def fill(self, count: int) -> None:
        await self.store.start()
        for account in (self.one, self.two):
            await self.store.open(account)
        await self.store.append(self.one, self.key(self.one), [message(n) for n in range(count)])

    async def check(self) -> None:
        for account in (self.one, self.two):
            found = await checking.check(self.store, account)
            assert all(one.detail == "ok" for one in found), [one.detail for one in found]


@every
@pytest.mark.parametrize(
    "batch", [pytest.param(1, id="many commits", marks=pytest.mark.slow), pytest.param(1 << 20, id="one commit")]
)
def test_a_kill_at_any_moment_leaves_each_message_in_one_mailbox(
    tmp_path: Path, kind: str, shards: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BATCH", batch)
    copies: list[Path] = []
    real, lock = Environment.sync, threading.Lock()  # each shard has a thread that commits

    def snapped(env: Environment) -> None:
        """What is on the disk before each sync, and after it."""
        for sync in (lambda: None, lambda: real(env)):
            sync()
            with lock:
                copies.append(crashed(tmp_path / "data", tmp_path / f"copy{len(copies)}"))

    async def work() -> None:
        place = Place(tmp_path / "data", kind, shards)
        await place.fill(3)
        with monkeypatch.context() as patch:
            patch.setattr(Environment, "sync", snapped)
            done = await place.move()
        assert (done.source, len(done.target.uids)) == ([1, 2, 3], 3)
        files = [path for sub in ("new", "cur") for path in (tmp_path / "data" / "mail2").glob(f"{sub}/*")]
        assert [NameMaker.source_in(os.fsencode(path.name)) for path in files] == [1] * len(files)
        assert (await place.texts(place.one), await place.texts(place.two)) == ([], [text(n) for n in range(3)])
        await place.store.close()

    async def after(data: Path) -> int:
        shutil.rmtree(tmp_path / "data")
        data.rename(tmp_path / "data")  # where the accounts have their mail
        place = Place(tmp_path / "data", kind, shards)
        await place.store.start()
        left, came = await place.texts(place.one), await place.texts(place.two)
        assert sorted(left + came) == [text(n) for n in range(3)]
        await place.check()
        for shard in place.store.commits.shards:
            with shard.env.read() as txn:
                assert not list(moving.unfinished(txn, shard.tables)), "what was to be done is done"
        await place.store.close()
        return len(came)

    asyncio.run(work())
    arrived = [asyncio.run(after(data)) for data in copies]
    assert arrived == sorted(arrived) and arrived[-1] == 3
    assert set(arrived) >= ({1, 2, 3} if batch == 1 else {3})


@every
def test_what_was_removed_meanwhile_does_not_come_back(tmp_path: Path, kind: str, shards: int) -> None:
    async def work() -> None:
        place = Place(tmp_path / "data", kind, shards)
        await place.fill(3)
        store, source, target = place.store, place.key(place.one), place.key(place.two)
        await store.expunge(place.one, source, UidSet.of([2]), 0)
        done = await store.append(
            place.two, target, [message(n) for n in range(3)], origin=Origin(place.one, source, [1, 2, 3])
        )
        assert done.moved is not None and list(done.moved.uids) == [1, 3] and len(done.uids) == 2
        assert (await place.texts(place.one), await place.texts(place.two)) == ([], [text(0), text(2)])
        done = await store.append(place.two, target, [message(1)], origin=Origin(place.one, source, [2]))
        assert done.uids == [] and done.moved is not None and not done.moved.uids
        assert len(await place.texts(place.two)) == 2
        await place.check()
        await store.close()
        if kind == "maildir":
            files = [path for sub in ("new", "cur") for path in (tmp_path / "data" / "mail2" / sub).iterdir()]
            assert len(files) == 2, "content that was not needed is removed"

    asyncio.run(work())


@every
def test_one_that_fails_in_the_middle_says_what_it_moved(
    tmp_path: Path, kind: str, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BATCH", 1)

    async def work() -> None:
        place = Place(tmp_path / "data", kind, shards)
        await place.fill(3)
        real, calls = place.store.content, 0

        async def content(account: Account, key: bytes, uid: int) -> bytes | None:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise StorageFailed("it cannot be read")
            return await real(account, key, uid)

        done = Copied(Appended(place.key(place.two), 0, []), [])
        with monkeypatch.context() as patch:
            patch.setattr(place.store, "content", content)
            with pytest.raises(StorageFailed):
                await transfer.move(
                    place.store, place.one, place.key(place.one), ALL, place.two, place.key(place.two), 0xFF, True, done
                )
        assert (done.source, len(done.target.uids)) == ([1, 2], 2)
        assert (await place.texts(place.one), await place.texts(place.two)) == ([text(2)], [text(0), text(1)])
        await place.store.close()

    asyncio.run(work())


def test_the_source_may_be_gone_when_it_is_finished(tmp_path: Path) -> None:
    """With its mailbox, or its account."""

    async def work(gone: bool) -> None:
        place = Place(tmp_path / str(gone), "maildir", 2)
        await place.fill(1)
        shard = place.store.commits.shard(2)
        nowhere = place.key(place.one)[:-4] + b"\0\0\0\x63"
        copies = await place.store.append(place.two, place.key(place.two), [message(0)])
        with shard.env.write() as txn:
            pair = moving.PAIR.pack(1, 1)
            txn.put(moving.row_key(nowhere, copies), pair, db=shard.tables.meta)
        if gone:
            place.store._moves._resolve = lambda number: None
        await place.store._moves.finish()
        with shard.env.read() as txn:
            assert not list(moving.unfinished(txn, shard.tables))
        assert await place.texts(place.one) == [text(0)]
        await place.store.close()

    for gone in (False, True):
        asyncio.run(work(gone))


@pytest.mark.parametrize("content", ["whole", "torn", "empty"])
@pytest.mark.parametrize("source", ["there", "gone"])
def test_what_a_loss_of_power_left_before_the_commit(tmp_path: Path, source: str, content: str) -> None:
    """It is no second copy; but where the message is nowhere else, it is the message."""

    async def work() -> int:
        place = Place(tmp_path / "data", "maildir", 2)
        await place.fill(1)
        whole = text(0) * 100
        size = len(whole)
        await place.store.expunge(place.one, place.key(place.one), None, 0)
        made = NewMessage((whole,), mime.scan(whole), mime.served_size(whole), 1_700_000_000)
        await place.store.append(place.one, place.key(place.one), [made])
        if source == "gone":
            await place.store.expunge(place.one, place.key(place.one), None, 0)
            await until(lambda: not list((tmp_path / "data" / "mail1").glob("[nc]*/*")))
        name = NameMaker("deadbeef").make(size, made.size, source=1)
        assert NameMaker.is_copy(name) and NameMaker.source_in(name) == 1 and NameMaker.octets_in(name) == size
        left = {"whole": whole, "torn": whole[:4096] + bytes(4096), "empty": b""}[content]
        (tmp_path / "data" / "mail2" / "new" / name.decode()).write_bytes(left)
        for shard in place.store.commits.shards:
            shard.env.note_stop()
        await place.store.follower.sync(place.two, place.key(place.two), force=True)
        count = len(await place.texts(place.two))
        await place.store.close()
        return count

    assert asyncio.run(work()) == (1 if source == "gone" and content != "empty" else 0)
