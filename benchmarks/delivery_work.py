"""The instructions that a delivery by LMTP takes, by thread: ``python -m benchmarks.delivery_work [--content segments]``.

Sessions of a worker's own objects, over a store on the disk, are driven in this process: rounds of one message of 4 KB in
each of SESSIONS sessions, to the users in turn. All runs under valgrind's callgrind, which counts the instructions of
each thread, so the figures depend neither on the disk nor on what else the machine does. Sockets and what the kernel
does are not counted. ``loop``: the event loop's thread; ``commit``: the commit thread.

The functions of a thread: with a counter.so of tests.support.growth.COUNTER and a file ``key`` that says "maildir" in an
empty directory, ``valgrind --tool=callgrind --instr-atstart=no --separate-threads=yes
--callgrind-out-file=DIRECTORY/counts python -m benchmarks.delivery_work DIRECTORY``; ``callgrind_annotate`` reads
counts.N-THREAD, which are the loop's and the commit thread's in turn.
"""

import argparse
import asyncio
import gc
import itertools
import json
import os
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import uvloop

from benchmarks.instructions import BY_THREAD, Counter, counted
from fastmail.app.assembly import Assembly
from fastmail.app.derived import limits
from fastmail.bench.load import message
from fastmail.config.load import load
from fastmail.directory.local import LocalDirectory
from fastmail.durable.commit import Operation
from fastmail.telemetry import log
from tests.support.sessions import Client, FakeListener, FakeTransport

SESSIONS, USERS, SIZE = 10, 50, 4096
WARM = 4 * USERS // SESSIONS  # rounds that are not counted
ROUNDS, SAMPLES = USERS // SESSIONS, 9  # rounds of a sample, and samples; the median is shown
CONFIG = """
[server]
hostname = "mx.bench.example"
data_dir = "data"
[listen]
lmtp = ["127.0.0.1:10024"]
[store]
content = "{}"
index_map_size = "1GiB"
maildir = "mail/{{domain}}/{{user}}"
[log]
level = "warning"
"""


class Replies(FakeTransport):
    """Counts the replies to contents; ``all_came`` is set when each session has its own."""

    missing = 0
    all_came: "asyncio.Future[None]"

    def write(self, data: bytes) -> None:
        if data.startswith(b"354") or data.endswith(b". CRLF\r\n"):
            return
        assert data.startswith((b"220", b"250")), data
        Replies.missing -= 1
        if not Replies.missing:
            Replies.all_came.set_result(None)


class Sessions:
    """``round`` sends a message in each of them, and ends when all have their reply."""

    def __init__(self, assembly: Assembly) -> None:
        listener = FakeListener(assembly.sessions()["lmtp"], limits(assembly.config))
        self._listener = listener
        self._clients = [Client(listener) for _ in range(SESSIONS)]
        self._users = itertools.cycle(range(USERS))
        for client in self._clients:
            self._receive(client, b"LHLO mail.b.example\r\n")
            client.transport.__class__ = Replies

    def _receive(self, client: Client, data: bytes) -> None:
        self._listener.buffer[: len(data)] = data
        client.connection.buffer_updated(len(data))

    def inputs(self) -> Iterator[tuple[Client, bytes, bytes]]:
        """What each session receives: commands, then content."""
        for client in self._clients:
            to = f"u{next(self._users)}@bench.example"
            start = f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{to}>\r\nDATA\r\n"
            yield client, start.encode(), message(SIZE) + b".\r\n"

    async def round(self, given: list[tuple[Client, bytes, bytes]]) -> None:
        Replies.missing, Replies.all_came = len(given), asyncio.get_running_loop().create_future()
        for client, start, _ in given:
            self._receive(client, start)
        for client, _, content in given:
            self._receive(client, content)
        await Replies.all_came


class Aside(list[Operation]):
    """A round for the commit thread that has nothing in it. The thread asks whether that is so: ``call`` is its answer,
    so that something is done on that thread and nothing else."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self._call = call
        self.done = threading.Event()

    def __bool__(self) -> bool:
        self._call()
        self.done.set()
        return False


class Threads:
    """Counts of callgrind, which has a file for each thread and takes each thread's request for itself only."""

    def __init__(self, place: Path, assembly: Assembly) -> None:
        self._counter = Counter(place)
        self._rounds: SimpleQueue[Any] = assembly.store.commits.shards[0].queue._ready

    def _on_commit_thread(self, call: Callable[[], object]) -> None:
        aside = Aside(call)
        self._rounds.put(aside)
        aside.done.wait()

    def begin(self) -> None:
        gc.collect()
        gc.disable()
        self._on_commit_thread(self._counter.begin)
        self._counter.begin()

    def end(self) -> dict[str, int]:
        """Instructions since ``begin``, by thread."""
        self._counter.end()
        self._on_commit_thread(self._counter.end)
        gc.enable()
        return {"loop": self._counter.read(), "commit": self._counter.read()}


def make(place: str, content: str) -> str:
    """Make a server there; the path of its configuration."""
    path = Path(place, "fastmail.toml")
    path.write_text(CONFIG.format(content))
    os.mkdir(os.path.join(place, "data"))
    users = LocalDirectory(os.path.join(place, "data"))
    users.add_domain("bench.example")
    users.add_accounts([(f"u{n}@bench.example", "{PLAIN}secret") for n in range(USERS)], replace=True)
    users.close()
    return str(path)


async def begin(config: str) -> tuple[Assembly, Sessions]:
    """A worker's objects, and sessions that have delivered so much that nothing is done for the first time."""
    assembly = Assembly(load(config), worker=0, recover=True)
    os.makedirs(assembly.config.server.run_dir, exist_ok=True)
    assembly.hub.start(asyncio.get_running_loop(), 2)
    await assembly.start()
    sessions = Sessions(assembly)
    for _ in range(WARM):
        await sessions.round(list(sessions.inputs()))
    return assembly, sessions


async def _count(place: Path) -> None:
    """In the process that valgrind watches: a line of JSON [thread, instructions of a message] for each thread."""
    assembly, sessions = await begin(make(str(place), (place / "key").read_text()))
    counter, samples = Threads(place, assembly), []
    for _ in range(SAMPLES + 1):
        given = [list(sessions.inputs()) for _ in range(ROUNDS)]
        counter.begin()
        for one in given:
            await sessions.round(one)
        samples.append(counter.end())
    for name in samples[0]:
        middle = statistics.median(sample[name] for sample in samples[1:])
        print(json.dumps([name, int(middle) // (ROUNDS * SESSIONS)]), flush=True)
    await assembly.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", choices=("maildir", "segments"), action="append")
    parser.add_argument("place", nargs="?", help="used by the program itself: where the counter is")
    chosen = parser.parse_args()
    if chosen.place:
        log.setup(level="warning")
        uvloop.run(_count(Path(chosen.place)))
        return
    for content in chosen.content or ("maildir", "segments"):
        found = counted("benchmarks.delivery_work", content.encode(), [BY_THREAD])
        if not found:
            sys.exit(1)
        print(content, ", ".join(f"{count:,} {name}" for name, count in found.items()), sep=": ", flush=True)


if __name__ == "__main__":
    main()
