"""What one client can keep in the server's memory by asking for much at once: a few megabytes, never what it asked for."""

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime
from fastmail.net.connection import QUEUED
from fastmail.store.interface import NewMessage
from tests.support.sessions import Bench, FakeTransport


class Slow(FakeTransport):
    """A peer that counts what it gets and stops reading after ``most`` octets; ``widest``: the largest write."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.total = self.widest = self.reading = 0
        self.last = b""
        self.connection: Any = None

    def write(self, data: bytes) -> None:
        self.total += len(data)
        self.reading += len(data)
        self.widest = max(self.widest, len(data))
        self.last = bytes(data[-100:])
        if self.reading > self.most:
            self.connection.pause_writing()

    def read_on(self) -> None:
        self.reading = 0
        self.connection.resume_writing()


async def opened(bench: Bench, protocol: str, login: bytes, most: int) -> tuple[Any, Slow]:
    """A logged-in session whose peer reads ``most`` octets."""
    client = bench.open(protocol)
    await client.send(login)
    slow = Slow(most)
    slow.connection = client.connection
    client.connection.transport = slow
    return client, slow


async def feed(client: Any, data: bytes) -> None:
    """Without waiting for the commands to end."""
    while data:
        piece, data = data[:262144], data[262144:]
        client.listener.buffer[: len(piece)] = piece
        client.connection.buffer_updated(len(piece))
        await asyncio.sleep(0)


async def through(client: Any, slow: Slow) -> None:
    """Read on whenever the server waits, until no command runs."""
    for _ in range(200000):
        if not client.connection.busy:
            return
        slow.read_on()
        await asyncio.sleep(0)
    raise AssertionError("a command does not end")


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
    ("protocol", "login", "command"),
    [("imap", IMAP, b"c FETCH 1:* FLAGS\r\n"), ("imap", IMAP, b"c SEARCH ALL\r\n"),
     ("imap", IMAP, b'c LIST "" *\r\n'), ("pop3", POP3, b"LIST\r\n"), ("pop3", POP3, b"UIDL\r\n")],
)  # fmt: skip
def test_short_commands_with_long_answers(protocol: str, login: bytes, command: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, b"Subject: x\n\ny\n", 1000)
        client, slow = await opened(bench, protocol, login, 4 * QUEUED)
        asked = 20_000
        await feed(client, command * asked)
        for _ in range(100):
            await asyncio.sleep(0)
        assert client.connection.busy, "the peer does not read: nothing more is done"
        assert slow.total < 8 * QUEUED
        assert slow.widest < 2 * QUEUED
        await through(client, slow)
        assert slow.last.endswith(b".\r\n" if protocol == "pop3" else b" completed\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("item", [b"BODY.PEEK[]", b"BODY.PEEK[TEXT]<0.1000000>", b"BINARY.PEEK[1]", b"BODY.PEEK[1]"])
def test_one_message_a_thousand_times(item: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, b"Subject: x\n\n" + b"y" * 70 + b"\n" + b"z" * 1_000_000, 1)
        client, slow = await opened(bench, "imap", IMAP, 1 << 40)
        tracemalloc.start()
        await feed(client, b"c FETCH 1 (" + b" ".join([item] * 300) + b")\r\n")
        await through(client, slow)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert slow.total > 290_000_000 and slow.last.endswith(b"c OK FETCH completed\r\n")
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
