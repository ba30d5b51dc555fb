"""Listeners: sockets that accept connections, limits on their number, and the timer for all deadlines.

Promise: a connection over a limit, or from a banned network, gets its protocol's refusal and is closed when it is
accepted, before it costs a session, a TLS handshake (then it is closed without a word) or a PROXY header. Peers are
counted as bans count them: an IPv6 /64 is one peer. One timer serves all deadlines, so an idle connection has no timer
of its own; deadlines are precise to SWEEP seconds.
"""

import asyncio
import errno
import os
import socket
import stat
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from fastmail.model.errors import ConfigError
from fastmail.model.limits import Limits
from fastmail.net.bans import Bans
from fastmail.net.connection import BUFFER, HANDSHAKE, Connection, no_handshake
from fastmail.net.handover import Handover
from fastmail.net.networks import Network, address_in, network_of
from fastmail.net.session import Session
from fastmail.net.tls import ServerTls
from fastmail.net.tls_transport import TlsTransport
from fastmail.net.unread import Unread
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

PEER = struct.Struct("=iII")  # process, user, group (unix(7))
SWEEP = 1.0  # s between two checks of all deadlines
REST = 30  # sweeps between two that release the buffers of idle connections
BACKLOG = 1024  # connections that the kernel may hold before they are accepted
HINTS = {  # what to do where an address cannot be listened on, by errno
    errno.EACCES: ": ports below 1024 need root (or CAP_NET_BIND_SERVICE)",
    errno.EADDRINUSE: ": another program has it (see `ss -ltnp`); stop it, change [listen], or `serve --free-ports`",
    errno.EADDRNOTAVAIL: ": no interface of this machine has the address; change [listen]",
}


class Registry:
    """All connections of a worker, for all its listeners."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()
        self.hosts: Counter[str] = Counter()  # connections by the network of their peer, as bans count it
        self.buffer = memoryview(bytearray(BUFFER))
        self.unread = Unread()
        self.sealed = memoryview(bytearray(BUFFER))  # receive buffer for TLS records, shared like ``buffer``

    async def sweep(self) -> None:
        """End sessions whose deadline has passed; runs as long as the worker."""
        ticks = 0
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            ticks += 1
            if ticks % REST == 0:
                for connection in self.connections:
                    connection.rest()
            for connection in [c for c in self.connections if 0 < c.deadline < now]:
                if connection.is_reading():
                    continue
                connection.deadline = 0.0
                if connection.stalled:  # the peer does not read, so no message would reach it
                    count("timeouts")
                    connection.abort()
                elif not connection.closing and connection.session is not None:
                    count("timeouts")
                    connection.session.timed_out()
                else:
                    connection.abort()


class Listener:
    """Accepts connections of one protocol on one socket."""

    def __init__(
        self,
        registry: Registry,
        session: Callable[[Connection], Session],
        limits: Limits,
        refusal: bytes,
        tls: ServerTls | None = None,
        implicit_tls: bool = False,
        balancers: Sequence[Network] = (),
        bans: Bans | None = None,
        banned: bytes = b"",
        alpn: str = "",
        users: frozenset[int] = frozenset(),
        protocol: str = "",
        handover: Handover | None = None,
    ) -> None:
        self.registry = registry
        self.buffer = registry.buffer
        self.unread = registry.unread
        self.limits = limits
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.new_session = session
        self._balancers = balancers
        self._bans = bans
        self._banned = banned
        self.alpn = alpn
        self._users = users
        self._protocol = protocol
        self._handover = handover  # None where every worker accepts this protocol itself
        self._taking: set[asyncio.Task[Any]] = set()
        self._unix = False
        self.loop = asyncio.get_running_loop()
        self._refusal = refusal
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Accept on a bound socket."""
        # with a balancer TLS begins after the PROXY header, so not with the connection itself
        own = self.implicit_tls and self.tls is not None and not self._balancers
        self._unix = sock.family == socket.AF_UNIX
        make: Any = self.loop.create_unix_server if sock.family == socket.AF_UNIX else self.loop.create_server
        new: Any = self._new_secure if own else lambda: Connection(self)
        self._server = await make(new, sock=sock, backlog=BACKLOG)

    def take(self, sock: socket.socket) -> None:
        """Serve a connection that another worker accepted."""
        task = self.loop.create_task(self.loop.connect_accepted_socket(lambda: Connection(self), sock))
        self._taking.add(task)
        task.add_done_callback(self._taken)

    def _taken(self, task: asyncio.Task[Any]) -> None:
        self._taking.discard(task)
        if not task.cancelled() and task.exception() is not None:  # the peer was gone already
            count("connections.lost")

    def hand_over(self, transport: Any) -> bool:
        """Let another worker serve a connection that was just accepted, if one has less to do. If it is true the
        connection is none of this process any more."""
        if self._handover is None or self._unix:
            return False
        if not self._handover.pass_on(transport.get_extra_info("socket").fileno(), self._protocol):
            return False
        count("connections.handed_over")
        transport.abort()  # closes this process's descriptor; the connection lives as long as the other
        return True

    def _new_secure(self) -> TlsTransport:
        """Make a connection that begins with a TLS handshake."""
        return self.secure(Connection(self))

    def secure(self, connection: Connection, waiter: asyncio.Future[None] | None = None) -> TlsTransport:
        """Return TLS for a connection (see net.tls_transport)."""
        assert self.tls is not None
        return TlsTransport(
            self.loop,
            connection,
            self.tls.context,
            self.registry.sealed,
            HANDSHAKE,
            no_handshake,
            waiter,
            connection if waiter is None else None,
        )

    def close(self) -> None:
        """Accept no more connections; sessions go on."""
        if self._server is not None:
            self._server.close()

    def speaks_proxy(self, host: str) -> bool:
        """Return True if a connection from this host must begin with a PROXY header."""
        return any(address_in(host, network) for network in self._balancers)

    def admit(self, connection: Connection, balancer: bool = False) -> bytes:
        """Count a connection. Returns empty, or the refusal for a connection that is not admitted.

        ``balancer``: the client behind the balancer is not known yet; the connection is admitted again when it is."""
        registry, name = self.registry, "" if balancer else network_of(connection.host)
        self.release(connection)
        registry.connections.add(connection)
        if self._handover is not None:
            self._handover.begin(connection)
        if name:
            connection.counted = name
            registry.hosts[name] += 1
        if len(registry.connections) > self.limits.connections:
            count("connections.refused")
            return self._refusal
        if balancer:
            return b""
        count("connections")
        if self._unix and self._users and not self._may_use(connection):
            return self._refusal
        if self._bans is not None and self._bans.refuses(connection.host):
            count("connections.banned")
            return self._banned
        if not connection.local and registry.hosts[name] > self.limits.connections_per_ip:
            count("connections.refused")
            return self._refusal
        return b""

    def _may_use(self, connection: Connection) -> bool:
        """Return True if the process at the other end of a local socket may use it."""
        with socket.socket(fileno=os.dup(connection.transport.get_extra_info("socket").fileno())) as sock:
            pid, user, _ = PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
        if user in (0, os.geteuid()) or user in self._users:
            return True
        count("connections.refused")
        log.event("local.refused", "warning", user=user, process=pid, then="[listen] unix_users says who may")
        return False

    def blame(self, host: str, points: float, why: str) -> None:
        """Note that a peer behaved like a password guesser."""
        if self._bans is not None:
            self._bans.blame(host, points, why)

    def release(self, connection: Connection) -> None:
        """Count a connection no longer. A second call does no harm."""
        registry = self.registry
        registry.connections.discard(connection)
        if self._handover is not None:
            self._handover.end(connection)
        name, connection.counted = connection.counted, ""
        if name:
            registry.hosts[name] -= 1
            if registry.hosts[name] <= 0:
                del registry.hosts[name]


def bind(address: str, reuse_port: bool = True, mode: int = 0o660, listen: bool = True) -> socket.socket:
    """Return a bound, listening socket for "host:port" or "unix:path" (which gets ``mode``). ConfigError says why it
    cannot be had. ``listen``: False only to see whether an address can be had, because closing a socket that listens
    resets the connections that wait there."""
    try:
        if address.startswith("unix:"):
            path = address[5:]
            with suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)  # a socket of an earlier server; a file of another kind is not removed
            sock = socket.socket(socket.AF_UNIX)
            # it is created with its mode, because a chmod by name could hit another file
            before = os.umask(0o777 & ~mode)
            try:
                sock.bind(path)
            finally:
                os.umask(before)
        else:
            host, _, port = address.rpartition(":")
            host = host.strip("[]")
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            if host and not host[0].isdigit() and ":" not in host:
                family, *_, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
                host = str(place[0])
            sock = socket.socket(family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, int(port)))
        if listen:
            sock.listen(BACKLOG)
        sock.setblocking(False)
        return sock
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "")
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}{hint}") from None
