"""Signed mail of a stranger in sessions of this process, with the checks and without, in turn, for ``make bench-auth``.

Each message goes through a session of port 25 into a store in memory, so neither sockets nor the disk nor other
processes are in what is measured: the difference is what the checks cost a delivery, with what follows from them (the
field in front, the row of the aggregate report, the words for the trace), at caches that the delivery has used too.

Run as a program it counts the instructions of a message in place of measuring, as ``benchmarks.auth_work`` does, and
prints them: ``python -m benchmarks.auth_session``.
"""

import asyncio
import gc
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.auth_work import COUNTED, HELO, IP, SENDER, SIZE, ZONES, Warm, private, signed, zone
from benchmarks.instructions import Counter, counted
from fastmail.feedback.counting import Tally
from fastmail.feedback.days import Days
from fastmail.feedback.service import Feedback
from fastmail.net import networks
from fastmail.policy import lists
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.telemetry import log
from tests.support.sessions import USER, Bench, Client, FakeListener

EACH = 50  # messages of a round
ROUNDS = 100_000  # of the event loop, for one command
START = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{USER}>\r\n".encode()


class Busy(Client):
    """A client of a server that always has something to do. While a process sleeps, its caches are used by others, so
    what is measured would also depend on how long it sleeps."""

    async def settle(self) -> None:
        for _ in range(ROUNDS):
            if not self.connection.busy:
                return
            await asyncio.sleep(0)
        raise AssertionError("a command does not end")


async def _deliver(client: Client, texts: list[bytes]) -> float:
    """us of CPU of this thread for each."""
    client.transport.data = b""
    since = time.thread_time_ns()
    for text in texts:
        await client.send(START)
        await client.send(b"DATA\r\n")
        reply = await client.send(text)
    took = time.thread_time_ns() - since
    assert reply.startswith(b"250"), reply
    return took / len(texts) / 1000


async def _sessions(staging: str, pem: bytes) -> tuple[dict[str, tuple[Bench, Busy]], Iterator[bytes]]:
    """A server and a session of it, without the checks and with them; and messages, each another one."""
    signer = private(pem)
    listed, named = ([lists.parse(one) for one in zones] for zones in ZONES)
    settings = Settings("mx.example.test", lists=listed, domain_lists=named)
    shared = {"policy": Receiver(Warm(zone(signer)), settings), "feedback": Feedback(Tally(Days(staging)))}
    texts = (signed(SIZE, n, signer).replace(b"\n", b"\r\n") + b".\r\n" for n in itertools.count(1))
    clients = {}
    for name, exempt in (("without", [networks.parse(IP)]), ("with", [])):
        bench = Bench(staging, outbound={**shared, "exempt": exempt})
        clients[name] = bench, Busy(FakeListener(bench.makers["smtp"], bench.limits), IP)
        await clients[name][1].send(f"EHLO {HELO}\r\n".encode())
    return clients, texts


async def _measure(rounds: int, staging: str) -> dict[str, list[float]]:
    clients, texts = await _sessions(staging, b"")
    gc.set_threshold(20_000, 20, 20)  # as workers do
    found: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(rounds + 1):
        for name, (bench, client) in clients.items():
            found[name].append(await _deliver(client, list(itertools.islice(texts, EACH))))
            for box in bench.store.boxes.values():  # type: ignore[attr-defined]
                box.messages.clear()
    return {name: series[1:] for name, series in found.items()}  # the first round is for caches


def measure(rounds: int) -> dict[str, list[float]]:
    """us of CPU a message, without the checks and with them."""
    log.setup(level="warning")  # not a line for each message
    with tempfile.TemporaryDirectory() as staging:
        return uvloop.run(_measure(rounds, staging))


# ---------------------------------------------------------------- instructions


async def _count(place: Path) -> None:
    """In the process that valgrind watches: a line of JSON [name, instructions of a message] for each session."""
    counter = Counter(place)
    clients, texts = await _sessions(str(place), (place / "key").read_bytes())
    for name, (_, client) in clients.items():
        await _deliver(client, list(itertools.islice(texts, 2 * COUNTED)))
        given = list(itertools.islice(texts, COUNTED))
        gc.collect()
        gc.disable()
        counter.begin()
        await _deliver(client, given)
        counter.end()
        gc.enable()
        print(json.dumps([name, counter.read() // COUNTED]), flush=True)


def main(place: str = "") -> None:
    """``place``: where the counter is, in the process that valgrind watches."""
    if place:
        log.setup(level="warning")
        asyncio.new_event_loop().run_until_complete(_count(Path(place)))
        return
    pem = private().private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    counts = counted("benchmarks.auth_session", pem)
    if counts:
        print(
            f"{counts['without']:,} without, {counts['with']:,} with, {counts['with'] - counts['without']:,} the checks"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
