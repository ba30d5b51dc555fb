"""The first CONDSTORE enabling command of a session brings HIGHESTMODSEQ of the selected mailbox (RFC 7162 3.1)."""

import asyncio
from pathlib import Path

import pytest

from tests.support.sessions import Bench, Client

ENABLING = [
    b"ENABLE CONDSTORE",
    b"ENABLE QRESYNC",
    b"STATUS INBOX (HIGHESTMODSEQ)",
    b"STATUS Trash (MESSAGES HIGHESTMODSEQ)",
    b'LIST "" * RETURN (STATUS (HIGHESTMODSEQ))',
    b"FETCH 1 (MODSEQ)",
    b"UID FETCH 1 (FLAGS MODSEQ)",
    b"FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
    b"UID FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
    b"SEARCH MODSEQ 1",
    b"UID SEARCH RETURN (COUNT) OR NOT MODSEQ 1 ALL",
    b"SORT (SIZE) UTF-8 MODSEQ 1",
    b"THREAD REFERENCES UTF-8 MODSEQ 1",
    b"STORE 1 (UNCHANGEDSINCE 100) +FLAGS.SILENT (\\Seen)",
    b"UID STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
]
OTHERS = [
    b"STATUS INBOX (MESSAGES)",
    b"FETCH 1 (FLAGS)",
    b"STORE 1 +FLAGS (\\Seen)",
    b"ENABLE IMAP4rev2",
    b"SEARCH ALL",
    b"STORE 1 (UNCHANGEDSINCE 1) +FLAGS (bad",
    b"FETCH 1 (FLAGS) (CHANGEDSINCE 1",
    b"STATUS INBOX (HIGHESTMODSEQ WRONG)",
    b"SELECT INBOX (CONDSTORE WRONG)",
    b"FETCH 1 FLAGS (CHANGEDSINCE x)",
]
CODE = b"* OK [HIGHESTMODSEQ "


async def selected(path: Path) -> tuple[Bench, Client]:
    bench = Bench(str(path))
    client = bench.open("imap")
    await client.send(b"a LOGIN user@example.test secret\r\nb APPEND INBOX {14+}\r\nSubject: x\r\n\r\n\r\n")
    await client.send(b"c SELECT INBOX\r\n")
    return bench, client


@pytest.mark.parametrize("command", ENABLING)
def test_the_first_enabling_command_brings_it(command: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        _, client = await selected(tmp_path)
        got = await client.send(b"d " + command + b"\r\n")
        assert got.count(CODE) == 1 and b"d OK" in got
        assert got.startswith(CODE + b"2] "), "before anything that the command itself changes"
        for again in (command, b"FETCH 1 (MODSEQ)"):
            assert CODE not in await client.send(b"e " + again + b"\r\n")
        assert b"MODSEQ (" in await client.send(b"f STORE 1 +FLAGS (\\Flagged)\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands_and_those_that_fail_do_not(command: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        _, client = await selected(tmp_path)
        assert CODE not in await client.send(b"d " + command + b"\r\n")
        await client.send(b"e EXAMINE INBOX\r\nf SELECT INBOX\r\n")
        assert b"MODSEQ" not in await client.send(b"g STORE 1 +FLAGS (\\Flagged)\r\n")

    asyncio.run(main())


def test_it_goes_no_further_than_what_the_client_was_told(tmp_path: Path) -> None:
    """A client that leaves with this value must not miss a change that it was never told of."""

    async def main() -> None:
        bench, client = await selected(tmp_path)
        other = bench.open("imap")
        await other.send(b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\nc STORE 1 +FLAGS (\\Flagged)\r\n")
        got = await client.send(b"d SEARCH MODSEQ 1\r\n")
        assert got.startswith(CODE + b"2] ")
        assert b"FLAGS (\\Flagged" in got and b"MODSEQ (3)" in got

    asyncio.run(main())


def test_select_with_condstore_tells_it_of_the_mailbox_that_it_opens(tmp_path: Path) -> None:
    async def main() -> None:
        _, client = await selected(tmp_path)
        got = await client.send(b"d SELECT Trash (CONDSTORE)\r\n")
        assert got.count(CODE) == 1 and got.startswith(b"* OK [CLOSED]")
        assert CODE not in await client.send(b"e STATUS INBOX (HIGHESTMODSEQ)\r\n")

    asyncio.run(main())
