"""HTTP/1.1 for one connection (RFC 9110, RFC 9112): reads requests with h11, has an ASGI application answer them.

The connection is one of net.listener, like those of mail protocols: TLS, PROXY headers, the number of connections from
one address and deadlines are its business.

Promise: what a peer can have in memory is bounded. A header has HEADER octets, a body BODY, and each is whole before
the application is asked. A request has REQUEST seconds to arrive, however it trickles in, and ANSWER seconds to be
answered. Requests that come together are answered in order, one at a time. A request that cannot be read gets the
status that says why, and the connection ends.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import h11

from fastmail.admin.pages import HEADERS
from fastmail.net.connection import Connection
from fastmail.telemetry.counters import count

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

HEADER = 16384  # octets of a request line with its header fields
BODY = 16384  # octets of a body; the one of RFC 8058 has 26, or 200 with its boundaries
REQUEST = 20.0  # s for a request to arrive
IDLE = 30.0  # s that a connection waits for its next request
ANSWER = 60.0  # s for the application; it waits for the disk
REST = 2.0  # s in which the rest of a body that is too large is dropped, so that the peer reads our answer first
TOO_LARGE = f"A body may have {BODY} octets."
DROPPED = 1 << 20  # octets of it; after that the connection is cut off
WHY = {431: f"A header may have {HEADER} octets.", 501: "This transfer coding is not known here."}
_WHOLE = re.compile(r"(?i)https?://[^/?]*")
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HttpSession:
    """See net.session.Session. ``secure``: the peer speaks TLS with us or with a reverse proxy."""

    def __init__(self, application: Application, connection: Connection, secure: bool = True) -> None:
        self._application = application
        self._connection = connection
        self._secure = secure
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER)
        # the request that is read or answered
        self._begun = False
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._taken = False  # the application has the body
        # its answer
        self._status = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._answer: list[bytes] = []
        self._over = False
        # after a refusal
        self._refused = False
        self._dropped = 0

    # ---------------------------------------------------------------- calls of the connection

    def connected(self) -> None:
        """Wait for the first request: the client speaks first."""
        self._connection.touch(REQUEST, fixed=True)

    def feed(self, data: memoryview) -> int:
        if self._refused:
            self._dropped += len(data)
            if self._dropped > DROPPED:
                self._connection.abort()
            return len(data)
        if not self._begun:
            self._begin()
        self._http.receive_data(bytes(data))
        if self._is_complete():
            self._connection.run(self._serve())
        return len(data)

    def tls_started(self) -> None:
        """TLS begins with the connection here, never inside it."""

    def timed_out(self) -> None:
        if self._connection.busy:
            self._connection.abort()  # the disk does not answer; nothing else of this peer is waited for
            return
        if self._begun and not self._refused:
            self._refuse(408, "The request took too long.")
        self._connection.close()

    def ended(self) -> str:
        """There are no logins."""
        return ""

    def dismiss(self, why: str) -> None:
        self._connection.close()

    def failed(self) -> None:
        """The application has a bug. It may have said so itself."""
        if self._http.our_state is h11.SEND_RESPONSE:
            self._refuse(500, "The server failed.")
        self._connection.close()

    def lost(self) -> None:
        self._body.clear()

    # ---------------------------------------------------------------- reading

    def _begin(self) -> None:
        """The first octets of a request came: from now on it has REQUEST seconds, so that nobody holds a connection
        with an octet now and then."""
        self._begun = True
        self._connection.touch(REQUEST, fixed=True)

    def _is_complete(self) -> bool:
        """Read on. True once a request is there with its body."""
        try:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._request, self._body, self._size = event, [], 0
                    if event.method == b"CONNECT":
                        # its answer would make a tunnel of the connection (RFC 9110 9.3.6)
                        return self._refuse(501, "There are no tunnels here.")
                    found = dict(event.headers)
                    if b"transfer-encoding" in found and b"content-length" in found:
                        # a proxy in front of us may think that the body has another length (RFC 9112 6.1)
                        return self._refuse(400, "Transfer-Encoding and Content-Length do not go together.")
                    if int(found.get(b"content-length", b"0")) > BODY:
                        return self._refuse(413, TOO_LARGE)
                elif isinstance(event, h11.Data):
                    self._size += len(event.data)
                    if self._size > BODY:
                        return self._refuse(413, TOO_LARGE)
                    self._body.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return True
                else:  # more is needed, or the peer sends nothing any more
                    if self._http.they_are_waiting_for_100_continue:
                        self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    return False
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint  # its words are for who debugs h11
            return self._refuse(status, WHY.get(status, "This is no request that can be read."))

    def _refuse(self, status: int, why: str) -> bool:
        """Answer what is not read any further; always False. The peer may still be sending: what it sends is dropped
        for a moment, because closing at once would make its system drop our answer."""
        count("web.refused")
        self._refused = True
        text = f"{why}\n".encode()
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            fields = [
                *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                (b"Content-Type", b"text/plain; charset=utf-8"),
                (b"Content-Length", str(len(text)).encode()),
                (b"Date", _date()),
                (b"Connection", b"close"),
            ]
            self._send(h11.Response(status_code=status, headers=fields, reason=_phrase(status)))
            if self._request is None or self._request.method != b"HEAD":
                self._send(h11.Data(data=text))
        self._connection.touch(REST, fixed=True)
        return False

    # ---------------------------------------------------------------- answering

    async def _serve(self) -> None:
        """Answer the request, and those that came with it."""
        while True:
            assert self._request is not None
            self._connection.touch(ANSWER, fixed=True)
            self._status, self._fields, self._answer = 0, [], []
            self._taken = self._over = False
            await self._application(self._scope(self._request), self._receive, self._take)
            if not self._over:
                raise RuntimeError("the application gave no answer")
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                self._connection.close()  # one of us said that this was the last request
                return
            self._http.start_next_cycle()
            self._begun, self._request = False, None
            if self._http.trailing_data[0]:
                self._begin()
            else:
                self._connection.touch(IDLE, fixed=True)
            await self._connection.drain()
            if not self._is_complete():
                return

    def _scope(self, request: h11.Request) -> Message:
        """The request as ASGI has it. A target may be a whole URL (RFC 9112 3.2.2)."""
        target = request.target.decode("ascii")
        whole = _WHOLE.match(target)
        path, _, query = target[whole.end() if whole is not None else 0 :].partition("?")
        path = path or "/"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "https" if self._secure else "http",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": list(request.headers),
            "client": (self._connection.host, 0),
            "server": None,
        }

    async def _receive(self) -> Message:
        """The whole body at once; after that the peer counts as gone, so that nobody waits for more."""
        if self._taken:
            return {"type": "http.disconnect"}
        self._taken, body = True, b"".join(self._body)
        return {"type": "http.request", "body": body, "more_body": False}

    async def _take(self, message: Message) -> None:
        """A piece of the answer. It is sent when all of it is there, so a failure halfway is no half answer."""
        if message["type"] == "http.response.start":
            self._status, self._fields = message["status"], list(message.get("headers", ()))
            return
        self._answer.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        assert self._request is not None
        count("web.requests")
        body = b"".join(self._answer)
        fields = [*self._fields, (b"Date", _date())]
        self._send(h11.Response(status_code=self._status, headers=fields, reason=_phrase(self._status)))
        if self._request.method != b"HEAD" and body:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        self._over = True

    def _send(self, event: h11.Event) -> None:
        octets = self._http.send(event)
        if octets:
            self._connection.write(octets)


def _phrase(status: int) -> bytes:
    """A status in words; for people who look at answers; programs do not need it."""
    return HTTPStatus(status).phrase.encode("ascii")


def _date() -> bytes:
    return formatdate(usegmt=True).encode("ascii")  # RFC 9110 6.6.1
