"""One connection: passes received octets to a session, and sends its replies in one write for each batch of input.
It also handles STARTTLS and DEFLATE (RFC 4978). Commands that wait are run by net.running; the sending side, with
deadlines, is net.sending.

Promise:

- An idle connection has no buffer: one receive buffer is shared by all connections of a worker, and what a session
  could not use yet is copied.
- A connection is admitted when it is accepted, before anything is read from it, even a TLS handshake.
- Pipelined commands are answered in order: while a command runs as a coroutine, input waits, and past PENDING octets
  the socket is not read.
- A peer that does not read its replies stops its session, between two commands and at ``drain``. The memory for it
  never grows beyond the transport's high-water mark, QUEUED and one block. When it reads less than SLOWEST for as long
  as a command may take, it is cut off (net.sending).
- A peer that ends its sending side is still answered.
- A peer whose reply is held back (``hold``) is not read meanwhile: what it sends stays in the system's buffers.
- What was received before TLS starts is dropped and never reaches the session (RFC 3207 4.2, RFC 9051 6.2.1,
  CVE-2011-0411).
"""

import asyncio
import contextlib
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from fastmail.model.errors import MailError
from fastmail.net.networks import is_here, plain
from fastmail.net.proxy import ProxyError, ProxyHeader
from fastmail.net.running import Running
from fastmail.net.sending import LINGER, Worker
from fastmail.net.session import Session
from fastmail.net.tls import ServerTls
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

PENDING = 65536  # octets of waiting input after which the socket is not read
HANDSHAKE = 30.0  # s for a TLS handshake, or for a PROXY header
PATIENCE = 0.4  # s that a command may still run after its user's login has ended
BUFFER = 65536  # octets that are received at once


class Door(Worker, Protocol):
    """What a connection needs from the listener that accepted it (net.listener).

    ``buffer``: receive buffer that all connections of the worker share; ``new_session``: makes the session of an
    admitted connection; ``alpn``: the protocol's name in TLS handshakes."""

    buffer: memoryview
    tls: ServerTls | None
    implicit_tls: bool
    alpn: str
    new_session: Callable[["Connection"], Session]

    def speaks_proxy(self, host: str) -> bool:
        """Return True if a connection from this host begins with a PROXY header."""
        ...

    def hand_over(self, transport: Any) -> bool:
        """Let another worker serve a connection that was just accepted, if one has less to do."""
        ...

    def admit(self, connection: "Connection", balancer: bool = False) -> bytes:
        """Count a connection. Returns empty, or the refusal for a connection that is not admitted."""
        ...

    def release(self, connection: "Connection") -> None:
        """Count a connection no longer."""
        ...

    def blame(self, host: str, points: float, why: str) -> None:
        """Note that a peer behaved like a password guesser."""
        ...

    def secure(self, connection: "Connection", waiter: asyncio.Future[None] | None = None) -> Any:
        """Return a transport that speaks TLS for the connection (net.tls_transport)."""
        ...


class Connection(Running):
    """One accepted socket, with the session that runs on it."""

    __slots__ = (
        "_discard",
        "_dismissal",
        "_inflate",
        "_packed",
        "_pending",
        "_proxy",
        "ended",
        "local",
        "session",
        "tls",
    )

    _listener: Door

    def __init__(self, listener: Door) -> None:
        super().__init__(listener)
        self._pending = b""
        self._discard = False
        self._dismissal = ""  # reason why the session is ended after its command; empty if it is not
        self._proxy: ProxyHeader | None = None
        self._inflate: Any = None
        self._packed = b""
        self.ended = False  # the peer closed its sending side, but may still read
        self.local = False
        self.tls = listener.implicit_tls
        self.session: Any = None

    # ---------------------------------------------------------------- transport's calls

    def accepted(self, transport: asyncio.BaseTransport) -> bytes:
        """Count a socket that was accepted, before anything is read from it. Returns empty, or the refusal for a
        connection that is not admitted."""
        self.transport = transport
        self.host = host_of(transport)
        self.local = is_here(self.host)
        if self._listener.speaks_proxy(self.host):
            self._proxy = ProxyHeader()
            self.local = False
            self.touch(HANDSHAKE)
            return self._listener.admit(self, balancer=True)
        return self._listener.admit(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.transport is None:
            if self._listener.hand_over(transport):
                self.closing = True
                return
            refusal = self.accepted(transport)
            if refusal:
                self._refuse(refusal)
            elif self._proxy is None:
                self._introduce()
            return
        self.transport = transport  # accepted before its TLS handshake, which is done now
        if self._is_wanted():
            self._begin()
        else:
            self.abort()

    def dropped(self) -> None:
        """The connection ended during the TLS handshake that it begins with."""
        self.closing = True
        self._listener.release(self)
        self.transport = None

    def _introduce(self) -> None:
        """Begin the session of a peer that is known and admitted; with implicit TLS the handshake comes first."""
        if self._listener.implicit_tls:
            self.tls = False
            self.transport.pause_reading()
            self._reading = False
            self.run(self._start_tls(first=True))
        else:
            self._begin()

    def _refuse(self, refusal: bytes) -> None:
        """Send the refusal, unless TLS would have to come first, and close."""
        if not self._listener.implicit_tls:
            self.transport.write(refusal)
        self.closing = True
        self.touch(LINGER)
        self.transport.close()

    def _begin(self) -> None:
        """Make the session and greet the peer."""
        self.session = self._listener.new_session(self)
        self.session.connected()
        self.flush()

    def _is_wanted(self) -> bool:
        """Return False when the client asked in its TLS handshake for a protocol that is not spoken here."""
        chosen = self.transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if chosen is None or chosen == self._listener.alpn:
            return True
        count("tls.other_protocol")
        log.event("tls.other_protocol", "warning", peer=self.host, asked=chosen, spoken=self._listener.alpn)
        return False

    def _introduced(self, data: bytes) -> None:
        """Take octets of a PROXY header."""
        assert self._proxy is not None
        try:
            self._proxy.feed(data)
        except ProxyError as error:
            count("proxy.refused")
            log.event("proxy.refused", "warning", peer=self.host, error=error)
            self.abort()
            return
        if not self._proxy.done:
            return
        host, self._proxy = self._proxy.host, None
        self.deadline = 0.0
        self.host = plain(host) if host else self.host
        refusal = self._listener.admit(self)
        if refusal:
            self._refuse(refusal)
        else:
            self._introduce()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._proxy is not None:
            return self._listener.buffer[: self._proxy.wanted()]
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._proxy is not None and not self.closing:
            self._introduced(bytes(self._listener.buffer[:nbytes]))
            return
        if self.closing or self.session is None:
            return
        if self._inflate is not None:
            self._packed += bytes(self._listener.buffer[:nbytes])
            self._unpack()
            return
        if self.busy:
            self._pending += bytes(self._listener.buffer[:nbytes])
            if len(self._pending) > PENDING and self._reading:
                self._reading = False
                self.transport.pause_reading()
            return
        if self._pending:
            self._drive(memoryview(self._pending + bytes(self._listener.buffer[:nbytes])))
        else:
            self._drive(self._listener.buffer[:nbytes])

    def eof_received(self) -> bool:
        if self.busy and not self.closing:
            self.ended = True  # it may still read: its commands are answered, then the connection is closed
            return True
        self.closing = True
        self.touch(LINGER)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.deadline = 0.0
        self._listener.release(self)
        self._end_hold()
        self.pending_drop()
        self.resume_writing()
        if self.session is not None:
            self.session.lost()
        self.transport = None

    # ---------------------------------------------------------------- sessions' calls

    def dismiss(self, why: str) -> None:
        """End a session whose login has ended: at once when no command runs, otherwise within PATIENCE, because the
        command's result is not for this user any more."""
        if self.closing or self.session is None:
            return
        if not self.busy:
            self.session.dismiss(why)
        elif not self._dismissal:
            self._dismissal = why
            self._listener.loop.call_later(PATIENCE, self._cut)

    def _cut(self) -> None:
        if self.busy and not self.closing:
            self.abort()

    def start_deflate(self) -> None:
        """Send what is queued uncompressed; from here on both sides compress (RFC 4978)."""
        self.flush()
        self.deflated = True
        self._inflate = zlib.decompressobj(-15)
        self._discard = True  # a client must wait for the answer, so input after the command is dropped
        self.pending_drop()

    def hold(self, seconds: float, done: Callable[[], None]) -> None:
        """Send what is queued, and what the command that runs adds to it, only after so many seconds, and take no input
        meanwhile. ``done`` is called when that is over, which may be earlier: when the connection is closed or lost."""
        if self._held is not None or self.closing or self.transport is None:
            done()
            return
        self._held = self._listener.loop.call_later(seconds, self._let_go), done
        self.busy = True
        if self._reading:
            self._reading = False
            self.transport.pause_reading()

    def _end_hold(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[0].cancel()
            held[1]()

    def _let_go(self) -> None:
        """The time of ``hold`` is over."""
        self._end_hold()
        if self._task is None and self._brief is None:  # otherwise a command still runs, and goes on behind it
            self._go_on()

    def close(self) -> None:
        """Send what is queued, then close."""
        self._end_hold()
        self.flush()
        self.closing = True
        self.pending_drop()
        self.touch(LINGER)  # after that time a peer that does not read its last reply is cut off
        if self.transport is not None:
            self._left = self._untaken() if self._unpaused is not None else 0
            self.transport.close()

    def pending_drop(self) -> None:
        self._pending = self._packed = b""

    @property
    def end_point(self) -> bytes:
        """A digest of the server's certificate when the peer has seen it on this channel, empty otherwise."""
        tls = self._listener.tls
        return tls.end_point_of(self.transport.get_extra_info("ssl_object")) if self.tls and tls is not None else b""

    def blame(self, points: float, why: str) -> None:
        """Note that the peer behaved like a password guesser; enough points ban its network."""
        self._listener.blame(self.host, points, why)

    @property
    def certified(self) -> tuple[str, ...]:
        """Mail addresses in the certificate that the peer presented, if a known authority signed it."""
        if not self.tls or self._listener.tls is None or not self._listener.tls.asks:
            return ()
        shown = self.transport.get_extra_info("peercert") or {}
        return tuple(text.lower() for kind, text in shown.get("subjectAltName", ()) if kind == "email")

    @property
    def tls_available(self) -> bool:
        return self._listener.tls is not None

    def start_tls(self) -> None:
        """Send what is queued, drop what was received after the command, and start the handshake."""
        assert self._listener.tls is not None
        self.flush()
        self._discard = True
        self.pending_drop()
        self.transport.pause_reading()
        self.run(self._start_tls())

    # ---------------------------------------------------------------- inside

    def _unpack(self) -> None:
        """Decompress input and feed it, a bounded piece at a time; while a command runs the rest stays compressed."""
        more = bool(self._packed)
        while more and not self.busy and not self.closing:
            try:
                plain = self._inflate.decompress(self._packed, PENDING)
            except zlib.error as error:
                log.event("deflate.failed", peer=self.host, error=error)
                self.abort()
                return
            self._packed = self._inflate.unconsumed_tail
            more = bool(self._packed) or len(plain) == PENDING
            if plain:
                self._drive(memoryview(self._pending + plain))
        if len(self._packed) > PENDING and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def _drive(self, data: memoryview) -> None:
        self._pending = b""
        try:
            used = self.session.feed(data)
        except Exception as error:
            self._bug(error)
            used = len(data)
        if self._discard or self.closing:
            self._discard = False
        elif used < len(data):
            self._pending = bytes(data[used:])
        wait = self.full and bool(self._pending)
        if self._queued:
            self.flush()
        if (wait or self._unpaused is not None) and not self.busy and not self.closing:
            self.run(self.drain())  # no further command until the peer has read and other sessions had a turn

    def _go_on(self) -> None:
        """Nothing runs and nothing is held back any more: take the input that waited."""
        self.busy = False
        if self.transport is None:
            return
        if self._dismissal and not self.closing and self.session is not None:
            self.session.dismiss(self._dismissal)
        if self._queued:
            self.flush()
        if self.closing:
            return
        if self._pending:
            self._drive(memoryview(self._pending))
        if self._inflate is not None and not self.busy:
            self._unpack()
        if not self._reading and max(len(self._pending), len(self._packed)) <= PENDING and not self.closing:
            self._reading = True
            with contextlib.suppress(RuntimeError):
                self.transport.resume_reading()
        if self.ended and not self.busy and not self.closing:
            self.close()

    async def _start_tls(self, first: bool = False) -> None:
        waiter = self._listener.loop.create_future()
        secure = self._listener.secure(self, waiter)
        raw = self.transport
        raw.set_protocol(secure)
        secure.connection_made(raw)
        raw.resume_reading()
        try:
            await waiter
        except OSError as error:
            no_handshake(secure, error, self.host)
            raise ConnectionResetError("TLS failed") from None
        if self.transport is None:
            raise ConnectionResetError("TLS failed")
        self.transport = secure
        self.tls = True
        self._reading = True
        if not self._is_wanted():
            raise ConnectionResetError("another protocol was asked for")
        if first:
            self._begin()
        else:
            self.session.tls_started()

    def _bug(self, error: Exception) -> None:
        """Handle an exception that no handler expected: log everything, and tell the peer nothing about it."""
        count("bugs")
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
        level = "warning" if isinstance(error, MailError) else "error"
        log.event("bug", level, error=repr(error), where=where, peer=self.host)
        if self.session is not None and self.transport is not None:
            self.session.failed()


def host_of(transport: asyncio.BaseTransport) -> str:
    """Return the address at the other end; "local" for a socket file."""
    peer = transport.get_extra_info("peername")
    return plain(str(peer[0])) if isinstance(peer, tuple) else "local"


def no_handshake(transport: Any, error: BaseException, host: str = "") -> None:
    """Log a failed TLS handshake. ``host``: the peer's address when a balancer named it."""
    count("tls.failed")
    log.event("tls.failed", peer=host or host_of(transport), error=error)
