"""R9: a system call fails in a running server: `make test-faults`, or `python -m tests.crash.faults --upto 200`.

strace makes the n-th call of a kind fail in every thread of the worker, while messages are delivered. Then: what was
acknowledged is there, once, also after a restart; a full disk is over as soon as there is room; and behind an I/O error
nothing is acknowledged any more until the server is started anew, while reading goes on, and the log says so.
"""

import argparse
import contextlib
import imaplib
import re
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.server import Server

KINDS = [
    ("fdatasync", "EIO"),
    ("fsync", "EIO"),
    ("sync_file_range", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwritev", "ENOSPC"),
    ("write", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pwritev", "EIO"),
    ("openat", "ENOSPC"),
    ("openat", "EMFILE"),
    ("rename", "ENOSPC"),
    ("fdatasync", "ENOSPC"),
]
MESSAGES = 12


@dataclass
class Outcome:
    """One run."""

    acknowledged: set[str] = field(default_factory=set)
    refused: int = 0
    injected: int = 0
    read_only: bool = False


def deliver(server: Server, subject: str) -> bool:
    """True when it was acknowledged, False when it was refused for now."""
    try:
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as lmtp:
            lmtp.sendmail("a@x.test", [server.user], f"Subject: {subject}\r\n\r\nbody\r\n")
        return True
    except smtplib.SMTPRecipientsRefused as error:
        assert all(code // 100 == 4 for code, _ in error.recipients.values()), error
    except smtplib.SMTPResponseException as error:
        assert error.smtp_code // 100 == 4, error
    except (smtplib.SMTPServerDisconnected, OSError):
        pass  # no answer is no acknowledgement
    return False


def subjects(server: Server) -> list[str]:
    """What a reader finds."""
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
        imap.login(server.user, server.password)
        imap.select("INBOX", readonly=True)
        rows = imap.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]
        return [re.search(rb"Subject: (\S+)", row[1]).group(1).decode() for row in rows if isinstance(row, tuple)]  # type: ignore[union-attr]


@contextlib.contextmanager
def failing(worker: int, call: str, error: str, when: int, log: Path) -> Iterator[None]:
    """While this lasts, the ``when``-th call of each thread and all behind it fail."""
    rule = f"inject={call}:error={error}:when={when}+"
    with open(log.with_suffix(".err"), "wb") as said:
        tracer = subprocess.Popen(
            ["strace", "-f", "-p", str(worker), "-e", f"trace={call}", "-e", rule, "-o", str(log)], stderr=said
        )
    try:
        deadline = time.monotonic() + 5
        while "attached" not in log.with_suffix(".err").read_text():
            if tracer.poll() is not None or time.monotonic() > deadline:
                raise PermissionError(log.with_suffix(".err").read_text())
            time.sleep(0.02)
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)


def run(server: Server, call: str, error: str, when: int, log: Path) -> Outcome:
    """One run on a server that was started; it is running again behind it. Assertions say what went wrong."""
    out = Outcome()
    before = set(subjects(server))
    worker = server.workers()[0]
    stamp = f"{call}.{error}.{when}"
    with failing(worker, call, error, when, log):
        for number in range(MESSAGES):
            if deliver(server, f"{stamp}.{number}"):
                out.acknowledged.add(f"{stamp}.{number}")
            else:
                out.refused += 1
    out.injected = log.read_text(errors="replace").count("(INJECTED)")
    out.read_only = "store.readonly" in server.log.read_text()
    alive = worker in server.workers()
    if alive:  # reading never stopped, unless the index is lost to this process: then the next one reads
        try:
            missing = (before | out.acknowledged) - set(subjects(server))
            assert not missing, f"{stamp}: {missing} cannot be read"
        except (imaplib.IMAP4.error, OSError):
            assert "index.panic" in server.log.read_text(), f"{stamp}: nothing can be read"
            alive = False
    if out.read_only and alive:
        assert not deliver(server, f"{stamp}.behind"), f"{stamp}: acknowledged behind a failed sync"
    elif alive:
        assert deliver(server, f"{stamp}.behind"), f"{stamp}: no delivery though there is room again"
        out.acknowledged.add(f"{stamp}.behind")
    server.stop()
    shutil.copy(server.log, log.with_suffix(".server"))
    server.log.write_text("")
    server.start()
    found = subjects(server)
    assert len(found) == len(set(found)), f"{stamp}: doubled"
    missing = (before | out.acknowledged) - set(found)
    assert not missing, f"{stamp}: {missing} lost after the restart"
    assert deliver(server, f"{stamp}.again"), f"{stamp}: no delivery after the restart"
    done = server.cli("index", "check")
    assert "ok" in done.stdout
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upto", type=int, default=40, help="n from 1 to this")
    parser.add_argument("--start", type=int, default=1, help="from this run on")
    parser.add_argument("--content", default="maildir", choices=["maildir", "segments"])
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not installed: apt-get install strace")
        return 2
    totals = [0, 0, 0, 0]
    with tempfile.TemporaryDirectory() as place:
        server = Server(Path(place) / "own", workers=1, content=options.content)
        server.start()
        try:
            for when in range(options.start, options.upto + 1):
                call, error = KINDS[when % len(KINDS)]
                one = run(server, call, error, (when - 1) // len(KINDS) + 1, Path(place) / "trace")
                for at, more in enumerate((len(one.acknowledged), one.refused, one.injected, one.read_only)):
                    totals[at] += more
                print(f"{when}: {call} {error}: {one.injected} injected, {one.refused} refused", flush=True)
        finally:
            server.stop()
    print(
        f"{options.upto} runs: {totals[0]} acknowledged and all there, {totals[1]} refused, {totals[2]} failures "
        f"injected, read-only in {totals[3]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
