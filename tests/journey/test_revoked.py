"""Sessions end within a second, in every worker and protocol, once their login does not count any more (S47); and an
account that was removed does not come back to life by what was still open."""

import base64
import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

WITHIN = 1.0
MANY = 6  # sessions of each kind: the workers share them


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("revoked"), "\n[limits]\nauth_failure_delay = 0.05\nconnections_per_ip = 500\n"
    )
    running.start()
    yield running
    running.stop()


class Line:
    """A session by the line; ``ended`` once the server closed it, with the last octets that it said."""

    def __init__(self, server: Server, name: str) -> None:
        self.sock = server.connect(name)
        self.got = b""
        self.read(b"\r\n")

    def read(self, until: bytes) -> bytes:
        while until not in self.got:
            piece = self.sock.recv(65536)
            if not piece:
                raise ConnectionError(self.got)
            self.got += piece
        out, self.got = self.got, b""
        return out

    def say(self, line: bytes, until: bytes) -> bytes:
        self.sock.sendall(line)
        return self.read(until)

    def rest(self, seconds: float) -> bytes | None:
        """All that comes until the server closes; None when it does not in time."""
        end = time.monotonic() + seconds
        out = b""
        while (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                piece = self.sock.recv(65536)
            except TimeoutError:
                return None
            except ConnectionResetError:
                return out
            if not piece:
                return out
            out += piece
        return None


def add(server: Server, user: str) -> None:
    server.cli("account", "add", user, "--password-stdin", stdin=server.password + "\n")


def imap(server: Server, user: str, then: bytes = b"", until: bytes = b"") -> Line:
    one = Line(server, "imap")
    one.say(f'a LOGIN {user} "{server.password}"\r\n'.encode(), b"a OK")
    one.got = b""
    one.say(b"s SELECT INBOX\r\n", b"s OK")
    if then:
        one.say(then, until)
    return one


def pop3(server: Server, user: str) -> Line:
    one = Line(server, "pop3")
    one.say(f"USER {user}\r\n".encode(), b"+OK")
    one.say(f"PASS {server.password}\r\n".encode(), b"+OK 1 messages")
    one.say(b"DELE 1\r\n", b"+OK marked")
    return one


def submission(server: Server, user: str, then: bytes = b"") -> Line:
    one = Line(server, "submission")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    one.say(b"EHLO me.test\r\n", b"250 ")
    one.say(b"STARTTLS\r\n", b"220 ")
    one.sock = context.wrap_socket(one.sock)
    one.say(b"EHLO me.test\r\n", b"250 ")
    token = base64.b64encode(f"\0{user}\0{server.password}".encode())
    one.say(b"AUTH PLAIN " + token + b"\r\n", b"235 ")
    if then:
        one.say(f"MAIL FROM:<{user}>\r\n".encode(), b"250 ")
        one.say(f"RCPT TO:<{server.user}>\r\n".encode(), b"250 ")
        one.say(b"DATA\r\n", b"354 ")
        one.sock.sendall(then)
    return one


def deliver(server: Server, user: str) -> None:
    one = Line(server, "lmtp")
    one.say(b"LHLO me.test\r\n", b"250 ")
    one.say(b"MAIL FROM:<a@far.test>\r\n", b"250 ")
    one.say(f"RCPT TO:<{user}>\r\n".encode(), b"250 ")
    one.say(b"DATA\r\n", b"354 ")
    one.say(b"From: a@far.test\r\n\r\nx\r\n.\r\n", b"250 ")
    one.sock.close()


def passwd(server: Server, user: str) -> None:
    server.cli("account", "passwd", user, "--password-stdin", stdin="quite another\n")


def imported(server: Server, user: str) -> None:
    file = server.directory / "entries"
    file.write_text(f"{user}:quite another\n")
    server.cli("account", "import", str(file), "--replace")


def nologin(server: Server, user: str) -> None:
    file = server.directory / "entries"
    file.write_text(f"{user}:{server.password}\tnologin\n")
    server.cli("account", "import", str(file), "--replace")


def off(server: Server, user: str) -> None:
    server.cli("account", "disable", user)


def remove(server: Server, user: str) -> None:
    server.cli("account", "remove", user)


CHANGES = {"passwd": passwd, "import": imported, "nologin": nologin, "off": off, "remove": remove}


@pytest.mark.alone
@pytest.mark.parametrize("how", CHANGES)
def test_s47_every_session_ends_within_a_second(server: Server, how: str) -> None:
    """In both workers: IDLE, between commands, inside a literal; POP3 with something marked; inside of a message that is
    sent. Another user's sessions go on."""
    user = f"{how}@example.test"
    add(server, user)
    deliver(server, user)
    other = imap(server, server.user, b"i IDLE\r\n", b"+ idling")
    sessions: dict[str, list[Line]] = {
        "idle": [imap(server, user, b"i IDLE\r\n", b"+ idling") for _ in range(MANY)],
        "between": [imap(server, user) for _ in range(MANY)],
        "literal": [imap(server, user, b"l APPEND INBOX {1000}\r\n", b"+ ok") for _ in range(MANY)],
        "pop3": [pop3(server, user) for _ in range(MANY)],
        "submission": [submission(server, user) for _ in range(MANY)],
        "data": [submission(server, user, b"From: me\r\n\r\nhalf of it\r\n") for _ in range(MANY)],
    }
    CHANGES[how](server, user)
    end = time.monotonic() + WITHIN
    said = b"* BYE [EXPIRED] " if how in ("passwd", "import") else b"* BYE [CONTACTADMIN] "
    for kind, some in sessions.items():
        word = {"pop3": b"-ERR [AUTH] ", "submission": b"421 4.7.0 ", "data": b"421 4.7.0 "}.get(kind, said)
        for one in some:
            got = one.rest(end - time.monotonic() + 0.05)
            assert got is not None and got.startswith(word) and got.count(b"\r\n") == 1, (kind, got)
            one.sock.close()
    assert other.rest(0.2) is None
    other.sock.close()
    kept = [path for path in server.maildir(user).rglob("*") if path.parent.name in ("new", "cur") and path.is_file()]
    assert len(kept) == 1, "what POP3 had marked stays, and no half message came"


@pytest.mark.alone
def test_s47_a_session_at_a_mailbox_of_a_removed_account_ends(server: Server) -> None:
    add(server, "owner@example.test")
    add(server, "guest@example.test")
    owner = imap(server, "owner@example.test", b"c SETACL INBOX guest@example.test lrs\r\n", b"c OK")
    guests = []
    for _ in range(MANY):
        guest = imap(server, "guest@example.test", b's2 SELECT "Other Users/owner@example.test/INBOX"\r\n', b"s2 OK")
        guest.say(b"i IDLE\r\n", b"+ idling")
        guests.append(guest)
    beside = imap(server, "guest@example.test", b"i IDLE\r\n", b"+ idling")
    remove(server, "owner@example.test")
    end = time.monotonic() + WITHIN
    for guest in guests:
        got = guest.rest(end - time.monotonic() + 0.05)
        assert got is not None and got.splitlines()[-1].startswith(b"* BYE "), got
    assert owner.rest(0.5) is not None and beside.rest(0.2) is None


def test_s47_a_removed_account_does_not_come_back(server: Server) -> None:
    """Sessions that make mailboxes and append, and mail that is on its way, while the account and its mail are removed:
    neither a directory nor a row of the index is there afterwards."""
    for round in range(4):
        user = f"phoenix{round}@example.test"
        add(server, user)
        deliver(server, user)
        flight = Line(server, "lmtp")
        flight.say(b"LHLO me.test\r\n", b"250 ")
        flight.say(b"MAIL FROM:<a@far.test>\r\n", b"250 ")
        flight.say(f"RCPT TO:<{user}>\r\n".encode(), b"250 ")
        working = threading.Semaphore(0)
        threads = [threading.Thread(target=_busy, args=(server, user, n, working)) for n in range(4)]
        for one in threads:
            one.start()
        for _ in threads:
            assert working.acquire(timeout=60), "one cannot log in"
        server.cli("account", "remove", user, "--delete-mail")
        flight.say(b"DATA\r\n", b"354 ")
        assert flight.say(b"From: a@far.test\r\n\r\nx\r\n.\r\n", b"\r\n").startswith(b"550 5.1.1 ")
        for one in threads:
            one.join(5)
            assert not one.is_alive()
        assert not os.path.exists(server.maildir(user))
    found = server.cli("check", check=False)
    assert "phoenix" not in found.stdout + found.stderr and found.returncode == 0, found.stdout


def _busy(server: Server, user: str, number: int, working: threading.Semaphore) -> None:
    """Make mailboxes and append until the server ends the session; ``working`` is released after the first of each."""
    with contextlib.suppress(OSError):
        one = imap(server, user)
        for count in range(10000):
            one.say(b"c CREATE Box%d-%d\r\n" % (number, count), b"c ")
            one.say(b"a APPEND Box%d-%d {13+}\r\nSubject: x\r\n\r\n\r\n" % (number, count), b"a ")
            one.say(b'l LIST "" *\r\n', b"l ")
            one.say(b"u SUBSCRIBE Box%d-%d\r\n" % (number, count), b"u ")
            if not count:
                working.release()


def test_s47_accounts_that_another_program_keeps(tmp_path: Path) -> None:
    """A passwd-file: with its next look, which is every two seconds, a new password or a missing row ends sessions."""
    users = tmp_path / "users"
    rows = "anna@one.test:{PLAIN}pass word\nbert@one.test:{PLAIN}pass word\ncarl@one.test:{PLAIN}pass word\n"
    users.write_text(rows)
    server = Server(tmp_path / "own", f'\n[directory]\npasswd_file = "{users}"\n')
    server.start()
    try:
        end = time.monotonic() + 8
        sessions: dict[str, Line] = {}
        while len(sessions) < 3:
            assert time.monotonic() < end
            for name in ("anna", "bert", "carl"):
                with contextlib.suppress(ConnectionError, socket.timeout):
                    if name not in sessions:
                        one = Line(server, "imap")
                        one.sock.settimeout(0.5)
                        one.say(f'a LOGIN {name}@one.test "pass word"\r\n'.encode(), b"a OK")
                        sessions[name] = one
        users.write_text("anna@one.test:{PLAIN}another word\ncarl@one.test:{PLAIN}pass word\n")
        got = sessions["anna"].rest(4)
        assert got is not None and got.startswith(b"* BYE [EXPIRED] ")
        got = sessions["bert"].rest(1)
        assert got is not None and got.startswith(b"* BYE [CONTACTADMIN] ")
        assert sessions["carl"].rest(0.5) is None
    finally:
        server.stop()


def test_an_account_is_switched_off_and_on(server: Server) -> None:
    user = "switched@example.test"
    add(server, user)
    imap(server, user).sock.close()
    assert server.cli("account", "disable", user).stdout == f"switched off {user}\n"
    one = Line(server, "imap")
    assert b"a NO [AUTHENTICATIONFAILED]" in one.say(f'a LOGIN {user} "{server.password}"\r\n'.encode(), b"a NO")
    lmtp = Line(server, "lmtp")
    lmtp.say(b"LHLO me.test\r\n", b"250 ")
    lmtp.say(b"MAIL FROM:<a@far.test>\r\n", b"250 ")
    assert lmtp.say(f"RCPT TO:<{user}>\r\n".encode(), b"\r\n").startswith(b"550 5.1.1")
    assert server.cli("account", "enable", user).stdout == f"switched on {user}\n"
    assert b"a OK" in one.say(f'a LOGIN {user} "{server.password}"\r\n'.encode(), b"a OK")
    assert lmtp.say(f"RCPT TO:<{user}>\r\n".encode(), b"\r\n").startswith(b"250")
    assert server.cli("account", "disable", "nobody@example.test", check=False).returncode != 0
