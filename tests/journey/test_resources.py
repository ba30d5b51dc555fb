"""R6 to R8, R10, R14: room on a disk, inodes, file sizes, the index's map, descriptors, memory and the clock run out or go
astray. What was acknowledged stays, reading goes on, and delivery comes back by itself."""

import contextlib
import imaplib
import json
import os
import re
import resource
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import Server


def send(server: Server, subject: str, size: int = 10) -> bool:
    """Was it acknowledged? Anything but a temporary refusal is an error."""
    try:
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as lmtp:
            lmtp.sendmail("a@b.example", [server.user], f"Subject: {subject}\r\n\r\n{'x' * size}\r\n")
        return True
    except smtplib.SMTPDataError as error:
        assert error.smtp_code == 452, error
    except smtplib.SMTPRecipientsRefused as error:
        assert all(code == 452 for code, _ in error.recipients.values()), error
    return False


def subjects(server: Server) -> list[str]:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
        imap.login(server.user, server.password)
        imap.select("INBOX", readonly=True)
        rows = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return [row[1].decode().strip().removeprefix("Subject: ") for row in rows if isinstance(row, tuple)]


def until_refused(server: Server, most: int, size: int = 10) -> set[str]:
    """Deliver until there is no more room: what was acknowledged."""
    told = set()
    for number in range(most):
        if not send(server, f"n{number}", size):
            return told
        told.add(f"n{number}")
    raise AssertionError("there was room for everything")


def fill(place: Path) -> Path:
    """Take all the room of a disk."""
    filler = place / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    return filler


@pytest.mark.parametrize(
    ("part", "content"),
    [("mail", "maildir"), ("segments-0", "segments"), ("index-0", "maildir"), ("queue", "maildir"), ("log", "maildir")],
)
def test_r6_a_disk_is_full(tmp_path: Path, part: str, content: str) -> None:
    """The disk of the mail, of the index, of the queue or of the log, each by itself: 452 and not 250 where it is needed,
    reading goes on, and within 10 s after there is room again mail is taken, without a new start."""
    place = tmp_path / "small"
    server = Server(
        tmp_path / "s",
        '\n[relay]\nroutes = ["far.test smtp:127.0.0.1:9 tls=none"]\nnetworks = ["127.0.0.0/8"]\n',
        workers=1,
        content=content,
    )
    place.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small tmpfs")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    at = server.log if part == "log" else tmp_path / "s" / "data" / part
    if at.exists():
        shutil.move(at, place / part)
    elif part != "log":
        (place / part).mkdir(mode=0o700)
    mounted = place / part
    if part == "log":
        server.log = mounted
    else:
        at.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["mount", "--bind", str(mounted), str(at)], check=True)
    told: set[str] = set()
    far: set[str] = set()

    def queue(name: str) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
                smtp.sendmail("a@x.test", [f"{name}@far.test"], f"Subject: {name}\r\n\r\n{'x' * 60_000}\r\n")
            return True
        except smtplib.SMTPDataError as error:
            assert error.smtp_code == 452, error
            return False

    try:
        server.start()
        assert send(server, "before") and queue("first")
        filler = fill(place)
        refused = 0
        for number in range(40):
            size = 60_000 if part in ("mail", "segments-0") else 10
            if send(server, f"n{number}", size):
                told.add(f"n{number}")
            else:
                refused += 1
            if queue(f"q{number}"):
                far.add(f"q{number}")
            elif part == "queue":
                refused += 1
        assert (refused == 0) == (part == "log"), f"{refused} refused"
        assert told | {"before"} <= set(subjects(server)), "reading goes on"
        filler.unlink()
        assert eventually(lambda: send(server, "after") and queue("last")), "no delivery though there is room"
        found = subjects(server)
        assert told | {"before", "after"} <= set(found) and len(set(found) - {"after"}) == len(found) - found.count(
            "after"
        )
        rows = json.loads(server.cli("queue", "list", "--most", "0", "--json").stdout)
        waiting = {address.partition("@")[0] for row in rows for address in row["recipients"]}
        assert far | {"first", "last"} <= waiting
        assert len(server.workers()) == 1
        if part != "log":
            text = server.log.read_text()
            assert "worker.died" not in text and "store.readonly" not in text and "event=bug" not in text
    finally:
        server.stop()
        if part != "log":
            subprocess.run(["umount", str(at)], check=False)
        subprocess.run(["umount", str(place)], check=False)


def test_r7_no_inode_is_left(tmp_path: Path) -> None:
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    mkfs = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if os.geteuid() or mkfs is None:
        pytest.skip("needs root and mkfs.ext4 to make a disk with few inodes")
    with open(image, "wb") as file:
        file.truncate(48 << 20)
    subprocess.run([mkfs, "-q", "-N", "160", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True).returncode:
        pytest.skip("mounting a file is not allowed here")
    server = None
    try:
        server = Server(place / "s", workers=1)
        server.start()
        told = until_refused(server, 400)
        assert told and told <= set(subjects(server))
        for path in sorted(place.glob("s/data/mail/**/[cn]*/*"))[:20]:  # somebody makes room
            path.unlink()
        assert send(server, "after")
        found = subjects(server)
        assert "after" in found and len(found) == len(set(found))
    finally:
        if server is not None:
            server.stop()
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_r7_a_file_may_not_grow(tmp_path: Path, content: str) -> None:
    server = Server(tmp_path / "s", workers=1, content=content)
    server.start()
    try:
        assert send(server, "before")
        (worker,) = server.workers()
        old = resource.prlimit(worker, resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
        assert not send(server, "big", 5 << 20)
        assert subjects(server) == ["before"]
        resource.prlimit(worker, resource.RLIMIT_FSIZE, old)
        assert send(server, "after", 5 << 20)
        assert subjects(server) == ["before", "after"]
    finally:
        server.stop()
    assert "event=bug" not in server.log.read_text()


@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_r8_the_map_of_the_index_is_full(tmp_path: Path, content: str) -> None:
    server = Server(tmp_path / "s", workers=1, content=content)
    text = server.config.read_text()
    server.config.write_text(text.replace("[store]", '[store]\nindex_map_size = "600k"'))
    server.start()
    told = until_refused(server, 3000)
    assert told and told <= set(subjects(server))
    server.stop()
    assert "event=bug" not in server.log.read_text()
    server.config.write_text(text)
    server.start()
    try:
        assert send(server, "after")
        found = subjects(server)
        assert told | {"after"} <= set(found) and len(found) == len(set(found))
        assert "ok" in server.cli("index", "check").stdout
    finally:
        server.stop()


def test_r8_with_a_full_map_mail_waits_and_users_can_delete(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=1)
    text = server.config.read_text()
    server.config.write_text(text.replace("[store]", '[store]\nindex_map_size = "3m"'))
    server.start()
    try:
        mail = b"Subject: s\r\nX-Long: " + b"x" * 14_000 + b"\r\n\r\nbody\r\n"
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30) as imap:
            imap.login(server.user, server.password)
            for _ in range(400):
                kind, told = imap.append("INBOX", None, None, mail)  # type: ignore[arg-type]
                if kind != "OK":
                    break
            assert kind == "NO" and told[0].startswith(b"[UNAVAILABLE] not enough storage"), (kind, told)
            assert eventually(lambda: not send(server, "late")), "452"
            imap.select()
            assert imap.store("1:*", "+FLAGS", r"(\Seen \Deleted)")[0] == "OK"
            assert imap.expunge()[0] == "OK"
            assert imap.append("INBOX", None, None, mail)[0] == "OK"  # type: ignore[arg-type]
        assert eventually(lambda: send(server, "after"))
        logged = server.log.read_text()
        assert "event=index.full" in logged and "raise index_map_size" in logged and "event=bug" not in logged
    finally:
        server.stop()


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_r10_no_descriptor_is_left(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", "\n[limits]\nconnections_per_ip = 5000\nauth_failure_delay = 0.05\n", workers=1)
    server.start()
    crowd: list[socket.socket] = []
    try:
        living = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
        living.login(server.user, server.password)
        assert send(server, "before")
        (worker,) = server.workers()
        open_now = len(os.listdir(f"/proc/{worker}/fd"))
        old = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_now + 40, old[1]))
        for _ in range(400):
            with contextlib.suppress(OSError):
                crowd.append(socket.create_connection(("127.0.0.1", server.ports["imap"]), 2))
        spent = cpu(worker)
        time.sleep(2.0)
        assert cpu(worker) - spent < 0.5, "it spins"
        assert living.noop()[0] == "OK", "a session that is there lives on"
        assert living.select()[0] in ("OK", "NO"), "what needs a file is refused for now"
        for sock in crowd:
            sock.close()
        assert eventually(lambda: living.select()[0] == "OK") and living.store("1", "+FLAGS", r"(\Seen)")[0] == "OK"
        assert eventually(lambda: send_or_none(server, "after"))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, old)
        assert {"before", "after"} <= set(subjects(server))
        living.logout()
    finally:
        for sock in crowd:
            sock.close()
        server.stop()
    assert "event=bug" not in server.log.read_text()


def send_or_none(server: Server, subject: str) -> bool:
    try:
        return send(server, subject)
    except (OSError, smtplib.SMTPException):
        return False


def eventually(done: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(0.1)
    return False


def test_r10_no_memory_is_left(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=1)
    server.start()
    try:
        assert send(server, "before")
        (worker,) = server.workers()
        size = int(
            next(line for line in Path(f"/proc/{worker}/status").read_text().splitlines() if "VmSize" in line).split()[
                1
            ]
        )
        old = resource.prlimit(worker, resource.RLIMIT_AS, ((size + 8192) << 10, resource.RLIM_INFINITY))
        for number in range(3):
            with contextlib.suppress(OSError, smtplib.SMTPException, AssertionError):
                send(server, f"big{number}", 20 << 20)
        resource.prlimit(worker, resource.RLIMIT_AS, old) if worker in server.workers() else None
        assert eventually(lambda: send_or_none(server, "after"), 20.0)
        found = subjects(server)
        assert {"before", "after"} <= set(found) and len(found) == len(set(found))
    finally:
        server.stop()


def test_s41_a_worker_keeps_to_its_directories(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=1)
    server.start()
    try:
        assert eventually(lambda: "confined" in server.log.read_text())
        if "worker.confined" not in server.log.read_text():
            pytest.skip(re.search(r"worker.unconfined.*", server.log.read_text()).group())  # type: ignore[union-attr]
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30) as imap:
            imap.login(server.user, server.password)
            for part in range(3):  # what is searched is kept in a database, which makes files of its own
                for number in range(30):
                    text = f"Subject: {part}.{number}\r\n\r\n{'word ' * 4000} needle{part}\r\n"
                    imap.append("INBOX", None, None, text.encode())
                imap.select()
                assert len(imap.search(None, "TEXT", f"needle{part}")[1][0].split()) == 30
                assert len(imap.search(None, "TEXT", "needle0")[1][0].split()) == 30
    finally:
        server.stop()
    text = server.log.read_text()
    assert "failed" not in text and "event=bug" not in text, text[-1000:]


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long ahead(void) {
    const char *path = getenv("CLOCK_OFFSET_FILE");
    long value = 0;
    FILE *file = path ? fopen(path, "r") : 0;
    if (file) { if (fscanf(file, "%ld", &value) != 1) value = 0; fclose(file); }
    return value;
}
int clock_gettime(clockid_t which, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, t);
    if (!done && which == CLOCK_REALTIME) t->tv_sec += ahead();
    return done;
}
time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""


def test_r14_the_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for a clock that can be moved")
    (tmp_path / "clock.c").write_text(CLOCK)
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    offset.write_text("0")
    monkeypatch.setenv("CLOCK_OFFSET_FILE", str(offset))
    server = Server(tmp_path / "s", workers=1)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    server.start()
    told = []

    def validity_and_uids() -> tuple[bytes, list[int]]:
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
            imap.login(server.user, server.password)
            imap.select("INBOX", readonly=True)
            uids = imap.uid("SEARCH", "ALL")[1][0].split()
            return imap.response("UIDVALIDITY")[1][0], [int(uid) for uid in uids]

    try:
        living = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
        living.login(server.user, server.password)
        first: bytes | None = None
        # an hour back and a day ahead, as when summer time or a zone is set by hand; months, and ten years
        for number, seconds in enumerate((0, 40 * 86400, -400 * 86400, 5, -3600, 86400, 3650 * 86400, -86400)):
            offset.write_text(str(seconds))
            if number == 3:
                server.stop()  # also across a start
                server.start()
            for n in range(3):
                subject = f"at {seconds} {n}"
                assert send(server, subject)
                told.append(subject)
            validity, uids = validity_and_uids()
            first = first or validity
            assert validity == first and uids == list(range(1, len(told) + 1))
            assert subjects(server) == told
            if number < 3:
                assert living.noop()[0] == "OK", "a session does not end because the clock jumped"
        assert "ok" in server.cli("index", "check").stdout
    finally:
        server.stop()
    assert "event=bug" not in server.log.read_text()
