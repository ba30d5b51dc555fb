"""fastmail.net.handover: a worker with many sessions lets another accept the next ones, and none is lost."""

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fastmail.model.limits import Limits
from fastmail.net.handover import AWAY, SHARE, Exchange, Handover
from fastmail.net.listener import Listener, Registry, bind
from tests.support.sessions import Bench

LOOPS: list[Callable[..., Any]] = [asyncio.run, uvloop.run]


def begun(counts: list[int], accepting: int = 1, number: int = 0) -> tuple[Exchange, Handover]:
    """Workers with so many sessions, and the part of one of them."""
    made = Exchange(len(counts), accepting)
    for other, count in enumerate(counts):
        made.note(other, count)
    worker = Handover(made, number)
    for session in range(counts[number]):
        worker.begin(session)
    return made, worker


def handed(made: Exchange, worker: Handover, many: int) -> list[int]:
    """So many clients come before anybody takes one: who is to serve each; -1 for the worker itself."""
    out = []
    with socket.socket() as client:
        for number in range(many):
            before = {helper: _waiting(made, helper) for helper in made.queues}
            if not worker.pass_on(client.fileno(), "lmtp"):
                worker.begin(f"more {number}")
                out.append(-1)
            else:
                out.extend(helper for helper in made.queues if _waiting(made, helper) > before[helper])
    made.close()
    return out


def _waiting(made: Exchange, helper: int) -> int:
    """Octets in a helper's queue."""
    octets = fcntl.ioctl(made.queues[helper][0].fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(octets, sys.byteorder)


def test_nothing_is_handed_over_below_the_share() -> None:
    assert handed(*begun([SHARE - 1, 0]), 1) == [-1]


def test_helpers_are_filled_one_after_the_other() -> None:
    assert handed(*begun([SHARE, 0, 0]), 1) == [1]
    assert handed(*begun([SHARE, SHARE - 1, 0]), 2) == [1, 2]


def test_when_all_have_their_share_the_one_with_the_fewest_takes_it() -> None:
    assert handed(*begun([SHARE + 3, SHARE + 2, SHARE + 1]), 1) == [2]
    assert handed(*begun([SHARE, SHARE, SHARE]), 1) == [-1], "the worker itself has no more than the others"


def test_clients_that_come_at_once_are_shared_out() -> None:
    """What a helper was handed counts before it takes it."""
    who = handed(*begun([SHARE, 0]), 3 * SHARE)
    assert who[:SHARE] == [1] * SHARE and who[SHARE:] == [-1, 1] * SHARE


def test_what_a_helper_says_counts_once_it_took_some() -> None:
    made, worker = begun([SHARE, SHARE - 1])
    with socket.socket() as client:
        assert worker.pass_on(client.fileno(), "lmtp") and not worker.pass_on(client.fileno(), "lmtp")
        made.note(1, SHARE - 2)  # it took that one, and others ended
        assert worker.pass_on(client.fileno(), "lmtp")
    made.close()


def test_a_helper_that_does_not_serve_is_not_asked() -> None:
    assert handed(*begun([SHARE, AWAY]), 1) == [-1]
    assert handed(*begun([SHARE, AWAY, 5]), 1) == [2]


def test_each_helper_helps_one_worker() -> None:
    counts = [SHARE, SHARE, 0, 0, 0]
    assert handed(*begun(counts, 2, 0), SHARE + 1) == [2] * SHARE + [4]
    assert handed(*begun(counts, 2, 1), SHARE + 1) == [3] * SHARE + [-1]


def test_a_worker_keeps_only_the_ends_that_it_uses() -> None:
    def open_ends(but_for: int) -> list[tuple[bool, bool]]:
        made = Exchange(5, 2)
        made.close(but_for=but_for)
        ends = [(puts.fileno() >= 0, takes.fileno() >= 0) for puts, takes in made.queues.values()]
        made.close()
        return ends

    assert open_ends(0) == [(True, False), (False, False), (True, False)]
    assert open_ends(3) == [(False, False), (False, True), (False, False)]
    assert open_ends(-1) == [(False, False)] * 3


class Two:
    """A worker that accepts and its helper, in one process."""

    def __init__(self, directory: str) -> None:
        self.exchange = Exchange(2, 1)
        self.sock = bind("127.0.0.1:0")
        makers = Bench(directory).makers
        self.registries = [Registry(), Registry()]
        self.shares = [Handover(self.exchange, number) for number in (0, 1)]
        self.listeners = [
            Listener(registry, makers["lmtp"], Limits(), b"421 full\r\n", protocol="lmtp", handover=share)
            for registry, share in zip(self.registries, self.shares, strict=True)
        ]

    async def start(self) -> None:
        await self.listeners[0].start(self.sock)
        for share, listener in zip(self.shares, self.listeners, strict=True):
            share.serve(asyncio.get_running_loop(), {"lmtp": listener})

    def fill(self) -> None:
        """As if the worker that accepts had its share of sessions."""
        for session in range(SHARE):
            self.shares[0].begin(session)

    async def connect(self, many: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        made = []
        for _ in range(many):
            reader, writer = await asyncio.open_connection(*self.sock.getsockname())
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"220 ")
            made.append((reader, writer))
        return made

    @property
    def serving(self) -> list[int]:
        return [len(registry.connections) for registry in self.registries]


@pytest.fixture
def closed() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def started(place: Path, closed: ExitStack) -> Two:
    """Both of them, serving."""
    two = Two(str(place))
    closed.callback(two.sock.close)
    await two.start()
    return two


async def _until(reached: Callable[[], bool]) -> None:
    for _ in range(1000):
        if reached():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not reached")


@pytest.mark.parametrize("run", LOOPS)
def test_connections_above_the_share_are_served_by_the_helper(
    run: Callable[..., Any], tmp_path: Path, closed: ExitStack
) -> None:
    async def work() -> None:
        two = await started(tmp_path, closed)
        peers = await two.connect(SHARE + 5)
        assert two.serving == [SHARE, 5]
        assert [two.exchange.sessions(number) for number in (0, 1)] == [SHARE, 5]
        for reader, writer in peers:  # each is served as if nothing had happened
            writer.write(b"LHLO client.test\r\n")
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"250-")
        for _, writer in peers:
            writer.close()
        await _until(lambda: two.serving == [0, 0])
        assert [two.exchange.sessions(number) for number in (0, 1)] == [0, 0]
        two.listeners[0].close()

    run(work())


@pytest.mark.parametrize("run", LOOPS)
def test_octets_that_a_client_sent_early_reach_the_helper(
    run: Callable[..., Any], tmp_path: Path, closed: ExitStack
) -> None:
    async def work() -> None:
        two = await started(tmp_path, closed)
        two.fill()
        with socket.create_connection(two.sock.getsockname()) as client:
            client.sendall(b"LHLO client.test\r\nNOOP\r\nQUIT\r\n")
            client.setblocking(False)
            said = b""
            while not said.endswith(b"closing\r\n") and b"221 " not in said:
                said += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), 10)
        assert said.startswith(b"220 ") and b"\r\n221 " in said
        await _until(lambda: two.serving == [0, 0])
        two.listeners[0].close()

    run(work())


@pytest.mark.parametrize("run", LOOPS)
def test_a_full_queue_leaves_the_connection_where_it_is(
    run: Callable[..., Any], tmp_path: Path, closed: ExitStack
) -> None:
    async def work() -> None:
        two = await started(tmp_path, closed)
        two.shares[1].close()
        two.fill()
        two.exchange.note(1, 0)
        with pytest.raises(BlockingIOError):
            while True:
                two.exchange.queues[1][0].send(b"lmtp")
        peers = await two.connect(1)
        assert two.serving == [1, 0]
        peers[0][1].close()
        two.listeners[0].close()

    run(work())


@pytest.mark.parametrize("run", LOOPS)
def test_what_waits_when_a_helper_ends_is_served_by_its_successor(
    run: Callable[..., Any], tmp_path: Path, closed: ExitStack
) -> None:
    async def work() -> None:
        two = await started(tmp_path, closed)
        two.shares[1].close()
        assert two.exchange.sessions(1) == AWAY
        two.fill()
        two.exchange.note(1, 0)  # it ended, and the supervisor has not noticed it yet
        reader, writer = await asyncio.open_connection(*two.sock.getsockname())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.05)
        successor = Handover(two.exchange, 1)
        successor.serve(asyncio.get_running_loop(), {"lmtp": two.listeners[1]})
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"220 ")
        assert two.serving == [0, 1]
        writer.close()
        two.listeners[0].close()

    run(work())
