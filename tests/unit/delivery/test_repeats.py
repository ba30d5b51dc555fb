"""fastmail.delivery.deliver: what a call that failed has kept is asked for before anything is tried again or refused."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastmail.delivery.envelope import Envelope, Named, NotAll
from fastmail.message import transaction
from fastmail.model.errors import StorageFailed, StorageFull
from fastmail.model.quota import Quota
from fastmail.relay import runner
from fastmail.store.interface import Appended, Delivery
from tests.integration.test_relay import world
from tests.support.notes import Noting
from tests.support.sessions import USER, Bench, Client

OTHER = "other@example.test"
TEAM = "team@example.test"
TEXT = b"Subject: for all\r\n\r\nbody\r\n.\r\n"


class Unsure:
    """A store whose ``deliver`` keeps what is for ``kept`` and fails, ``times`` times; ``mute``: and cannot say what."""

    def __init__(self, bench: Bench, kept: Sequence[str] = (USER, OTHER), times: int = 1, mute: bool = False) -> None:
        self.kept, self.times, self.mute, self.asked = kept, times, mute, 0
        self.error: Exception = StorageFailed("perhaps it is kept")
        self._deliver, self._given = bench.store.deliver, bench.store.given
        bench.store.deliver, bench.store.given = self.deliver, self.given  # type: ignore[method-assign, assignment]

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        if self.times and any(item.account.address not in self.kept for item in items) | (len(self.kept) == 2):
            self.times -= 1
            await self._deliver([item for item in items if item.account.address in self.kept])
            raise self.error
        return await self._deliver(items)

    async def given(self, items: Sequence[Delivery]) -> list[Appended | None]:
        self.asked += 1
        if self.mute:
            raise StorageFailed("not now")
        return await self._given(items)


def had(bench: Bench) -> dict[str, int]:
    names = {record.id: address for address, record in bench.directory.accounts.items()}
    out = dict.fromkeys(names.values(), 0)
    for key, box in bench.store.boxes.items():  # type: ignore[attr-defined]
        out[names[int.from_bytes(key[:8], "big")]] += len(box.messages)
    return out


async def sent(bench: Bench, protocol: str, *to: str) -> list[bytes]:
    """The codes of the replies to the message."""
    client: Client = bench.open(protocol)
    lines = b"".join(b"RCPT TO:<%b>\r\n" % one.encode() for one in to)
    hello = b"LHLO" if protocol == "lmtp" else b"EHLO"
    got = await client.send(hello + b" far.test\r\nMAIL FROM:<them@far.test>\r\n" + lines + b"DATA\r\n")
    assert got.endswith(b"354 end with CRLF . CRLF\r\n"), got
    return [line[:3] for line in (await client.send(TEXT)).splitlines()]


def run(path: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Bench(str(path)))

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("to", [(USER,), (USER, OTHER), (TEAM,)])
def test_what_was_kept_is_acknowledged(tmp_path: Path, protocol: str, to: tuple[str, ...]) -> None:
    async def scenario(bench: Bench) -> None:
        unsure = Unsure(bench)
        assert await sent(bench, protocol, *to) == [b"250"] * (len(to) if protocol == "lmtp" else 1)
        assert unsure.asked == 1 and set(had(bench).values()) <= {0, 1} and had(bench)[USER] == 1
        assert await sent(bench, protocol, *to) == [b"250"] * (len(to) if protocol == "lmtp" else 1)
        assert had(bench)[USER] == 2

    run(tmp_path, scenario)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_the_rest_is_tried_once_more(tmp_path: Path, protocol: str) -> None:
    async def scenario(bench: Bench) -> None:
        Unsure(bench, kept=(USER,))
        assert await sent(bench, protocol, USER, OTHER) == [b"250"] * (2 if protocol == "lmtp" else 1)
        assert had(bench) == {USER: 1, OTHER: 1}

    run(tmp_path, scenario)


def test_smtp_without_a_queue_takes_back_what_only_some_got(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        unsure = Unsure(bench, kept=(USER,), times=2)
        assert await sent(bench, "smtp", USER, OTHER) == [b"451"]
        assert unsure.times == 0 and had(bench) == {USER: 0, OTHER: 0}
        assert await sent(bench, "smtp", USER, OTHER) == [b"250"]
        assert had(bench) == {USER: 1, OTHER: 1}, "a 4xx means that a repeat gives one copy to each"

    run(tmp_path, scenario)


def test_lmtp_answers_for_each_recipient(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        Unsure(bench, kept=(USER,), times=9)
        assert await sent(bench, "lmtp", OTHER, USER) == [b"451", b"250"]
        assert had(bench) == {USER: 1, OTHER: 0}

    run(tmp_path, scenario)


def test_an_address_of_several_accounts_is_one_recipient(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        unsure = Unsure(bench, kept=(USER,), times=9)
        assert await sent(bench, "lmtp", TEAM) == [b"451"]
        assert had(bench) == {USER: 0, OTHER: 0}
        assert await sent(bench, "lmtp", TEAM, USER) == [b"451", b"451"]
        assert had(bench) == {USER: 0, OTHER: 0}
        unsure.times = 0
        assert await sent(bench, "lmtp", TEAM) == [b"250"]
        assert had(bench) == {USER: 1, OTHER: 1}

    run(tmp_path, scenario)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_store_that_cannot_say(tmp_path: Path, protocol: str) -> None:
    async def scenario(bench: Bench) -> None:
        unsure = Unsure(bench, kept=(), mute=True, times=9)
        assert await sent(bench, protocol, USER) == [b"451"]
        unsure.error = StorageFull("no room")
        assert await sent(bench, protocol, USER) == [b"452"]
        assert had(bench)[USER] == 0

    run(tmp_path, scenario)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_what_cannot_be_written_down_is_delivered_all_the_same(tmp_path: Path, protocol: str) -> None:
    class History(Noting):
        def note(self, *args: object, **more: object) -> None:
            raise RuntimeError("a bug")

    async def scenario(bench: Bench) -> None:
        bench.deliverer.history = History()  # type: ignore[assignment]
        assert await sent(bench, protocol, USER) == [b"250"]
        assert had(bench)[USER] == 1

    run(tmp_path, scenario)


def test_from_the_queue_a_message_is_kept_once(tmp_path: Path) -> None:
    """Also where it has filled the account itself, and where one of several accounts can not have it for a while."""

    async def scenario(bench: Bench) -> None:
        record = bench.directory.accounts[USER]
        named = Named("Q1", transaction.new_id())

        async def deliver(*to: str) -> list[int]:
            envelope = Envelope("them@far.test", [(one, bench.directory.resolve(one)) for one in to])
            return [one.code for one in await bench.deliverer.deliver(envelope, b"Subject: x\n\nbody\n", queued=named)]

        assert await deliver(USER) == [250]
        bench.directory.set_quota(USER, Quota(0, 1, 0))
        assert await deliver(USER) == [250], "what the account has it need not have room for again"
        unsure = Unsure(bench, kept=(USER,), times=9)
        assert await deliver(TEAM) == [451] and had(bench) == {USER: 1, OTHER: 0}
        unsure.times = 0
        assert await deliver(TEAM) == [250] and had(bench) == {USER: 1, OTHER: 1}
        await bench.store.expunge(
            bench.deliverer.account(record), bench.store.find(bench.deliverer.account(record), "INBOX") or b"", None, 0
        )
        assert await deliver(TEAM, USER) == [250, 250] and had(bench) == {USER: 0, OTHER: 1}
        named = Named("Q2", transaction.new_id())
        assert await deliver(USER) == [250] and await deliver(USER) == [250] and had(bench)[USER] == 1
        other = Named("Q3", transaction.new_id())
        named = other
        assert await deliver(USER) == [552]

    run(tmp_path, scenario)


def test_who_is_told_that_not_all_have_it_knows_who_has(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        Unsure(bench, kept=(USER,), times=9)
        envelope = Envelope("them@far.test", [(one, bench.directory.resolve(one)) for one in (USER, OTHER)])
        with pytest.raises(NotAll) as caught:
            await bench.deliverer.deliver_to_all(envelope, b"Subject: x\n\nbody\n")
        assert [item.account.address for item, _ in caught.value.kept] == [USER] and caught.value.some
        bench.store.expunge = failing  # type: ignore[assignment]
        await bench.deliverer.take_back(caught.value.kept)  # it is in the log
        assert had(bench) == {USER: 1, OTHER: 0}

    async def failing(*args: object, **more: object) -> None:
        raise StorageFailed("no")

    run(tmp_path, scenario)


def test_a_queue_whose_answer_was_lost_is_asked(tmp_path: Path) -> None:
    """Its commit was made, and failed all the same."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            enqueue = w.spool.enqueue

            async def unsure(*args: Any, **more: Any) -> None:
                await enqueue(*args, **more)
                raise StorageFailed("perhaps it is there")

            w.spool.enqueue = unsure  # type: ignore[assignment, method-assign]
            assert (await w.send("you@far.test")).startswith(b"250 2.0.0")
            assert w.spool.depth() == (1, 1)

            async def fails(*args: Any, **more: Any) -> None:
                raise StorageFailed("it is not there")

            w.spool.enqueue = fails  # type: ignore[assignment, method-assign]
            assert (await w.send("you@far.test")).startswith(b"451")
            assert w.spool.depth() == (1, 1)

    asyncio.run(scenario())


def test_a_queue_that_refuses_what_some_have_already(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            unsure = Unsure(w.bench, kept=(USER,), times=9)
            enqueue = w.spool.enqueue

            async def full(*args: Any, **more: Any) -> None:
                raise StorageFull("no room")

            w.spool.enqueue = full  # type: ignore[assignment, method-assign]
            assert await sent(w.bench, "smtp", USER, OTHER) == [b"452"]
            assert had(w.bench) == {USER: 0, OTHER: 0}
            w.spool.enqueue = enqueue  # type: ignore[method-assign, assignment]
            assert await sent(w.bench, "smtp", USER, OTHER) == [b"250"]
            assert had(w.bench) == {USER: 1, OTHER: 0} and w.spool.depth()[0] == 1
            unsure.times = 0
            w.run()
            await w.drained()
            assert had(w.bench) == {USER: 1, OTHER: 1}

    asyncio.run(scenario())


def test_an_answer_that_could_not_be_written_down_is_not_asked_for_again(tmp_path: Path, monkeypatch) -> None:
    """The other host has the message: only our disk did not take that in."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            monkeypatch.setattr(runner, "OUR_TROUBLE", 0.2)
            change, left = w.spool.change, [1, 1]

            async def fails(*args: Any, **more: Any) -> None:
                if left:
                    left.pop()
                    raise StorageFailed("not now")
                await change(*args, **more)

            w.spool.change = fails  # type: ignore[method-assign, assignment]
            assert (await w.send("you@far.test")).startswith(b"250")
            w.run()
            await w.drained()
            assert not left and len(w.sink.taken) == 1 and not w.runner._outcomes.unsettled

    asyncio.run(scenario())
