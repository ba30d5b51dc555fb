"""R9: a system call fails in a running server: `make test-faults`, or `python -m tests.crash.faults --upto 200`.

strace makes the n-th call of a kind and all behind it fail in every thread of the worker, while messages come by LMTP,
SMTP and APPEND, for another host, and for another host and a mailbox at once. For each kind n goes up from 1 until the
load makes no n-th call any more (or to ``--upto``). Then: what was acknowledged is there, once and whole, also after a
restart; a full disk is over as soon as there is room; and behind an I/O error nothing is acknowledged any more until
the server is started anew, while reading goes on, and the log says so. With ``--once`` only the n-th call
fails. Failures of the process that takes checkpoints, and full disks, are in tests.crash.checkpoints.

Short writes (``--short``): a library in front of libc's write calls writes only half of what it is given, every second
time. Content is whole all the same. LMDB takes a short write of the index for a failure: what was acknowledged stays.
"""

import argparse
import contextlib
import imaplib
import json
import os
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

from tests.support.hosts import dead_port
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
    ("openat2", "ENOSPC"),
    ("openat2", "EMFILE"),
    ("renameat", "ENOSPC"),
    ("fdatasync", "ENOSPC"),
    ("linkat", "ENOSPC"),
    ("mkdirat", "ENOSPC"),
]
WAYS = ("lmtp", "smtp", "append", "queue", "both")  # both: for another host and the mailbox
LASTING = (
    "fdatasync",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "sync_file_range",
)  # of what is synced, or its content or index
MESSAGES = 15
SIZES = (10, 5000, 200_000)


@dataclass
class Outcome:
    """One run."""

    acknowledged: set[str] = field(default_factory=set)
    refused: int = 0
    injected: int = 0
    read_only: bool = False


def make(place: Path, content: str) -> Server:
    """A server, not started yet, that takes mail for another host and cannot get rid of it."""
    extra = f'\n[relay]\nroutes = ["far.test smtp:127.0.0.1:{dead_port()} tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
    return Server(place, extra, workers=1, content=content)


def text(subject: str) -> bytes:
    """The message of that subject; its size and content follow from it."""
    size = SIZES[sum(subject.encode()) % len(SIZES)]
    line = f"{subject} is repeated until the message is as long as it should be\r\n".encode()
    return f"Subject: {subject}\r\n\r\n".encode() + line * (size // len(line) + 1)


def deliver(server: Server, subject: str, way: str = "lmtp") -> bool:
    """True when it was acknowledged, False when it was refused for now."""
    try:
        if way == "append":
            with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
                imap.login(server.user, server.password)
                return imap.append("INBOX", None, None, text(subject))[0] == "OK"
        far = f"{subject}@far.test"
        to = {"queue": [far], "both": [far, server.user]}.get(way, [server.user])
        kind = smtplib.LMTP if way == "lmtp" else smtplib.SMTP
        with kind("127.0.0.1", server.ports["lmtp" if way == "lmtp" else "smtp"], timeout=20) as client:
            client.sendmail("a@x.test", to, text(subject))
        return True
    except smtplib.SMTPRecipientsRefused as error:
        assert all(code // 100 == 4 for code, _ in error.recipients.values()), error
    except smtplib.SMTPResponseException as error:
        assert error.smtp_code // 100 == 4, error
    except (smtplib.SMTPServerDisconnected, imaplib.IMAP4.error, OSError):
        pass  # no answer is no acknowledgement
    return False


def mailbox(server: Server) -> list[tuple[str, bool]]:
    """(subject, whether the message is whole) of what a reader finds."""
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
        imap.login(server.user, server.password)
        imap.select("INBOX", readonly=True)
        rows = [row[1] for row in imap.uid("FETCH", "1:*", "(BODY.PEEK[])")[1] if isinstance(row, tuple)]
    out = []
    for raw in rows:
        subject = re.search(rb"Subject: (\S+)", raw).group(1).decode()  # type: ignore[union-attr]
        out.append((subject, raw.endswith(text(subject))))
    return out


def subjects(server: Server) -> list[str]:
    """What a reader finds, each of it whole."""
    found = mailbox(server)
    torn = [subject for subject, whole in found if not whole]
    assert not torn, f"{torn} are not whole"
    return [subject for subject, _ in found]


def queued(server: Server) -> tuple[set[str], set[str]]:
    """(what waits for another host, what of that waits for the mailbox too)."""
    rows = json.loads(server.cli("queue", "list", "--most", "0", "--json").stdout)
    far = {address.partition("@")[0]: row["id"] for row in rows for address in row["recipients"] if "@far." in address}
    local = {row["id"] for row in rows if server.user in row["recipients"]}
    return set(far), {subject for subject, ident in far.items() if ident in local}


def there(server: Server, told: dict[str, str], seconds: float = 10.0) -> None:
    """Everything that was acknowledged is where it belongs: in the mailbox, in the queue, and what is for both in the
    queue and (perhaps only after another try) in the mailbox."""
    deadline = time.monotonic() + seconds
    while True:
        far, local = queued(server)  # first: what comes to the mailbox leaves the queue afterwards
        found = subjects(server)
        missing = {subject for subject, way in told.items() if way != "queue"} - set(found) - local
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert not missing, f"{missing} lost"
    assert len(found) == len(set(found)), f"doubled: {sorted(one for one in set(found) if found.count(one) > 1)}"
    missing = {subject for subject, way in told.items() if way in ("queue", "both")} - far
    assert not missing, f"{missing} are not in the queue"


@contextlib.contextmanager
def failing(process: int, call: str, error: str, when: int, log: Path, once: bool = False) -> Iterator[None]:
    """While this lasts, the ``when``-th call of each thread and all behind it fail; ``once``: only that one."""
    rule = f"inject={call}:error={error}:when={when}{'' if once else '+'}"
    with open(log.with_suffix(".err"), "wb") as said:
        tracer = subprocess.Popen(
            ["strace", "-f", "-p", str(process), "-e", f"trace={call}", "-e", rule, "-o", str(log)], stderr=said
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


def run(
    server: Server, call: str, error: str, when: int, log: Path, told: dict[str, str], once: bool = False
) -> Outcome:
    """One run on a server that was started; it is running again behind it. ``told``: how each message came that was
    acknowledged so far. Assertions say what went wrong."""
    out = Outcome()
    worker = server.workers()[0]
    stamp = f"{call}.{error}.{when}"
    refused: set[str] = set()
    subjects(server)  # the account is known to the index
    with failing(worker, call, error, when, log, once):
        for number in range(MESSAGES):
            way = WAYS[number % len(WAYS)]
            if deliver(server, f"{stamp}.{number}", way):
                told[f"{stamp}.{number}"] = way
                out.acknowledged.add(f"{stamp}.{number}")
            else:
                out.refused += 1
                refused.add(way)
    out.injected = log.read_text(errors="replace").count("(INJECTED)")
    said = server.log.read_text()
    out.read_only = "store.readonly" in said
    alive = worker in server.workers()
    if out.refused and error == "EIO" and call in LASTING and alive:
        assert out.read_only or "index.panic" in said, f"{stamp}: {out.refused} refused, and writing goes on"
    if alive:  # reading never stopped, unless the index is lost to this process: then the next one reads
        try:
            found = set(subjects(server))
            missing = {subject for subject, way in told.items() if way not in ("queue", "both")} - found
            assert not missing, f"{stamp}: {missing} cannot be read"
        except (imaplib.IMAP4.error, OSError):
            assert "index.panic" in server.log.read_text(), f"{stamp}: nothing can be read"
            alive = False
    for way in WAYS if alive else ():
        subject = f"{stamp}.behind.{way}"
        done = deliver(server, subject, way)
        if done:
            told[subject] = way
            out.acknowledged.add(subject)
        if out.read_only and way in refused and call in LASTING:
            assert not done, f"{stamp}: {way} acknowledged behind an I/O error"
        elif not out.read_only:
            assert done, f"{stamp}: {way} refused though there is room again"
    server.stop()
    shutil.copy(server.log, log.with_suffix(".server"))
    server.log.write_text("")
    server.start()
    try:
        there(server, told)
    except AssertionError as wrong:
        raise AssertionError(f"{stamp}, after the restart: {wrong}") from None
    for way in WAYS:
        assert deliver(server, f"{stamp}.again.{way}", way), f"{stamp}: no {way} after the restart"
        told[f"{stamp}.again.{way}"] = way
    done = server.cli("index", "check")
    assert "ok" in done.stdout
    return out


SHORT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
/* Is this call to be cut short? A file named by SHORT_WRITES says of what: `content` or `index`. */
static size_t cut(int fd, size_t n) {
    static __thread unsigned count;
    char what[16] = "", link[64], path[4096] = "";
    struct stat st;
    const char *place = getenv("SHORT_WRITES");
    FILE *file;
    if (n < 2 || !place || fstat(fd, &st) || !S_ISREG(st.st_mode) || !(file = fopen(place, "r"))) return n;
    if (fscanf(file, "%15s", what) != 1) what[0] = 0;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 || !strstr(path, "/data/")) return n;
    int index = strstr(path, ".mdb") != 0;
    if (strcmp(what, index ? "index" : "content") || ++count % 2) return n;
    return n / 2;
}
#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
ssize_t write(int fd, const void *b, size_t n) { REAL(write); return real(fd, b, cut(fd, n)); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { REAL(pwrite); return real(fd, b, cut(fd, n), at); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { REAL(pwrite64); return real(fd, b, cut(fd, n), at); }
static size_t whole(const struct iovec *v, int n) { size_t all = 0; while (n--) all += (v++)->iov_len; return all; }
/* Of several pieces: those that fit into the share, or a part of the first. */
static int part(int fd, const struct iovec *v, int n, struct iovec *out) {
    size_t all = whole(v, n), most = cut(fd, all), used = 0;
    int k = 0;
    if (most == all || n > 1024) { memcpy(out, v, sizeof *v * (n > 1024 ? 1024 : n)); return n > 1024 ? 1024 : n; }
    while (k < n && used < most) {
        out[k] = v[k];
        if (used + out[k].iov_len > most) out[k].iov_len = most - used;
        used += out[k++].iov_len;
    }
    return k;
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    struct iovec out[1024]; REAL(writev); n = part(fd, v, n, out); return real(fd, out, n);
}
ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) {
    struct iovec out[1024]; REAL(pwritev); n = part(fd, v, n, out); return real(fd, out, n, at);
}
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at) {
    struct iovec out[1024]; REAL(pwritev64); n = part(fd, v, n, out); return real(fd, out, n, at);
}
"""


def short(place: Path, content: str) -> tuple[int, int]:
    """Short writes of content, then of the index: (acknowledged, refused). PermissionError without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise PermissionError("a C compiler is missing: apt-get install gcc libc6-dev")
    place.mkdir(exist_ok=True)
    (place / "short.c").write_text(SHORT)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", "-o", place / "short.so", place / "short.c", "-ldl"], check=True
    )
    switch = place / "short"
    server = make(place / "s", content)
    told: dict[str, str] = {}
    refused = 0
    before = {name: os.environ.get(name) for name in ("LD_PRELOAD", "SHORT_WRITES")}
    os.environ.update(LD_PRELOAD=str(place / "short.so"), SHORT_WRITES=str(switch))
    try:
        server.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    try:
        switch.write_text("content")
        for number in range(30):
            way = WAYS[number % len(WAYS)]
            assert deliver(server, f"short.{number}", way), f"{way} refused because of a short write"
            told[f"short.{number}"] = way
        there(server, told)
        switch.write_text("index")
        for number in range(20):
            way = WAYS[number % len(WAYS)]
            if deliver(server, f"index.{number}", way):
                told[f"index.{number}"] = way
            else:
                refused += 1
        assert refused, "no write of the index was short"
        server.stop()
        switch.unlink()
        server.start()
        there(server, told)
        assert "ok" in server.cli("index", "check").stdout
    finally:
        server.stop()
    return len(told), refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upto", type=int, default=200, help="n from 1 to this, for each kind of call")
    parser.add_argument("--start", type=int, default=1, help="from this n on")
    parser.add_argument(
        "--kinds", nargs="*", default=[f"{call}:{error}" for call, error in KINDS], metavar="CALL:ERROR"
    )
    parser.add_argument("--content", default="maildir", choices=["maildir", "segments"])
    parser.add_argument("--once", action="store_true", help="only the n-th call fails, and not those behind it")
    parser.add_argument("--short", action="store_true", help="short writes, and nothing else")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not installed: apt-get install strace")
        return 2
    with tempfile.TemporaryDirectory() as place:
        if options.short:
            told, refused = short(Path(place), options.content)
            print(f"{options.content}: short writes: {told} acknowledged and all there, {refused} refused")
            return 0
        totals, runs = [0, 0, 0, 0], 0
        for kind in options.kinds:
            call, _, error = kind.partition(":")
            server = make(Path(place) / f"{call}.{error}", options.content)
            server.start()
            told = {}
            try:
                for when in range(options.start, options.upto + 1):
                    one = run(server, call, error, when, Path(place) / "trace", told, options.once)
                    runs += 1
                    for at, more in enumerate((len(one.acknowledged), one.refused, one.injected, one.read_only)):
                        totals[at] += more
                    print(f"{call} {error} {when}: {one.injected} injected, {one.refused} refused", flush=True)
                    if not one.injected:
                        break
            finally:
                server.stop()
            shutil.rmtree(server.directory)
    print(
        f"{options.content}: {runs} runs: {totals[0]} acknowledged and all there, {totals[1]} refused, {totals[2]} failures "
        f"injected, read-only in {totals[3]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
