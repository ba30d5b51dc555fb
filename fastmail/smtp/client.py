"""The sending side of SMTP and LMTP: one connection to one host (RFC 5321 3.3, 4.5.3.2, RFC 2033).

Extensions are used where the host offers them: STARTTLS (RFC 3207), AUTH PLAIN (RFC 4954), PIPELINING (RFC 2920), SIZE
(RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), CHUNKING (RFC 3030), DSN (RFC 3461), REQUIRETLS (RFC 8689),
DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710).

Promise: every recipient ends with exactly one Reply, the host's own words in it; a reply without a code, with mixed
codes, of a megabyte or of ten thousand lines is ProtocolError, and the connection is not used again. Nothing is sent
after STARTTLS but on the encrypted channel. A connection that breaks behind the final dot is Unsure: the host may have
the message.
"""

import asyncio
import contextlib
import re
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmail._core import smtp as grammar
from fastmail._core.lines import dot_stuffed, to_crlf
from fastmail.message import orcpt as original
from fastmail.message.recode import without_eight_bits
from fastmail.model.errors import TemporaryError

LINE = 8192
LINES = 200
BLOCK = 262144
AT_ONCE = 1 << 20  # content up to this is sent behind RCPT without waiting
RCPTS = 500
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: |$)")
_UNSAFE = re.compile(r"[^\x20-\x7e\u00a0-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a host said: code, enhanced status code (made up from the code where it gave none), text of all lines."""

    code: int
    enhanced: str
    text: str

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 400

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}".strip()


class ClientTrouble(TemporaryError):
    """The connection can not be used; ``reply`` is what the host said, when it said something."""

    def __init__(self, text: str, reply: Reply | None = None) -> None:
        super().__init__(text)
        self.reply = reply


class ConnectFailed(ClientTrouble):
    """No session could be had with this host."""


class TlsFailed(ConnectFailed):
    """The host offered no TLS, or TLS that does not do."""


class ProtocolError(ClientTrouble):
    """The host does not speak SMTP."""


class Lost(ClientTrouble):
    """The connection ended before the host answered for the message: it does not have it."""


class Unsure(ClientTrouble):
    """The connection ended behind the final dot."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to connect to. ``tls``: "none", "may", "encrypt" (without looking at the certificate), "verify", "dane"
    (``prove`` looks at it), or "implicit" (from the first octet, verified unless ``insecure``). ``prove``: why a chain
    of certificates (DER) does not do, or empty. ``policy``: where ``tls`` comes from, as RFC 8460 4.2 names it."""

    name: str
    address: str
    port: int = 25
    lmtp: bool = False
    tls: str = "may"
    insecure: bool = False
    login: str = ""
    password: str = ""
    prove: Callable[[list[bytes]], str] | None = None
    policy: str = ""

    @property
    def shown(self) -> str:
        return f"{self.name}[{self.address}]:{self.port}" if not self.address.startswith("/") else self.address


@dataclass(slots=True)
class Timeouts:
    """Seconds; RFC 5321 4.5.3.2."""

    connect: float = 30.0
    command: float = 300.0
    data: float = 600.0


@dataclass(slots=True)
class Sending:
    """One message for one host. ``recipients``: (address, ORCPT, NOTIFY)."""

    sender: str
    recipients: Sequence[tuple[str, str, str]]
    content: bytes
    size: int
    utf8: bool = False
    eight: bool = False
    ret: str = ""
    envid: str = ""
    require_tls: bool = False
    by: int = 0
    by_mode: str = ""
    priority: int = 0


@dataclass(slots=True)
class Sent:
    """A Reply for each recipient; ``dsn``, ``by``: did the host take over what was asked about notifications, and
    about the time of delivery?"""

    replies: list[Reply] = field(default_factory=list)
    dsn: bool = False
    by: bool = False


class SmtpClient:
    """A session with one host; ``open`` first, then ``send`` as often as ``usable``."""

    def __init__(self, target: Target, hostname: str, timeouts: Timeouts, source: str = "") -> None:
        self.target = target
        self.tls = ""
        self.usable = False
        self.sent = 0
        self._hostname = hostname
        self._timeouts = timeouts
        self._source = source
        self._extensions: dict[str, str] = {}
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    # ---------------------------------------------------------------- connecting

    async def open(self) -> None:
        """Connect, greet, TLS, login. ConnectFailed with the reason."""
        target = self.target
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._connect()
            greeting = await self._reply(self._timeouts.command)
            if greeting.code != 220:
                raise ConnectFailed(f"{target.shown} greets with {greeting}", greeting)
            await self._greet()
            if target.tls in ("may", "encrypt", "verify", "dane") and not target.lmtp:
                await self._start_tls()
            if target.login:
                await self._login()
        except TimeoutError:
            await self.close(False)
            raise ConnectFailed(f"{target.shown} does not answer") from None
        except (OSError, ssl.SSLError) as error:
            await self.close(False)
            kind = TlsFailed if isinstance(error, ssl.SSLError) else ConnectFailed
            raise kind(f"{target.shown}: {_words(error)}") from None
        except ClientTrouble as error:
            await self.close(False)
            if isinstance(error, ConnectFailed):
                raise
            raise ConnectFailed(f"{target.shown}: {error}", error.reply) from None
        self.usable = True

    async def _connect(self) -> None:
        target = self.target
        if target.address.startswith("/"):
            self._reader, self._writer = await asyncio.open_unix_connection(target.address, limit=LINE)
            return
        local = (self._source, 0) if self._source else None
        context = _context(not target.insecure) if target.tls == "implicit" else None
        self._reader, self._writer = await asyncio.open_connection(
            target.address,
            target.port,
            limit=LINE,
            local_addr=local,
            ssl=context,
            server_hostname=target.name if context is not None else None,
        )
        if context is not None:
            self._note_tls()

    def _note_tls(self) -> None:
        assert self._writer is not None
        cipher = self._writer.get_extra_info("cipher")
        self.tls = f"{cipher[1]} {cipher[0]}" if cipher else "TLS"

    async def _greet(self) -> None:
        word = "LHLO" if self.target.lmtp else "EHLO"
        reply = await self._ask(f"{word} {self._hostname}")
        if not reply.ok and word == "EHLO" and reply.code in (500, 501, 502, 504, 550):
            reply = await self._ask(f"HELO {self._hostname}")
            self._extensions = {}
        elif reply.ok:
            lines = reply.text.split("\n")[1:]
            self._extensions = {name.upper(): rest for name, _, rest in (line.partition(" ") for line in lines)}
        if not reply.ok:
            raise ConnectFailed(f"{self.target.shown} answers {word} with {reply}", reply)

    async def _start_tls(self) -> None:
        target = self.target
        if "STARTTLS" not in self._extensions:
            if target.tls != "may":
                raise TlsFailed(f"{target.shown} offers no STARTTLS")
            return
        reply = await self._ask("STARTTLS")
        if not reply.ok:
            if target.tls != "may":
                raise TlsFailed(f"{target.shown} answers STARTTLS with {reply}", reply)
            return
        if self._reader_has_more():
            raise ProtocolError("the host sent something behind its answer to STARTTLS")
        assert self._writer is not None
        context = _context(target.tls == "verify")
        async with asyncio.timeout(self._timeouts.connect):
            await self._writer.start_tls(context, server_hostname=target.name)
        self._note_tls()
        if target.prove is not None:
            why = target.prove(_chain(self._writer))
            if why:
                raise TlsFailed(f"{target.shown}: {why}")
        await self._greet()

    def _reader_has_more(self) -> bool:
        return bool(getattr(self._reader, "_buffer", b""))

    async def _login(self) -> None:
        target = self.target
        if not self.tls and not target.address.startswith(("127.", "::1", "/")):
            raise TlsFailed(f"{target.shown}: the password is not sent without TLS")
        token = b64encode(b"\0" + target.login.encode() + b"\0" + target.password.encode()).decode()
        reply = await self._ask(f"AUTH PLAIN {token}")
        if not reply.ok:
            raise ConnectFailed(f"{target.shown} refuses the login: {reply}", reply)

    def offers(self, name: str) -> bool:
        return name in self._extensions

    # ---------------------------------------------------------------- sending

    async def send(self, sending: Sending) -> Sent:
        """Send a message to all its recipients. ClientTrouble when the connection is of no use any more."""
        self.usable = False
        try:
            refusal = self._refusal(sending)
            if refusal is not None:
                self.usable = True
                return Sent([refusal] * len(sending.recipients))
            found = await self._transaction(sending)
            self.sent += 1
            return found
        except TimeoutError:
            raise Lost(f"{self.target.shown} does not answer") from None
        except OSError as error:
            raise Lost(f"{self.target.shown}: {_words(error)}") from None

    def _refusal(self, sending: Sending) -> Reply | None:
        """What the host can not take, known before it is asked."""
        addresses = [sending.sender, *(one[0] for one in sending.recipients)]
        if not self.offers("SMTPUTF8") and (sending.utf8 or not all(one.isascii() for one in addresses)):
            return Reply(550, "5.6.7", f"{self.target.shown} does not offer SMTPUTF8, which this message needs")
        if sending.require_tls and sending.sender and not (self.tls and self.offers("REQUIRETLS")):
            return Reply(550, "5.7.30", f"{self.target.shown} does not offer REQUIRETLS, which this message needs")
        if sending.by_mode.startswith("R"):
            left = sending.by - int(time.time())
            least = self._extensions.get("DELIVERBY", "")
            if left <= 0 or (least.isdigit() and left < int(least)):
                return Reply(550, "5.4.7", "its time of delivery is over")
            if not self.offers("DELIVERBY"):
                return Reply(550, "5.3.3", f"{self.target.shown} does not offer DELIVERBY, which this message needs")
        most = self._extensions.get("SIZE", "")
        if most.isdigit() and 0 < int(most) < sending.size:
            return Reply(552, "5.3.4", f"message is too big for {self.target.shown}: {most} octets is its most")
        return None

    async def _transaction(self, sending: Sending) -> Sent:
        lines = [self._mail(sending), *(self._rcpt(one, sending.utf8) for one in sending.recipients)]
        count = len(sending.recipients)
        chunking = self.offers("CHUNKING")
        downgrade = sending.eight and not self.offers("8BITMIME")
        if len(sending.content) > BLOCK:
            loop = asyncio.get_running_loop()
            wire = await loop.run_in_executor(None, _wire, sending.content, downgrade, chunking)
        else:
            wire = _wire(sending.content, downgrade, chunking)
        if not self.offers("PIPELINING"):
            replies = []
            for line in lines:
                replies.append(await self._ask(line.decode("utf-8")))
                if not replies[0].ok:
                    break
            last = None
        else:
            small = len(wire) <= AT_ONCE and count <= RCPTS
            last = (b"BDAT %d LAST" % len(wire)) if chunking and small else None if chunking else b"DATA"
            batch = b"\r\n".join([*lines, last] if last else lines) + b"\r\n"
            self._write(batch + wire if last and chunking else batch)
            replies = [await self._reply(self._timeouts.command) for _ in lines]
        mail, rcpts = replies[0], replies[1:]
        if not mail.ok:
            rcpts = [mail] * count
        good = [position for position, reply in enumerate(rcpts) if reply.ok]
        final = await self._content(wire, last, chunking, good)
        if final:
            answers = iter(final)
            for position in good:
                rcpts[position] = next(answers) if self.target.lmtp else final[0]
        elif not mail.ok or not good:
            await self._reset()
        self.usable = self.usable or bool(final)
        return Sent(list(rcpts), self.offers("DSN"), self.offers("DELIVERBY"))

    async def _content(self, wire: bytes, last: bytes | None, chunking: bool, good: list[int]) -> list[Reply]:
        """Send the content where it was not sent yet; the final replies, empty when nobody took it."""
        try:
            if last is None:
                if not good:
                    return []
                self._write(b"BDAT %d LAST\r\n" % len(wire) if chunking else b"DATA\r\n")
                last = b"BDAT" if chunking else b"DATA"
                if chunking:
                    await self._write_all(wire)
            elif chunking:
                reply = await self._last_reply(len(good) if self.target.lmtp else 1)
                return reply if good else []
            if not chunking:
                begun = await self._reply(self._timeouts.command)
                if begun.code != 354:
                    return [begun] * max(1, len(good)) if good else []
                if not good:
                    self._write(b".\r\n")  # the host takes nothing for nobody
                    await self._reply(self._timeouts.data)
                    return []
                await self._write_all(wire)
            return await self._last_reply(len(good) if self.target.lmtp else 1)
        except Lost as error:
            if good and error.reply is None:
                raise Unsure(f"{error}; it may have the message", error.reply) from None
            raise

    async def _last_reply(self, count: int) -> list[Reply]:
        try:
            return [await self._reply(self._timeouts.data) for _ in range(max(1, count))]
        except TimeoutError:
            raise Unsure(f"{self.target.shown} does not answer for the message; it may have it") from None

    def _mail(self, sending: Sending) -> bytes:
        line = f"MAIL FROM:<{sending.sender}>"
        if self.offers("SIZE"):
            line += f" SIZE={sending.size}"
        if sending.eight and self.offers("8BITMIME"):
            line += " BODY=8BITMIME"
        if sending.utf8 and self.offers("SMTPUTF8"):
            line += " SMTPUTF8"
        if sending.require_tls and self.tls and self.offers("REQUIRETLS"):
            line += " REQUIRETLS"
        if sending.by and self.offers("DELIVERBY"):
            line += f" BY={sending.by - int(time.time())};{sending.by_mode}"
        if sending.priority and self.offers("MT-PRIORITY"):
            line += f" MT-PRIORITY={sending.priority}"
        if self.offers("DSN"):
            if sending.ret:
                line += f" RET={sending.ret}"
            if sending.envid:
                line += " ENVID=" + grammar.to_xtext(sending.envid.encode()).decode()
        return line.encode()

    def _rcpt(self, one: tuple[str, str, str], utf8: bool) -> bytes:
        address, orcpt, notify = one
        line = f"RCPT TO:<{address}>"
        if self.offers("DSN"):
            if notify:
                line += f" NOTIFY={notify}"
            if orcpt:
                line += f" ORCPT={original.wire(orcpt, utf8)}"
        return line.encode()

    async def _reset(self) -> None:
        reply = await self._ask("RSET")
        self.usable = reply.ok

    async def close(self, quit: bool = True) -> None:
        """End the session, with QUIT when it is still good."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
            if quit and self.usable:
                writer.write(b"QUIT\r\n")
                async with asyncio.timeout(2.0):
                    await writer.drain()
            else:
                writer.transport.abort()  # of no use any more: nothing of it lingers
        self.usable = False
        writer.close()

    # ---------------------------------------------------------------- lines

    def _write(self, data: bytes) -> None:
        if self._writer is None:
            raise Lost("the connection is closed")
        self._writer.write(data)

    async def _write_all(self, data: bytes) -> None:
        assert self._writer is not None
        for start in range(0, len(data), BLOCK):
            self._writer.write(data[start : start + BLOCK])
            async with asyncio.timeout(self._timeouts.command):
                await self._writer.drain()

    async def _ask(self, line: str) -> Reply:
        self._write(line.encode() + b"\r\n")
        return await self._reply(self._timeouts.command)

    async def _reply(self, seconds: float) -> Reply:
        """One whole reply."""
        texts: list[str] = []
        first = 0
        async with asyncio.timeout(seconds):
            while True:
                try:
                    line = await self._reader.readuntil(b"\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    raise Lost(f"{self.target.shown} ended the connection") from None
                except (asyncio.LimitOverrunError, ValueError):
                    raise ProtocolError(f"{self.target.shown} sends a line without end") from None
                try:
                    code, last, at = grammar.reply_line(line)
                except ValueError as error:
                    raise ProtocolError(f"{self.target.shown}: {error}") from None
                if texts and code != first:
                    raise ProtocolError(f"{self.target.shown} sends a reply with the codes {first} and {code}")
                first = code
                texts.append(_UNSAFE.sub("?", line[at:].rstrip(b"\r\n").decode("utf-8", "replace"))[:500])
                if last:
                    break
                if len(texts) > LINES:
                    raise ProtocolError(f"{self.target.shown} sends a reply without end")
        if first == 421:
            reply = _reply(first, texts)
            raise Lost(f"{self.target.shown}: {reply}", reply)
        return _reply(first, texts)


def _reply(code: int, texts: list[str]) -> Reply:
    match = _ENHANCED.match(texts[0])
    enhanced = f"{code // 100}.0.0"
    if match is not None and int(match.group(1)) == code // 100:
        enhanced = match.group(0).strip()
        texts = [text[len(match.group(0)) :] if text.startswith(match.group(0)) else text for text in texts]
    return Reply(code, enhanced, "\n".join(texts))


def _wire(content: bytes, downgrade: bool, chunking: bool) -> bytes:
    """A message (LF) as it is sent by BDAT, or by DATA with its final dot."""
    if downgrade:
        content = without_eight_bits(content)
    wire = to_crlf(content) if chunking else dot_stuffed(content)
    return wire + b"\r\n" if chunking and not wire.endswith(b"\r\n") else wire


def _chain(writer: asyncio.StreamWriter) -> list[bytes]:
    """The certificates that the host showed, its own first."""
    found = writer.get_extra_info("ssl_object")
    own = found.getpeercert(True) if found is not None else None
    inner: Any = getattr(found, "_sslobj", None)
    try:
        return [one.public_bytes(2) for one in inner.get_unverified_chain()]  # 2: DER
    except AttributeError:
        return [own] if own else []


def _context(verify: bool) -> ssl.SSLContext:
    key = "verify" if verify else "any"
    if key not in _contexts:
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _contexts[key] = context
    return _contexts[key]


_contexts: dict[str, ssl.SSLContext] = {}


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
