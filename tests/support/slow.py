"""Peers that do not read: sessions without sockets, whose transport counts what is written and says when it is much."""

import asyncio
import time
from typing import Any

from tests.support.sessions import Bench, FakeTransport


class Slow(FakeTransport):
    """A peer that counts what it gets and stops reading after ``most`` octets; ``widest``: the largest write. With
    ``keeps`` it keeps what it gets."""

    def __init__(self, most: int) -> None:
        self._kept = bytearray()  # grows in place: a bytes object would be copied with each of thousands of writes
        super().__init__()
        self.most = most
        self.total = self.widest = self.reading = 0
        self.last = b""
        self.keeps = False
        self.connection: Any = None

    @property
    def data(self) -> bytes:
        return bytes(self._kept)

    @data.setter
    def data(self, value: bytes) -> None:
        self._kept[:] = value

    def write(self, data: bytes) -> None:
        self.total += len(data)
        self.reading += len(data)
        self.widest = max(self.widest, len(data))
        self.last = bytes(data[-100:])
        if self.keeps:
            self._kept += data
        if self.reading > self.most:
            self.connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.reading

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
    end, rounds = time.monotonic() + 200, 0
    while time.monotonic() < end:
        if not client.connection.busy:
            return
        slow.read_on()
        rounds += 1
        await asyncio.sleep(0 if rounds % 50 else 0.0005)  # threads that work for it need the interpreter, too
    raise AssertionError("a command does not end")
