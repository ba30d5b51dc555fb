"""What one client can keep in the server's memory by asking for much at once: a few megabytes, never what it asked for."""

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail.net.sending import QUEUED
from fastmail.store.interface import NewMessage
from tests.support.examples import some
from tests.support.sessions import Bench
from tests.support.slow import feed, opened, through


async def fill(bench: Bench, text: bytes, count: int) -> None:
    account = bench.deliverer.account(bench.directory.accounts["user@example.test"])
    await bench.store.open(account)
    key = bench.store.find(account, "INBOX")
    assert key is not None
    made = mime.scan(text)
    await bench.store.append(account, key, [NewMessage((text,), made, len(text), 0) for _ in range(count)])


IMAP = b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\n"
POP3 = b"USER user@example.test\r\nPASS secret\r\n"


@pytest.mark.parametrize(
    ("protocol", "login", "command", "asked"),
    [("imap", IMAP, b"c FETCH 1:* FLAGS\r\n", 1000),
     ("pop3", POP3, b"LIST\r\n", 3000), ("pop3", POP3, b"UIDL\r\n", 1000)],
)  # fmt: skip
def test_short_commands_with_long_answers(
    protocol: str, login: bytes, command: bytes, asked: int, tmp_path: Path
) -> None:
    """``asked`` commands have answers of 20 MB or more together; in `make check` a tenth of that."""

    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, b"Subject: x\n\ny\n", 1000)
        client, slow = await opened(bench, protocol, login, 4 * QUEUED)
        await feed(client, command * some(asked))
        for _ in range(100):
            await asyncio.sleep(0)
        assert client.connection.busy, "the peer does not read: nothing more is done"
        assert slow.total < 8 * QUEUED
        assert slow.widest < 2 * QUEUED
        await through(client, slow)
        assert slow.last.endswith(b".\r\n" if protocol == "pop3" else b" completed\r\n")

    asyncio.run(main())


def test_a_peer_that_does_not_read_gets_nothing_more(tmp_path: Path) -> None:
    """Each command comes by itself, so none of them is behind a full queue."""

    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, b"Subject: x\n\ny\n", 100)
        client, slow = await opened(bench, "imap", IMAP, 1000)
        for _ in range(100):
            await feed(client, b"c FETCH 1:* FLAGS\r\n")
        assert slow.total < 10_000, "one answer, not a hundred"
        await through(client, slow)
        assert slow.total > 100_000

    asyncio.run(main())


@pytest.mark.parametrize("item", [b"BODY.PEEK[]", b"BODY.PEEK[TEXT]<0.1000000>", b"BINARY.PEEK[1]", b"BODY.PEEK[1]"])
def test_one_message_a_hundred_times(item: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, b"Subject: x\n\n" + b"y" * 70 + b"\n" + b"z" * 1_000_000, 1)
        client, slow = await opened(bench, "imap", IMAP, 1 << 40)
        tracemalloc.start()
        await feed(client, b"c FETCH 1 (" + b" ".join([item] * 100) + b")\r\n")
        await through(client, slow)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert slow.total > 95_000_000 and slow.last.endswith(b"c OK FETCH completed\r\n")
        assert most < 32 << 20, f"{most} octets"

    asyncio.run(main())


def test_idle_is_told_though_the_peer_was_slow(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, b"Subject: x\n\ny\n", 1000)
        client, slow = await opened(bench, "imap", IMAP, 1000)
        await feed(client, b"c FETCH 1:* FLAGS\r\nd IDLE\r\n")
        await fill(bench, b"Subject: x\n\ny\n", 1)
        for _ in range(200):
            slow.read_on()
            await asyncio.sleep(0.001)
        assert b"* 1001 EXISTS" in slow.last

    asyncio.run(main())


def test_summaries_of_one_command_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of some kilobytes may have a summary of some hundred."""
    bomb = b"From: " + b":;" * 4000 + b"\r\n\r\nx\r\n"
    monkeypatch.setattr("fastmail.imap.append.SUMMARIES", 1 << 20)

    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\na SELECT INBOX\r\n")
        one = b" {%d+}\r\n%b" % (len(bomb), bomb)
        assert b"a OK" in await client.send(b"a APPEND INBOX" + 2 * one + b"\r\n")
        told = await client.send(b"b APPEND INBOX" + 20 * one + b"\r\n")
        assert b"b NO" in told, told
        assert b"* 2 EXISTS" in await client.send(b"c NOOP\r\nc EXAMINE INBOX\r\n"), "all or none"

    asyncio.run(scenario())
