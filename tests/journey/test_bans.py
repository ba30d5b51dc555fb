"""Brute force over real sockets: the guesser is kept out of every protocol, and let in again by command."""

import imaplib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    extra = "\n[limits]\nauth_failure_delay = 0.01\nban_after = 4\nban_exempt = []\n"
    mine = Server(tmp_path / "own", extra)
    mine.start()
    yield mine
    mine.stop()


def greeting(server: Server, name: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.ports[name]), 5) as sock:
        return sock.recv(200)


def guess(server: Server) -> None:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap, pytest.raises(imaplib.IMAP4.error):
        imap.login(server.user, "wrong")


def test_s23_a_guesser_is_kept_out(server: Server) -> None:
    for _ in range(20):
        try:
            guess(server)
        except (imaplib.IMAP4.abort, imaplib.IMAP4.error, OSError):
            break
    else:
        raise AssertionError("nobody was banned")
    deadline = time.monotonic() + 5
    while not (found := json.loads(server.cli("bans", "list", "--json").stdout)):
        assert time.monotonic() < deadline
    assert found[0]["network"] == "127.0.0.1" and found[0]["why"] == "failed logins" and found[0]["seconds"] > 500
    for _ in range(6):  # both workers
        assert greeting(server, "imap") == b"* BYE not from your address for a while\r\n"
        assert greeting(server, "pop3").startswith(b"-ERR [SYS/TEMP]")
        assert greeting(server, "smtp").startswith(b"421 4.7.0") and greeting(server, "submission").startswith(b"421")
    server.cli("bans", "remove", "127.0.0.1")
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        assert imap.login(server.user, server.password)[0] == "OK"
    assert server.cli("bans", "remove", "127.0.0.1", check=False).returncode == 1
    server.cli("bans", "add", "127.0.0.0/24", "--for", "1h")
    assert greeting(server, "imap").startswith(b"* BYE")
    server.cli("bans", "remove", "all")
    assert greeting(server, "imap").startswith(b"* OK")
    assert server.cli("bans", "add", "somewhere", check=False).returncode == 1
