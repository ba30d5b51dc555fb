"""Deliveries that are repeated in any order, at the same time, over restarts and behind the owners' backs: each is kept
once in its account, and every answer is the first one's."""

import asyncio
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from msgspec import structs

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.message import transaction
from fastmail.store.interface import Account, Appended, Delivery, NewMessage, Store
from fastmail.store.local.index import given
from fastmail.store.memory.store import MemoryStore
from tests.support.examples import seeds
from tests.support.homes import housed, local_store

ROUNDS = 120
NAMES = ("INBOX", "Sent", "Archive")


def message(text: bytes) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1_700_000_000)


@dataclass
class Model:
    """What was answered first, by delivery; and where the messages must be, by account."""

    answers: dict[bytes, Appended] = field(default_factory=dict)
    mail: dict[int, list[bytes]] = field(default_factory=dict)


class Run:
    """One store that lives on over restarts, and the model beside it."""

    def __init__(self, path: Path, kind: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.path, self.kind = path, kind
        self.accounts = [housed(n, f"a{n}@example.test", str(path / f"mail/a{n}")) for n in (1, 2, 3)]
        self.model = Model(mail={one.id: [] for one in self.accounts})
        self.ids: list[bytes] = []
        self.store: Store = MemoryStore()

    async def start(self) -> None:
        if self.kind != "memory":
            self.store = local_store(str(self.path / "data"), self.rng.choice([2]), kind=self.kind)
        await self.store.start()
        for account in self.accounts:
            await self.store.open(account)

    def key(self, account: Account, name: str) -> bytes:
        key = self.store.find(account, name)
        assert key is not None
        return key

    def pick(self) -> Delivery:
        """A delivery, which may have been made before."""
        rng = self.rng
        if not self.ids or rng.random() < 0.4:
            self.ids.append(transaction.new_id())
        account = rng.choice(self.accounts)
        ident, copy = rng.choice(self.ids[-12:]), rng.choice([0, 0, 0, 1])
        text = b"Subject: %b\n\nbody\n" % (ident + bytes([copy])).hex().encode()
        key = self.key(account, rng.choice(NAMES))
        return Delivery(account, key, message(text), ident, again=rng.random() < 0.5, copy=copy)

    def note(self, item: Delivery, placed: Appended) -> None:
        at = given.key_of(item)
        if at not in self.model.answers:
            assert placed.key == item.key or at in self.model.answers
            self.model.answers[at] = replace(placed, repeated=False)
            self.model.mail[item.account.id].append(bytes(item.message.content[0]))
        assert placed == self.model.answers[at]

    async def deliver(self) -> None:
        items = [self.pick() for _ in range(self.rng.randrange(1, 5))]
        for item, placed in zip(items, await self.store.deliver(items), strict=True):
            self.note(item, placed)

    async def deliver_at_once(self) -> None:
        """The same in several sessions; whose mailbox it is, is said by the answer."""
        items = [self.pick() for _ in range(self.rng.randrange(1, 4))]
        results = await asyncio.gather(*(self.store.deliver(items) for _ in range(3)))
        for n, item in enumerate(items):
            first = next((result[n] for result in results if not result[n].repeated), results[0][n])
            self.note(
                structs.replace(item, key=first.key) if given.key_of(item) not in self.model.answers else item, first
            )
            for result in results:
                self.note(item, result[n])

    async def ask(self) -> None:
        items = [self.pick() for _ in range(4)]
        for item, placed in zip(items, await self.store.given(items), strict=True):
            assert placed == self.model.answers.get(given.key_of(item))

    async def remove(self) -> None:
        account = self.rng.choice(self.accounts)
        key = self.key(account, self.rng.choice(NAMES))
        gone = [uid for uid in self.uids(account, key) if self.rng.random() < 0.3]
        for uid in gone:
            text = await self.store.content(account, key, uid)
            assert text is not None
            self.model.mail[account.id].remove(text)
        await self.store.expunge(account, key, UidSet.of(gone), 0)

    async def move(self) -> None:
        account = self.rng.choice(self.accounts)
        source, target = (self.key(account, name) for name in self.rng.sample(NAMES, 2))
        some = [uid for uid in self.uids(account, source) if self.rng.random() < 0.3]
        await self.store.copy(account, source, UidSet.of(some), target, move=True)

    async def restart(self) -> None:
        if self.kind != "memory":
            await self.store.close()
            await self.start()

    def uids(self, account: Account, key: bytes) -> list[int]:
        with self.store.snapshot(account) as snapshot:
            return [record[0] for page in snapshot.pages(key) for record in pages.records(page)]

    async def check(self) -> None:
        for account in self.accounts:
            found = []
            for name in NAMES:
                key = self.key(account, name)
                await self.store.sync(account, key)
                for uid in self.uids(account, key):
                    text = await self.store.content(account, key, uid)
                    assert text is not None
                    found.append(text)
            assert sorted(found) == sorted(self.model.mail[account.id])

    async def go(self) -> None:
        await self.start()
        for n in range(ROUNDS):
            work = self.rng.choices(
                [self.deliver, self.deliver_at_once, self.ask, self.remove, self.move, self.restart],
                [6, 4, 2, 2, 2, 0.3],
            )[0]
            await work()
            if n % 20 == 19:
                await self.check()
        await self.restart()
        await self.check()
        await self.store.close()


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("kind", ["memory", "maildir", "segments"])
def test_each_delivery_is_kept_once(tmp_path: Path, kind: str, seed: int) -> None:
    asyncio.run(Run(tmp_path, kind, seed).go())
