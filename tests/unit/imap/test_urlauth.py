"""URLs that others may fetch (RFC 4467), and binary messages (RFC 3516 4.4)."""

import asyncio
import re
from pathlib import Path

import pytest

from fastmail.message.recode import without_binary
from tests.support.sessions import Bench, Client

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


async def login(bench: Bench, user: str) -> Client:
    client = bench.open("imap")
    await client.send(f"a LOGIN {user}@example.test secret\r\n".encode())
    return client


async def generate(client: Client, rest: str) -> str:
    url = f"imap://user%40example.test@mx.example.test/INBOX;UID=1{rest}"
    got = (await client.send(f'g GENURLAUTH "{url}" INTERNAL\r\n'.encode())).decode()
    match = re.match(r'\* GENURLAUTH "(.*)"\r\n', got)
    assert match, got
    return match.group(1)


@pytest.mark.parametrize(
    ("rest", "theirs", "mine"),
    [
        (";URLAUTH=anonymous", True, True),
        (";URLAUTH=authuser", True, True),
        (";URLAUTH=user+other", False, False),  # of which domain?
        (";URLAUTH=user+other@example.test", True, False),
        (";URLAUTH=submit+other", False, False),
        (";EXPIRE=2001-01-01T00:00:00Z;URLAUTH=anonymous", False, False),
        (";EXPIRE=2999-01-01T00:00:00+01:00;URLAUTH=anonymous", True, True),
    ],
)
def test_who_may_fetch(tmp_path: Path, rest: str, theirs: bool, mine: bool) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        owner, other = await login(bench, "user"), await login(bench, "other")
        await owner.send(b"b APPEND INBOX {%d+}\r\n" % len(MESSAGE) + MESSAGE + b"\r\n")
        url = await generate(owner, rest)
        for client, allowed in ((other, theirs), (owner, mine)):
            got = await client.send(f'u URLFETCH "{url}"\r\n'.encode())
            assert (b"{%d}\r\n%b\r\n" % (len(MESSAGE), MESSAGE) in got) == allowed
            assert (b'" NIL\r\n' in got) != allowed
        changed = url.replace("UID=1;", "UID=2;")
        assert b'" NIL\r\n' in await other.send(f'u URLFETCH "{changed}"\r\n'.encode())
        await owner.send(b"r RESETKEY INBOX\r\n")
        assert b'" NIL\r\n' in await other.send(f'u URLFETCH "{url}"\r\n'.encode())

    asyncio.run(main())


def test_parts_and_their_structure(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        owner = await login(bench, "user")
        raw = b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n"
        await owner.send(b"b APPEND INBOX {%d+}\r\n" % len(raw) + raw + b"\r\n")
        url = await generate(owner, "/;SECTION=1;URLAUTH=authuser")
        got = await owner.send(f'u URLFETCH ("{url}" BODY BINARY BODYPARTSTRUCTURE)\r\n'.encode())
        assert b" (BODY {10}\r\naGVsbG8=\r\n)" in got
        assert b" (BINARY {5}\r\nhello)" in got
        assert b' (BODYPARTSTRUCTURE ("text" "plain"' in got.lower().replace(b"bodypartstructure", b"BODYPARTSTRUCTURE")
        # RFC 5524 3.2: the structure of the data as they are sent, so beside BINARY without an encoding
        assert b'"7BIT" 5 0' in got
        got = await owner.send(f'v URLFETCH ("{url}" BODYPARTSTRUCTURE)\r\n'.encode())
        assert b'"base64" 10 1' in got.lower() and got.endswith(b"v OK URLFETCH completed\r\n")
        got = await owner.send(f'w URLFETCH ("{url}" BINARY BINARY)\r\n'.encode())
        assert got.startswith(b"w BAD")

    asyncio.run(main())


def test_binary_parts_keep_every_octet() -> None:
    odd = bytes(range(256)) + b"\r\n\n\r\0"
    raw = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b\r\n'
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding:\r\n binary\r\n\r\n"
        + odd
        + b"\r\n--b--\r\n"
    )
    kept = without_binary(raw)
    assert b"\0" not in kept and b"\r" not in kept
    import email

    message = email.message_from_bytes(kept)
    first, second = message.get_payload()  # type: ignore[misc, str-unpack]
    assert first.get_payload() == "plain"
    assert second["Content-Transfer-Encoding"] == "base64"  # type: ignore[index]
    assert second.get_payload(decode=True) == odd


def test_appended_binary_comes_back_as_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        client = await login(Bench(str(tmp_path)), "user")
        odd = b"\0\1\r\n\n\r\xff" * 50
        raw = b"MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + odd
        assert b"b OK" in await client.send(b"b APPEND INBOX ~{%d+}\r\n" % len(raw) + raw + b"\r\n")
        await client.send(b"c SELECT INBOX\r\n")
        got = await client.send(b"d FETCH 1 (BINARY.SIZE[1] BINARY.PEEK[1])\r\n")
        assert b"BINARY.SIZE[1] %d BINARY[1] ~{%d}\r\n%b)" % (len(odd), len(odd), odd) in got
        assert b"e NO [UNKNOWN-CTE]" in await client.send(b"e APPEND INBOX {%d+}\r\n" % len(raw) + raw + b"\r\n")

    asyncio.run(main())
