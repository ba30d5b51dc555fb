"""Web servers that strangers name: policies (RFC 8461 3.3) are fetched from them, reports (RFC 8460 5.4) are posted to
them.

Promise: one request ends within its seconds, however slowly the other side answers, and holds at most ``limit`` octets
of the answer. It goes to an address that the caller has judged, follows no redirect, and runs on threads of its own, so
that no web server keeps the disk's threads busy.
"""

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

SECONDS = 60.0  # for a whole request (RFC 8461 3.3 suggests a minute)
QUIET = 30.0  # s of silence that end it before
THREADS = 4
ERRORS = (OSError, http.client.HTTPException, ValueError)  # what ``request`` raises
_threads = ThreadPoolExecutor(THREADS, "https")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``host``: the name that the certificate must have; ``address``: where it is."""

    method: str
    host: str
    address: str
    path: str
    port: int = 443
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    limit: int = 0
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """``kind``: the media type; ``body``: up to one octet more than the limit."""

    status: int
    kind: str
    body: bytes


async def off_loop(function: Callable[..., T], *values: Any) -> T:
    """Run a function on a thread of this module."""
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *values)


def request(wanted: Request, seconds: float = SECONDS) -> Answer:
    """Ask, on the calling thread. One of ``ERRORS`` when there is no whole answer in time."""
    context = ssl.create_default_context()
    if not wanted.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection((wanted.address, wanted.port), min(QUIET, seconds))
    try:
        tls = context.wrap_socket(plain, server_hostname=wanted.host, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    watch = threading.Timer(seconds, _end, [tls])
    watch.daemon = True
    watch.start()
    place = wanted.host if wanted.port == 443 else f"{wanted.host}:{wanted.port}"
    connection = http.client.HTTPConnection(place)
    connection.sock = tls
    try:
        tls.do_handshake()
        connection.request(wanted.method, wanted.path, wanted.body, wanted.headers)
        reply = connection.getresponse()
        return Answer(reply.status, reply.headers.get_content_type(), reply.read(wanted.limit + 1))
    finally:
        watch.cancel()
        connection.close()
        tls.close()


def _end(tls: ssl.SSLSocket) -> None:
    """Time is up: every read and write on the socket fails from now on."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(tls, socket.SHUT_RDWR)  # not SSLSocket's own, which belongs to the other thread
