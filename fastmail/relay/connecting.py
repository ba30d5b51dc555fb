"""Opens sessions with the hosts of a destination: in their order, each with the TLS that it needs, and the next one
when one fails (RFC 5321 5.1).

Where TLS is optional (``may``), a host that offers it and then breaks off, resets or never finishes the handshake is
connected to again without TLS (RFC 7435). This never happens where the configuration, DANE, MTA-STS or the message
requires TLS. With an MTA-STS policy in mode "testing", the policy is tried first and failures are reported, then the
mail is sent as if there were no policy (RFC 8461 5).
"""

import itertools
import time
from dataclasses import dataclass, field, replace

from fastmail.dns.resolver import LookupFailed
from fastmail.queue.routes import STRICT, Routes, parts
from fastmail.relay.memory import HostMemory
from fastmail.relay.targets import Finder, NoTls
from fastmail.relay.tlsreport import Reporter
from fastmail.smtp.client import ConnectFailed, SmtpClient, Target, Timeouts, TlsFailed

LINGER = 3.0  # s that a session waits for another message
SESSIONS = 5  # hosts that are asked to accept a message in one attempt


class Down(Exception):
    """No host of a destination can be reached; str() says why."""


@dataclass(slots=True)
class Connector:
    """Opens sessions for a runner, and keeps them open for the next message.

    ``sources``: local addresses to send from, for IPv4 and IPv6, empty for any. ``idle``: by destination, sessions that
    wait for another message, with the time since when (monotonic)."""

    finder: Finder
    reporter: Reporter
    routes: Routes
    hostname: str
    timeouts: Timeouts
    sources: tuple[str, str] = ("", "")
    memory: HostMemory = field(default_factory=HostMemory)
    idle: dict[str, list[tuple[float, SmtpClient]]] = field(default_factory=dict)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    async def hosts(self, destination: str) -> "Hosts":
        """Return the hosts of a destination in the order in which they are tried.

        Raises Down when the DNS cannot answer now; NoSuchDomain, NullMx, Loops or NoTls for permanent answers."""
        try:
            targets = await self.finder.find(destination)
        except LookupFailed as error:
            raise Down(str(error)) from None
        return Hosts(self, destination, self.memory.ordered(targets))

    def source(self, destination: str, target: Target) -> str:
        """Return the local address for a connection. ConnectFailed when no address of the destination's pool can reach
        the host."""
        six = ":" in target.address
        pool = self.routes.pools.get(self.routes.of(destination).pool, [])
        if not pool or target.address.startswith("/"):
            return self.sources[six]
        fitting = [one for one in pool if (":" in one) == six]
        if not fitting:
            raise ConnectFailed(f"the pool has no address that reaches {target.shown}")
        return fitting[next(self._turn) % len(fitting)]

    async def open(self, destination: str, target: Target) -> SmtpClient:
        """Open a session with one host, with the TLS that it needs. ConnectFailed, or TlsFailed."""
        domain = parts(destination)[0]
        source = self.source(destination, target)
        if target.testing:
            try:
                client = await self._session(replace(target, tls="verify"), source)
                self.reporter.note(domain, target, True)
                return client
            except TlsFailed as error:
                self.reporter.note(domain, target, False, str(error))
                if not error.plain:
                    raise
        if target.tls == "may" and "STARTTLS" in self.memory.avoided(target):
            target = replace(target, tls="none")
        try:
            client = await self._session(target, source)
        except TlsFailed as error:
            if not target.testing:
                self.reporter.note(domain, target, False, str(error))
            if target.tls != "may" or not error.plain:
                raise
            # so that a handshake that hangs costs its time once, not for each message
            self.memory.avoid(target, "STARTTLS")
            return await self._session(replace(target, tls="none"), source)
        if not target.testing:
            self.reporter.note(domain, target, bool(client.tls))
        return client

    async def _session(self, target: Target, source: str) -> SmtpClient:
        client = SmtpClient(target, self.hostname, self.timeouts, source, self.memory.avoided(target))
        await client.open()
        return client

    # ---------------------------------------------------------------- sessions that wait

    def keep(self, destination: str, client: SmtpClient) -> None:
        """Keep a session for the next message to the destination."""
        self.idle.setdefault(destination, []).append((time.monotonic(), client))

    async def kept(self, destination: str) -> SmtpClient | None:
        """Return a kept session that is still usable, the latest first; None when there is none."""
        waiting = self.idle.get(destination, [])
        while waiting:
            at, client = waiting.pop()
            if client.usable and time.monotonic() - at < LINGER:
                return client
            await client.close()
        return None

    async def close_old(self) -> None:
        """Close the sessions that nobody used for LINGER seconds."""
        now = time.monotonic()
        for destination, waiting in list(self.idle.items()):
            young = [(at, client) for at, client in waiting if now - at < LINGER]
            if young:
                self.idle[destination] = young
            else:
                del self.idle[destination]
            for at, client in waiting:
                if now - at >= LINGER:
                    await client.close()

    async def close(self) -> None:
        """Close all of them."""
        for waiting in self.idle.values():
            for _, client in waiting:
                await client.close()


@dataclass(slots=True)
class Hosts:
    """The hosts of one attempt; each is tried once. ``trouble``: why the last one could not be used."""

    connector: Connector
    destination: str
    targets: list[Target]
    at: int = 0
    sessions: int = 0
    refusals: int = 0
    trouble: ConnectFailed | None = None
    renewed: bool = False

    async def next(self) -> SmtpClient | None:
        """Return a session with the next host that answers; None when no host is left, or enough were asked."""
        strict = self.destination.endswith(STRICT)
        while self.sessions < SESSIONS:
            if self.at == len(self.targets) and not await self._renew():
                return None
            target = self.targets[self.at]
            self.at += 1
            try:
                client = await self.connector.open(self.destination, target)
            except ConnectFailed as error:
                self.trouble = error
                self.refusals += isinstance(error, TlsFailed)
                self.connector.memory.failed(target)
                continue
            if strict and not client.offers("REQUIRETLS"):
                await client.close()
                self.refusals += 1
                self.trouble = ConnectFailed(f"{target.shown} does not offer REQUIRETLS, which this message needs")
                continue
            self.sessions += 1
            return client
        return None

    def skip(self, asked: set[tuple[str, int]]) -> None:
        """Leave out hosts (address, port) that already answered about the message."""
        self.targets = [one for one in self.targets if (one.address, one.port) not in asked]

    def exhausted(self) -> Exception:
        """Return the error that says why no host could be asked."""
        if self.destination.endswith(STRICT) and self.trouble is not None and self.refusals == len(self.targets):
            return NoTls(str(self.trouble))  # every host answered, and none has the TLS that is needed (RFC 8689 4.2.1)
        return Down(str(self.trouble) if self.trouble is not None else "no host to connect to")

    async def _renew(self) -> bool:
        """When hosts failed the domain's MTA-STS policy, fetch the policy again; True when a new policy gives hosts to
        try (RFC 8461 5.1)."""
        failed = isinstance(self.trouble, TlsFailed) and any(one.policy == "sts" for one in self.targets)
        if self.sessions or self.renewed or not failed:
            return False
        self.renewed = True
        if not await self.connector.finder.renew(self.destination):
            return False
        try:
            self.targets = await self.connector.finder.find(self.destination)
        except LookupFailed:
            return False
        self.at = self.refusals = 0
        return bool(self.targets)
