"""R4: what the kernel saw. Under strace every 250, OK and +OK comes behind the sync of the journal that covers its record;
what is too large for the journal is synced by itself before that, content and then name."""

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

from tests.support.commands import CLI
from tests.support.hosts import dead_port
from tests.support.server import Server

CALLS = "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,syncfs,rename,renameat,renameat2,unlink,unlinkat,sendto,sendmsg"
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

    def start(self) -> None:
        command = ["strace", "-f", "-y", "-s", "2000", "-e", f"trace={CALLS}", "-o", str(self.log), *CLI]
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
PLACED = "pwrite64|pwritev|pwritev2"
SYNC = "fsync|fdatasync"
LARGE = ("large" * 100 + "\r\n") * 600  # more than the journal takes
INDEX, QUEUE = r"/index-\d+/", "/queue/index/"


def durable(calls: list[Call], reply: str, marker: str = "", index: str = INDEX) -> tuple[int, int]:
    """(where the record was written, where it was durable), which is before the reply. The record: the one with
    ``marker``, or the last one before the last such reply."""
    told = max((at for at, call in enumerate(calls) if re.fullmatch(WRITES, call.name) and re.search(reply, call.text)))
    found = [
        (at, match.group(1))
        for at, call in enumerate(calls[:told])
        if re.fullmatch(PLACED, call.name)
        and (match := re.search(rf"({index}journal/\d+\.journal)>.*{marker}", call.text)) is not None
    ]
    assert found, f"no record with {marker!r} before the reply {reply}"
    # what is settled or named in the background has records, too, which may come just before the reply
    for at, path in found[:1] if marker else found[::-1]:
        synced = next((n for n in range(at, told) if _syncs(calls[n], re.escape(path) + ">")), told)
        if synced < position(calls, WRITES, reply, at):
            return at, synced
    raise AssertionError("the reply comes before the sync of its record")


def _syncs(call: Call, path: str) -> bool:
    return re.fullmatch(SYNC, call.name) is not None and re.search(path, call.text) is not None


def check(calls: list[Call], content: str, marker: str, reply: str) -> None:
    """The content is written, and has its name; it is in the record; the record is on the device; then the reply."""
    record, _ = durable(calls, reply, marker)
    if content == "maildir":
        written = position(calls, "writev|write|pwrite64", rf"/tmp/[^/>\"]+>.*{marker}")
        found = re.search(r"/tmp/([^/>\"]+)>", calls[written].text)
        assert found is not None
        named = position(
            calls, "rename|renameat|renameat2", rf"{re.escape(found.group(1))}\".*/(?:new|cur)[/>]", written
        )
        assert named < record
    else:
        assert position(calls, PLACED, rf"/segments[^>]*>.*{marker}") < record


def check_large(calls: list[Call], content: str, marker: str, reply: str) -> None:
    """It is on the device before it has its name, and its name before its record is written, which is without it."""
    record, _ = durable(calls, reply)
    if content == "maildir":
        written = position(calls, "writev|write|pwrite64", rf"/tmp/[^/>\"]+>.*{marker}")
        found = re.search(r"/tmp/([^/>\"]+)>", calls[written].text)
        assert found is not None
        base = re.escape(found.group(1))
        synced = position(calls, SYNC, rf"/{base}", written)
        named = position(calls, "rename|renameat|renameat2", rf"{base}\".*/(?:new|cur)[/>]", synced)
        assert position(calls, SYNC, r"/(?:new|cur)>", named) < record
    else:
        written = position(calls, PLACED, rf"/segments[^>]*>.*{marker}")
        assert position(calls, SYNC, "/segments", written) < record
    assert "large" * 100 not in calls[record].text  # but for its preview


def test_r4_every_reply_comes_behind_its_record(traced: Traced, request: pytest.FixtureRequest) -> None:
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
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
        lmtp.sendmail("a@x.test", [server.user], f"Subject: largemark\r\n\r\n{LARGE}\r\n")
    check_large(traced.calls(), content, "largemark", r"<(?:TCP|socket|tcp).*\"250 2\.[01]\.[05]")
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(server.user, server.password)
        traced.calls()
        imap.append("INBOX", None, None, b"Subject: appendmark\r\n\r\nbody\r\n")
        check(traced.calls(), content, "appendmark", r"OK \[APPENDUID")
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
            durable(traced.calls(), reply)
    client = poplib.POP3("127.0.0.1", server.ports["pop3"])
    client.user(server.user)
    client.pass_(server.password)
    client.dele(1)
    traced.calls()
    client.quit()
    calls = traced.calls()
    _, synced = durable(calls, r"<(?:TCP|socket|tcp).*\"\+OK")
    # content goes only behind the commit that says so
    gone = [at for at, call in enumerate(calls) if call.name in ("unlink", "unlinkat") and "/mail/" in call.text]
    assert all(synced < at for at in gone)


def test_r4_what_is_queued_is_durable_before_its_reply(traced: Traced) -> None:
    """Mail for another host only: its content lies in the queue's own segments, by DATA and by BDAT, and in its
    journal; what is too large for that is synced itself."""
    server = traced.server
    queued = r"<(?:TCP|socket|tcp).*\"250 2\.0\.0 \S+ queued"
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as smtp:
        for number in range(5):
            traced.calls()
            marker = f"queue{number}mark"
            text = f"Subject: {marker}\r\n\r\nbody\r\n".encode()
            if number == 4:
                text += LARGE.encode() + b"\r\n"
            if number % 2:
                smtp.ehlo_or_helo_if_needed()
                smtp.mail("a@example.test")
                smtp.rcpt("you@far.test")
                smtp.send(b"BDAT %d LAST\r\n%b" % (len(text), text))
                assert smtp.getreply()[0] == 250
            else:
                smtp.sendmail("a@example.test", ["you@far.test"], text)
            calls = traced.calls()
            written = position(calls, PLACED, rf"/queue/segments/[^>]*>.*{marker}")
            if number == 4:
                synced = position(calls, SYNC, "/queue/segments/[^>]*>", written)
                assert synced < durable(calls, queued, index=QUEUE)[0]
            else:
                durable(calls, queued, marker, QUEUE)


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
        durable(calls, "250 2.0.0", index="/(?:index-\\d+|queue/index)/")
