"""S43: web servers that strangers name, or own: each exchange has one deadline, one bound and judged addresses."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from fastmail.net import web
from fastmail.net.web import Request, WebError, ask

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """A server on this machine; its port."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def says(answer: bytes) -> Serve:
    """Read the request, and answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    return serve


async def asked(serve: Serve, limit: int = 100, seconds: float = 5.0) -> web.Answer:
    async with serving(serve) as port:
        wanted = Request(f"http://127.0.0.1:{port}/", limit=limit, plain=True, inside=True)
        return await ask(wanted, seconds=seconds)


DRIPS = {
    "a status line": b"HTTP/1.1 200 " + b"O" * 1000,
    "a header": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
    "interim answers": b"HTTP/1.1 103 Early\r\n\r\n" * 1000,
    "a body": b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 1000,
    "a body to the end": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000,
}


@pytest.mark.parametrize("what", list(DRIPS))
def test_s43_an_answer_that_drips_ends_at_the_deadline(what: str) -> None:
    """No single read takes long; all of them together would take minutes."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for octet in DRIPS[what]:
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(0.02)

    begun = time.monotonic()
    with pytest.raises(WebError, match=r"took longer than 0\.4 s"):
        asyncio.run(asked(drip, limit=60_000, seconds=0.4))
    assert time.monotonic() - begun < 3.0


def test_s43_a_handshake_that_drips_ends_at_the_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"\x16")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def main() -> None:
        async with serving(drip) as port:
            begun = time.monotonic()
            with pytest.raises(OSError):
                await ask(Request(f"https://127.0.0.1:{port}/", inside=True), seconds=0.5)
            assert time.monotonic() - begun < 3.0

    asyncio.run(main())


def test_s43_a_name_that_is_not_resolved_ends_at_the_deadline() -> None:
    async def resolve(host: str) -> Sequence[str]:
        await asyncio.sleep(5)
        return []

    begun = time.monotonic()
    with pytest.raises(WebError, match="took longer"):
        asyncio.run(ask(Request("https://slow.test/"), resolve, 0.3))
    assert time.monotonic() - begun < 3.0


def test_s43_a_host_that_answers_no_connection_ends_at_the_deadline() -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(8):  # nobody accepts: the queue is full
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(full.getsockname())
        waiting.append(one)
    begun = time.monotonic()
    with pytest.raises(WebError, match="took longer"):
        asyncio.run(ask(Request(f"http://127.0.0.1:{full.getsockname()[1]}/", plain=True, inside=True), seconds=0.5))
    assert time.monotonic() - begun < 3.0
    for sock in (full, *waiting):
        sock.close()


ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"O" * 8192),
    "field": (b"HTTP/1.1 200 OK\r\nA: ", b"b" * 8192),
    "fields": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 8192),
}


@pytest.mark.parametrize("what", list(ENDLESS))
def test_s43_a_header_without_end_is_read_as_far_as_the_bound(what: str) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        first, more = ENDLESS[what]
        writer.write(first)
        while sent < 1 << 26:
            writer.write(more)
            await writer.drain()
            sent += len(more)

    with pytest.raises(WebError):
        asyncio.run(asked(serve, seconds=20.0))
    assert sent < 1 << 24, "the rest stays with the server, and in the sockets' buffers"


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 99999999999\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"],
    ids=["length", "to the end", "chunks"],
)
def test_s43_a_huge_body_is_read_as_far_as_the_bound(head: bytes) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        while sent < 1 << 26:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    answer = asyncio.run(asked(serve, 5000, 20.0))
    assert answer.body == b"x" * 5001 and sent < 1 << 25


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (GOOD, b"hello"),
        (GOOD.replace(b"\r\n", b"\n"), b"hello"),
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + GOOD, b"hello"),
        (GOOD.replace(b"Content-Length: 5\r\n", b"Transfer-Encoding: Chunked\r\n").replace(b"hello", b""), None),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type:text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2;a=b\r\nhe\r\n0003\r\nllo\r\n0\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nhello", None),
        (b"HTTP/1.1 200 OK\r\nno field\r\n\r\nhello", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", None),
        (b"HTTP/2 200\r\n\r\n", None),
        (b"220 mx.example.test ESMTP\r\n", None),
        (b"", None),
    ],
)
def test_answers(answer: bytes, body: bytes | None) -> None:
    if body is None:
        with pytest.raises(WebError):
            asyncio.run(asked(says(answer)))
    else:
        assert asyncio.run(asked(says(answer))) == web.Answer(200, "text/plain", body)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("where", ["http://127.0.0.1:1/", "file:///etc/passwd", "gopher://x.test/", "//10.0.0.1/"])
def test_s43_no_redirect_is_followed(status: int, where: str) -> None:
    answer = asyncio.run(asked(says(b"HTTP/1.1 %d Go\r\nLocation: %s\r\n\r\n" % (status, where.encode()))))
    assert answer.status == status


INNER = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1",
         "fe80::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "224.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("address", INNER)
def test_s43_nothing_is_asked_at_an_inner_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    async def resolve(host: str) -> Sequence[str]:
        return [address]

    monkeypatch.setattr(asyncio, "open_connection", never)
    literal = f"[{address}]" if ":" in address else address
    for url in ("https://inner.test/", f"https://{literal}/"):
        with pytest.raises(WebError, match="which is"):
            asyncio.run(ask(Request(url), resolve))


def test_s43_the_address_that_was_judged_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to an inner address at the second look-up (DNS rebinding)."""
    looked: list[str] = []
    made: list[object] = []

    async def resolve(host: str) -> Sequence[str]:
        looked.append(host)
        return ["10.0.0.1", "198.41.0.4"] if len(looked) == 1 else ["127.0.0.1"]

    async def note(host: str, port: int, **how: object) -> None:
        made.append((host, port, how.get("server_hostname")))
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio, "open_connection", note)
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(ask(Request("https://turning.test/x"), resolve))
    assert looked == ["turning.test"] and made == [("198.41.0.4", 443, "turning.test")]


@pytest.mark.parametrize(
    "url",
    ["http://a.test/", "ftp://a.test/", "https://", "https://user:pw@a.test/", "https://a.test:99999/", "https://a b/",
     "https://a.test/\r\nX: y", "https://ä.test/", "a.test/x", "https://a.test:0/", "https://[::1/"],
)  # fmt: skip
def test_s43_what_is_no_place_to_ask(url: str) -> None:
    with pytest.raises(WebError):
        asyncio.run(ask(Request(url, inside=True), seconds=5.0))


def test_a_field_breaks_no_request() -> None:
    async def main() -> None:
        async with serving(says(GOOD)) as port:
            for value in ("a\r\nB: c", "ä"):
                wanted = Request(f"http://127.0.0.1:{port}/", headers={"A": value}, plain=True, inside=True)
                with pytest.raises(WebError, match="characters"):
                    await ask(wanted)

    asyncio.run(main())


def test_others_go_on_while_servers_drip() -> None:
    """No thread is held: the loop's own threads, and other exchanges, are free."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        async with serving(drip) as slow, serving(says(GOOD)) as quick:
            url = f"http://127.0.0.1:{slow}/"
            held = [asyncio.create_task(ask(Request(url, plain=True, inside=True))) for _ in range(60)]
            await asyncio.sleep(0.1)
            async with asyncio.timeout(3.0):
                assert await asyncio.get_running_loop().run_in_executor(None, lambda: 1) == 1
                url = f"http://localhost:{quick}/"
                assert (await ask(Request(url, limit=9, plain=True, inside=True))).body == b"hello"
            for one in held:
                one.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(main())
