"""The full-text index follows what is delivered into mailboxes that were searched, and keeps no text of removed mail."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.model.flags import DELETED
from fastmail.store import filler as filling
from fastmail.store.filler import Filler
from fastmail.store.fulltext import FullText, folded
from fastmail.store.interface import Account, NewMessage
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import Bench, Client


class World:
    """A store in memory, an index, and a session that searched the INBOX with two messages once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bench = Bench(str(directory))
        assert isinstance(self.bench.store, MemoryStore)
        self.store = self.bench.store
        self.index = FullText(str(directory))
        self.account: Account = self.bench.deliverer.account(self.bench.directory.accounts["user@example.test"])
        self.gone: set[int] = set()
        self.filler = Filler(self.index, self.store, self.resolve)
        self.bench.imap.filler = self.filler
        self.store.hub.noted = self.filler.changed
        self.key = b""

    def resolve(self, number: int) -> Account | None:
        return self.account if number == self.account.id and number not in self.gone else None

    async def begin(self, follows: bool = True) -> Client:
        if follows:
            self.filler.follow()
        await self.store.open(self.account)
        key = self.store.find(self.account, "INBOX")
        assert key is not None
        self.key = key
        await self.add(key, "elephant one", "mouse two")
        client = self.bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\n")
        assert b"* SEARCH 1\r\n" in await client.send(b"c SEARCH TEXT elephant\r\n")
        await self.until(lambda: self.known() == UidSet.of_ranges((1, 2)))
        return client

    async def add(self, key: bytes, *words: str) -> None:
        raw = [f"Subject: {word}\n\nbody {word}\n".encode() for word in words]
        await self.store.append(
            self.account, key, [NewMessage((m,), mime.scan(m), mime.served_size(m), 1) for m in raw]
        )

    def known(self) -> UidSet:
        return self.index.known(self.key, self.store.boxes[self.key].row.uidvalidity)

    def octets(self) -> bytes:
        """All that is kept of texts on the disk."""
        out = b""
        for path in (self.directory / "fulltext").rglob("*.sqlite*"):
            with contextlib.suppress(FileNotFoundError):  # a log that was emptied meanwhile
                out += path.read_bytes()
        return out

    async def until(self, true: Callable[[], bool]) -> None:
        for _ in range(3000):
            if true():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not come true")


def play(directory: Path, work: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(directory)
        await work(world)
        await world.filler.close()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "LATER", 0.01)


def test_what_is_delivered_is_put_in_where_somebody_searched(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.begin()
        await world.add(world.key, "giraffe three")
        await world.until(lambda: world.known() == UidSet.of_ranges((1, 3)))
        assert b"giraffe three" in world.octets()
        await world.store.create(world.account, "Other")
        other = world.store.find(world.account, "Other")
        assert other is not None
        await world.add(other, "never searched")
        await world.add(world.key, "later than that")
        await world.until(lambda: b"later than that" in world.octets())
        assert b"never searched" not in world.octets()

    play(tmp_path, work)


def test_an_account_that_does_not_search_has_no_index(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.filler.follow()
        await world.store.open(world.account)
        key = world.store.find(world.account, "INBOX")
        assert key is not None
        await world.add(key, "elephant")
        await asyncio.sleep(0.2)
        assert not (tmp_path / "fulltext").exists()

    play(tmp_path, work)


def test_the_text_of_an_expunged_message_is_removed_from_the_disk(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        client = await world.begin()
        assert b"elephant one" in world.octets()
        await client.send(b"d STORE 1 +FLAGS (\\Deleted)\r\n")
        await client.send(b"e EXPUNGE\r\n")
        await world.until(lambda: world.known() == UidSet.of([2]))
        await world.until(lambda: b"elephant" not in world.octets())
        assert b"mouse two" in world.octets()
        assert b"* SEARCH 1\r\n" in await client.send(b"f SEARCH TEXT mouse\r\n")
        await world.store.expunge(world.account, world.key, None, 0)
        await world.until(lambda: not world.known())
        await world.add(world.key, "heron four")  # an emptied mailbox is still one that was searched
        await world.until(lambda: world.known() == UidSet.of([3]))

    play(tmp_path, work)


def test_the_texts_of_a_deleted_mailbox_are_removed(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        client = await world.begin()
        await client.send(b"d CREATE Zoo\r\ne SELECT Zoo\r\n")
        zoo = world.store.find(world.account, "Zoo")
        assert zoo is not None
        await world.add(zoo, "okapi five")
        await client.send(b"f NOOP\r\n")
        assert b"* SEARCH 1\r\n" in await client.send(b"g SEARCH BODY okapi\r\n")
        await world.until(lambda: b"okapi five" in world.octets())
        await client.send(b"h CLOSE\r\ni DELETE Zoo\r\n")
        await world.until(lambda: b"okapi" not in world.octets())
        assert b"elephant one" in world.octets()

    play(tmp_path, work)


def test_a_sweep_removes_what_went_unnoticed(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.begin()
        world.store.hub.noted = None  # as after a crash
        await world.store.store(world.account, world.key, UidSet.of([1]), 1, DELETED, [])
        await world.store.expunge(world.account, world.key, None, DELETED)
        assert b"elephant one" in world.octets()
        world.filler.sweep()
        await world.until(lambda: b"elephant" not in world.octets())
        assert world.known() == UidSet.of([2])
        world.gone.add(world.account.id)
        world.filler.sweep()
        await world.until(lambda: not world.index.accounts())

    play(tmp_path, work)


def test_a_command_removes_texts_before_it_ends(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.begin(follows=False)
        await world.store.expunge(world.account, world.key, UidSet.of([1]), 0)
        assert b"elephant one" in world.octets()
        await world.filler.close()
        assert b"elephant" not in world.octets() and b"mouse two" in world.octets()

    play(tmp_path, work)


def test_notes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "NOTED", 10)
    index = Filler(FullText(str(tmp_path)), MemoryStore())
    index.changed(n.to_bytes(12, "big") for n in range(100))
    assert len(index._noted) == 10


KEY = (1).to_bytes(8, "big") + (1).to_bytes(4, "big")


def test_texts_that_come_singly_share_chunks_and_stay_apart(tmp_path: Path) -> None:
    index = FullText(str(tmp_path))
    for uid in range(1, 41):
        index.add(KEY, 5, [folded(uid, b"Subject: s%d\n\nword%d and all\n" % (uid, uid))])
    assert list(index.find(KEY, 5, "word7 ", False)[0]) == [7]
    assert not index.find(KEY, 5, "subject: s7", False)[0]
    assert list(index.find(KEY, 5, "subject: s7\n", True)[0]) == [7]
    assert len(index.find(KEY, 5, "and all", False)[0]) == 40
    kept = UidSet.of([uid for uid in range(1, 41) if uid % 3])
    assert index.keep(KEY, 5, kept) == kept
    for uid in range(1, 41):
        found, known = index.find(KEY, 5, f"word{uid} ", False)
        assert known == kept and list(found) == ([uid] if uid % 3 else [])
    index.add(KEY, 5, [folded(50, b"Subject: s50\n\nword50 and all\n")])
    assert list(index.find(KEY, 5, "word50 ", False)[0]) == [50]
    assert index.keep(KEY, 6, kept) is None and not index.known(KEY, 5)  # another mailbox of that name
