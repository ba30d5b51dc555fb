"""Brute force over real sockets: the guesser is kept out of every protocol, and let in again by command."""

import base64
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
    assert server.cli("bans", "add", "somewhere", check=False).returncode == 2


def asked(server: Server, protocol: str, source: str, password: str, talk: socket.socket | None = None) -> bytes:
    """What a login from an address of loopback is answered with. ``talk``: over a connection that is there already."""
    port = server.ports["imap" if protocol == "imap" else "pop3" if protocol == "pop3" else "submission"]
    sock = talk or socket.create_connection(("127.0.0.1", port), 20, (source, 0))
    with sock, sock.makefile("rb") as file:
        if talk is None:
            file.readline()
        if protocol == "imap":
            sock.sendall(f'a LOGIN {server.user} "{password}"\r\n'.encode())
            return file.read() if talk is not None else file.readline()
        if protocol == "pop3":
            sock.sendall(f"USER {server.user}\r\n".encode())
            file.readline()
            sock.sendall(f"PASS {password}\r\n".encode())
            return file.readline()
        sock.sendall(b"EHLO x\r\n")
        while file.readline()[3:4] == b"-":
            pass
        response = base64.b64encode(f"\0{server.user}\0{password}".encode())
        sock.sendall(b"AUTH PLAIN " + response + b"\r\n")
        return file.readline()


RIGHT = {"imap": b"a OK", "pop3": b"+OK", "submission": b"235 "}


@pytest.mark.parametrize("protocol", list(RIGHT))
def test_s23_a_ban_holds_for_logins_on_connections_from_before(server: Server, protocol: str) -> None:
    port = server.ports[protocol]
    early = socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.77", 0))
    assert early.recv(200)
    assert asked(server, protocol, "127.0.0.77", server.password).startswith(RIGHT[protocol])
    server.cli("bans", "add", "127.0.0.77")
    answer = asked(server, protocol, "", server.password, early)
    assert b"not from your address for a while" in answer and not answer.startswith(RIGHT[protocol]), answer
    assert asked(server, protocol, "127.0.0.78", server.password).startswith(RIGHT[protocol])


@pytest.mark.alone
@pytest.mark.parametrize("protocol", list(RIGHT))
def test_s23_a_spread_attack_is_slowed_and_the_owner_is_not(tmp_path: Path, protocol: str) -> None:
    extra = "\n[limits]\nauth_failure_delay = 0.01\nslow_after = 3\nban_exempt = []\n"
    server = Server(tmp_path / "own", extra, workers=1)
    server.start()
    try:
        assert asked(server, protocol, "127.0.0.9", server.password).startswith(RIGHT[protocol]), "the owner is at home"
        for n in range(3):
            assert not asked(server, protocol, f"127.0.1.{n + 1}", "wrong").startswith(RIGHT[protocol])
        asked(server, protocol, "127.0.2.1", "wrong")  # the first turn
        begun = time.monotonic()
        asked(server, protocol, "127.0.2.2", "wrong")
        assert time.monotonic() - begun > 1.0, "the next guess has to wait"
        begun = time.monotonic()
        assert asked(server, protocol, "127.0.0.9", server.password).startswith(RIGHT[protocol])
        assert time.monotonic() - begun < 1.0, "the owner has not"
    finally:
        server.stop()
