"""BINARYMIME (RFC 3030 3): what came with NUL and bare line ends is kept, and read as it was sent."""

import asyncio
from pathlib import Path

import pytest

from tests.support.sessions import USER, Bench

BINARY = bytes(range(256)) * 300
MESSAGE = (
    b"From: a@x.test\r\nSubject: binary\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    + BINARY
    + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize("step", [0, 997])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_binary_part_comes_back_as_it_was(tmp_path: Path, protocol: str, step: int) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open(protocol)
        hello = await client.send(b"%b me.test\r\n" % (b"LHLO" if protocol == "lmtp" else b"EHLO"))
        assert b"250-BINARYMIME\r\n" in hello
        await client.send(b"MAIL FROM:<a@x.test> BODY=BINARYMIME\r\nRCPT TO:<%b>\r\n" % USER.encode())
        assert (await client.send(b"DATA\r\n")).startswith(b"503 5.5.1")
        middle = 12345
        first, last = MESSAGE[:middle], MESSAGE[middle:]
        assert (await client.send(b"BDAT %d\r\n" % len(first) + first, step)).startswith(b"250 2.0.0 chunk")
        assert (await client.send(b"BDAT %d LAST\r\n" % len(last) + last, step)).startswith(b"250 2.")
        imap = bench.open("imap")
        await imap.send(b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\n")
        got = await imap.send(b"c FETCH 1 (BINARY[1] BINARY[2] BODY.PEEK[2.MIME])\r\n")
        assert BINARY in got and b"hello" in got and b"base64" in got

    asyncio.run(main())


@pytest.mark.parametrize(
    "content,wanted",
    [
        (b"Subject: x\r\n\r\nNUL \0 in text\r\n", b"550 5.6.0"),
        (b"Subject: x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + b"x" * 20_000, b"552 5.3.4"),
    ],
)
def test_what_cannot_be_kept(tmp_path: Path, content: bytes, wanted: bytes) -> None:
    async def main() -> None:
        client = Bench(str(tmp_path), message_size=10_000).open("smtp")
        await client.send(b"EHLO me.test\r\nMAIL FROM:<a@x.test> BODY=BINARYMIME\r\nRCPT TO:<%b>\r\n" % USER.encode())
        assert (await client.send(b"BDAT %d LAST\r\n" % len(content) + content)).startswith(wanted)
        assert (await client.send(b"NOOP\r\n")).startswith(b"250")

    asyncio.run(main())
