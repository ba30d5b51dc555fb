"""One message to many accounts: what the index keeps of it is bounded for all of them together."""

import asyncio

import pytest

from fastmail._core import mime
from fastmail.delivery import deliver
from fastmail.delivery.deliver import Deliverer, Envelope, Mail
from fastmail.directory.interface import AccountRecord
from fastmail.store.memory import MemoryStore
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
    deliverer = Deliverer(directory, store, "mx.example.test", Mail("/x"))
    envelope = Envelope("a@b.example", [(name, deliverer.resolve(name)) for name in names])
    outcomes = asyncio.run(deliverer.deliver(envelope, content))
    assert all(outcome.ok for outcome in outcomes)
    return [message.summary for box in store.boxes.values() for message in box.messages]


def test_s29_summaries_of_all_recipients_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "SUMMARIES", 4 << 20)
    one = delivered(BOMB, 1)
    assert len(one[0]) > len(mime.scan(BOMB)), "with what delivery puts in front"
    many = delivered(BOMB, 60)
    assert len(many) == 60
    assert sum(map(len, many)) < 4 << 20
    assert len({len(one) for one in many}) < 4
    small = delivered(b"Subject: x\nTo: a@b\n\nbody\n", 60)
    assert all(b'"x"' in one for one in small)
