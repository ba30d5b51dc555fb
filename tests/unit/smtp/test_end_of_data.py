"""fastmail.smtp.end_of_data: content that is refused has one reply, or by LMTP one for each recipient (RFC 2033 4.2), and
the session goes on."""

import asyncio
from pathlib import Path

import pytest

from tests.support.sessions import Bench

BARE, NUL, BIG = (
    b"Subject: s\r\n\r\na\nb\r\n",
    b"Subject: s\r\n\r\na\0b\r\n",
    b"Subject: s\r\n\r\n" + b"x" * 2000 + b"\r\n",
)
REPLIES = {BARE: b"550 5.6.11 bare", NUL: b"550 5.6.0 NUL", BIG: b"552 5.3.4 message"}
ERRORS = 3  # mistakes after which a session is ended


@pytest.mark.parametrize("content", REPLIES, ids=["bare", "nul", "big"])
@pytest.mark.parametrize("chunks", [False, True], ids=["DATA", "BDAT"])
def test_each_recipient_by_lmtp_has_a_reply(tmp_path: Path, content: bytes, chunks: bool) -> None:
    """The host in front makes no mistake with a message that it did not write: it is not sent away for that, neither by
    many recipients nor by many messages."""
    many = 2 * ERRORS
    recipients = b"".join(b"RCPT TO:<user+%d@example.test>\r\n" % n for n in range(many))
    begin = b"BDAT %d LAST\r\n" % len(content) if chunks else b"DATA\r\n"

    async def main() -> None:
        client = Bench(str(tmp_path), errors=ERRORS, message_size=1000).open("lmtp")
        await client.send(b"LHLO me\r\n")
        for _ in range(many):
            got = await client.send(b"MAIL FROM:<a@b.test>\r\n" + recipients)
            assert got.count(b"250 2.1.") == 1 + many
            if chunks:
                got = await client.send(begin + content)
            else:
                assert (await client.send(begin)).startswith(b"354 ")
                got = await client.send(content + b".\r\n")
            lines = got.split(b"\r\n")[:-1]
            assert len(lines) == many and all(line.startswith(REPLIES[content]) for line in lines), got
        assert await client.send(b"NOOP\r\n") == b"250 2.0.0 ok\r\n"

    asyncio.run(main())


REFUSED = {
    b"MAIL FROM:<a@b.test> SIZE=2000\r\n": b"552 5.3.4 ",
    b"MAIL FROM:<a..b@c.test>\r\n": b"501 5.1.7 ",
    b"MAIL FROM:<> BY=3;N\r\n": b"555 5.5.4 ",
    b"RCPT TO:<a..b@example.test>\r\n": b"501 5.1.3 ",
    b"RCPT TO:<nobody@example.test>\r\n": b"550 5.1.1 ",
    b"RCPT TO:<a@far.test>\r\n": b"550 5.7.1 ",
}


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: line.decode().split(":")[1].strip())
def test_the_host_in_front_may_name_any_address(tmp_path: Path, line: bytes) -> None:
    """Others wrote them. By SMTP, so many refusals end the session."""

    async def main() -> None:
        for kind, hello in (("lmtp", b"LHLO me\r\n"), ("smtp", b"EHLO me\r\n")):
            client = Bench(str(tmp_path), errors=ERRORS, message_size=1000).open(kind)
            await client.send(hello + (b"MAIL FROM:<>\r\n" if line.startswith(b"RCPT") else b""))
            for _ in range(ERRORS):
                assert (await client.send(line)).startswith(REFUSED[line])
            assert client.transport.closed == (kind == "smtp")
            assert kind == "smtp" or (await client.send(b"NOOP\r\n")) == b"250 2.0.0 ok\r\n"

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
def test_a_chunk_that_is_too_big_has_one_reply(tmp_path: Path, kind: str) -> None:
    """Before the last chunk there is no reply for each recipient; the chunks behind it are for nobody (RFC 3030 2)."""

    async def main() -> None:
        client = Bench(str(tmp_path), message_size=1000).open(kind)
        await client.send(b"LHLO me\r\n" if kind == "lmtp" else b"EHLO me\r\n")
        await client.send(b"MAIL FROM:<>\r\nRCPT TO:<user@example.test>\r\nRCPT TO:<other@example.test>\r\n")
        got = await client.send(b"BDAT 2000\r\n" + b"x" * 2000 + b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        assert got.split(b"\r\n") == [
            b"552 5.3.4 message is too big",
            b"503 5.5.1 need MAIL first",
            b"250 2.0.0 ok",
            b"",
        ]

    asyncio.run(main())
