"""A session with one host: greeting, TLS and login (RFC 5321 3.1, 3.2, RFC 3207, RFC 4954), questions and answers;
``transaction`` sends messages through it.

Promise: every recipient ends with exactly one Reply, the host's own words in it; a reply without a code, with mixed
codes, of a megabyte or of ten thousand lines is ProtocolError, and the connection is not used again. Nothing is sent
after STARTTLS but on the encrypted channel. A question is asked only when every octet of the answers before it was
read. A connection that breaks after the final dot is Unsure: the host may have the message.
"""

import asyncio
import contextlib
import ssl
from typing import Any

from fastmail._core import smtp as grammar
from fastmail.smtp.client import login
from fastmail.smtp.client.nouns import Target, Timeouts
from fastmail.smtp.client.replies import (
    ClientTrouble,
    ConnectFailed,
    Lost,
    ProtocolError,
    Reply,
    TlsFailed,
    judged,
    made,
)
from fastmail.smtp.client.wire import Wire

LINES = 200  # of one reply
NO_EHLO = (500, 501, 502, 504, 550)  # answers to EHLO after which HELO is tried (RFC 5321 3.2, 4.3.2)
QUIT_WAIT = 2.0  # s


class SmtpClient:
    """A session with one host; ``open`` first, then ``transaction.send`` as often as ``usable``. ``without``:
    extensions that are not used though the host offers them."""

    def __init__(
        self,
        target: Target,
        hostname: str,
        timeouts: Timeouts,
        source: str = "",
        without: frozenset[str] = frozenset(),
    ) -> None:
        self.target = target
        self.timeouts = timeouts
        self.tls = ""
        self.sent = 0
        self.ready = False  # no message is under way, and the last one left the session as it should
        self._hostname = hostname
        self._source = source
        self._without = without
        self._extensions: dict[str, str] = {}
        self._wire: Wire | None = None

    @property
    def usable(self) -> bool:
        """True if the next message may be sent on this connection: no transaction is under way, and since the last one
        the host has neither closed the connection nor said anything (a 421, for example)."""
        wire = self._wire
        return self.ready and wire is not None and not wire.ended and not wire.unread

    # ---------------------------------------------------------------- connecting

    async def open(self) -> None:
        """Connect, greet, TLS, login. ConnectFailed with the reason."""
        target = self.target
        try:
            try:
                async with asyncio.timeout(self.timeouts.connect):
                    await self._connect()
                greeting = await self.reply(self.timeouts.command)
                if greeting.code != 220:
                    raise ConnectFailed(f"{target.shown} greets with {greeting}", greeting)
                await self._greet()
                if target.tls in ("may", "encrypt", "verify", "dane") and not target.lmtp:
                    await self._start_tls()
                if target.login:
                    await self._login()
            except TimeoutError:
                raise ConnectFailed(f"{target.shown} does not answer") from None
            except OSError as error:  # ssl.SSLError is one
                kind = TlsFailed if isinstance(error, ssl.SSLError) else ConnectFailed
                raise kind(f"{target.shown}: {words(error)}") from None
            except ConnectFailed:
                raise
            except ClientTrouble as error:
                raise ConnectFailed(f"{target.shown}: {error}", error.reply) from None
        except BaseException:
            await self.close(False)
            raise
        self.ready = True

    async def _connect(self) -> None:
        target = self.target
        loop = asyncio.get_running_loop()
        self._wire = wire = Wire(target.shown)
        if target.address.startswith("/"):
            await loop.create_unix_connection(lambda: wire, target.address)
            return
        context = tls_context(not target.insecure) if target.tls == "implicit" else None
        await loop.create_connection(
            lambda: wire,
            target.address,
            target.port,
            local_addr=(self._source, 0) if self._source else None,
            ssl=context,
            server_hostname=target.name if context is not None else None,
        )
        if context is not None:
            self._note_tls()

    def _note_tls(self) -> None:
        cipher = self._open_wire().info("cipher")
        self.tls = f"{cipher[1]} {cipher[0]}" if cipher else "TLS"

    async def _greet(self) -> None:
        word = "LHLO" if self.target.lmtp else "EHLO"
        self._extensions = {}
        reply = await self.ask("EHLO", f"{word} {self._hostname}")
        if not reply.ok and word == "EHLO" and reply.code in NO_EHLO:
            reply = await self.ask("EHLO", f"HELO {self._hostname}")
        elif reply.ok:
            lines = (line.partition(" ") for line in reply.text.split("\n")[1:])
            found = {name.upper(): rest for name, _, rest in lines}
            self._extensions = {name: rest for name, rest in found.items() if name not in self._without}
        if not reply.ok:
            raise ConnectFailed(f"{self.target.shown} answers {word} with {reply}", reply)

    async def _start_tls(self) -> None:
        """RFC 3207. Whatever goes wrong from STARTTLS to the EHLO after it is TlsFailed: mail that may do without TLS
        gets a new connection without it (RFC 7435)."""
        target = self.target
        if not self.offers("STARTTLS"):
            if target.tls != "may":
                raise TlsFailed(f"{target.shown} offers no STARTTLS")
            return
        try:
            reply = await self.ask("STARTTLS", "STARTTLS")
            if not reply.ok:
                if target.tls != "may":
                    raise TlsFailed(f"{target.shown} answers STARTTLS with {reply}", reply)
                return
            wire = self._open_wire()
            if wire.unread:  # somebody on the way put them there (CVE-2021-33515 and its kind): not even in the clear
                raise TlsFailed(f"{target.shown} sent something behind its answer to STARTTLS", plain=False)
            async with asyncio.timeout(self.timeouts.connect):
                await wire.start_tls(tls_context(target.tls == "verify"), target.name)
            self._note_tls()
            if target.prove is not None:
                loop = asyncio.get_running_loop()
                why = await loop.run_in_executor(None, target.prove, _chain(wire))
                if why:
                    raise TlsFailed(f"{target.shown}: {why}")
            await self._greet()
        except TlsFailed:
            raise
        except TimeoutError:
            raise TlsFailed(f"{target.shown} does not answer after STARTTLS") from None
        except OSError as error:
            raise TlsFailed(f"{target.shown}: {words(error)}") from None
        except ClientTrouble as error:
            raise TlsFailed(f"{target.shown}: after STARTTLS: {error}", error.reply) from None

    async def _login(self) -> None:
        target = self.target
        if not self.tls and not target.address.startswith(("127.", "::1", "/")):
            raise TlsFailed(f"{target.shown}: the password is not sent without TLS", plain=False)

        async def ask(line: str) -> Reply:
            return await self._asked(line)

        mechanisms = login.offered(self._extensions.items())
        await login.login(target.shown, mechanisms, target.login, target.password, ask)

    def offers(self, name: str) -> bool:
        return name in self._extensions

    def value(self, name: str) -> str:
        """Return what the EHLO reply says after the name of an extension."""
        return self._extensions.get(name, "")

    async def close(self, quit: bool = True) -> None:
        """End the session, with QUIT if the connection is still good."""
        wire, good = self._wire, self.usable
        self._wire, self.ready = None, False
        if wire is None or wire.transport is None:
            return
        if quit and good:
            with contextlib.suppress(OSError, TimeoutError, ssl.SSLError, ClientTrouble):
                wire.write(b"QUIT\r\n")
                async with asyncio.timeout(QUIT_WAIT):
                    await wire.drain()
            wire.transport.close()
        else:
            wire.abort()  # of no use any more: nothing of it lingers

    # ---------------------------------------------------------------- questions and answers

    def _open_wire(self) -> Wire:
        if self._wire is None:
            raise Lost("the connection is closed")
        return self._wire

    def write(self, data: bytes) -> None:
        """Write commands. ProtocolError when the host said something that nobody asked: what comes next would be
        taken for the answer to another question."""
        wire = self._open_wire()
        if wire.unread:
            raise ProtocolError(f"{self.target.shown} sends replies that nobody asked for")
        wire.write(data)

    async def write_all(self, data: bytes, block: int) -> None:
        """Write a message's content, a block at a time, no faster than the host takes it. An error means that the last
        block was not written, so the host has no whole message."""
        wire = self._open_wire()
        view = memoryview(data)
        for start in range(0, len(data), block):
            if start:
                async with asyncio.timeout(self.timeouts.command):
                    await wire.drain()
            wire.write(bytes(view[start : start + block]))

    @property
    def unread(self) -> bool:
        return self._open_wire().unread

    async def ask(self, command: str, line: str) -> Reply:
        """One command and its reply, judged by ``command``."""
        return judged(command, await self._asked(line), self.target.shown)

    async def _asked(self, line: str) -> Reply:
        self.write(line.encode() + b"\r\n")
        return await self.reply(self.timeouts.command)

    async def answer(self, command: str, seconds: float) -> Reply:
        """The reply to a command that was written before, judged by it."""
        return judged(command, await self.reply(seconds), self.target.shown)

    async def reply(self, seconds: float) -> Reply:
        """Return one whole reply; ``seconds``: the time limit for all its lines. Raises Lost if it is 421, or if the
        connection ends."""
        wire, shown = self._open_wire(), self.target.shown
        texts: list[bytes] = []
        first = 0
        async with asyncio.timeout(seconds):
            while True:
                line = await wire.line()
                try:
                    code, last, at = grammar.reply_line(line)
                except ValueError as error:
                    raise ProtocolError(f"{shown}: {error}") from None
                if texts and code != first:
                    raise ProtocolError(f"{shown} sends a reply with the codes {first} and {code}")
                first = code
                texts.append(line[at:])
                if last:
                    break
                if len(texts) > LINES:
                    raise ProtocolError(f"{shown} sends a reply without end")
        found = made(first, texts)
        if first == 421:
            raise Lost(f"{shown}: {found}", found)
        return found


def _chain(wire: Wire) -> list[bytes]:
    """Return the certificates that the host showed, its own first."""
    found = wire.info("ssl_object")
    own = found.getpeercert(True) if found is not None else None
    inner: Any = getattr(found, "_sslobj", None)
    try:
        return [one.public_bytes(2) for one in inner.get_unverified_chain()]  # 2: DER
    except AttributeError:
        return [own] if own else []


def tls_context(verify: bool) -> ssl.SSLContext:
    """The settings of TLS as a client, with or without a look at the certificate; made once."""
    if verify not in _contexts:
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _contexts[verify] = context
    return _contexts[verify]


_contexts: dict[bool, ssl.SSLContext] = {}


def words(error: BaseException) -> str:
    """An error of the system in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
