"""SORT and THREAD again: remembered answers are those of a fresh look, whatever happened between."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastmail.imap.views import Answers
from tests.support.sessions import Bench, Client


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def append(client: Client, number: int, rng: random.Random) -> None:
    day, above = rng.randint(1, 28), rng.randint(0, max(0, number - 1))
    text = (
        f"From: p{rng.randint(0, 9)}@b.test\r\nTo: q{rng.randint(0, 9)}@c.test\r\nSubject: s{rng.randint(0, 5)}\r\n"
        f"Date: {day} Jan 2024 10:00:00 +0000\r\nMessage-ID: <m{number}@t>\r\nReferences: <m{above}@t>\r\n\r\nx\r\n"
    ).encode()
    assert b"OK" in await client.send(b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(text), text))


ASKED = [
    b"UID SORT (DATE) UTF-8 ALL",
    b"SORT (REVERSE FROM SUBJECT) UTF-8 ALL",
    b"UID SORT (TO ARRIVAL) UTF-8 NOT DELETED",
    b"UID SORT (SIZE) UTF-8 2:6",
    b"SORT RETURN (MIN MAX COUNT) (SUBJECT) UTF-8 ALL",
    b"UID THREAD REFERENCES UTF-8 ALL",
    b"THREAD REFERENCES UTF-8 ALL",
    b"THREAD ORDEREDSUBJECT UTF-8 NOT DELETED",
    b"UID THREAD REFS UTF-8 ALL",
]


async def answers(client: Client) -> list[bytes]:
    return [line for command in ASKED for line in (await client.send(b"a " + command + b"\r\n")).splitlines()]


def test_answers_stay_true(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        rng = random.Random(3)
        client = bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\na SELECT INBOX\r\n")
        for number in range(40):
            await append(client, number, rng)
            if number % 5 == 4:
                uid = rng.randint(1, number)
                await client.send(b"a UID STORE %d +FLAGS (\\Deleted)\r\n" % uid)
            if number % 13 == 12:
                await client.send(b"a EXPUNGE\r\n")
            first = await answers(client)
            assert await answers(client) == first  # from memory
            bench.imap.answers = Answers()
            assert await answers(client) == first  # from the messages
        assert any(line.startswith(b"* THREAD (") for line in first)

    run(scenario)


def test_another_mailbox_of_the_same_name_is_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\n")
        found = []
        for sizes in ((10, 2000), (2000, 10)):
            await client.send(b"a CREATE Box\r\n")
            for size in sizes:
                await client.send(b"a APPEND Box {%d+}\r\n%b\r\n" % (size, b"x" * size))
            await client.send(b"a SELECT Box\r\n")
            found.append((await client.send(b"a UID SORT (SIZE) UTF-8 ALL\r\n")).splitlines()[0])
            await client.send(b"a CLOSE\r\na DELETE Box\r\n")
        assert found == [b"* SORT 1 2", b"* SORT 2 1"]

    run(scenario)


def test_memory_is_bounded() -> None:
    kept = Answers(100)
    for n in range(50):
        kept.keep(b"%d" % n, b"x" * 30)
    assert [n for n in range(50) if kept.get(b"%d" % n) is not None] == [47, 48, 49]
    kept.keep(b"48", b"y" * 90)
    assert kept.get(b"48") == b"y" * 90 and kept.get(b"49") is None
    kept.keep(b"big", b"z" * 1000)
    assert kept.get(b"big") is None and kept.get(b"48") is None
