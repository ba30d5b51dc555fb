"""A gate of tests.load.gates: clients that send commands and read nothing, in every protocol and state, in the clear, in
TLS and compressed. What they cost in memory, that others are served meanwhile, and that they are ended.
"""

import contextlib
import imaplib
import os
import socket
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from fastmail.bench import load, machine
from fastmail.net.sending import LINGER
from tests.load.room import OPEN, memory, running, waited
from tests.support.server import Server

TIMEOUT = 4  # s, of a command
EACH = 26_000_000  # octets that each kind of them may send, all its connections together
KINDS = 0.5  # MiB that a connection may cost: 64 KB unread, 64 KB not looked at, a batch of replies, its session
BIG = 8 << 20  # octets of a message that is fetched again and again
BUSY = 0.1  # CPU seconds of all workers in a second: they have commands to answer
WORK = 180  # s that this may take
MOST = 256 + 64  # MiB: see net.unread, and what is being made


@dataclass(frozen=True)
class Kind:
    """What clients of a kind send first, each answered with so many lines that end in CRLF, and then without end."""

    port: str
    command: bytes
    first: tuple[bytes, ...] = ()
    packed: bool = False


def kinds(server: Server) -> dict[str, Kind]:
    login = b'a LOGIN %b "%b"\r\n' % (server.user.encode(), server.password.encode())
    select = (login, b"b SELECT INBOX\r\n")
    pop3 = (b"USER %b\r\n" % server.user.encode(), b"PASS %b\r\n" % server.password.encode())
    return {
        "EHLO": Kind("smtp", b"EHLO x\r\n"),
        "EHLO in TLS": Kind("submissions", b"EHLO x\r\n"),
        "LHLO": Kind("lmtp", b"LHLO x\r\n"),
        "CAPA": Kind("pop3", b"CAPA\r\n"),
        "CAPA in TLS": Kind("pop3s", b"CAPA\r\n"),
        "UIDL": Kind("pop3", b"UIDL\r\n", pop3),
        "TOP": Kind("pop3", b"TOP 1 1\r\n", pop3),
        "CAPABILITY": Kind("imap", b"c CAPABILITY\r\n"),
        "CAPABILITY in TLS": Kind("imaps", b"c CAPABILITY\r\n"),
        "SEARCH ALL": Kind("imap", b"c SEARCH ALL\r\n", select),
        "SEARCH SUBJECT": Kind("imap", b"c SEARCH SUBJECT x\r\n", select),
        "FETCH": Kind("imaps", b"c FETCH 1:* FLAGS\r\n", select),
        "FETCH, compressed": Kind("imap", b"c FETCH 1:* FLAGS\r\n", (*select, b"z COMPRESS DEFLATE\r\n"), True),
        "LIST": Kind("imap", b'c LIST "" *\r\n', select),
    }


def opened(server: Server, kind: Kind) -> socket.socket:
    """A client with a small window, ready to send its commands and not to read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", server.ports[kind.port]))
    if kind.port.endswith("s"):
        sock = load.unverified().wrap_socket(sock)
    sock.recv(2000)
    for line in kind.first:
        sock.sendall(line)
        time.sleep(0.05)
        sock.recv(100_000)
    sock.settimeout(0.0)
    return sock


def flood(ends: list[socket.socket], block: bytes, seconds: float) -> int:
    """Send on all of them until the server takes no more for a moment; how much it took."""
    sent, since, end = 0, time.monotonic(), time.monotonic() + seconds
    while sent < EACH and time.monotonic() < end and time.monotonic() - since < 0.4:
        for sock in ends:
            with contextlib.suppress(OSError):  # it takes no more, or is closed
                sent += sock.send(block)
                since = time.monotonic()
        time.sleep(0.002)
    return sent


def sockets(server: Server) -> int:
    """How many the workers hold."""
    found = 0
    for pid in server.workers():
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    return found


def unread(place: Path, scale: float) -> str:
    """Clients of every kind that do not read: memory stays bounded, others are served, and they are ended."""
    count = max(1, int(40 * scale))
    extra = f"{OPEN}command_timeout = {TIMEOUT}\nlogin_timeout = {TIMEOUT}\nidle_timeout = 600\n"
    most = 0.0
    waits: dict[str, float] = {}  # s that a NOOP took beside clients of a kind
    sent = 0
    with running(place, extra) as server:
        imap = imaplib.IMAP4("127.0.0.1", server.ports["imap"])
        imap.login(server.user, server.password)
        text = b"Subject: x\r\n\r\nhello\r\n"
        imap.append("INBOX", None, None, text)
        for _ in range(8):  # 256 messages
            imap.select()
            imap.copy("1:*", "INBOX")
        for number in range(20):
            imap.create(f"{'n' * 100}{number}")
        at_rest = sockets(server)
        clients: list[socket.socket] = []
        for name, kind in kinds(server).items():
            ends = [opened(server, kind) for _ in range(count)]
            block = kind.command * (65536 // len(kind.command))
            if kind.packed:
                packer = zlib.compressobj(9, zlib.DEFLATED, -15)
                block = packer.compress(kind.command * 200_000) + packer.flush(zlib.Z_SYNC_FLUSH)
            before = memory(server)
            sent += flood(ends, block, 6.0 if scale > 0.1 else 1.0)
            begun = time.monotonic() - waited(server)  # what other programs take is no wait for these clients
            imap.noop()
            waits[name] = time.monotonic() - waited(server) - begun
            grown = memory(server) - before
            assert grown < KINDS * count + 4, f"{name}: {grown:.0f} MiB for {count} clients"
            most = max(most, grown / count)
            clients += ends
        _ended(server, at_rest, len(clients))
        for sock in clients:
            sock.close()
        held = _big(server, imap, max(20, int(200 * scale)))
        slowest = max(waits.values())
        assert slowest < 2.0, f"a NOOP took {', '.join(f'{wait:.1f} s beside {name}' for name, wait in waits.items())}"
        imap.logout()
    return (
        f"{len(clients)} clients of {len(kinds(server))} kinds read nothing of {sent >> 20} MiB: at most {most:.2f} MiB for each, a NOOP "
        f"beside them {slowest * 1000:.0f} ms at most, all ended; of big messages {held:.0f} MiB"
    )


def _ended(server: Server, at_rest: int, count: int) -> None:
    """Wait until all are ended: some time after the system holds as much for them as it can. Until then the workers
    have their commands to answer."""
    assert server.process is not None
    quiet, last = time.monotonic(), time.monotonic() + WORK
    spent = machine.cpu(server.process.pid)
    while (left := sockets(server) - at_rest) > 0:
        time.sleep(1.0)
        now = machine.cpu(server.process.pid)
        if now - spent > BUSY and time.monotonic() < last:
            quiet = time.monotonic()
        spent = now
        assert time.monotonic() < quiet + 3 * TIMEOUT + LINGER, f"{left} of {count} are not ended"


def _big(server: Server, imap: imaplib.IMAP4, count: int) -> float:
    """The same for a big message, which costs the server much and the client one line."""
    imap.append(
        "INBOX", None, None, b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 998 + b"\r\n") * (BIG // 1000)
    )
    login = b'a LOGIN %b "%b"\r\n' % (server.user.encode(), server.password.encode())
    kind = Kind("imap", b"", (login, b"b SELECT INBOX\r\n"))
    before = most = memory(server)
    clients = []
    for _ in range(count):
        sock = opened(server, kind)
        sock.sendall(b"c UID FETCH * BODY.PEEK[]\r\n")
        clients.append(sock)
        most = max(most, memory(server))
    for _ in range(10):
        time.sleep(0.1)
        most = max(most, memory(server))
    for sock in clients:
        sock.close()
    workers = len(server.workers())
    assert most - before < MOST * workers, f"{most - before:.0f} MiB of {count} big messages"
    return most - before
