"""One message to many accounts: what the index keeps of it is bounded for all of them together."""

import asyncio
from collections.abc import Sequence

import pytest

from fastmail._core import mime
from fastmail.delivery import planning
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.directory.interface import AccountRecord
from fastmail.store.interface import Appended, Delivery
from fastmail.store.memory.store import MemoryStore
from fastmail.store.room import Room
from tests.support.sessions import FakeDirectory

BOMB = (
    b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n"
    + (b"--b\nContent-Type: message/rfc822\n\nFrom: " + b":;" * 400 + b"\n\n\n") * 1000
)


def delivered(content: bytes, people: int) -> list[bytes]:
    """The summaries that its recipients have."""
    directory = FakeDirectory()
    names = [f"u{n}@example.test" for n in range(people)]
    directory.accounts |= {name: AccountRecord(n, name, "") for n, name in enumerate(names, 10)}
    store = MemoryStore()
    deliverer = Deliverer(directory, store, "mx.example.test")
    envelope = Envelope("a@b.example", [(name, deliverer.resolve(name)) for name in names])
    outcomes = asyncio.run(deliverer.deliver(envelope, content))
    assert all(outcome.ok for outcome in outcomes)
    return [message.summary for box in store.boxes.values() for message in box.messages]


def test_s29_summaries_of_all_recipients_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "SUMMARIES", 4 << 20)
    one = delivered(BOMB, 1)
    assert len(one[0]) > len(mime.scan(BOMB)), "with what delivery puts in front"
    many = delivered(BOMB, 60)
    assert len(many) == 60
    assert sum(map(len, many)) < 4 << 20
    assert len({len(one) for one in many}) < 4
    small = delivered(b"Subject: x\nTo: a@b\n\nbody\n", 60)
    assert all(b'"x"' in one for one in small)


def test_s29_messages_at_once_wait_before_their_summaries_are_made() -> None:
    """What waits for the store has its summary in memory: so many octets of them, whatever comes at once."""
    waiting = most = 0

    class Slow(MemoryStore):
        async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
            nonlocal waiting, most
            octets = sum(len(item.message.summary) for item in items)
            waiting += octets
            most = max(most, waiting)
            await asyncio.sleep(0.001)
            waiting -= octets
            return await super().deliver(items)

    async def main() -> None:
        directory = FakeDirectory()
        directory.accounts |= {"u@example.test": AccountRecord(10, "u@example.test", "")}
        deliverer = Deliverer(directory, Slow(), "mx.example.test")
        deliverer._room = Room(1 << 20)
        envelope = Envelope("a@b.example", [("u@example.test", deliverer.resolve("u@example.test"))])
        small = b"Subject: x\n" + BOMB[: len(BOMB) // 4]
        assert len(small) < planning.SCAN_ON_LOOP < len(BOMB)
        for content in (small, BOMB):
            one = len(mime.scan(content))
            done = await asyncio.gather(*(deliverer.deliver(envelope, content) for _ in range(20)))
            assert all(outcome.ok for outcomes in done for outcome in outcomes)
            assert most < (1 << 20) + 2 * one

    asyncio.run(main())
