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

from tests.support.hosts import dead_port
from tests.support.server import CLI, Server

CALLS = (
    "openat,openat2,close,write,writev,pwrite64,pwritev,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,"
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
        extra = f'\n[relay]\nroutes = ["far.test smtp:127.0.0.1:{dead_port()} tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
        self.server = Server(directory / "own", extra, workers=1, content=content)
        self.log = directory / "trace"
        self.at = 0
        self.durable: set[str] = set()  # descriptors of indexes that were opened with O_DSYNC, as `12</path>`

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
                opened = re.search(r" = (\d+<.*data\.mdb>)", found.group(2)) if found.group(1) == "openat" else None
                if opened is not None:
                    (self.durable.add if "O_DSYNC" in found.group(2) else self.durable.discard)(opened.group(1))
        return out

    def committed(self, calls: list[Call], start: int = 0, index: str = r"/index-\d+/") -> int:
        """Where a commit of an index that begins at or after ``start`` is durable: its pages are written and synced,
        then its meta page is written by a descriptor with O_DSYNC, or written and synced too."""
        pages = position(calls, "pwrite64|pwritev|writev|write", rf"{index}data\.mdb>", start)
        synced = position(calls, SYNC, rf"{index}data\.mdb>", pages)
        meta = position(calls, "pwrite64|write", rf"{index}data\.mdb>", synced)
        if calls[meta].text.split(",")[0] not in self.durable:
            meta = position(calls, SYNC, rf"{index}data\.mdb>", meta)
        return meta


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


def check(traced: Traced, calls: list[Call], content: str, marker: str, reply: str) -> None:
    """Content written and on the device before it has its name; content, name and index synced; then the reply, and not
    before."""
    if content == "maildir":
        written = position(calls, "write|pwrite64", rf"/tmp/.*{marker}")
        found = re.search(r"/tmp/([^/>\"]+)>", calls[written].text)
        assert found is not None
        base = re.escape(found.group(1))
        named = position(calls, "rename|renameat|renameat2", rf"/tmp[/>].*{base}\".*/(?:new|cur)[/>]", written)
        reached = position(calls, f"{SYNC}|sync_file_range", rf"/tmp/{base}>(?:.*WAIT_AFTER)?\)", written)
        assert reached < named
        synced = position(calls, SYNC, rf"/(?:tmp|new|cur)/{base}", written)
        name_synced = position(calls, SYNC, r"/(?:new|cur)>", max(named, synced))
    else:
        written = position(calls, "pwrite64|pwritev|write", rf"/segments[^>]*>.*{marker}")
        name_synced = position(calls, SYNC, "/segments", written)
    answer(calls, written, traced.committed(calls, name_synced), reply)


def answer(calls: list[Call], begun: int, durable: int, reply: str) -> None:
    """The reply comes behind ``durable``, and was not given between the beginning and that."""
    position(calls, WRITES, reply, durable + 1)
    early = [
        call.text for call in calls[begun:durable] if re.fullmatch(WRITES, call.name) and re.search(reply, call.text)
    ]
    assert not early, early


def test_r4_every_reply_comes_behind_the_syncs(traced: Traced, request: pytest.FixtureRequest) -> None:
    server = traced.server
    content = str(request.node.callspec.params["traced"])
    traced.calls()
    for number in range(3):
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
            lmtp.sendmail("a@x.test", [server.user], f"Subject: lmtp{number}mark\r\n\r\nbody\r\n")
        check(traced, traced.calls(), content, f"lmtp{number}mark", r"<(?:TCP|socket|tcp).*\"250 2\.[01]\.[05]")
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as smtp:
        smtp.sendmail("a@x.test", [server.user], "Subject: smtpmark\r\n\r\nbody\r\n")
    check(traced, traced.calls(), content, "smtpmark", r"<(?:TCP|socket|tcp).*\"250 2\.0\.0")
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(server.user, server.password)
        traced.calls()
        imap.append("INBOX", None, None, b"Subject: appendmark\r\n\r\nbody\r\n")
        check(traced, traced.calls(), content, "appendmark", r"OK \[APPENDUID")
        imap.select()
        traced.calls()
        for command, reply in (
            (lambda: imap.store("1", "+FLAGS", r"(\Flagged)"), "OK STORE"),
            (lambda: imap.copy("1", "Trash"), r"OK \[COPYUID"),
            (lambda: imap._simple_command("MOVE", "2", "Trash"), r"OK \[COPYUID|OK MOVE"),
            (lambda: imap.store("1", "+FLAGS", r"(\Deleted)"), "OK STORE"),
            (lambda: imap.expunge(), "OK EXPUNGE"),
            (lambda: imap.create("Fresh"), r"OK \[MAILBOXID"),
        ):
            command()
            calls = traced.calls()
            answer(calls, 0, traced.committed(calls), reply)
    client = poplib.POP3("127.0.0.1", server.ports["pop3"])
    client.user(server.user)
    client.pass_(server.password)
    client.dele(1)
    traced.calls()
    client.quit()
    calls = traced.calls()
    index = traced.committed(calls)
    answer(calls, 0, index, r"<(?:TCP|socket|tcp).*\"\+OK")
    # content goes only behind the commit that says so
    gone = [at for at, call in enumerate(calls) if call.name in ("unlink", "unlinkat") and "/mail/" in call.text]
    assert all(index < at for at in gone)


def test_r4_what_is_queued_is_durable_before_its_reply(traced: Traced) -> None:
    """Mail for another host only: its content lies in the queue's own segments, by DATA and by BDAT."""
    server = traced.server
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as smtp:
        for number in range(4):
            traced.calls()
            marker = f"queue{number}mark"
            text = f"Subject: {marker}\r\n\r\nbody\r\n".encode()
            if number % 2:
                smtp.ehlo_or_helo_if_needed()
                smtp.mail("a@example.test")
                smtp.rcpt("you@far.test")
                smtp.send(b"BDAT %d LAST\r\n%b" % (len(text), text))
                assert smtp.getreply()[0] == 250
            else:
                smtp.sendmail("a@example.test", ["you@far.test"], text)
            calls = traced.calls()
            written = position(calls, "pwrite64|pwritev|write", rf"/queue/segments/[^>]*>.*{marker}")
            synced = position(calls, SYNC, "/queue/segments/[^>]*>", written)
            durable = traced.committed(calls, synced, "/queue/index/")
            answer(calls, written, durable, r"<(?:TCP|socket|tcp).*\"250 2\.0\.0 \S+ queued")


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
