"""MESSAGELIMIT (RFC 9738): a command works on the newest messages, and says down to where; how many names can be subscribed."""

import asyncio
import re
from pathlib import Path

import pytest

from fastmail.imap import mailboxes
from tests.support.sessions import Bench, Client

LOGIN = b"a LOGIN user@example.test secret\r\n"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


async def opened(path: Path, most: int) -> Client:
    """A session with ten messages, UIDs 1 to 10, of which 5 is gone."""
    client = Bench(str(path), messages_per_command=most).open("imap")
    await client.send(LOGIN)
    for _ in range(10):
        await client.send(b"b APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE + b"\r\n")
    await client.send(b"c SELECT INBOX\r\nd STORE 5 +FLAGS (\\Deleted)\r\ne UID EXPUNGE 5\r\n")
    return client


def numbers(data: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"\* (\d+) FETCH", data)]


def test_the_capability(tmp_path: Path) -> None:
    async def main() -> None:
        client = await opened(tmp_path / "a", 4)
        assert b" MESSAGELIMIT=4" in await client.send(b"c CAPABILITY\r\n")
        client = await opened(tmp_path / "b", 0)
        assert b"MESSAGELIMIT" not in await client.send(b"c CAPABILITY\r\n")
        assert numbers(await client.send(b"c FETCH 1:* (FLAGS)\r\n")) == list(range(1, 10))

    asyncio.run(main())


@pytest.mark.parametrize("items", [b"(UID FLAGS)", b"(BODY.PEEK[])", b"(BODY[])"])
def test_fetch(tmp_path: Path, items: bytes) -> None:
    async def main() -> None:
        client = await opened(tmp_path, 4)
        got = await client.send(b"f FETCH 1:* " + items + b"\r\n")
        assert numbers(got) == [6, 7, 8, 9] and b"f OK [MESSAGELIMIT 4 7] FETCH completed" in got
        got = await client.send(b"f UID FETCH 1:6 " + items + b"\r\n")  # the client goes on below
        assert numbers(got) == [2, 3, 4, 5] and b"f OK [MESSAGELIMIT 4 2] FETCH" in got
        got = await client.send(b"f UID FETCH 1 " + items + b"\r\n")
        assert numbers(got) == [1] and b"f OK FETCH completed" in got

    asyncio.run(main())


def test_store_search_and_sort(tmp_path: Path) -> None:
    async def main() -> None:
        client = await opened(tmp_path, 4)
        got = await client.send(b"f STORE 1:* +FLAGS (\\Flagged)\r\n")
        assert numbers(got) == [6, 7, 8, 9] and b"f OK [MESSAGELIMIT 4 7] STORE" in got
        got = await client.send(b"f UID SEARCH ALL\r\n")
        assert b"* SEARCH 7 8 9 10\r\n" in got and b"f OK [MESSAGELIMIT 4 7] SEARCH" in got
        got = await client.send(b"f UID SEARCH NOT SUBJECT y\r\n")
        assert b"* SEARCH 7 8 9 10\r\n" in got and b"f OK [MESSAGELIMIT 4 7]" in got
        got = await client.send(b"f UID SORT (ARRIVAL) UTF-8 ALL\r\n")
        assert got.startswith(b"* SORT 7 8 9 10\r\n") and b"f OK [MESSAGELIMIT 4 7] SORT" in got
        got = await client.send(b"f UID THREAD ORDEREDSUBJECT UTF-8 ALL\r\n")
        assert b"(10)" in got.replace(b" ", b")(") and b"f OK [MESSAGELIMIT 4 7] THREAD" in got

    asyncio.run(main())


def test_copy_and_move_do_all_or_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        client = await opened(tmp_path, 4)
        for word in (b"COPY", b"MOVE"):
            got = await client.send(b"f " + word + b" 1:5 Trash\r\n")
            assert got == b"f NO [MESSAGELIMIT 4] too many messages at once, try fewer\r\n"
            assert b"f OK" in await client.send(b"f " + word + b" 1:4 Trash\r\n")
        assert b"(MESSAGES 8)" in await client.send(b"g STATUS Trash (MESSAGES)\r\n")

    asyncio.run(main())


def test_expunge(tmp_path: Path) -> None:
    async def main() -> None:
        client = await opened(tmp_path, 4)
        await client.send(b"f STORE 1:4 +FLAGS (\\Deleted)\r\nf STORE 5:8 +FLAGS (\\Deleted)\r\n")
        got = await client.send(b"f EXPUNGE\r\n")
        assert got.count(b" EXPUNGE\r\n") == 3 and b"f OK [MESSAGELIMIT 4 7] EXPUNGE" in got
        got = await client.send(b"f UID EXPUNGE 1:6\r\n")
        assert got.count(b" EXPUNGE\r\n") == 4 and b"f OK [MESSAGELIMIT 4 2] EXPUNGE" in got
        got = await client.send(b"f EXPUNGE\r\n")
        assert got.count(b" EXPUNGE\r\n") == 1 and b"f OK EXPUNGE" in got

    asyncio.run(main())


def test_subscriptions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "SUBSCRIPTIONS", 8)

    async def main() -> None:
        client = Bench(str(tmp_path)).open("imap")
        await client.send(LOGIN)
        assert b"b OK" in await client.send(b"b SUBSCRIBE nowhere\r\n")
        assert b"c NO [LIMIT] " in await client.send(b"c SUBSCRIBE " + b"x" * 1025 + b"\r\n")
        assert b"d OK" in await client.send(b"d SUBSCRIBE " + b"x" * 1024 + b"\r\n")
        assert b"e NO [LIMIT] at most 8 " in await client.send(b"e SUBSCRIBE another\r\n")
        assert b"f OK" in await client.send(b"f UNSUBSCRIBE nowhere\r\n")
        assert b"g OK" in await client.send(b"g SUBSCRIBE another\r\n")

    asyncio.run(main())
