"""HTTP of one connection: requests fed whole, octet by octet and with more behind them; what is refused, and how."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.admin import http
from fastmail.admin.http import BODY, DROPPED, HEADER, HttpSession, Message
from fastmail.model.limits import Limits
from fastmail.net.connection import Connection
from fastmail.telemetry import counters
from tests.support.sessions import FakeListener, FakeTransport

POST = b"POST /u/x?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


async def echo(scope: Message, receive: Any, send: Any) -> None:
    """Answers with what was asked."""
    await asyncio.sleep(0)
    body = (await receive())["body"]
    text = f"{scope['method']} {scope['path']} {scope['query_string'].decode()}|".encode() + body
    assert (await receive())["type"] == "http.disconnect"
    fields = [(b"content-length", str(len(text)).encode()), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": text[:3], "more_body": True})
    await send({"type": "http.response.body", "body": text[3:]})


class Peer:
    """A connection without a socket."""

    def __init__(self, application: Any = echo) -> None:
        self.listener = FakeListener(lambda connection: HttpSession(application, connection), Limits())
        self.connection = Connection(self.listener)  # type: ignore[arg-type]
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    async def send(self, data: bytes, step: int = 1 << 16) -> bytes:
        """What is answered to this."""
        before = len(self.transport.data)
        for at in range(0, len(data), step):
            if self.transport.closed:
                break
            piece = data[at : at + step]
            self.listener.buffer[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))
        for _ in range(50):
            await asyncio.sleep(0)
        return self.transport.data[before:]


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


@pytest.mark.parametrize("step", [1, 1 << 16])
def test_there_are_no_tunnels(step: int) -> None:
    """Whatever the application would say: RFC 9110 9.3.6."""

    async def work() -> None:
        peer, before = Peer(), counters.snapshot().get("bugs", 0)
        got = await peer.send(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n" + GET, step)
        assert got.startswith(b"HTTP/1.1 501 ") and got.count(b"HTTP/1.1") == 1
        assert counters.snapshot().get("bugs", 0) == before

    run(work)


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_a_request_and_its_answer(step: int) -> None:
    async def work() -> None:
        peer = Peer()
        for _ in range(2):
            got = await peer.send(POST, step)
            head, _, body = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nDate: " in head and b"close" not in head.lower()
            assert body == b"POST /u/x q=1|hello"
        assert not peer.transport.closed, "it is kept for more"

    run(work)


@pytest.mark.parametrize("step", [1, 1 << 16])
def test_requests_that_come_together_are_answered_in_order(step: int) -> None:
    async def work() -> None:
        got = await Peer().send(POST + GET + POST.replace(b"hello", b"again"), step)
        bodies = [got.index(text) for text in (b"|hello", b"GET / |", b"|again")]
        assert bodies == sorted(bodies) and got.count(b"HTTP/1.1 200") == 3

    run(work)


def test_chunks_head_and_continue() -> None:
    async def work() -> None:
        peer = Peer()
        chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        assert (await peer.send(chunked)).endswith(b"POST / |abcde")
        head = await peer.send(b"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"content-length: 9" in head.lower() and head.endswith(b"\r\n\r\n")
        asked = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        assert (await peer.send(asked)).startswith(b"HTTP/1.1 100 ")
        assert (await peer.send(b"ab")).endswith(b"POST / |ab")
        whole = await peer.send(b"GET http://h.test/a%20b?c HTTP/1.1\r\nHost: h.test\r\n\r\n")
        assert whole.endswith(b"GET /a b c|")

    run(work)


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.0\r\n\r\n", GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")]
)
def test_a_last_request_ends_the_connection(request_: bytes) -> None:
    async def work() -> None:
        peer = Peer()
        got = await peer.send(request_)
        assert got.endswith(b"GET / |") and b"connection: close" in got.lower() and peer.transport.closed

    run(work)


@pytest.mark.parametrize("step", [1, 1 << 16])
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (BODY + 1), 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (BODY + 1) + b"x" * (BODY + 1),
            413,
        ),
        (b"GET /" + b"x" * (HEADER + 10) + b" HTTP/1.1\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * (HEADER // 7), 431),
    ],
)
def test_what_is_refused(request_: bytes, status: int, step: int) -> None:
    async def work() -> None:
        peer = Peer()
        got = await peer.send(request_, step)
        assert got.startswith(f"HTTP/1.1 {status} ".encode()) and got.count(b"HTTP/1.1") == 1
        assert b"\r\nConnection: close\r\n" in got and b"\r\nX-Content-Type-Options: nosniff\r\n" in got
        assert await peer.send(GET) == b"", "what comes behind it is dropped"
        assert not peer.transport.closed and peer.connection.deadline > 0
        await peer.send(b"x" * (DROPPED + 1))
        assert peer.transport.closed

    run(work)


def test_time_is_bounded_however_octets_trickle_in() -> None:
    async def work() -> None:
        peer = Peer()
        await peer.send(b"GET / HT")
        first = peer.connection.deadline
        await peer.send(b"TP/1.1\r\nX: ", 1)
        assert peer.connection.deadline == first, "more octets are no more time"
        peer.connection.session.timed_out()
        assert peer.transport.data.startswith(b"HTTP/1.1 408 ") and peer.transport.closed
        silent = Peer()
        assert silent.connection.deadline > 0
        silent.connection.session.timed_out()
        assert silent.transport.data == b"" and silent.transport.closed

    run(work)


def test_an_application_that_fails_is_an_error_without_details() -> None:
    async def broken(scope: Message, receive: Any, send: Any) -> None:
        raise ValueError("secret")

    async def half(scope: Message, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def stuck(scope: Message, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def work() -> None:
        for application in (broken, half):
            peer = Peer(application)
            got = await peer.send(GET)
            assert got.startswith(b"HTTP/1.1 500 ") and b"secret" not in got and peer.transport.closed
        peer = Peer(stuck)
        assert await peer.send(GET) == b""
        peer.connection.session.timed_out()
        assert peer.transport.closed

    run(work)


def test_the_refusal_of_a_listener_is_an_answer() -> None:
    head, _, body = http.REFUSAL.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ") and b"Content-Length: 0" in head and body == b""


PIECES = st.sampled_from(
    [b"GET ", b"POST ", b"/u/x", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n", b"\n", b"Host: h\r\n", b"0\r\n\r\n", b"5",
     b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
     b"Upgrade: h2c\r\n", b"CONNECT h:1", b"hello", b" ", b"\0", b"\xff", POST, GET]
)  # fmt: skip


@given(st.lists(PIECES | st.binary(max_size=5), max_size=12), st.integers(1, 9))
def test_whatever_comes_is_answered_the_same_however_it_is_cut(pieces: list[bytes], step: int) -> None:
    octets = b"".join(pieces)

    async def work() -> None:
        before = counters.snapshot().get("bugs", 0)
        whole, cut = Peer(), Peer()
        first, second = await whole.send(octets), await cut.send(octets, step)
        strip = lambda text: re.sub(rb"Date: [^\r]*", b"", text)  # noqa: E731
        assert strip(first) == strip(second) and whole.transport.closed == cut.transport.closed
        assert counters.snapshot().get("bugs", 0) == before

    run(work)
