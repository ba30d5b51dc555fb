"""What one session expunged, sessions of all workers go on reading until they were told; then it is removed."""

import poplib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.durable.env import Environment
from fastmail.store.local.index import layout
from tests.journey.test_workers import Session, open_sockets
from tests.support.server import Server

GRACE = 4
SESSIONS = 6
COMMANDS = 80
TEXT = b"Subject: message %d\r\n\r\nbody of %d\r\n"


def made(path: Path, content: str, grace: int, workers: int = 2) -> Server:
    server = Server(path, workers=workers, content=content)
    text = server.config.read_text()
    server.config.write_text(text.replace("[store]\n", f"[store]\nexpunge_grace = {grace}\n"))
    server.start()
    return server


@pytest.fixture(params=["maildir", "segments"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    one = made(tmp_path / "own", request.param, GRACE)
    yield one
    if one.process is not None:
        one.stop()


class Client:
    """A session on the INBOX that has not been told of anything since."""

    def __init__(self, server: Server) -> None:
        self.sock = server.connect("imap")
        self.file = self.sock.makefile("rb")
        self.file.readline()
        self.run(b'LOGIN user@example.test "pass word"')

    def run(self, command: bytes) -> bytes:
        """All that is answered."""
        self.sock.sendall(b"t " + command + b"\r\n")
        out = b""
        while not (line := self.file.readline()).startswith(b"t "):
            assert line, command
            out += line
        return out + line


def everywhere(server: Server) -> list[Client]:
    """Sessions in every worker."""
    out: list[Client] = []
    while not out or not all(open_sockets(pid, server.ports["imap"]) > 1 for pid in server.workers()):
        assert len(out) < 60
        out.append(Client(server))
    return out


def fill(client: Client, count: int) -> None:
    for n in range(1, count + 1):
        text = TEXT % (n, n)
        client.run(b"APPEND INBOX {%d+}\r\n" % len(text) + text)


def kept_rows(server: Server) -> int:
    """How much is kept; the server must not run."""
    path = str(server.directory / "data" / "index-0")
    env = Environment(path, layout.TABLES, layout.LAYOUT, 1 << 30)
    try:
        with env.read() as txn:
            return int(txn.stat(env.db["kept"])["entries"])
    finally:
        env.close()


def in_tmp(server: Server) -> list[str]:
    return [path.name for path in (server.maildir() / "tmp").glob("kept.*")]


def test_all_workers_read_on_and_it_is_removed(server: Server) -> None:
    clients = everywhere(server)
    fill(clients[0], 5)
    for one in clients:
        one.run(b"SELECT INBOX")
    pop = poplib.POP3("127.0.0.1", server.ports["pop3"])
    pop.user(server.user)
    pop.pass_(server.password)
    begun = time.monotonic()
    clients[0].run(b"MOVE 2 Trash")
    clients[0].run(b"STORE 3 +FLAGS (\\Deleted)")
    clients[0].run(b"EXPUNGE")
    for _ in range(2):
        for one in clients[1:]:
            whole = one.run(b"FETCH 1:5 (BODY.PEEK[])")
            assert [whole.count(TEXT % (n, n)) for n in range(1, 6)] == [1] * 5 and b"t OK" in whole
            told = one.run(b"FETCH 1:5 (FLAGS ENVELOPE)")
            assert told.count(b" FETCH (") == 5 and b'"message 4"' in told and b"t OK" in told
            assert one.run(b'SEARCH TEXT "body of 4"').startswith(b"* SEARCH 4\r\n")
        assert b"\r\n".join(pop.retr(2)[1]) + b"\r\n" == TEXT % (2, 2)
        assert b"\r\n".join(pop.retr(4)[1]) + b"\r\n" == TEXT % (4, 4)
        time.sleep(0.6)  # files are put aside
    assert time.monotonic() - begun < GRACE, "too slow to say"
    if list(server.maildir().glob("cur/*")):
        assert len(list(server.maildir().glob("[cn]*/*"))) == 3 and len(in_tmp(server)) == 2
    deadline = time.monotonic() + GRACE + 15
    while b"t OK" in clients[1].run(b"FETCH 4 (BODY.PEEK[])"):
        assert time.monotonic() < deadline, "it is kept for ever"
        time.sleep(0.2)
    assert b"* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n" in clients[1].run(b"NOOP")
    assert clients[1].run(b"FETCH 1:* (BODY.PEEK[])").count(b"body of") == 3
    assert in_tmp(server) == []
    assert server.cli("check").returncode == 0
    server.stop()
    assert kept_rows(server) == 0


def test_a_killed_server_forgets_what_it_kept(server: Server) -> None:
    clients = everywhere(server)
    fill(clients[0], 6)
    for one in clients:
        one.run(b"SELECT INBOX")
    for n, pause in ((b"1", 0.0), (b"1", 0.7)):
        clients[0].run(b"STORE " + n + b" +FLAGS (\\Deleted)")
        clients[0].run(b"EXPUNGE")
        time.sleep(pause)
    clients[0].run(b"MOVE 1 Trash")  # one that is not put aside when it is killed
    server.kill()
    assert kept_rows(server) == 3 + 3
    server.start()
    again = Client(server)
    assert b"* 3 EXISTS" in again.run(b"SELECT INBOX")
    deadline = time.monotonic() + GRACE + 15
    while len(list(server.maildir().glob("[cn]*/*"))) > 3 or in_tmp(server):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert server.cli("check").returncode == 0
    time.sleep(2 * GRACE + 2)  # that long there is nothing to see from outside
    server.stop()
    assert kept_rows(server) == 0


class Reader(Session):
    """One that believes that it can read all of its view, always."""

    def step(self) -> None:
        rng = self.rng
        choice = rng.random()
        if not self.view or choice < 0.25:
            number = rng.randint(1, 999)
            text = TEXT % (number, number)
            self.run(b"APPEND INBOX {%d+}" % len(text), text)
        elif choice < 0.35:
            self.run(b"STORE " + self.pick() + rb" +FLAGS (\Deleted)")
        elif choice < 0.45:
            self.run(b"EXPUNGE")
        elif choice < 0.5:
            self.run(b"MOVE " + self.pick() + b" Trash")
        elif choice < 0.6:
            self.view, self.flags = [], {}
            self.run(rng.choice([b"SELECT INBOX", b"EXAMINE INBOX", b"SELECT INBOX"]))
        else:
            self.read(self.pick())

    def read(self, numbers: bytes) -> None:
        """Each message of the view comes, whole, and with the content that it always had."""
        low, high = map(int, numbers.split(b":"))
        self.count += 1
        tag = b"t%d" % self.count
        items = self.rng.choice(
            [b"(UID BODY.PEEK[])", b"(UID FLAGS)", b"(UID ENVELOPE)", b"(UID BODY.PEEK[1] PREVIEW)"]
        )
        self.sock.sendall(tag + b" FETCH " + numbers + b" " + items + b"\r\n")
        found = []
        while not (line := self.file.readline()).startswith(tag + b" "):
            match = re.match(rb"\* (\d+) FETCH \(UID (\d+)", line)
            if match is not None:
                number, uid = int(match[1]), int(match[2])
                found.append(number)
                if self.view[number - 1] not in (0, uid):
                    self.problems.append(f"{number} is {uid} and was {self.view[number - 1]}")
                self.view[number - 1] = uid
            elif line.startswith(b"* "):
                self.take(line, True, b"FETCH")
        if not line.startswith(tag + b" OK") or not set(found) >= set(range(low, high + 1)):
            self.problems.append(f"{items!r} of {numbers!r}: {line!r}, and {found} came")


@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_whatever_others_do_all_of_a_view_can_be_read(content: str, tmp_path: Path) -> None:
    server = made(tmp_path / "own", content, 60, workers=3)
    try:
        readers = [Reader(server, n) for n in range(SESSIONS)]
        for one in readers:
            one.run(b"SELECT INBOX")
            one.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def work(one: Reader) -> None:
            try:
                for _ in range(COMMANDS):
                    one.step()
            except (OSError, AssertionError, IndexError) as error:
                one.problems.append(repr(error))

        threads = [threading.Thread(target=work, args=(one,)) for one in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [problem for one in readers for problem in one.problems] == []
        assert server.cli("check").returncode == 0
    finally:
        server.stop()
