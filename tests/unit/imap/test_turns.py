"""Turns of long commands: one in a round of the event loop, in their order; what is in threads is bounded."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from fastmail.imap import turns
from fastmail.imap.turns import ASIDE, Turns
from tests.support.sessions import Bench, Client
from tests.unit.net.test_unread import SELECT, fill


def test_one_turn_in_a_round_and_each_in_its_order() -> None:
    async def main() -> None:
        table, loop = Turns(), asyncio.get_running_loop()
        rounds, done = 0, []

        def count() -> None:
            nonlocal rounds
            rounds += 1
            if len(done) < 40:
                loop.call_soon(count)

        async def work(name: int) -> None:
            for _ in range(4):
                await table.wait()
                done.append((rounds, name))

        loop.call_soon(count)
        await asyncio.gather(*(work(name) for name in range(10)))
        assert len({when for when, _ in done}) == 40, "never two in one round"
        assert [name for _, name in done] == list(range(10)) * 4

    asyncio.run(main())


def test_who_went_away_while_it_waited_holds_nobody_up() -> None:
    async def main() -> None:
        table = Turns()
        gone = [asyncio.ensure_future(table.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        for one in gone[:4]:
            one.cancel()
        async with asyncio.timeout(5):
            await gone[4]
            await table.wait()

    asyncio.run(main())


def test_threads_are_left_for_others() -> None:
    async def main() -> None:
        table, lock, now, most = Turns(), threading.Lock(), 0, 0

        def work() -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= 1

        await asyncio.gather(*(table.aside(work) for _ in range(12)))
        assert most == ASIDE

    asyncio.run(main())


async def searching(tmp_path: Path, messages: int) -> tuple[Bench, Client]:
    bench = Bench(str(tmp_path))
    await fill(bench, messages)
    client = bench.open("imap")
    await client.send(SELECT)
    return bench, client


def feed(client: Client, data: bytes) -> None:
    client.listener.buffer[: len(data)] = data
    client.connection.buffer_updated(len(data))


@pytest.mark.parametrize("keys", [b"NOT BODY zz ", b"NOT HEADER Received zz ", b"NOT SUBJECT zz "])
def test_a_search_ends_when_its_client_is_gone(tmp_path: Path, keys: bytes) -> None:
    async def main() -> None:
        _, client = await searching(tmp_path, 3000)
        feed(client, b"t SEARCH " + keys * 500 + b"ALL\r\n")
        await asyncio.sleep(0.05)
        assert client.connection.busy
        client.connection.connection_lost(None)
        task = client.connection._task
        assert task is not None
        await asyncio.wait_for(asyncio.wait([task]), 2)

    asyncio.run(main())


def test_a_client_that_may_be_gone_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of what it sends does not say whether it still reads: what is written does."""
    monkeypatch.setattr(turns, "SLICE", 0.0)
    now = [0.0]

    def later() -> float:
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr(turns.time, "monotonic", later)

    async def main() -> None:
        _, client = await searching(tmp_path, 700)
        start = len(client.transport.data)
        feed(client, b"t SEARCH BODY nowhere\r\n")
        assert client.connection.eof_received()
        await client.settle()
        told = client.transport.data[start:].count(b"[INPROGRESS")
        assert told > 3 and client.transport.data.endswith(b"t OK SEARCH completed\r\n") and client.transport.closed

    asyncio.run(main())


def test_searches_that_come_together_give_way(tmp_path: Path) -> None:
    """Each is answered at once, with a short line; a few of them are a batch."""

    async def main() -> None:
        bench, client = await searching(tmp_path, 2000)
        other = bench.open("imap")
        feed(client, (b"t SEARCH " + b"NOT SMALLER 1 " * 100 + b"LARGER 99999999\r\n") * 100)
        assert client.connection.busy, "it is not done with all of them"
        told = client.transport.data.count(b"t OK SEARCH")
        assert 0 < told < 20, told
        assert b"n OK" in await other.send(b"n NOOP\r\n")
        await client.settle()
        assert client.transport.data.count(b"t OK SEARCH") == 100

    asyncio.run(main())
