"""Whoever waits for a delivery, an APPEND, a COPY or a MOVE is cancelled, at each wait: nothing is lost, nothing stays.

What was handed to a commit is kept, with all that follows it, or leaves nothing behind; what is done again with the same
id is there once.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.durable import segments
from fastmail.message import transaction
from fastmail.model.errors import StorageFailed
from fastmail.store import transfer
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.index import references
from fastmail.store.local.segments.usage import covered
from fastmail.store.quota import usage
from tests.support.cancelled import is_cancelled
from tests.support.homes import housed, local_store

STEPS = 40  # more than any of them has
TEXT = b"Subject: once\n\n" + b"body\n" * 50
KINDS = [("maildir", 1, False), ("maildir", 3, False), ("segments", 1, False), ("segments", 3, False)]
every = pytest.mark.parametrize("kind,shards,shared", [*KINDS, ("maildir", 1, True)])


def message(text: bytes = TEXT, keywords: tuple[bytes, ...] = ()) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1_700_000_000, keywords=keywords)


class Bench:
    """A store with accounts in different shards."""

    def __init__(self, path: Path, kind: str, shards: int, shared: bool) -> None:
        self.path, self.kind = path, kind
        self.store = local_store(str(path / "data"), shards, kind=kind, shared=shared)
        self.accounts = [housed(n, f"a{n}@example.test", str(path / f"mail/a{n}")) for n in (1, 2, 3)]

    async def start(self) -> None:
        await self.store.start()
        for account in self.accounts:
            await self.store.open(account)

    def key(self, account: Account, name: str = "INBOX") -> bytes:
        key = self.store.find(account, name)
        assert key is not None
        return key

    def uids(self, account: Account, name: str = "INBOX") -> list[int]:
        with self.store.snapshot(account) as snapshot:
            return [r[0] for page in snapshot.pages(self.key(account, name)) for r in pages.records(page)]

    async def calm(self) -> None:
        """Until all that was handed over is done: what comes behind it is."""
        await self.store._going_on.ended()
        for account in self.accounts:
            await self.store.append(account, self.key(account, "Archive"), [message(b"Subject: behind\n\n\n")])

    async def check(self) -> None:
        """Everything is as if nobody had been cancelled: names, content, numbers, segments."""
        store = self.store
        for account in self.accounts:
            here = 0
            with store.snapshot(account) as snapshot:
                boxes = snapshot.boxes(account.id)
                sizes = [r[5] for box in boxes for page in snapshot.pages(box.key) for r in pages.records(page)]
            assert usage(store, account).octets == sum(sizes), "what counts is what is there"
            for box in boxes:
                for uid in self.uids(account, box.name):
                    assert await store.content(account, box.key, uid) is not None
                here += box.exists
            assert here == len(sizes)
        await store.close()
        if self.kind == "maildir":
            self._check_files()
        else:
            self._check_segments()

    def _check_files(self) -> None:
        known = local_store(str(self.path / "data"), self.store.commits.settings.shards, kind=self.kind, recover=False)

        async def names() -> None:
            await known.start()
            for account in self.accounts:
                with known.snapshot(account) as snapshot:
                    rows = {name[1:] for box in snapshot.boxes(account.id) for _, name in snapshot.files(box.key)}
                there = {
                    os.fsencode(path.name)
                    for path in Path(account.home.root).rglob("*")
                    if path.parent.name in ("new", "cur") and path.is_file()
                }
                assert there == rows, "each file has its record, and each record its file"
                assert not [path for path in Path(account.home.root).rglob("tmp/*") if path.is_file()]
            await known.close()

        self._later = names

    def _check_segments(self) -> None:
        known = local_store(str(self.path / "data"), self.store.commits.settings.shards, kind=self.kind, recover=False)

        async def places() -> None:
            await known.start()
            for shard in known.commits.shards:
                with shard.env.read() as txn:
                    named = {
                        references.REFERENCE.unpack_from(mark)[1] for _, mark in references.marks(txn, shard.tables)
                    }
                    for number in segments.numbers(shard.directory):
                        dead = references.dead_in(txn, shard.tables, number)
                        for record, start, end in segments.scan(shard.directory, number):
                            if record is not None and record.id in named:
                                assert start not in dead
                            else:
                                assert covered(dead, start, end), "space that nobody knows to be free"
            await known.close()

        self._later = places

    async def end(self) -> None:
        await self.check()
        await self._later()


def run(bench: Bench, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await bench.start()
        try:
            await scenario()
        except BaseException:
            await bench.store.close()
            raise
        await bench.end()

    asyncio.run(main())


@every
def test_a_delivery(tmp_path: Path, kind: str, shards: int, shared: bool) -> None:
    bench = Bench(tmp_path, kind, shards, shared)

    async def scenario() -> None:
        cut = 0
        for at in range(1, STEPS):
            ident = transaction.new_id()
            items = [Delivery(one, bench.key(one), message(), ident) for one in bench.accounts]
            before = [bench.uids(one) for one in bench.accounts]
            cancelled = await is_cancelled(bench.store.deliver(items), at)
            cut += cancelled
            await bench.calm()
            there = await bench.store.given(items)
            for one, was, place in zip(bench.accounts, before, there, strict=True):
                assert bench.uids(one) == was + (place.uids if place is not None else [])
            assert cancelled or None not in there
            assert shards > 1 or len({place is None for place in there}) == 1, "all of a shard, or none"
            placed = await bench.store.deliver(items)
            assert [one for one in there if one is not None] == [
                one for one, was in zip(placed, there, strict=True) if was is not None
            ]
            for one, was, place in zip(bench.accounts, before, placed, strict=True):
                assert bench.uids(one) == was + place.uids
            if not cancelled:
                break
        assert cut and not cancelled

    run(bench, scenario)


@every
def test_an_append(tmp_path: Path, kind: str, shards: int, shared: bool) -> None:
    bench = Bench(tmp_path, kind, shards, shared)

    async def scenario() -> None:
        account = bench.accounts[1]
        for at in range(1, STEPS):
            before = bench.uids(account)
            new = [message(keywords=(b"word",)), message()]
            cancelled = await is_cancelled(bench.store.append(account, bench.key(account), new), at)
            await bench.calm()
            assert len(bench.uids(account)) - len(before) in ((0, 2) if cancelled else (2,)), "all or none"
            if not cancelled:
                break
        assert not cancelled and at > 1

    run(bench, scenario)


@every
@pytest.mark.parametrize("move", [False, True])
def test_copy_and_move(tmp_path: Path, kind: str, shards: int, shared: bool, move: bool) -> None:
    bench = Bench(tmp_path, kind, shards, shared)

    async def scenario() -> None:
        account, store = bench.accounts[0], bench.store
        key, target = bench.key(account), bench.key(account, "Sent")
        for at in range(1, STEPS):
            placed = await store.append(account, key, [message(), message()])
            before = bench.uids(account, "Sent")
            uids = UidSet.of(placed.uids)
            cancelled = await is_cancelled(store.copy(account, key, uids, target, move=move), at)
            await bench.calm()
            came = len(bench.uids(account, "Sent")) - len(before)
            left = [uid for uid in bench.uids(account) if uid in uids]
            assert came in ((0, 2) if cancelled else (2,))
            assert len(left) == (2 if not move or not came else 0), "each is in one place, or in both for COPY"
            if not cancelled:
                break
        assert not cancelled and at > 1

    run(bench, scenario)


@pytest.mark.parametrize("kind,shards,shared", KINDS)
def test_a_transfer_to_another_account(tmp_path: Path, kind: str, shards: int, shared: bool) -> None:
    bench = Bench(tmp_path, kind, shards, shared)

    async def scenario() -> None:
        (one, other, _), store = bench.accounts, bench.store
        placed = await store.append(one, bench.key(one), [message(), message()])
        for at in range(1, STEPS):
            before = bench.uids(other)
            work = transfer.copy(
                store, one, bench.key(one), UidSet.of(placed.uids), other, bench.key(other), 0xFF, True
            )
            cancelled = await is_cancelled(work, at)
            await bench.calm()
            assert bench.uids(one) == placed.uids
            assert len(bench.uids(other)) - len(before) == (0 if cancelled else 2), "all, or none"
            if not cancelled:
                break
        assert not cancelled and at > 1

    run(bench, scenario)


@every
def test_flags_and_expunge(tmp_path: Path, kind: str, shards: int, shared: bool) -> None:
    bench = Bench(tmp_path, kind, shards, shared)

    async def scenario() -> None:
        account, store = bench.accounts[0], bench.store
        key = bench.key(account)
        for at in range(1, STEPS):
            placed = await store.append(account, key, [message()])
            uids = UidSet.of(placed.uids)
            one = await is_cancelled(store.store(account, key, uids, 1, 8, [b"word"]), at)
            two = await is_cancelled(store.expunge(account, key, uids, 0), at)
            await bench.calm()
            assert placed.uids[0] not in bench.uids(account) or two
            if not one and not two:
                break
        assert not one and not two

    run(bench, scenario)


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_content_that_was_placed_and_not_written_is_nobodys(tmp_path: Path, kind: str) -> None:
    """The second of two messages can have no place."""
    bench = Bench(tmp_path, kind, 1, False)

    async def scenario() -> None:
        account, store = bench.accounts[0], bench.store
        placing, tried = store._deliveries._placing, 0
        place = placing.at_once

        def fails(*args, **more):
            nonlocal tried
            tried += 1
            if tried % 2 == 0:
                raise StorageFailed("no place")
            return place(*args, **more)

        placing.at_once = fails  # type: ignore[method-assign]
        key = bench.key(account)
        with pytest.raises(StorageFailed):
            await store.append(account, key, [message(), message()])
        with pytest.raises(StorageFailed):
            await store.deliver([Delivery(account, key, message(), transaction.new_id(), copy=n) for n in (0, 1)])
        placing.at_once = place  # type: ignore[method-assign]
        await store.append(account, key, [message()])
        assert bench.uids(account) == [1]

    run(bench, scenario)


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_what_follows_a_commit_is_done_for_whoever_was_cancelled(tmp_path: Path, kind: str) -> None:
    """Nobody delivers to that mailbox again: the message is there all the same."""
    bench = Bench(tmp_path, kind, 1, False)

    async def scenario() -> None:
        def deliver(account: Account) -> Coroutine[Any, Any, Any]:
            return bench.store.deliver([Delivery(account, bench.key(account), message(), transaction.new_id())])

        one, other, _ = bench.accounts
        await deliver(other)  # a segment is open from here on
        last = 1
        while await is_cancelled(deliver(other), last):
            last += 1
        assert await is_cancelled(deliver(one), last - 1), "at its last wait, which is for the commit"
        await bench.calm()
        assert bench.uids(one) == [1]

    run(bench, scenario)
