"""Load for mail servers, ours or others': many LMTP or SMTP sessions on one event loop; a plain IMAP and POP3 client.

A delivery session is a state machine over whole replies with its commands made beforehand, so that a message costs the
generator some 15 us. AssertionError with the server's words for any answer that is not the expected one.
"""

import asyncio
import base64
import random
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from functools import partial

AUTHOR = b"a@b.example"
BODY = b"The quick brown fox jumps over the lazy dog, and then it does so once more.\r\n"


def message(size: int, subject: str = "benchmark") -> bytes:
    """A message of about that many octets, with CRLF."""
    head = (
        f"From: Some Body <{AUTHOR.decode()}>\r\nTo: you@example.test\r\nSubject: {subject}\r\n"
        f"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <{random.getrandbits(64):x}@bench.example>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode()
    return head + BODY * max(1, (size - len(head)) // len(BODY))


def unverified() -> ssl.SSLContext:
    """For a server whose certificate nobody knows."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class Work:
    """What the sessions of one run share: messages that are left, and who gets them. ``logins``: (user, password) of
    the sessions in turn, where they are to log in; a user sends from its own address."""

    hello: bytes
    left: int
    text: bytes
    addresses: list[str]
    recipients: int = 1
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    latencies: list[float] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)


class Delivery(asyncio.Protocol):
    """One session; takes messages from ``work`` until none is left."""

    def __init__(self, work: Work, done: asyncio.Future[None], number: int = 0) -> None:
        self._work = work
        self._login = work.logins[number % len(work.logins)] if work.logins else None
        self._text = work.text  # a user writes under its own address
        if self._login:
            self._text = work.text.replace(AUTHOR, self._login[0].encode(), 1)
        self._mail = b"MAIL FROM:<%b>\r\n" % (self._login[0] if self._login else "a@b.example").encode()
        self._done = done
        self._step = self._greeted
        self._wanted = 1
        self._buffer = b""
        self._since = 0.0
        self._lmtp = work.hello.startswith(b"LHLO")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or AssertionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.endswith(b"\n"):
            return
        lines = self._buffer.split(b"\r\n")[:-1]
        final = [line for line in lines if line[3:4] != b"-"]
        if len(final) < self._wanted:
            return
        self._buffer = b""
        bad = next((line for line in final if line[:1] not in b"23"), None)
        if bad is not None:
            self._fail(bad)
        else:
            self._step()

    def _fail(self, line: bytes) -> None:
        if not self._done.done():
            self._done.set_exception(AssertionError(line.decode("utf-8", "replace")))
        self._transport.abort()

    def _send(self, data: bytes, replies: int, then: object) -> None:
        self._wanted = replies
        self._step = then  # type: ignore[assignment]
        self._transport.write(data)

    def _greeted(self) -> None:
        self._send(self._work.hello, 1, self._log_in if self._login else self._next)

    def _log_in(self) -> None:
        assert self._login is not None
        response = base64.b64encode("\0{}\0{}".format(*self._login).encode())
        self._send(b"AUTH PLAIN " + response + b"\r\n", 1, self._next)

    def _next(self) -> None:
        work = self._work
        if self._since:
            work.latencies.append(time.perf_counter() - self._since)
        if not work.left:
            if not self._done.done():
                self._done.set_result(None)
            self._send(b"QUIT\r\n", 1, self._transport.close)
            return
        work.left -= 1
        first = work.rng.randrange(len(work.addresses))
        to = [work.addresses[(first + n) % len(work.addresses)] for n in range(work.recipients)]
        rcpt = b"".join(b"RCPT TO:<%b>\r\n" % address.encode() for address in to)
        self._send(self._mail + rcpt + b"DATA\r\n", 2 + work.recipients, self._data)

    def _data(self) -> None:
        self._since = time.perf_counter()
        self._send(self._text, self._work.recipients if self._lmtp else 1, self._next)


async def deliver(host: str, port: int, work: Work, sessions: int, tls: bool = False) -> None:
    """Deliver ``work.left`` messages over so many sessions; with ``tls`` from the first octet, whatever the
    certificate."""
    loop = asyncio.get_running_loop()
    waits = []
    context = unverified() if tls else None
    for number in range(sessions):
        done: asyncio.Future[None] = loop.create_future()
        make = partial(Delivery, work, done, number)
        await loop.create_connection(make, host, port, ssl=context)
        waits.append(done)
    await asyncio.gather(*waits)


class Reader(asyncio.Protocol):
    """One IMAP session of a mix: sends its commands one after the other until ``left`` of the mix is used up."""

    def __init__(self, mix: "Mix", done: asyncio.Future[None]) -> None:
        self._mix = mix
        self._done = done
        self._at = 0
        self._buffer = b""
        self._before = [b"a LOGIN %b %b\r\n" % mix.login, b"a SELECT INBOX\r\n"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or AssertionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer = (self._buffer + data)[-4096:]
        line = self._buffer[self._buffer.rfind(b"\n", 0, -1) + 1 :]
        if not line.endswith(b"\r\n") or not line.startswith((b"a ", b"* OK")):
            return
        self._buffer = b""
        mix = self._mix
        if not line[2:].lstrip().startswith(b"OK"):
            self._done.set_exception(AssertionError(line.decode("utf-8", "replace")))
            self._transport.abort()
        elif self._before:
            self._transport.write(self._before.pop(0))
        elif mix.left <= 0:
            self._done.set_result(None)
            self._transport.abort()
        else:
            mix.left -= 1
            self._at += 1
            self._transport.write(mix.commands[self._at % len(mix.commands)])


@dataclass(slots=True)
class Mix:
    """What the sessions of an IMAP mix share. ``login``: (user, password); commands are tagged ``a``."""

    login: tuple[bytes, bytes]
    commands: list[bytes]
    left: int


async def read(host: str, port: int, mix: Mix, sessions: int) -> None:
    """Run the mix over so many sessions."""
    loop = asyncio.get_running_loop()
    waits = []
    for _ in range(sessions):
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(partial(Reader, mix, done), host, port)
        waits.append(done)
    await asyncio.gather(*waits)


class Client:
    """A blocking connection for IMAP and POP3; with ``tls`` encrypted from the first octet."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_connection((host, port), 60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock)
        self.file = self.sock.makefile("rb", 1 << 20)
        self.line()

    def line(self) -> bytes:
        found = self.file.readline()
        assert found, "the server closed the connection"
        return found

    def imap(self, command: bytes, tag: bytes = b"a") -> int:
        """Send a command and read its answer: octets."""
        self.sock.sendall(tag + b" " + command + b"\r\n")
        return self.answer(tag)

    def answer(self, tag: bytes) -> int:
        size = 0
        while True:
            line = self.line()
            size += len(line)
            if line.startswith(tag + b" "):
                assert line.startswith(tag + b" OK"), line.decode("utf-8", "replace")
                return size
            if line.endswith(b"}\r\n") and b"{" in line:
                size += len(self.file.read(int(line[line.rindex(b"{") + 1 : -3])))

    def number(self, command: bytes, behind: bytes, tag: bytes = b"n") -> int:
        """The number that stands behind a word in the answer."""
        self.sock.sendall(tag + b" " + command + b"\r\n")
        found = 0
        while not (line := self.line()).startswith(tag + b" "):
            digits = re.match(rb"\d+", line.partition(behind)[2])
            found = int(digits.group()) if digits else found
        return found

    def append(self, mailbox: bytes, text: bytes) -> None:
        self.sock.sendall(b"a APPEND %b {%d+}\r\n%b\r\n" % (mailbox, len(text), text))
        self.answer(b"a")

    def imap_pipelined(self, commands: list[bytes]) -> None:
        """All at once, in pieces that fit in the socket's buffers, and all answers."""
        for start in range(0, len(commands), 200):
            part = commands[start : start + 200]
            self.sock.sendall(b"".join(b"p%d %b\r\n" % (n, command) for n, command in enumerate(part)))
            for n in range(len(part)):
                self.answer(b"p%d" % n)

    def pop3(self, command: bytes, multiline: bool = False) -> int:
        self.sock.sendall(command + b"\r\n")
        line = self.line()
        assert line.startswith(b"+OK"), line.decode("utf-8", "replace")
        size = len(line)
        while multiline and line != b".\r\n":
            line = self.line()
            size += len(line)
        return size

    def close(self) -> None:
        self.file.close()
        self.sock.close()
