"""Several sessions in several workers on one mailbox: nobody's sequence numbers go wrong, and all end with the same."""

import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.durable.recovery import EPOCH_ROW, NUMBER
from fastmail.net.handover import SHARE
from fastmail.store.local.index.shard import open_index
from tests.support.server import PATIENCE, Server

SESSIONS = 6
COMMANDS = 60
MESSAGE = b"Subject: worker\r\n\r\nbody\r\n"


@pytest.fixture(scope="module", params=["maildir", "segments"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("workers"), workers=3, content=request.param)
    one.start()
    yield one
    one.stop()


class Session:
    """A client that believes what it is told, and checks what it may be told."""

    def __init__(self, server: Server, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sock = server.connect("imap")
        self.file = self.sock.makefile("rb")
        self.view: list[int] = []  # UIDs by sequence number; 0: not known yet
        self.flags: dict[int, frozenset[bytes]] = {}
        self.count = 0
        self.problems: list[str] = []
        self.file.readline()
        self.run(b'LOGIN user@example.test "pass word"')

    def run(self, command: bytes, literal: bytes = b"") -> bytes:
        """Run a command and take in what is told; its tagged reply."""
        self.count += 1
        tag = b"t%d" % self.count
        self.sock.sendall(tag + b" " + command + b"\r\n" + (literal + b"\r\n" if literal else b""))
        fixed = re.match(rb"(FETCH|STORE|SEARCH)", command) is not None
        while True:
            line = self.file.readline()
            if not line:
                raise AssertionError("the session was ended: " + repr(command))
            if line.startswith(tag + b" "):
                if line.startswith(tag + b" BAD"):
                    self.problems.append(f"{command!r}: {line!r} with {len(self.view)} messages")
                return line
            self.take(line, fixed, command)

    def take(self, line: bytes, fixed: bool, command: bytes) -> None:
        match = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)", line)
        if match is None:
            return
        number, what = int(match.group(1)), match.group(2)
        if what == b"EXISTS":
            if number < len(self.view):
                self.problems.append(f"{command!r}: EXISTS {number} after {len(self.view)}")
            self.view += [0] * (number - len(self.view))
            return
        if not 1 <= number <= len(self.view):
            self.problems.append(f"{command!r}: {line!r} of {len(self.view)}")
            return
        if what == b"EXPUNGE":
            if fixed:
                self.problems.append(f"{command!r}: {line!r} where no EXPUNGE may be")
            del self.view[number - 1]
            return
        uid = re.search(rb"UID (\d+)", line)
        if uid is not None:
            known = self.view[number - 1]
            if known and known != int(uid.group(1)):
                self.problems.append(f"{command!r}: {line!r}, but it was UID {known}")
            self.view[number - 1] = int(uid.group(1))
        flags = re.search(rb"FLAGS \(([^)]*)\)", line)
        if flags is not None and self.view[number - 1]:
            self.flags[self.view[number - 1]] = frozenset(flags.group(1).split()) - {rb"\Recent"}

    def pick(self) -> bytes:
        size = len(self.view)
        low = self.rng.randint(1, size)
        return b"%d:%d" % (low, min(size, low + self.rng.randint(0, 4)))

    def step(self) -> None:
        rng = self.rng
        choice = rng.random()
        if not self.view or choice < 0.2:
            self.run(b"APPEND INBOX {%d+}" % len(MESSAGE), MESSAGE)
        elif choice < 0.4:
            flag = rng.choice([rb"\Seen", rb"\Flagged", rb"\Deleted", b"$Work"])
            sign = rng.choice([b"+", b"-", b"+"])
            self.run(b"STORE " + self.pick() + b" " + sign + b"FLAGS (" + flag + b")")
        elif choice < 0.6:
            self.run(b"FETCH " + self.pick() + b" (UID FLAGS)")
        elif choice < 0.7:
            self.run(b"COPY " + self.pick() + b" INBOX")
        elif choice < 0.75:
            self.run(b"MOVE " + self.pick() + b" Trash")
        elif choice < 0.85:
            self.run(b"EXPUNGE")
        elif choice < 0.92:
            self.run(b"SEARCH UNSEEN")
        else:
            self.run(b"NOOP")

    def work(self) -> None:
        try:
            for _ in range(COMMANDS):
                self.step()
        except (OSError, AssertionError) as error:
            self.problems.append(repr(error))


@pytest.mark.parametrize("seed", [1, 2])
def test_every_session_ends_with_the_same_mailbox(server: Server, seed: int) -> None:
    sessions = [Session(server, seed * 100 + n) for n in range(SESSIONS)]
    for one in sessions:
        one.run(b"SELECT INBOX")
        one.run(b"FETCH 1:* (UID FLAGS)" if one.view else b"NOOP")
    threads = [threading.Thread(target=one.work) for one in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [problem for one in sessions for problem in one.problems] == []
    ends = []
    for one in sessions:
        one.run(b"NOOP")
        told = {uid: one.flags[uid] for uid in one.view if uid in one.flags}
        one.run(b"FETCH 1:* (UID FLAGS)" if one.view else b"NOOP")
        assert one.problems == []
        for uid, flags in told.items():
            assert one.flags[uid] == flags, f"UID {uid}: a change of flags was never told"
        ends.append([(uid, one.flags[uid]) for uid in one.view])
        one.sock.close()
    assert all(end == ends[0] for end in ends)
    assert [uid for uid, _ in ends[0]] == sorted({uid for uid, _ in ends[0]})


def test_the_sessions_are_in_several_workers(server: Server) -> None:
    """The kernel spreads connections: with so many, no worker is left out."""
    held = [server.connect("imap") for _ in range(40)]
    counts = [open_sockets(pid, server.ports["imap"]) for pid in server.workers()]
    for sock in held:
        sock.close()
    assert all(counts), counts


class Sender:
    """An LMTP client."""

    def __init__(self, server: Server) -> None:
        self.sock = server.connect("lmtp")
        self.file = self.sock.makefile("rb")
        assert self.file.readline().startswith(b"220 ")

    def send(self, subject: bytes) -> None:
        lines = b"MAIL FROM:<a@else.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n"
        self.sock.sendall(b"LHLO client.test\r\n" + lines)
        self.subject = subject

    def finish(self) -> None:
        while not (line := self.file.readline()).startswith(b"354 "):
            assert line.startswith(b"250"), line
        self.sock.sendall(b"Subject: " + self.subject + b"\r\n\r\nbody\r\n.\r\n")
        assert (line := self.file.readline()).startswith(b"250 "), line


def test_many_mail_sessions_are_in_a_second_worker(server: Server) -> None:
    """One worker takes mail; above its share another helps. When that one is killed, mail is taken all the same."""
    held = [Sender(server) for _ in range(SHARE + 8)]
    deadline = time.monotonic() + PATIENCE
    while True:  # a worker closes its descriptor of what it handed over a moment later
        counts = {pid: open_sockets(pid, server.ports["lmtp"]) for pid in server.workers()}
        if sorted(counts.values()) == [0, 8, SHARE]:
            break
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)
    for number, one in enumerate(held):
        one.send(b"share %d" % number)
    for one in held:
        one.finish()
    os.kill(next(pid for pid, count in counts.items() if count == 8), signal.SIGKILL)
    later = [Sender(server) for _ in range(8)]
    for number, one in enumerate(later):
        one.send(b"later %d" % number)
    for one in later:
        one.finish()
    deadline = time.monotonic() + PATIENCE
    while len(server.workers()) < 3:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)
    reader = Session(server, 1)
    reader.run(b"SELECT INBOX")
    reader.sock.sendall(b"s UID SEARCH OR SUBJECT share SUBJECT later\r\n")
    assert len(reader.file.readline().split()) - 2 == len(held) + len(later)
    for sock in [reader.sock, *(one.sock for one in held + later)]:
        sock.close()


def test_annotations_are_told_in_every_worker(server: Server) -> None:
    """RFC 5465 5.6 and 5.7: METADATA that one session sets is told to the sessions of every other worker that asked for
    it with NOTIFY, by the names of the entries, and once; the session that set them is not told."""
    sessions: list[Session] = []
    covered: set[int] = set()
    while len(covered) < 3:
        assert len(sessions) < 60
        sessions.append(Session(server, len(sessions)))
        covered = {pid for pid in server.workers() if open_sockets(pid, server.ports["imap"])}
    for one in sessions:
        one.run(b"NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))")
    setter = sessions[0]
    setter.run(b'SETMETADATA INBOX (/private/comment "mine" /shared/comment "all")')
    setter.run(b'SETMETADATA "" (/private/vendor/x/y "z")')
    wanted = [
        b"* METADATA INBOX /private/comment /shared/comment",
        b'* METADATA "" /private/vendor/x/y',
    ]
    for one in sessions[1:]:
        heard = [one.file.readline().rstrip(b"\r\n") for _ in wanted]
        assert sorted(heard) == sorted(wanted), heard
    for one in sessions:
        one.sock.sendall(b"last NOOP\r\n")
        assert one.file.readline().startswith(b"last OK"), "nothing is told twice, or to the session that did it"
        one.sock.close()


def open_sockets(pid: int, port: int) -> int:
    """Connections of a process on one local port."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01" and row[9] in inodes)


def test_a_worker_that_dies_is_noted(tmp_path: Path) -> None:
    """By the keeper, also where there is none at that moment: what the worker had begun may have left files."""
    server = Server(tmp_path, workers=2)
    server.start()
    index = open_index(str(tmp_path / "data"), 0, 64 << 30, None)
    try:
        for count, victims in enumerate([["worker"], ["keeper", "worker"]], 1):
            for victim in victims:
                os.kill(server.keeper() if victim == "keeper" else server.workers()[0], signal.SIGKILL)
            deadline = time.monotonic() + PATIENCE
            while len(index.stops()) < count:
                assert time.monotonic() < deadline, server.log.read_text()
                time.sleep(0.05)
            assert abs(index.stops()[-1].until - time.time()) < PATIENCE
            while not server.keeper() or len(server.workers()) < 2:
                assert time.monotonic() < deadline, server.log.read_text()
                time.sleep(0.05)
    finally:
        index.close()
        server.stop()


def test_workers_that_died_with_their_supervisor_are_noted(tmp_path: Path) -> None:
    """Also where another process has the index open, as a keeper may whose server was killed: it is not recovered."""
    server = Server(tmp_path, workers=2)
    server.start()
    index = open_index(str(tmp_path / "data"), 0, 64 << 30, None)
    try:
        before = len(index.stops())
        server.kill()
        server.start()
        with index.read() as txn:
            recovered = txn.get(EPOCH_ROW, db=index.db["meta"]) or bytes(4)
        assert NUMBER.unpack(recovered)[0] == index.recovered, "it was recovered"
        assert len(index.stops()) == before + 1 and abs(index.stops()[-1].until - time.time()) < PATIENCE
    finally:
        index.close()
        server.stop()
