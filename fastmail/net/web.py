"""Sends requests to web servers (HTTP/1.1, RFC 9112): for policies (RFC 8461 3.3), keys of tokens (RFC 7517), and
whether a token is valid (RFC 7662); and posts reports to them (RFC 8460 5.4).

Promise: one exchange, from the look-up of the name to the last octet of the answer, ends within its time limit, however
slowly the other side answers, and uses no more memory than HEAD and ``limit`` octets of the answer. Each address is
checked right before a connection is made, and the connection goes to that very address: a name that resolves
differently the next time gains nothing. Redirects are not followed. Everything runs on the event loop, except the
system's resolver and reading the machine's certificate authorities, which run on helper threads.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastmail.net import address_rules

SECONDS = 60.0  # s for a whole exchange (RFC 8461 3.3 suggests a minute)
CONNECT = 10.0  # s for connecting to one address, so that a dead one leaves time for the next
ADDRESSES = 4  # addresses of a host that are tried
HEAD = 16384  # octets of status lines and fields, including those of interim answers
CHUNK_LINE = 256  # octets of the line before a chunk
AUTHORITIES = 6 * 3600.0  # s until the machine's certificate authorities are read again
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?", re.DOTALL)
_threads = ThreadPoolExecutor(2, "web")
_contexts: dict[bool, tuple[float, ssl.SSLContext]] = {}
T = TypeVar("T")
Resolve = Callable[[str], Awaitable[Sequence[str]]]


class WebError(OSError):
    """There is no usable answer; str() says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    ``limit``: octets of the body that are wanted, 0 for only the status; ``verify``: the server's certificate must be
    valid; ``plain``: the URL may be http; ``inside``: the host may have a private address, or be this machine."""

    url: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    limit: int = 0
    verify: bool = True
    plain: bool = False
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """``kind``: the media type; ``body``: up to one octet more than the limit."""

    status: int
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a URL leads; ``path`` includes its query."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        """The host as a Host field has it (RFC 9110 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


async def ask(wanted: Request, resolve: Resolve | None = None, seconds: float = SECONDS) -> Answer:
    """Return the answer to one request.

    ``resolve`` gives the addresses of a name in the order in which they are tried; by default the system's resolver
    does. Raises WebError, another OSError (for example of TLS), or what ``resolve`` raises."""
    place = _place(wanted)
    try:
        async with asyncio.timeout(seconds):
            context = await _context(wanted.verify) if place.secure else None
            addresses = await _addresses(place.host, resolve or system_addresses)
            reader, writer = await _connect(place, _fitting(place.host, addresses, wanted.inside), context, seconds)
            try:
                writer.write(_request(wanted, place))
                await writer.drain()
                return await answer(reader, wanted.limit)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise WebError(f"{place.host} took longer than {seconds:g} s") from None
    except (asyncio.IncompleteReadError, EOFError):
        raise WebError(f"{place.host} ended its answer early") from None


async def system_addresses(host: str) -> Sequence[str]:
    """Return what the machine's resolver has for a name. OSError."""
    found = await off_loop(socket.getaddrinfo, host, None, 0, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def off_loop(function: Callable[..., T], *values: Any) -> T:
    """Run a function on a helper thread of this module."""
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *values)


# ---------------------------------------------------------------- where to


def _place(wanted: Request) -> _Place:
    """Return the place of a request; WebError for a URL that is not allowed."""
    url = wanted.url
    if not url.isascii() or not url.isprintable() or " " in url:
        raise WebError("the URL has characters that are not allowed in a URL")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise WebError("the URL has no host") from None
    if parts.scheme not in (("https", "http") if wanted.plain else ("https",)):
        raise WebError(f"{parts.scheme or 'no scheme'}: the URL must be https")
    if not host or "@" in parts.netloc or port == 0:
        raise WebError("the URL has no host, or more than a host")
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Place(secure, host, port or (443 if secure else 80), path)


async def _addresses(host: str, resolve: Resolve) -> Sequence[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return await resolve(host)


def _fitting(host: str, addresses: Sequence[str], inside: bool) -> Sequence[str]:
    """Return the addresses of a host that may be connected to; WebError when there is none."""
    fitting = [one for one in addresses if inside or not address_rules.inner(one)]
    if not fitting:
        why = f"only {addresses[0]}, which {address_rules.inner(addresses[0])}" if addresses else "no address"
        raise WebError(f"{host} has {why}")
    return fitting[:ADDRESSES]


async def _connect(
    place: _Place, addresses: Sequence[str], context: ssl.SSLContext | None, seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address that answers. After an invalid certificate no other address is tried."""
    tls: dict[str, Any] = {}
    if context is not None:
        tls = {"ssl": context, "server_hostname": place.host, "ssl_handshake_timeout": seconds}
    trouble: OSError = WebError(f"{place.host} does not answer")
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT if address != addresses[-1] else None):
                return await asyncio.open_connection(address, place.port, limit=HEAD, **tls)
        except ssl.SSLError:
            raise
        except TimeoutError:
            continue
        except OSError as error:
            trouble = error
    raise trouble


async def _context(verify: bool) -> ssl.SSLContext:
    """Return the TLS context; it is made on a helper thread, because that reads the machine's certificate
    authorities."""
    known = _contexts.get(verify)
    if known is None or known[0] < time.monotonic():
        known = time.monotonic() + AUTHORITIES, await off_loop(_make_context, verify)
        _contexts[verify] = known
    return known[1]


def _make_context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# ---------------------------------------------------------------- HTTP


def _request(wanted: Request, place: _Place) -> bytes:
    """Return the octets of the request (RFC 9112 3)."""
    fields = {"Host": place.name, "Connection": "close", "User-Agent": "fastmail", **wanted.headers}
    if wanted.body or wanted.method == "POST":
        fields["Content-Length"] = str(len(wanted.body))
    lines = [f"{wanted.method} {place.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise WebError("a field has characters that are not allowed in a field")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + wanted.body


async def answer(reader: asyncio.StreamReader, limit: int) -> Answer:
    """Return the final answer. Interim answers (RFC 9110 15.2) are skipped, within the same limit."""
    fields: dict[str, str] = {}
    left, status = HEAD, 100
    while status // 100 == 1:
        line = await _line(reader, left)
        found = _STATUS.fullmatch(line.rstrip(b"\r\n"))
        if found is None:
            raise WebError("the answer does not begin with an HTTP status line")
        status, left = int(found.group(1)), left - len(line)
        fields, left = await _fields(reader, left)
    kind = fields.get("content-type", "").partition(";")[0].strip().lower()
    body = b"" if not limit or status in (204, 304) else await _body(reader, fields, limit)
    return Answer(status, kind, body)


async def _line(reader: asyncio.StreamReader, most: int) -> bytes:
    """Return one line with its end; WebError for a longer one."""
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        line = b""
    if not line or len(line) > most:
        raise WebError("the header of the answer is too long")
    return line


async def _fields(reader: asyncio.StreamReader, left: int) -> tuple[dict[str, str], int]:
    """Return header fields up to the empty line, by name in lower case, and what is left of HEAD."""
    fields: dict[str, str] = {}
    while True:
        line = await _line(reader, left)
        left -= len(line)
        text = line.rstrip(b"\r\n")
        if not text:
            return fields, left
        first, colon, rest = text.partition(b":")
        if not colon or _NAME.fullmatch(first) is None:
            raise WebError("the answer has a header line that is not a field")
        name, value = first.decode("ascii").lower(), rest.strip(b" \t").decode("latin-1")
        if name in ("content-length", "transfer-encoding") and fields.get(name, value) != value:
            raise WebError(f"the answer has several {name} fields")
        fields.setdefault(name, value)


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, str], limit: int) -> bytes:
    """Return the body (RFC 9112 6.3), or its beginning, one octet more than the limit."""
    coding = fields.get("transfer-encoding", "").lower()
    if coding and coding != "chunked":
        raise WebError("the answer has a transfer coding that was not asked for")
    if coding:
        return await _chunked(reader, limit)
    length = fields.get("content-length")
    if length is not None:
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise WebError("the answer has a length that is not a number")
        return await reader.readexactly(min(int(length), limit + 1))
    out = bytearray()
    while len(out) <= limit and (piece := await reader.read(limit + 1 - len(out))):
        out += piece
    return bytes(out)


async def _chunked(reader: asyncio.StreamReader, limit: int) -> bytes:
    """Return a chunked body (RFC 9112 7.1). What follows the last chunk is not read."""
    out = bytearray()
    while True:
        found = _CHUNK.fullmatch((await _line(reader, CHUNK_LINE)).rstrip(b"\r\n"))
        if found is None:
            raise WebError("the answer has a chunk without a size")
        size = int(found.group(1), 16)
        if not size:
            return bytes(out)
        out += await reader.readexactly(min(size, limit + 1 - len(out)))
        if len(out) > limit:
            return bytes(out)
        if (await _line(reader, CHUNK_LINE)).strip(b"\r\n"):
            raise WebError("the answer has a chunk that is longer than its size")
