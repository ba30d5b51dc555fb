"""BURL (RFC 4468): a message that lies in a mailbox is sent without being downloaded."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.sessions import Bench, Client

LOGIN = b"EHLO me.test\r\nAUTH PLAIN AHVzZXJAZXhhbXBsZS50ZXN0AHNlY3JldA==\r\n"
MAIL = b"MAIL FROM:<user@example.test>\r\nRCPT TO:<other@example.test>\r\n"
DRAFT = b"From: user@example.test\r\nSubject: draft\r\n\r\n" + b"line\r\n" * 30000
PLACE = "imap://user%40example.test@mx.example.test/Drafts/;UID=1"


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def draft(bench: Bench, content: bytes = DRAFT) -> Client:
    """A session of IMAP that has put a draft away."""
    client = bench.open("imap")
    await client.send(b"a LOGIN user@example.test secret\r\n")
    got = await client.send(b"b APPEND Drafts {%d+}\r\n%b\r\n" % (len(content), content))
    assert b"b OK" in got
    return client


async def url(client: Client, access: str = "submit+user@example.test", place: str = PLACE) -> bytes:
    got = await client.send(f'c GENURLAUTH "{place};URLAUTH={access}" INTERNAL\r\n'.encode())
    found = re.search(rb'GENURLAUTH "([^"]+)"', got)
    assert found is not None, got
    return found.group(1)


def kept(bench: Bench) -> list[bytes]:
    boxes = bench.store.boxes.items()  # type: ignore[attr-defined]
    return [bytes(m.content) for key, box in boxes for m in box.messages if key[7] == 2]


def test_a_draft_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        place = await url(await draft(bench))
        client = bench.open("submission")
        assert b"250-BURL\r\n" in (await client.send(b"EHLO me.test\r\n")).replace(b"250 BURL", b"250-BURL")
        await client.send(LOGIN.partition(b"\r\n")[2])
        assert b"BURL imap\r\n" in await client.send(b"EHLO me.test\r\n")
        got = await client.send(MAIL + b"BURL " + place + b" LAST\r\n")
        assert got.splitlines()[-1].startswith(b"250 2.0.0 ")
        (message,) = kept(bench)
        assert message.endswith(b"\n\n" + b"line\n" * 30000) and b"Subject: draft\n" in message

    run(scenario)


def test_pieces_of_both_kinds_make_one_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        place = await url(await draft(bench, b"Subject: old\r\n\r\nold text\r\n"), place=PLACE + "/;SECTION=TEXT")
        client = bench.open("submission")
        await client.send(LOGIN + MAIL)
        head = b"From: user@example.test\r\nSubject: new\r\n\r\n"
        got = await client.send(b"BDAT %d\r\n%bBURL %b\r\nBDAT 5 LAST\r\nend\r\n" % (len(head), head, place))
        assert [line[:5] for line in got.splitlines()] == [b"250 2", b"250 2", b"250 2"]
        (message,) = kept(bench)
        assert message.endswith(b"Subject: new\n\nold text\nend\n")

    run(scenario)


@pytest.mark.parametrize(
    ("access", "spoil", "reply"),
    [
        ("submit+other@example.test", b"", b"554 5.6.6"),
        ("user+other@example.test", b"", b"554 5.6.6"),
        ("submit+user@example.test", b"0", b"554 5.6.6"),
        ("user+user@example.test", b"", b"250 2.0.0"),
        ("authuser", b"", b"250 2.0.0"),
    ],
)
def test_whose_urls_are_good(tmp_path: Path, access: str, spoil: bytes, reply: bytes) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        place = await url(await draft(bench), access)
        client = bench.open("submission")
        await client.send(LOGIN + MAIL)
        got = await client.send(b"BURL " + place + spoil + b" LAST\r\n")
        assert got.startswith(reply) and len(kept(bench)) == (reply[:1] == b"2")
        if reply[:1] == b"5":
            assert (await client.send(b"BDAT 1 LAST\r\nx")).startswith(b"503 5.5.1 need MAIL first")
            assert (await client.send(MAIL)).count(b"250") == 2

    run(scenario)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"BURL\r\n", b"501 5.5.4"),
        (b"BURL a b\r\n", b"501 5.5.4"),
        (b"BURL http://example.test/ LAST\r\n", b"554 5.6.6"),
        (b"BURL \xff\xff LAST\r\n", b"554 5.6.6"),
    ],
)
def test_what_is_refused(tmp_path: Path, command: bytes, reply: bytes) -> None:
    async def scenario() -> None:
        client = Bench(str(tmp_path)).open("submission")
        await client.send(LOGIN + MAIL)
        assert (await client.send(command)).startswith(reply)

    run(scenario)


def test_only_users_send_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open("smtp")
        assert b"BURL" not in await client.send(b"EHLO me\r\n")
        await client.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\n")
        assert (await client.send(b"BURL " + PLACE.encode() + b" LAST\r\n")).startswith(b"500 5.5.1")

    run(scenario)


def test_a_message_that_is_too_big_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path), message_size=200000)
        place = await url(await draft(bench))
        client = bench.open("submission")
        await client.send(LOGIN + MAIL)
        got = await client.send(b"BURL " + place + b"\r\nBURL " + place + b" LAST\r\n")
        assert got.startswith(b"250 ") and got.splitlines()[1].startswith(b"552 5.3.4")
        assert kept(bench) == []

    run(scenario)
