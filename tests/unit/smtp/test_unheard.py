"""fastmail.smtp.unheard: a client that was cut off before its answer, and comes again, leaves one copy."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from fastmail.delivery.envelope import Outcome
from fastmail.smtp import unheard
from fastmail.smtp.unheard import Unheard
from fastmail.store.interface import Appended, Delivery
from tests.support.sessions import USER, Bench

OTHER = "other@example.test"
SMALL = b"Subject: once\r\n\r\nbody\r\n.\r\n"
LARGE = b"Subject: once\r\n\r\n" + (b"x" * 70 + b"\r\n") * 5000 + b".\r\n"


def copies(bench: Bench) -> int:
    return sum(len(box.messages) for box in bench.store.boxes.values())  # type: ignore[attr-defined]


async def send(
    bench: Bench, protocol: str, text: bytes = SMALL, cut: bool = False, to: tuple[str, ...] = (USER,)
) -> bytes:
    """The answer to a message; ``cut``: its client is gone behind the final dot."""
    client = bench.open(protocol)
    hello = b"LHLO" if protocol == "lmtp" else b"EHLO"
    lines = b"".join(b"RCPT TO:<%b>\r\n" % one.encode() for one in to)
    await client.send(hello + b" far.test\r\nMAIL FROM:<them@far.test>\r\n" + lines + b"DATA\r\n")
    if not cut:
        return await client.send(text)
    deliver, reached = bench.store.deliver, asyncio.Event()

    async def slow(items: Sequence[Delivery]) -> list[Appended]:
        reached.set()
        await asyncio.sleep(0.01)
        return await deliver(items)

    bench.store.deliver = slow  # type: ignore[method-assign]
    task = asyncio.create_task(client.send(text))
    await reached.wait()
    client.connection.connection_lost(None)
    bench.store.deliver = deliver  # type: ignore[method-assign]
    return await task


def run(path: Path, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Bench(str(path)))

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("text", [SMALL, LARGE], ids=["small", "large"])
def test_who_was_cut_off_and_comes_again(tmp_path: Path, protocol: str, text: bytes) -> None:
    async def scenario(bench: Bench) -> None:
        both = USER, OTHER
        assert await send(bench, protocol, text, True, both) == b""
        assert copies(bench) == 2
        again = await send(bench, protocol, text, to=both)
        assert again.count(b"250 ") == (2 if protocol == "lmtp" else 1) and copies(bench) == 2
        assert b"250" in await send(bench, protocol, text, to=both) and copies(bench) == 4, "that is another message"

    run(tmp_path, scenario)


def test_another_message_is_another_message(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await send(bench, "lmtp", cut=True)
        await send(bench, "lmtp", SMALL.replace(b"once", b"twice"))
        await send(bench, "lmtp", to=(OTHER,))
        assert copies(bench) == 3
        await send(bench, "lmtp")
        assert copies(bench) == 3

    run(tmp_path, scenario)


def test_what_was_refused_is_tried_again(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        deliver = bench.store.deliver

        async def fails(items: object) -> None:
            raise OSError(5, "no")

        bench.store.deliver = fails  # type: ignore[assignment, method-assign]
        await send(bench, "lmtp", cut=True)
        bench.store.deliver = deliver  # type: ignore[method-assign]
        assert (await send(bench, "lmtp")).startswith(b"250") and copies(bench) == 1

    run(tmp_path, scenario)


def test_it_is_bounded_by_number_and_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unheard, "MOST", 3)
    yes = [Outcome(250, "2.0.0", "kept")]

    async def scenario() -> None:
        answers = Unheard()
        for n in range(5):
            await answers.remember(b"t%d" % n, b"content", yes)
        assert [await answers.find(b"t%d" % n, b"content") for n in range(5)] == [None, None, yes, yes, yes]
        assert await answers.find(b"t4", b"content") is None, "given once"
        await answers.remember(b"t", b"content", yes)
        monkeypatch.setattr(unheard, "KEEP", -1.0)
        assert await answers.find(b"t", b"content") is None

    asyncio.run(scenario())


@pytest.mark.parametrize("steps", range(6))
def test_a_large_message_of_a_client_that_is_gone_is_whole_or_not_there(tmp_path: Path, steps: int) -> None:
    """It was still on its way to the disk."""

    async def scenario(bench: Bench) -> None:
        client = bench.open("lmtp")
        await client.send(b"LHLO far.test\r\nMAIL FROM:<them@far.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        await client.send(LARGE[:-3])
        client.listener.buffer[:3] = b".\r\n"
        client.connection.buffer_updated(3)
        for _ in range(steps):
            await asyncio.sleep(0)
        client.connection.connection_lost(None)
        await client.settle()
        found = [m for box in bench.store.boxes.values() for m in box.messages]  # type: ignore[attr-defined]
        assert all(len(m.content) > 350_000 for m in found)

    run(tmp_path, scenario)
