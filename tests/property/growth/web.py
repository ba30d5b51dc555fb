"""What strangers send to the web server: headers, bodies and links (RFC 9112, RFC 8058)."""

import asyncio
from typing import Any

from fastmail.admin import http
from fastmail.admin.unsubscribe import has_click
from fastmail.directory.list_links import Links
from fastmail.directory.memory import MemoryDirectory
from fastmail.model.limits import Limits
from fastmail.net.connection import Connection
from tests.support.growth import Case
from tests.support.sessions import FakeListener, FakeTransport

LINKS = Links(MemoryDirectory())
LINKS.prepare()
PIECE = 16


def _session(octets: bytes) -> object:
    """A connection that is fed a few octets at a time."""

    async def nobody(*_: Any) -> None:
        await asyncio.sleep(1000)

    async def work() -> bytes:
        listener: Any = FakeListener(lambda connection: http.HttpSession(nobody, connection), Limits())
        connection, transport = Connection(listener), FakeTransport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        for at in range(0, len(octets), PIECE):
            piece = octets[at : at + PIECE]
            listener.buffer[: len(piece)] = piece
            connection.buffer_updated(len(piece))
        return transport.data

    return asyncio.run(work())


START = b"POST / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
CASES = [
    Case("web: header fields", 400, lambda n: START + b"a: b\r\n" * n, _session),
    Case("web: a long field", 3_000, lambda n: START + b"a: " + b"b" * n, _session),
    Case("web: chunks", 250, lambda n: CHUNKED + b"1\r\nx\r\n" * n, _session),
    Case("web: what comes behind a refusal", 3_000, lambda n: b"\0\r\n\r\n" + b"x" * n, _session),
    Case("web: parts of a form", 2_000, lambda n: b"--b\n" * n, has_click),
    Case(
        "web: a field of a form", 2_000, lambda n: b"content-disposition: " + b"; name=list-unsubscrib" * n, has_click
    ),
    Case("web: names of a form", 2_000, lambda n: b"content-disposition: a; name=list-unsubscribe\n" * n, has_click),
    Case("web: a value of a form", 2_000, lambda n: b"--b\n\n" + b"x\n" * n, has_click),
    Case("web: a link", 8_000, lambda n: "a" * n, LINKS.read),
]
