"""R4: what the kernel saw. Under strace every 250, OK and +OK comes behind the syncs of content, name and index."""

import imaplib
import os
import poplib
import re
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import CLI, Server

CALLS = (
    "openat,close,write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,"
    "sendto,sendmsg"
)
LINE = re.compile(r"^\d+ +(?:\d+\.\d+ )?(\w+)\((.*)$")


@dataclass
class Call:
    """One system call, in the order in which they ended."""

    name: str
    text: str


class Traced:
    """A server under strace, and what it called since the last look."""

    def __init__(self, directory: Path, content: str) -> None:
        self.server = Server(directory / "own", workers=1, content=content)
        self.log = directory / "trace"
        self.at = 0

    def start(self) -> None:
        command = ["strace", "-f", "-y", "-s", "300", "-e", f"trace={CALLS}", "-o", str(self.log), *CLI]
        command += ["serve", "-c", str(self.server.config)]
        with open(self.server.log, "ab") as log:
            self.server.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if self.server.listens():
                return
            if self.server.process.poll() is not None:
                break
            time.sleep(0.1)
        text = self.server.log.read_text()
        self.server.process = None
        pytest.skip(f"strace cannot follow processes here: {text[-300:]}")

    def stop(self) -> None:
        for path in (self.server.directory / "data" / "run" / "pid",):
            if path.exists():
                os.kill(int(path.read_text()), 15)
        if self.server.process is not None:
            self.server.process.wait(30)

    def calls(self) -> list[Call]:
        """What was called since the last time; waits until the log is quiet."""
        size = -1
        while size != self.log.stat().st_size:
            size = self.log.stat().st_size
            time.sleep(0.15)
        with open(self.log, encoding="latin-1") as file:
            file.seek(self.at)
            text = file.read()
            self.at = file.tell()
        out = []
        begun: dict[str, str] = {}
        for line in text.splitlines():
            number = line.split(" ", 1)[0]
            if line.endswith("<unfinished ...>"):
                begun[number] = line.removesuffix("<unfinished ...>")
                continue
            resumed = re.match(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", line)
            if resumed is not None:
                line = begun.pop(number, f"{number} {resumed.group(2)}(") + resumed.group(3)
            found = LINE.match(line)
            if found is not None and " = -1 " not in line:
                out.append(Call(found.group(1), found.group(2)))
        return out


@pytest.fixture(params=["maildir", "segments"])
def traced(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Traced]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    one = Traced(tmp_path, request.param)
    one.start()
    yield one
    one.stop()


def position(calls: list[Call], name: str, pattern: str, start: int = 0) -> int:
    """Index of the first call at or after ``start``; the assertion says which was missing."""
    for index in range(start, len(calls)):
        if re.fullmatch(name, calls[index].name) and re.search(pattern, calls[index].text):
            return index
    shown = "\n".join(f"{call.name}({call.text[:150]}" for call in calls[start:])
    raise AssertionError(f"no {name} with {pattern} in:\n{shown}")


WRITES = "write|writev|sendto|sendmsg"
SYNC = "fsync|fdatasync"


def check(calls: list[Call], content: str, marker: str, reply: str) -> None:
    """Content written and on the device before it has its name; content, name and index synced; then the reply, and not
    before."""
    if content == "maildir":
        written = position(calls, "write|pwrite64", rf"/tmp/.*{marker}")
        found = re.search(r"/tmp/([^/>\"]+)>", calls[written].text)
        assert found is not None
        base = re.escape(found.group(1))
        named = position(calls, "rename|renameat|renameat2", rf"/tmp/{base}\".*/(?:new|cur)/", written)
        reached = position(calls, f"{SYNC}|sync_file_range", rf"/tmp/{base}>(?:.*WAIT_AFTER)?\)", written)
        assert reached < named
        synced = position(calls, SYNC, rf"/(?:tmp|new|cur)/{base}", written)
        name_synced = position(calls, SYNC, r"/(?:new|cur)>", max(named, synced))
    else:
        written = position(calls, "pwrite64|pwritev|write", rf"/segments[^>]*>.*{marker}")
        name_synced = position(calls, SYNC, "/segments", written)
    index = position(calls, "fdatasync|fsync", r"/shard[^>]*data\.mdb|/index[^>]*data\.mdb", name_synced)
    meta = position(calls, "pwrite64|write|fdatasync", r"data\.mdb", index + 1)
    answered = position(calls, WRITES, reply, meta)
    early = [
        call.text for call in calls[written:meta] if re.fullmatch(WRITES, call.name) and re.search(reply, call.text)
    ]
    assert not early, early
    assert answered > meta


def test_r4_every_reply_comes_behind_the_syncs(traced: Traced, request: pytest.FixtureRequest) -> None:
    server = traced.server
    content = str(request.node.callspec.params["traced"])
    traced.calls()
    for number in range(3):
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
            lmtp.sendmail("a@x.test", [server.user], f"Subject: lmtp{number}mark\r\n\r\nbody\r\n")
        check(traced.calls(), content, f"lmtp{number}mark", r"<(?:TCP|socket|tcp).*\"250 2\.[01]\.[05]")
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as smtp:
        smtp.sendmail("a@x.test", [server.user], "Subject: smtpmark\r\n\r\nbody\r\n")
    check(traced.calls(), content, "smtpmark", r"<(?:TCP|socket|tcp).*\"250 2\.0\.0")
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(server.user, server.password)
        traced.calls()
        imap.append("INBOX", None, None, b"Subject: appendmark\r\n\r\nbody\r\n")
        check(traced.calls(), content, "appendmark", r"OK \[APPENDUID")
        imap.select()
        traced.calls()
        for command, reply in (
            (lambda: imap.store("1", "+FLAGS", r"(\Deleted)"), "OK STORE"),
            (lambda: imap.expunge(), "OK EXPUNGE"),
            (lambda: imap.create("Fresh"), r"OK \[MAILBOXID"),
        ):
            command()
            calls = traced.calls()
            index = position(calls, "fdatasync|fsync", r"data\.mdb")
            answered = position(calls, WRITES, reply)
            assert index < answered, [call.text[:100] for call in calls]
    client = poplib.POP3("127.0.0.1", server.ports["pop3"])
    client.user(server.user)
    client.pass_(server.password)
    client.dele(1)
    traced.calls()
    client.quit()
    calls = traced.calls()
    index = position(calls, "fdatasync|fsync", r"data\.mdb")
    answered = position(calls, WRITES, r"<(?:TCP|socket|tcp).*\"\+OK")
    assert index < answered
    # content goes only behind the commit that says so
    gone = [at for at, call in enumerate(calls) if call.name == "unlink" and "/mail/" in call.text]
    assert all(index < at for at in gone)


def test_the_trace_is_the_servers(traced: Traced) -> None:
    """A check of the check: a reply that nothing was synced for is told from one with its syncs."""
    with socket.create_connection(("127.0.0.1", traced.server.ports["smtp"])) as sock:
        sock.recv(200)
        traced.calls()
        sock.sendall(b"NOOP\r\n")
        assert sock.recv(100).startswith(b"250")
    calls = traced.calls()
    position(calls, WRITES, "250 2.0.0")
    with pytest.raises(AssertionError):
        position(calls, SYNC, r"data\.mdb")
