"""FETCH and SEARCH of odd mail, through a session."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable

import pytest

from fastmail._core import mime
from fastmail.message import identity
from fastmail.store.interface import NewMessage
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import Bench, Client

NESTED = (
    b"Subject: s\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=b\n\n"
    b"--b\n\nplain words\n--b--\n--b--\n"
)


def play(messages: list[bytes], work: Callable[[Client, MemoryStore], Awaitable[None]]) -> None:
    async def main(staging: str) -> None:
        bench = Bench(staging)
        store = bench.store
        assert isinstance(store, MemoryStore)
        account = bench.deliverer.account(bench.directory.accounts["user@example.test"])
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        new = [NewMessage((m,), mime.scan(m), mime.served_size(m), 1) for m in messages]
        await store.append(account, key, new)
        client = bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\n")
        await work(client, store)

    with tempfile.TemporaryDirectory() as staging:
        asyncio.run(main(staging))


def test_a_message_whose_parts_were_lost_is_read_again() -> None:
    async def work(client: Client, store: MemoryStore) -> None:
        (box,) = (box for box in store.boxes.values() if box.messages)
        kept = box.messages[0].summary
        end = len(kept) - identity.TRAIL.size
        mark = kept[end : end + identity.ID_OCTETS]  # as an earlier version stored it
        before = await client.send(b"c FETCH 1 (EMAILID BODYSTRUCTURE)\r\n")
        made = bytearray(kept[:end])
        made[0] = 1
        made[-2 * 16 :] = b""
        made[2:4] = (1).to_bytes(2, "little")
        box.messages[0].summary = bytes(made) + mark
        assert mime.lost(box.messages[0].summary)
        for items in (b"EMAILID BODYSTRUCTURE", b"BODYSTRUCTURE EMAILID"):
            assert await client.send(b"c FETCH 1 (%b)\r\n" % items) == before
        assert b'("text" "plain"' in await client.send(b"d FETCH 1 BODYSTRUCTURE\r\n")
        assert b"{11}\r\nplain words)" in await client.send(b"e FETCH 1 BODY.PEEK[1.1]\r\n")
        assert b'PREVIEW "plain words"' in await client.send(b"f FETCH 1 PREVIEW\r\n")
        assert b'"s"' in await client.send(b"g FETCH 1 ENVELOPE\r\n")

    play([NESTED], work)


def test_a_preview_that_was_found_out_is_kept() -> None:
    """A message of an earlier version is read for it once; one that comes now has its preview from the beginning."""

    async def work(client: Client, store: MemoryStore) -> None:
        (box,) = (box for box in store.boxes.values() if box.messages)
        before = await client.send(b"c FETCH 1:2 (PREVIEW THREADID EMAILID)\r\n")
        assert before.count(b'PREVIEW "say \\"hi\\""') == 2
        for message in box.messages:
            message.content = b"Subject: x\n\nothers\n"
        assert await client.send(b"c FETCH 1:2 (PREVIEW THREADID EMAILID)\r\n") == before
        assert b'PREVIEW "say \\"hi\\""' in await client.send(b"d FETCH 2 (PREVIEW BODY.PEEK[TEXT])\r\n")
        text = b"Subject: y\n\nmore\n"
        await client.send(b"e APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
        box.messages[-1].content = b"Subject: x\n\nothers\n"
        assert b'* 3 FETCH (PREVIEW "more")' in await client.send(b"f FETCH 3 PREVIEW\r\n")

    play([b'Subject: x\n\nsay "hi"\n', b'Subject: x\n\nsay "hi"\n'], work)


def test_sections_that_are_not_there_are_nil() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nfirst\n--b\nContent-Type: message/rfc822\n\n"
        b"Subject: inner\n\ninner text\n--b--\n"
    )

    async def work(client: Client, store: MemoryStore) -> None:
        assert b"BODY[2.1] {10}\r\ninner text" in await client.send(b"c FETCH 1 BODY.PEEK[2.1]\r\n")
        for path in (b"2.1.1", b"2.1.1.1", b"1.1", b"2.2", b"3", b"1.1.MIME", b"2.1.HEADER"):
            assert b"BODY[%b] NIL" % path in await client.send(b"c FETCH 1 BODY.PEEK[%b]\r\n" % path)
        head = b"Subject: p\r\nContent-Type: text/plain\r\n\r\n"
        assert b"BODY[1.MIME] {%d}\r\n%b" % (len(head), head) in await client.send(b"d FETCH 2 BODY.PEEK[1.MIME]\r\n")

    play([message, b"Subject: p\nContent-Type: text/plain\n\nbody\n"], work)


@pytest.mark.parametrize(
    ("partial", "shown"),
    [(b"<0.5000000000>", b"<0> {6}\r\nbody\r\n"), (b"<5000000000.10>", b"<5000000000> {0}\r\n"),
     (b"<9223372036854775807.9223372036854775807>", b"<9223372036854775807> {0}\r\n"), (b"<4.1>", b"<4> {1}\r\n\r")],
)  # fmt: skip
def test_ends_of_a_part_of_a_section_have_63_bits(partial: bytes, shown: bytes) -> None:
    """RFC 9051 9 partial: number64."""

    async def work(client: Client, store: MemoryStore) -> None:
        for section in (b"TEXT", b"1"):
            answer = await client.send(b"c FETCH 1 BODY.PEEK[%b]%b\r\n" % (section, partial))
            assert answer.startswith(b"* 1 FETCH (BODY[%b]%b)\r\nc OK" % (section, shown))
        answer = await client.send(b"d FETCH 1 BINARY.PEEK[1]%b\r\n" % partial)
        assert answer.startswith(b"* 1 FETCH (BINARY[1]%b)\r\nd OK" % shown)
        for wrong in (b"<0.9223372036854775808>", b"<9223372036854775808.1>", b"<0.0>", b"<0>", b"<.1>"):
            assert (await client.send(b"e FETCH 1 BODY.PEEK[1]%b\r\n" % wrong)).startswith(b"e BAD")

    play([b"Subject: p\n\nbody\n"], work)


def test_binary_is_all_or_no() -> None:
    head = b"Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"

    async def work(client: Client, store: MemoryStore) -> None:
        answer = await client.send(b"c FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])\r\n")
        assert b"BINARY[1] {10}\r\nhellohello" in answer and b"BINARY.SIZE[1] 10" in answer and b"c OK" in answer
        answer = await client.send(b"d FETCH 2 BINARY.PEEK[1]\r\n")
        assert answer.startswith(b"* 2 FETCH (UID 2)\r\nd NO [UNKNOWN-CTE]")  # a response has at least one item
        answer = await client.send(b"e FETCH 2 (BINARY.PEEK[1] BODY.PEEK[1]<0.4>)\r\n")
        assert answer.startswith(b"* 2 FETCH (BODY[1]<0> {4}\r\naGVs)\r\ne NO [UNKNOWN-CTE]")
        await client.send(b"f ENABLE UIDONLY\r\n")
        answer = await client.send(b"g UID FETCH 2 BINARY.SIZE[1]\r\n")
        assert answer.startswith(b"* 2 UIDFETCH (UID 2)\r\ng NO [UNKNOWN-CTE]")

    play([head + b"aGVsbG8=\naGVsbG8", head + b"aGVsbG8=\n-- \nfooter\n"], work)


@pytest.mark.parametrize("name", [b"punycode", b"unicode_escape", b"unknown-8bit", b"uu", b"x" * 60_000])
def test_a_charset_that_is_none_is_badcharset(name: bytes) -> None:
    async def work(client: Client, store: MemoryStore) -> None:
        answer = await client.send(b"c SEARCH CHARSET " + name + b" TEXT x\r\n")
        assert answer.startswith((b"c NO [BADCHARSET", b"c BAD"))

    play([NESTED], work)


@pytest.mark.parametrize(("name", "octets"), [(b"ks_c_5601-1987", "\ud55c\uad6d"), (b"windows-31j", "\u2460")])
def test_charsets_of_mail_search(name: bytes, octets: str) -> None:
    codec = {b"ks_c_5601-1987": "cp949", b"windows-31j": "cp932"}[name]
    raw = octets.encode(codec)
    message = b"Subject: x\nContent-Type: text/plain; charset=" + name + b"\n\n" + raw + b"\n"

    async def work(client: Client, store: MemoryStore) -> None:
        command = b"c SEARCH CHARSET %b BODY {%d+}\r\n%b\r\n" % (name, len(raw), raw)
        assert b"* SEARCH 1\r\n" in await client.send(command)

    play([message, NESTED], work)


def test_text_outside_of_all_parts_is_found() -> None:
    async def work(client: Client, store: MemoryStore) -> None:
        for word in (b"preamble", b"epilogue", b"trailing", b"inside"):
            assert b"* SEARCH 1\r\n" in await client.send(b"c SEARCH BODY " + word + b"\r\n")
            assert word in await client.send(b"d FETCH 1 BODY.PEEK[TEXT]\r\n")

    play([b"Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b trailing\n\ninside\n--b--\nepilogue\n"], work)
