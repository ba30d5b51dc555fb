"""fastmail.delivery.pools: what a domain's accounts have together is refused beyond the domain's limit."""

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from fastmail._core.uidset import UidSet
from fastmail.delivery import pools
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.delivery.pools import Pool
from fastmail.directory.interface import AccountRecord
from fastmail.directory.records import Domain
from fastmail.store.interface import Account
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import USER, FakeDirectory

OTHER = "other@example.test"
SIZE = 1000


def message(octets: int = SIZE) -> bytes:
    return b"From: a@far.test\n\n" + b"x" * octets + b"\n"


async def deliver(deliverer: Deliverer, to: str) -> int:
    envelope = Envelope("a@far.test", [(to, deliverer.resolve(to))])
    return (await deliverer.deliver(envelope, message()))[0].code


def refusal(deliverer: Deliverer, octets: int) -> str:
    return deliverer.refusal(USER, deliverer.destinations(USER), octets)


def limited(most: int) -> tuple[FakeDirectory, MemoryStore, Deliverer]:
    directory, store = FakeDirectory(), MemoryStore()
    directory.domains["example.test"] = Domain("example.test", most_octets=most)
    return directory, store, Deliverer(directory, store, "mx.example.test")


def test_the_accounts_of_a_domain_share_its_limit() -> None:
    async def main() -> None:
        directory, _, deliverer = limited(3 * SIZE)
        codes = [await deliver(deliverer, to) for to in (USER, OTHER, USER, OTHER)]
        assert codes == [250, 250, 552, 552], "each message has its trace fields"
        assert refusal(deliverer, SIZE) and not refusal(deliverer, 1)
        directory.domains["example.test"] = Domain("example.test", most_octets=40 * SIZE)
        assert await deliver(deliverer, OTHER) == 250, "a limit counts at once"
        directory.domains.clear()
        assert deliverer.account(directory.accounts[USER]).pool is None

    asyncio.run(main())


def test_what_other_workers_took_is_seen_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        directory, store, mine = limited(6 * SIZE)
        theirs = Deliverer(directory, store, "mx.example.test")
        assert [await deliver(one, USER) for one in (mine, theirs, mine, mine)] == [250] * 4
        assert await deliver(theirs, USER) == 250, "it does not know of the last two, and there is no room any more"
        later = time.monotonic() + 2 * pools.EVERY
        monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: later))
        assert [await deliver(one, OTHER) for one in (mine, theirs)] == [552, 552]

    asyncio.run(main())


def test_a_look_is_one_for_all_who_wait_and_others_have_their_turn() -> None:
    looks = 0

    class Many(FakeDirectory):
        def each_account(self, domain: str = "", after: str = "") -> Iterator[AccountRecord]:
            nonlocal looks
            looks += 1
            yield from (AccountRecord(n, f"u{n}@d.test", "") for n in range(1, 5 * pools.AT_ONCE))

    async def main() -> None:
        store = MemoryStore()
        for n in (1, 450):
            await store.open(Account(n, f"u{n}@d.test"))
        pool = Pool(Many(), store, "d.test", 100)
        assert pool.fits(1 << 40), "nothing is known yet, and nobody is refused for that"
        turns = 0
        waiting = [asyncio.ensure_future(pool.ready(1)) for _ in range(3)]
        while not all(one.done() for one in waiting):
            turns += 1
            await asyncio.sleep(0)
        assert looks == 1 and turns > 4
        assert pool.fits(100) and not pool.fits(101)
        pool.took(60)
        assert pool.fits(40) and not pool.fits(41)

    asyncio.run(main())


def test_nobody_is_refused_by_an_old_sum_at_rcpt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all is refused before the content comes, the sum is taken again all the same."""

    async def main() -> None:
        directory, store, deliverer = limited(2 * SIZE)
        record = directory.accounts[USER]
        assert await deliver(deliverer, USER) == 250 and refusal(deliverer, SIZE)
        account = deliverer.account(record)
        key = store.find(account, "INBOX")
        assert key is not None and account.pool is not None
        await store.expunge(account, key, UidSet.of([1]), 0)
        assert refusal(deliverer, SIZE), "for a moment"
        later = time.monotonic() + 2 * pools.AGAIN
        monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: later))
        assert not refusal(deliverer, SIZE), "it is old: whoever delivers the message looks again"
        await account.pool.ready(SIZE)
        assert account.pool.fits(2 * SIZE) and not account.pool.fits(2 * SIZE + 1)

    asyncio.run(main())
