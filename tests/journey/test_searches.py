"""Searches that would take minutes: others are served beside them, and they end with their clients."""

import imaplib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from fastmail.bench import machine
from tests.support.server import Server

pytestmark = pytest.mark.alone  # the share of a core that a server takes
MESSAGES = 2000
# keys that read every message each, a few thousand of them in a line
KEYS = b" ".join(b"NOT HEADER Received q%d" % n for n in range(1900))
COMMANDS = {
    "SEARCH": b"c SEARCH " + KEYS,
    "UID SEARCH": b"c UID SEARCH RETURN (COUNT) " + KEYS,
    "SORT": b"c SORT (SUBJECT) UTF-8 " + KEYS,
    "THREAD": b"c THREAD REFERENCES UTF-8 " + KEYS,
    "ESEARCH": b"c ESEARCH IN (mailboxes INBOX) " + KEYS,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    mine = Server(tmp_path_factory.mktemp("searches") / "own", workers=1)
    mine.start()
    with imaplib.IMAP4("127.0.0.1", mine.ports["imap"]) as imap:
        imap.login(mine.user, mine.password)
        text = b"Subject: x\r\nReceived: from here\r\n\r\nhello\r\n"
        one = b" (\\Seen) {%d+}\r\n" % len(text) + text
        for n in range(MESSAGES // 500):
            imap.send(b"m%d APPEND INBOX" % n + one * 500 + b"\r\n")
            while not (line := imap.readline()).startswith(b"m"):
                pass
            assert b" OK " in line, line
    yield mine
    mine.stop()


def opened(server: Server) -> socket.socket:
    sock = server.connect("imap")
    sock.recv(1000)
    sock.sendall(b'a LOGIN %b "%b"\r\nb SELECT INBOX\r\n' % (server.user.encode(), server.password.encode()))
    data = b""
    while b"b OK" not in data:
        data += sock.recv(1000)
    return sock


def busy(server: Server, seconds: float = 1.0) -> float:
    """Share of a core that the server takes."""
    assert server.process is not None
    begun, used = time.monotonic(), machine.cpu(server.process.pid)
    time.sleep(seconds)
    return (machine.cpu(server.process.pid) - used) / (time.monotonic() - begun)


def until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come about"


@pytest.mark.parametrize(
    ("command", "leaves"), [*((one, "close") for one in COMMANDS), ("SEARCH", "reset"), ("SORT", "more behind it")]
)
def test_a_search_ends_with_its_client(server: Server, command: str, leaves: str) -> None:
    """A client that closes in good order has only said that it sends nothing more; one that has sent very much more is
    not read from. Neither is noticed before something is written to it."""
    sock = opened(server)
    sock.sendall(COMMANDS[command] + b"\r\n")
    until(lambda: busy(server, 0.5) > 0.1, 10)
    if leaves == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    elif leaves == "more behind it":
        sock.sendall((COMMANDS[command] + b"\r\n") * 5)
    sock.close()
    until(lambda: busy(server) < 0.06, 15 if leaves == "more behind it" else 6)


def test_others_are_served_beside_searches_of_the_index(server: Server) -> None:
    """Thousands of them at once, each answered without a look at a message."""
    command = b"c SEARCH " + b"NOT SMALLER 1 " * 100 + b"LARGER 100000000\r\n"
    _beside(server, command * 3000)


def test_others_are_served_beside_searches_of_contents(server: Server) -> None:
    _beside(server, COMMANDS["SEARCH"] + b"\r\n")


def _beside(server: Server, sent: bytes) -> None:
    others = [opened(server) for _ in range(12)]
    imap = opened(server)
    for other in others:
        other.setblocking(False)
        try:
            other.send(sent)
        except BlockingIOError:
            pass
    time.sleep(0.5)
    assert busy(server) > 0.1
    took = []
    for _ in range(20):
        begun = time.monotonic()
        imap.sendall(b"n NOOP\r\n")
        assert b"n OK" in imap.recv(1000)
        took.append(time.monotonic() - begun)
    for other in [*others, imap]:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
    assert sorted(took)[15] < 0.15, [round(one, 3) for one in sorted(took)]
    until(lambda: busy(server) < 0.06, 15)
