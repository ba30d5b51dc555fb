"""The journeys of ARCHITECTURE.md are walked: functions are called for the first time in the order of its tables.

So a newcomer who reads down a table follows the program, and comes to no file twice.
"""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tests.meta.test_architecture import PACKAGE, journeys
from tests.support.homes import local_store
from tests.support.sessions import USER, Bench

MESSAGE = b"From: you@far.test\r\nTo: user@example.test\r\nSubject: hi\r\n\r\nbody\r\n"
Called = dict[tuple[str, str], None]  # (file, qualified name) of functions, in the order of their first calls


@contextmanager
def noted() -> Iterator[Called]:
    """The functions of the program that are called meanwhile, in all threads that are started meanwhile too."""
    called: Called = {}
    place = str(PACKAGE) + "/"

    def note(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(place):
            called.setdefault((code.co_filename[len(place) :], code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def is_named(called: str, name: str) -> bool:
    """True if a qualified name is that of the function, or of a method of the class."""
    return called == name or called.endswith(f".{name}") or called.startswith(f"{name}.")


def check(first: str, *walks: Called) -> None:
    """The table that begins with this file: every function is called in one of the walks, and in each walk they are
    called for the first time in their order. Compiled functions are not seen."""
    (journey,) = [one for one in journeys() if one[0][0] == first]
    steps = [(file, name) for file, names in journey if file.endswith(".py") for name in names]
    seen = set()
    for called in walks:
        order = list(called)
        last = -1
        for file, name in steps:
            found = [at for at, (where, what) in enumerate(order) if where == file and is_named(what, name)]
            if found:
                assert found[0] > last, f"{file}: {name} is called before what stands above it"
                last = found[0]
                seen.add((file, name))
    assert set(steps) == seen, "these are not called"


def walk(path: Path, scenario: Callable[[Bench, Called], Awaitable[None]]) -> None:
    """On a store with files, which is closed afterwards."""

    async def main() -> None:
        with noted() as called:
            store = local_store(str(path / "index"))
            bench = Bench(str(path), store)
            await store.start()
            try:
                await deliver(bench)  # the first message creates mailboxes too, by other ways
                await scenario(bench, called)
            finally:
                await store.close()

    asyncio.run(main())


async def deliver(bench: Bench) -> None:
    client = bench.open("smtp")
    for line in (b"EHLO far.test", b"MAIL FROM:<you@far.test>", b"RCPT TO:<" + USER.encode() + b">", b"DATA"):
        assert (await client.send(line + b"\r\n"))[:1] in (b"2", b"3")
    assert (await client.send(MESSAGE + b".\r\n")).startswith(b"250")


def test_a_message_into_a_mailbox(tmp_path: Path) -> None:
    async def scenario(bench: Bench, called: Called) -> None:
        called.clear()
        await deliver(bench)
        check("net/connection.py", called)

    walk(tmp_path, scenario)


def test_select_and_fetch(tmp_path: Path) -> None:
    """FETCH goes on in one of two ways: with content, and without."""

    async def scenario(bench: Bench, called: Called) -> None:
        client = bench.open("imap")
        assert b"OK" in await client.send(b"a LOGIN " + USER.encode() + b" secret\r\n")
        walks: list[Called] = []
        for line in (b"SELECT INBOX", b"FETCH 1 (FLAGS ENVELOPE)", b"FETCH 1 (FLAGS ENVELOPE BODY.PEEK[])"):
            called.clear()
            assert b"a OK" in await client.send(b"a " + line + b"\r\n")
            walks.append(dict(called))
        check("imap/select.py", walks[0])
        check("imap/fetch.py", *walks[1:])

    walk(tmp_path, scenario)
