"""Counts the instructions of IMAP commands: ``python -m benchmarks.imap_work``; with ``time``, it measures their CPU.

A session of IMAP runs over a real store in one process, without a socket: what is counted is the session, the store, its
commit thread and the C library, as ``benchmarks.instructions`` counts them; the kernel is in the CPU only. A client sends
its next command when it has read the answer to the last one, and the loop sleeps meanwhile, as a server's does.
"""

import asyncio
import gc
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benchmarks.instructions import Counter, able, counted
from fastmail.bench.load import message
from fastmail.store.interface import Account
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.store import LocalStore
from fastmail.telemetry import log
from tests.support.sessions import USER, Bench, Client, FakeListener, FakeTransport

SIZE = 4096
MEASURED = 100  # commands or messages, after WARM commands that are not measured
WARM = 12  # the first of a kind pay for imports and for what is looked up once
REST = 2.0  # s after which files have their final names, and directories show all changes in their times
TURNS = 5  # of all cases, where time is measured; the quickest counts
KINDS = ("maildir", "segments")
MAP_SIZE = 1 << 28  # octets: valgrind has no address space for the usual size
LOGIN = f"a LOGIN {USER} secret\r\n".encode()


class Counted:
    """Instructions."""

    def __init__(self, place: Path) -> None:
        self._counter = Counter(place)

    def begin(self) -> None:
        self._counter.begin()

    def end(self) -> int:
        self._counter.end()
        return self._counter.read()


class Timed:
    """ns of CPU of the process."""

    def begin(self) -> None:
        self._since = time.process_time_ns()

    def end(self) -> int:
        return time.process_time_ns() - self._since


class Answered(FakeTransport):
    """Says when a tagged answer was written."""

    waiter: Any = None

    def write(self, data: bytes) -> None:
        self.data = data
        if self.waiter is not None and not self.waiter.done() and data.rfind(b"a OK") >= 0:
            self.waiter.set_result(None)


class Talker(Client):
    """A client that sleeps until it is answered."""

    def __init__(self, listener: FakeListener) -> None:
        super().__init__(listener)
        self.transport: Answered = Answered()
        self.connection.transport = self.transport

    async def ask(self, command: bytes) -> None:
        waiter = self.transport.waiter = self.listener.loop.create_future()
        self.listener.buffer[: len(command)] = command
        self.connection.buffer_updated(len(command))
        await waiter
        if self.connection.busy:
            await self.settle()


def _append(box: bytes) -> bytes:
    text = message(SIZE)
    return b"a APPEND %b {%d+}\r\n%b\r\n" % (box, len(text), text)


class Case(NamedTuple):
    """Commands of one kind. ``messages`` of each; ``command``: the one with this number; ``box``: the mailbox that is
    selected; ``before``: the command before each, which is not measured."""

    messages: int
    command: Callable[[int], bytes]
    box: bytes = b"one"
    before: bytes = b""


def _cases() -> dict[str, Case]:
    """By name, in the order in which they run: MOVE and EXPUNGE take out what the case before them has put in."""
    every = b"1:%d" % MEASURED
    mark = b"a STORE %b +FLAGS.SILENT (\\Deleted)\r\n" % every
    return {
        "NOOP": Case(1, lambda n: b"a NOOP\r\n"),
        "STATUS": Case(1, lambda n: b"a STATUS three (MESSAGES UNSEEN)\r\n"),
        "FETCH n (BODY.PEEK[])": Case(1, lambda n: b"a FETCH %d (BODY.PEEK[])\r\n" % (n + 1)),
        "FETCH 1:n (BODY.PEEK[]), each message": Case(MEASURED, lambda n: b"a FETCH %b (BODY.PEEK[])\r\n" % every),
        "STORE n +FLAGS": Case(1, lambda n: b"a STORE %d +FLAGS (\\Flagged)\r\n" % (n + 1)),
        "APPEND": Case(1, lambda n: _append(b"two")),
        "COPY, each message": Case(MEASURED, lambda n: b"a COPY %b two\r\n" % every),
        "MOVE, each message": Case(MEASURED, lambda n: b"a MOVE %b three\r\n" % every, b"two"),
        "EXPUNGE, each message": Case(MEASURED, lambda n: b"a EXPUNGE\r\n", b"three", mark),
    }


async def _login(bench: Bench, box: bytes = b"one") -> Talker:
    client = Talker(FakeListener(bench.makers["imap"], bench.limits))
    await client.ask(LOGIN)
    await client.ask(b"a SELECT " + box + b"\r\n")
    return client


async def _logout(client: Talker) -> None:
    await client.ask(b"a LOGOUT\r\n")
    client.connection.connection_lost(None)


async def _filled(bench: Bench) -> Talker:
    """A session that has selected a mailbox of as many messages as are measured."""
    client = await _login(bench, b"INBOX")
    for box, messages in ((b"one", WARM + MEASURED), (b"two", 1), (b"three", 1)):
        for command in (b"a CREATE " + box + b"\r\n", *[_append(box)] * messages):
            await client.ask(command)
    await asyncio.sleep(REST)
    for box in (b"three", b"one"):
        await client.ask(b"a SELECT " + box + b"\r\n")
    return client


async def _measure(place: Path, kind: str, meter: Counted | Timed) -> dict[str, float]:
    """Of each case, by name, over a store of this kind."""
    store = LocalStore(str(place / "index"), _nowhere, map_size=MAP_SIZE, kind=kind)
    bench = Bench(str(place), store)  # which says where Maildirs are
    await store.start()
    found: dict[str, float] = {}

    async def measured(name: str, times: int, calls: Sequence[Callable[[], Any]], before: Sequence[bytes] = ()) -> None:
        for call in calls[:WARM]:
            for command in before:
                await client.ask(command)
            await call()
        for command in before:
            await client.ask(command)
        gc.collect()
        gc.disable()
        meter.begin()
        for call in calls[WARM:]:
            await call()
        found[name] = meter.end() / times
        gc.enable()

    async def visit() -> None:
        await _logout(await _login(bench))

    client = await _filled(bench)
    selected = b"one"
    for name, case in _cases().items():
        if case.box != selected:
            selected = case.box
            await client.ask(b"a SELECT %b\r\n" % selected)
        commands = [case.command(n) for n in range(WARM + MEASURED // case.messages)]
        calls = [partial(client.ask, command) for command in commands]
        await measured(name, MEASURED, calls, [case.before] if case.before else [])
    await measured("LOGIN, SELECT, LOGOUT", WARM, [visit] * 2 * WARM)
    await store.close()
    return found


def _nowhere(account: Account) -> Home:
    raise AssertionError("it is not known yet where Maildirs are")


def _count(place: Path) -> None:
    """In the process that valgrind watches: a line of JSON [name, instructions] for each case."""
    meter = Counted(place)
    for kind in KINDS:
        (place / kind).mkdir()
        for name, count in uvloop.run(_measure(place / kind, kind, meter)).items():
            if kind == "segments" or "BODY" not in name:  # valgrind has no openat2: files are read another way there
                print(json.dumps([f"{kind}: {name}", int(count)]), flush=True)


def _time() -> None:
    """Print us of CPU."""
    for kind in KINDS:
        turns = []
        for _ in range(TURNS):
            with tempfile.TemporaryDirectory() as place:
                turns.append(uvloop.run(_measure(Path(place), kind, Timed())))
        for name in turns[0]:
            print(f"{min(turn[name] for turn in turns) / 1000:>10.1f} us {kind}: {name}")


def main(place: str = "") -> None:
    """``place``: where the counter is, in the process that valgrind watches; or ``time``."""
    log.setup(level="warning")
    if place == "time":
        _time()
    elif place:
        _count(Path(place))
    else:
        assert able(), f"valgrind and gcc are needed: {shutil.which('valgrind')}, {shutil.which('gcc')}"
        for name, count in counted("benchmarks.imap_work").items():
            print(f"{count:>10,} {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
