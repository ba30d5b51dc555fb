"""delivery.recipients: what is known of an address from one message to the next, and when that is over."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from msgspec.structs import replace

from fastmail.delivery import recipients
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import Envelope
from fastmail.directory.lookup import Destinations
from fastmail.directory.memory import MemoryDirectory
from fastmail.model.errors import DamagedAccount
from fastmail.model.quota import Quota
from fastmail.store.memory.store import MemoryStore

USER = "A@d.test"


@pytest.fixture
def place() -> MemoryDirectory:
    made = MemoryDirectory()
    made.add_domain("d.test")
    made.add_accounts([("a@d.test", "{PLAIN}x"), ("b@d.test", "{PLAIN}x")])
    return made


@pytest.fixture
def deliverer(place: MemoryDirectory) -> Deliverer:
    return Deliverer(place, MemoryStore(), "mx.d.test")


def asked(deliverer: Deliverer, octets: int = 1000, address: str = USER) -> str:
    """The reply to RCPT, as smtp.recipients asks for it."""
    known = deliverer.known(address)
    if known is not None:
        assert deliverer.directory.is_local(address.rpartition("@")[2])
        assert known.there == deliverer.destinations(address)
        return deliverer.refused(known.account, known.most, octets)
    return deliverer.refusal(address, deliverer.destinations(address), octets)


CHANGES: list[tuple[Callable[[MemoryDirectory], object], str]] = [
    (lambda place: place.change_account("a@d.test", lambda old: replace(old, message_size=999)), "552 5.3.4"),
    (lambda place: place.change_domain("d.test", lambda old: replace(old, message_size=999)), "552 5.3.4"),
    (lambda place: place.set_quota("a@d.test", Quota(octets=999)), "552 5.2.2"),
    (lambda place: place.change_domain("d.test", lambda old: replace(old, quota=Quota(octets=999))), "552 5.2.2"),
]


@pytest.mark.parametrize(("change", "reply"), CHANGES)
def test_a_limit_counts_at_once(
    place: MemoryDirectory, deliverer: Deliverer, change: Callable[[MemoryDirectory], object], reply: str
) -> None:
    for _ in range(3):
        assert not asked(deliverer)
    assert deliverer.known(USER) is not None
    change(place)
    for _ in range(3):
        assert asked(deliverer).startswith(reply) and not asked(deliverer, 999 - 1)


def test_an_account_that_leaves_gets_nothing_more(place: MemoryDirectory, deliverer: Deliverer) -> None:
    async def main() -> None:
        assert not asked(deliverer)
        envelope = Envelope("x@far.test", [(USER, deliverer.destinations(USER).accounts)])
        assert [one.code for one in await deliverer.deliver(envelope, b"From: x@far.test\n\nhi\n")] == [250]
        place.remove_account("a@d.test")
        assert deliverer.known(USER) is None
        assert [one.code for one in await deliverer.deliver(envelope, b"From: x@far.test\n\nhi\n")] == [550]
        place.add_alias("a@d.test", ["b@d.test"])
        assert not asked(deliverer) and deliverer.known(USER) is not None
        # it leads to another account now, and that one was not named in this transaction
        assert [one.code for one in await deliverer.deliver(envelope, b"From: x@far.test\n\nhi\n")] == [550]

    run(main())


def test_a_big_message_is_refused_at_delivery_too(place: MemoryDirectory, deliverer: Deliverer) -> None:
    async def main() -> None:
        place.change_account("a@d.test", lambda old: replace(old, message_size=100))
        for _ in range(2):  # the second time it is known
            assert not asked(deliverer, 10)
            envelope = Envelope("x@far.test", [(USER, deliverer.destinations(USER).accounts)])
            (outcome,) = await deliverer.deliver(envelope, b"From: x@far.test\n\n" + b"x" * 100 + b"\n")
            assert (outcome.code, outcome.enhanced) == (552, "5.3.4")

    run(main())


def test_what_is_not_remembered(place: MemoryDirectory, deliverer: Deliverer) -> None:
    place.add_alias("two@d.test", ["a@d.test", "b@d.test"])
    place.add_domain("small.test")
    place.change_domain("small.test", lambda old: replace(old, most_octets=1 << 30))
    place.add_accounts([("c@small.test", "{PLAIN}x")])
    for address in ("two@d.test", "c@small.test", "nobody@d.test", "a@far.test", "postmaster@d.test"):
        asked(deliverer, address=address)
        assert deliverer.known(address) is None, address


def test_a_row_that_cannot_be_read_is_for_who_asks_where_it_leads(
    deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """smtp.recipients has a reply for that, and only there."""
    assert not asked(deliverer) and deliverer.known(USER) is not None

    def damaged(address: str) -> Destinations:
        raise DamagedAccount(address)

    monkeypatch.setattr(deliverer.directory, "destinations", damaged)
    assert deliverer.known(USER) is None
    with pytest.raises(DamagedAccount):
        deliverer.destinations(USER)


def test_there_is_a_most_of_what_is_known(
    place: MemoryDirectory, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipients, "REMEMBERED", 10)
    for n in range(100):
        asked(deliverer, address=f"a+{n}@d.test")
        assert len(deliverer._known) <= 11


def run(main: Coroutine[None, None, None]) -> None:
    asyncio.run(main)
