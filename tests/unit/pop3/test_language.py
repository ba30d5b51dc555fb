"""UTF8 and LANG (RFC 6856), and what sessions without UTF8 get of messages that need it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.sessions import USER, Bench, Client

MESSAGE = "From: Jörg <jörg@example.org>\nSubject: Grüße\n\n.körper\nzwei\n"


def with_message(tmp_path: Path, work: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open("lmtp")
        await client.send(b"LHLO client\r\n")
        wire = MESSAGE.replace("\n.", "\n..").replace("\n", "\r\n").encode()
        await client.send(b"MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<%b>\r\nDATA\r\n" % USER.encode())
        assert (await client.send(wire + b".\r\n")).startswith(b"250 ")
        await work(bench)

    asyncio.run(main())


async def entered(bench: Bench, before: bytes = b"") -> Client:
    client = bench.open("pop3")
    answer = await client.send(before + b"USER %b\r\nPASS secret\r\n" % USER.encode())
    assert answer.endswith(b"+OK 1 messages\r\n"), answer
    return client


def test_after_utf8_a_message_comes_as_it_is(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        client = await entered(bench, b"UTF8\r\n")
        answer = await client.send(b"RETR 1\r\n")
        size = (await client.send(b"LIST 1\r\n")).split()[2]
        assert answer.startswith(b"+OK " + size + b" octets\r\n")
        lines = MESSAGE.replace("\n.", "\n..").replace("\n", "\r\n")
        assert answer.endswith(lines.encode() + b".\r\n")

    with_message(tmp_path, work)


def test_without_utf8_the_header_is_ascii_and_the_body_is_as_it_was(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        client = await entered(bench)
        answer = await client.send(b"RETR 1\r\n")
        first, _, rest = answer.partition(b"\r\n")
        head, _, body = rest.partition(b"\r\n\r\n")
        assert head.isascii() and b"\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=" in head
        assert body == "..körper\r\nzwei\r\n.\r\n".encode()
        assert first == b"+OK %d octets" % (len(rest) - len(b".") - len(b".\r\n"))  # without the dots of the transfer
        assert await client.send(b"TOP 1 1\r\n") == first + b"\r\n" + head + "\r\n\r\n..körper\r\n.\r\n".encode()

    with_message(tmp_path, work)


def test_utf8_has_no_argument_and_stls_cannot_follow_it(tmp_path: Path) -> None:
    async def main() -> None:
        client = Bench(str(tmp_path)).open("pop3")
        assert await client.send(b"UTF8 x\r\n") == b"-ERR UTF8 has no argument\r\n"
        assert (await client.send(b"utf8\r\n")).startswith(b"+OK")
        client.connection._listener.tls = object()  # type: ignore[assignment]  # as if there were a certificate
        assert await client.send(b"STLS\r\n") == b"-ERR STLS comes before UTF8\r\n"

    asyncio.run(main())


def test_a_password_that_is_no_utf8_is_refused_after_utf8(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        for utf8, said in (
            (b"", b"-ERR [AUTH] login failed\r\n"),
            (b"UTF8\r\n", b"-ERR [AUTH] password is not UTF-8\r\n"),
        ):
            client = bench.open("pop3")
            assert (await client.send(utf8 + b"USER user@example.test\r\nPASS \xff\r\n")).endswith(said)
        assert b"user name is not UTF-8" in await bench.open("pop3").send(b"USER \xff\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("inside", [False, True])
def test_lang_knows_english(tmp_path: Path, inside: bool) -> None:
    async def work(bench: Bench) -> None:
        client = await entered(bench) if inside else bench.open("pop3")
        if not inside:
            await client.send(b"")
        assert (await client.send(b"LANG\r\n")).endswith(b"+OK languages\r\nen English\r\n.\r\n")
        for asked in (b"en", b"EN", b"*"):
            assert await client.send(b"LANG " + asked + b"\r\n") == b"+OK en replies are in English\r\n"
        for asked in (b"uga", b"en-GB", b"de \xff"):
            assert await client.send(b"LANG " + asked + b"\r\n") == b"-ERR no such language here\r\n"

    with_message(tmp_path, work)


def test_capa_is_the_same_in_both_states(tmp_path: Path) -> None:
    """RFC 2449 6, RFC 6856 2, 3: no capability that is offered here differs between them."""

    async def work(bench: Bench) -> None:
        fresh = await bench.open("pop3").send(b"CAPA\r\n")
        assert b"\r\nUTF8 USER\r\n" in fresh and b"\r\nLANG\r\n" in fresh and b"\r\nSASL " in fresh
        client = await entered(bench)
        assert fresh.endswith(await client.send(b"CAPA\r\n"))

    with_message(tmp_path, work)
