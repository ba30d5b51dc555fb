"""CAPABILITY lists what is done, no more and no less (RFC 3501 6.1.1); and those of it that no other file shows:
UTF8=ACCEPT (RFC 6855, RFC 9755), INPROGRESS (RFC 9585) and I18NLEVEL=1 (RFC 5255 4.3)."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastmail.imap import turns
from fastmail.imap.capabilities import CAPABILITIES
from tests.support.sessions import Bench, Client

LOGIN = b"a LOGIN user@example.test secret\r\n"
BEFORE = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE"
AFTER = """
    UIDPLUS NAMESPACE UNSELECT CHILDREN MOVE SPECIAL-USE CREATE-SPECIAL-USE CONDSTORE QRESYNC ESEARCH SEARCHRES MULTIAPPEND
    LIST-EXTENDED LIST-STATUS STATUS=SIZE WITHIN SAVEDATE PARTIAL SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT
    THREAD=REFERENCES THREAD=REFS UTF8=ACCEPT BINARY OBJECTID PREVIEW REPLACE UNAUTHENTICATE UIDONLY UIDBATCHES INPROGRESS
    I18NLEVEL=1 SEARCH=FUZZY QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE QUOTA=RES-MAILBOX METADATA LIST-METADATA CATENATE
    URLAUTH URLAUTH=BINARY CONTEXT=SEARCH CONTEXT=SORT MULTISEARCH NOTIFY ACL RIGHTS=texk LIST-MYRIGHTS COMPRESS=DEFLATE
"""


async def capabilities(client: Client) -> list[str]:
    answer = await client.send(b"c CAPABILITY\r\n")
    found = re.match(rb"\* CAPABILITY (.+)\r\nc OK ", answer)
    assert found is not None
    return found.group(1).decode().split(" ")


async def logged_in(path: Path) -> Client:
    client = Bench(str(path)).open("imap")
    await client.send(LOGIN)
    return client


async def put(client: Client, content: bytes) -> None:
    assert b"p OK" in await client.send(b"p APPEND INBOX {%d+}\r\n" % len(content) + content + b"\r\n")


def test_before_login_what_can_be_done_then(tmp_path: Path) -> None:
    async def main() -> None:
        client = Bench(str(tmp_path)).open("imap")
        found = await capabilities(client)
        methods = {one for one in found if one.startswith("AUTH=")}
        assert {"AUTH=PLAIN", "AUTH=LOGIN"} <= methods
        assert sorted(found) == sorted([*BEFORE.split(), *methods])

    asyncio.run(main())


def test_after_it_all_the_rest(tmp_path: Path) -> None:
    """LITERAL+ holds for LITERAL-; JMAPACCESS waits for JMAP, and nothing is offered that only Apple's server does."""

    async def main() -> None:
        client = await logged_in(tmp_path)
        found = await capabilities(client)
        limits = {one for one in found if one.startswith(("APPENDLIMIT=", "MESSAGELIMIT="))}
        assert len(limits) == 2
        assert sorted(found) == sorted([*BEFORE.split(), *AFTER.split(), *limits])
        assert await client.send(b"z COMPRESS DEFLATE\r\n") == b"z OK DEFLATE active\r\n"

    asyncio.run(main())


def test_utf8_is_enabled_first(tmp_path: Path) -> None:
    """Names go as UTF-8 to who enabled it and as UTF-7 to who did not; a message may come as UTF8 literal; and a charset
    is not given any more (RFC 6855 3)."""

    async def main() -> None:
        bench = Bench(str(tmp_path))
        one, two = bench.open("imap"), bench.open("imap")
        for client in (one, two):
            await client.send(LOGIN)
        assert b"* ENABLED UTF8=ACCEPT\r\n" in await one.send(b"e ENABLE UTF8=ACCEPT\r\n")
        assert b"f OK" in await one.send('f CREATE "Entwürfe"\r\n'.encode())
        assert '"Entwürfe"'.encode() in await one.send(b'g LIST "" *\r\n')
        assert b"Entw&APw-rfe" in await two.send(b'g LIST "" *\r\n')
        content = "Subject: Grüße\r\n\r\nschön\r\n".encode()
        sent = b"h APPEND INBOX UTF8 (~{%d+}\r\n" % len(content) + content + b")\r\n"
        assert b"h OK [APPENDUID" in await one.send(sent)
        got = await one.send(b"i SELECT INBOX\r\nj FETCH 1 (BODY.PEEK[])\r\n")
        assert content in got
        assert b"k BAD" in await one.send(b"k SEARCH CHARSET UTF-8 SUBJECT x\r\n")
        assert b"* SEARCH 1\r\n" in await one.send('l SEARCH SUBJECT "GRÜSSE"\r\n'.encode())
        assert b"m OK" in await one.send(b"m NOOP\r\n")

    asyncio.run(main())


def test_a_long_search_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PROGRESS", -1.0)
    monkeypatch.setattr(turns, "SLICE", 0.0)

    async def main() -> None:
        client = await logged_in(tmp_path)
        for number in range(3):
            await put(client, b"Subject: %d\r\n\r\nbody %d\r\n" % (number, number))
        await client.send(b"s SELECT INBOX\r\n")
        got = await client.send(b"t7 SEARCH BODY nowhere\r\n")
        told = re.findall(rb'\* OK \[INPROGRESS \("t7" (\d) 3\)\]', got)
        assert told == [b"0", b"1", b"2"] and got.endswith(b"* SEARCH\r\nt7 OK SEARCH completed\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("word", ["été", "ÉTÉ", "e\u0301te\u0301", "ÉTé 2026"])
def test_case_and_composition_do_not_matter(tmp_path: Path, word: str) -> None:
    """i;unicode-casemap, which I18NLEVEL=1 stands for (RFC 5255 4.3)."""

    async def main() -> None:
        client = await logged_in(tmp_path)
        await put(client, b"Subject: =?utf-8?q?L=27=C3=A9t=C3=A9_2026?=\r\n\r\nx\r\n")
        await client.send(b"s SELECT INBOX\r\n")
        text = word.encode()
        sent = b"u SEARCH CHARSET UTF-8 SUBJECT {%d+}\r\n" % len(text) + text + b"\r\n"
        assert b"* SEARCH 1\r\n" in await client.send(sent)

    asyncio.run(main())


def test_each_row_has_its_rfc_and_is_told_once() -> None:
    index = (Path(__file__).parents[3] / "docs" / "rfc.txt").read_text()
    done = {int(number) for number in re.findall(r"^(\d+)\s+(?:yes|partial)\s", index, re.M)}
    names = [row.name for row in CAPABILITIES]
    assert len(set(names)) == len(names)
    assert all(row.rfc in done and row.states for row in CAPABILITIES)


def test_what_is_told_follows_its_condition(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open("imap")
        bench.imap.plaintext = False
        found = await capabilities(client)
        assert "LOGINDISABLED" in found and not any(one.startswith("AUTH=") for one in found)
        assert b"NO [PRIVACYREQUIRED]" in await client.send(LOGIN)
        bench.imap.plaintext = "loopback"
        assert "LOGINDISABLED" not in await capabilities(client)
        client.listener.tls = SimpleNamespace(end_point_of=lambda channel: b"", asks=False)
        assert "STARTTLS" in await capabilities(client)
        client.connection.tls = True
        assert "STARTTLS" not in await capabilities(client)
        await client.send(LOGIN)
        assert "QUOTASET" not in await capabilities(client)
        bench.imap.admins = frozenset(["user@example.test"])
        bench.limits.messages_per_command = 0
        after = await capabilities(client)
        assert "QUOTASET" in after and not any(one.startswith("MESSAGELIMIT") for one in after)
        await client.send(b"s SELECT INBOX\r\n")
        assert await capabilities(client) == after

    asyncio.run(main())
