"""Messages on their way in: memory of a worker and of an account, and what one account may have under way."""

import asyncio
import threading
from pathlib import Path

import pytest

from fastmail.durable.staging import LEAST, SHARE, SPILL, STREAM, Budget, Staged, staged_whole
from tests.support.sessions import Bench

LOGIN = b"a LOGIN user@example.test secret\r\n"


def fed(staged: Staged, octets: int, piece: int = 8192) -> int:
    """Add so much, as a session does; octets that are in memory at most at any moment."""
    most = 0
    for start in range(0, octets, piece):
        full = staged.add(b"x" * min(piece, octets - start))
        most = max(most, staged._in_memory)
        if full:
            asyncio.run(staged.spill())
    return most


def test_one_message_spills_at_its_bound(tmp_path: Path) -> None:
    budget = Budget()
    staged = Staged(str(tmp_path), budget)
    assert fed(staged, 1 << 20) <= SPILL + 8192
    assert staged.spilled
    assert budget.used <= STREAM + 8192
    asyncio.run(staged.spill())
    assert bytes(staged.content()) == b"x" * (1 << 20)
    staged.drop()
    staged.drop()
    assert budget.used == 0
    assert not list(tmp_path.iterdir())


def test_a_session_that_ends_while_its_message_is_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    put = Staged._put

    def slow(self: Staged, chunks: list[bytes]) -> None:
        begun.set()
        go_on.wait(10)
        put(self, chunks)

    monkeypatch.setattr(Staged, "_put", slow)
    budget = Budget()

    async def main() -> None:
        staged = Staged(str(tmp_path), budget, "me", 0)
        staged.add(b"x" * 200_000)
        spilling = asyncio.ensure_future(staged.spill())
        await asyncio.to_thread(begun.wait, 10)
        staged.drop()
        go_on.set()
        await spilling
        staged.drop()

    asyncio.run(main())
    assert not list(tmp_path.iterdir())
    assert budget.used == 0


def test_all_messages_of_a_worker_share_its_memory(tmp_path: Path) -> None:
    budget = Budget(1 << 20)
    every = [Staged(str(tmp_path), budget) for _ in range(100)]
    for one in every:
        fed(one, 100_000)
        assert budget.used <= (1 << 20) + 100 * (LEAST + 8192)
    assert sum(not one.spilled for one in every) <= (1 << 20) // 100_000 + 1
    for one in every:
        one.drop()
    assert budget.used == 0


def test_an_account_has_a_share_of_the_memory(tmp_path: Path) -> None:
    budget = Budget(8 << 20)
    mine = [Staged(str(tmp_path), budget, "me@example.test") for _ in range(40)]
    for one in mine:
        fed(one, 100_000)
    assert budget.used <= (8 << 20) // SHARE + 40 * (LEAST + 8192)
    other = Staged(str(tmp_path), budget, "other@example.test")
    fed(other, 100_000)
    assert not other.spilled
    small = Staged(str(tmp_path), budget, "me@example.test")
    assert not small.add(b"x" * LEAST), "no file for a few octets"


def test_what_an_account_announces_is_bounded() -> None:
    budget = Budget()
    assert budget.announce("me", 600, 1000)
    assert not budget.announce("me", 401, 1000)
    assert budget.announce("me", 400, 1000)
    assert budget.announce("other", 1000, 1000)
    budget.announce("me", -600, 0)
    assert budget.announce("me", 600, 1000)
    budget.announce("me", -1000, 0)
    budget.announce("other", -1000, 0)
    assert not budget._announced


def test_a_multiappend_is_refused_on_what_it_announces_in_all(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path), message_size=100_000, staging_account=150_000)
        client, other = bench.open("imap"), bench.open("imap")
        await client.send(LOGIN)
        await other.send(LOGIN)
        body = b"Subject: x\r\n\r\n" + b"y" * 79_986
        got = await client.send(b"b APPEND INBOX {80000}\r\n")
        assert got.startswith(b"+ ")
        got = await client.send(body + b" {80000}\r\n")
        assert got.startswith(b"b NO [LIMIT] ")
        assert b"c OK" in await client.send(b"c NOOP\r\n")
        assert (await client.send(b"d APPEND INBOX {80000}\r\n")).startswith(b"+ "), "nothing is left of it"
        refused = await other.send(b"e APPEND INBOX {80000}\r\n")
        assert refused.startswith(b"e NO [LIMIT] "), "another session of the account"
        assert b"d OK" in await client.send(body + b"\r\n")
        assert (await other.send(b"f APPEND INBOX {80000}\r\n")).startswith(b"+ ")
        assert b"f OK" in await other.send(body + b"\r\n")
        assert not bench.imap.budget._announced
        assert bench.imap.budget.used == 0

    asyncio.run(main())


def test_every_way_out_gives_back_what_a_message_took(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path), message_size=400_000)
        client = bench.open("imap")
        await client.send(LOGIN)
        budget, text = bench.imap.budget, b"y" * 100_000
        await client.send(b"b APPEND INBOX {200000+}\r\n" + text)
        assert budget.used == 100_000
        client.connection.connection_lost(None)
        assert budget.used == 0
        assert not budget._announced
        client = bench.open("imap")
        await client.send(LOGIN)
        assert b"c NO" in await client.send(b"c APPEND Nowhere {100000+}\r\n" + text + b"\r\n")
        assert b"d BAD" in await client.send(b"d APPEND INBOX {100000+}\r\n" + text + b" nonsense\r\n")
        assert b"e OK" in await client.send(b"e APPEND INBOX {100000+}\r\n" + text + b"\r\n")
        assert budget.used == 0
        assert not budget._announced

    asyncio.run(main())


def test_500_messages_of_one_command_share_the_memory(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path), message_size=1 << 20)
        budget = bench.imap.budget = Budget(1 << 20)
        client = bench.open("imap")
        await client.send(LOGIN)
        body = b"Subject: x\r\n\r\n" + b"y" * 100_000
        most = 0
        await client.send(b"b APPEND INBOX {%d+}\r\n" % len(body))
        for n in range(60):
            end = b" {%d+}\r\n" % len(body) if n < 59 else b"\r\n"
            got = await client.send(body + end)
            most = max(most, budget.used)
        assert b"b OK [APPENDUID" in got
        assert most <= (1 << 20) // SHARE + 60 * LEAST + 200_000
        assert budget.used == 0

    asyncio.run(main())


def test_a_command_of_urls_is_bounded_too(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path), message_size=100_000, staging_memory=300_000)
        client = bench.open("imap")
        await client.send(LOGIN)
        body = b"Subject: x\r\n\r\n" + b"y" * 90_000
        await client.send(b"b APPEND INBOX {%d+}\r\n" % len(body) + body + b"\r\n")
        await client.send(b"c SELECT INBOX\r\n")
        one = b' CATENATE (URL "/;UID=1")'
        assert b"d OK" in await client.send(b"d APPEND INBOX" + one * 3 + b"\r\n")
        assert b"e NO [LIMIT] " in await client.send(b"e APPEND INBOX" + one * 4 + b"\r\n")
        assert b"f NO [LIMIT] at most 500" in await client.send(b"f APPEND INBOX" + one * 501 + b"\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("octets", [10, 3 * SPILL])
def test_pieces_become_one_content(tmp_path: Path, octets: int) -> None:
    budget = Budget()
    pieces: list[bytes | memoryview] = [b"head\n", memoryview(bytes(range(256)) * (octets // 256 + 1))]

    async def run() -> bytes:
        staged = Staged(str(tmp_path), budget)
        return bytes(await staged_whole(staged, pieces))

    assert asyncio.run(run()) == b"".join(pieces)
    assert list(tmp_path.iterdir()) == [] and budget.used == 0
