"""Other programs on the same Maildir, restarts, crashes, a full disk, certificates: what an administrator does."""

import contextlib
import imaplib
import json
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastmail.app.quickstart import write_certificate
from tests.support.server import Server


def login(server: Server, address: str = "") -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
    client.login(address or server.user, server.password)
    return client


def send(server: Server, subject: str, to: str = "") -> None:
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as lmtp:
        lmtp.sendmail("a@b.example", [to or server.user], b"Subject: %b\r\n\r\nbody\r\n" % subject.encode())


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_what_other_programs_do_is_seen(own_server: Server) -> None:
    server = own_server
    server.start()
    client = login(server)
    for n in range(3):
        client.append("INBOX", None, None, b"Subject: %d\r\n\r\n" % n)
    client.select()
    maildir = server.maildir()
    eventually(lambda: len(list((maildir / "cur").iterdir())) == 3)
    client.send(b"i IDLE\r\n")
    client.readline()
    # a delivery by another MDA
    (maildir / "tmp" / "x").write_bytes(b"Subject: foreign\n\nhi\n")
    (maildir / "tmp" / "x").rename(maildir / "new" / "1700000000.1.other")
    assert client.readline() == b"* 4 EXISTS\r\n"
    assert client.readline().endswith(b"RECENT\r\n")
    # a flag set by mutt
    eventually(lambda: len(list((maildir / "cur").iterdir())) == 4)
    first = sorted(f for f in (maildir / "cur").iterdir() if "other" not in f.name)[0]
    first.rename(first.with_name(first.name.partition(":")[0] + ":2,FS"))
    assert client.readline() == b"* 1 FETCH (FLAGS (\\Seen \\Flagged \\Recent))\r\n"
    # a file removed
    sorted(f for f in (maildir / "cur").iterdir() if "other" not in f.name)[1].unlink()
    assert client.readline() == b"* 2 EXPUNGE\r\n"
    client.send(b"DONE\r\n")
    client.readline()
    # our flags show in the names
    client.store("1", "FLAGS", r"(\Answered $Label1)")
    eventually(lambda: any(f.name.endswith(":2,Ra") for f in (maildir / "cur").iterdir()))
    client.logout()
    # not selected: seen at the next STATUS
    (maildir / "new" / "1700000001.2.other").write_bytes(b"Subject: later\n\n")
    client = login(server)
    assert b"MESSAGES 4" in client.status("INBOX", "(MESSAGES)")[1][0]
    # a folder made by another program, three seconds ago or more
    for sub in ("cur", "new", "tmp"):
        (maildir / ".Made.There" / sub).mkdir(parents=True)
    (maildir / ".Made.There" / "cur" / "1700000002.3.other:2,S").write_bytes(b"Subject: f\n\n")
    old = time.time() - 10
    os.utime(maildir / ".Made.There", (old, old))
    eventually(lambda: any(b"Made/There" in line for line in client.list()[1]))
    assert client.select("Made/There")[1] == [b"1"]
    client.logout()


def until_it_has(place: Path, octets: int) -> None:
    eventually(lambda: place.exists() and place.stat().st_size == octets)


@pytest.mark.parametrize("sub", ["new", "cur"])
def test_a_file_that_is_copied_into_place_comes_whole(own_server: Server, sub: str) -> None:
    """Slowly, by another process: neither STATUS nor a session in IDLE sees half of it."""
    server = own_server
    server.start()
    idle, other = login(server), login(server)
    idle.select()
    idle.send(b"i IDLE\r\n")
    idle.readline()
    text = b"Subject: slow\n\n" + b"line\n" * 20_000
    place = server.maildir() / sub / ("1700000000.1.other" + (":2,S" if sub == "cur" else ""))
    with subprocess.Popen(["sh", "-c", f"cat > '{place}'"], stdin=subprocess.PIPE, bufsize=0) as writer:
        assert writer.stdin is not None
        written = 0
        while written < len(text):
            written += writer.stdin.write(text[written : written + 25_000]) or 0
            until_it_has(place, written)
            assert other.status("INBOX", "(MESSAGES)")[1] == [b"INBOX (MESSAGES 0)"]
        writer.stdin.close()
    assert idle.readline() == b"* 1 EXISTS\r\n"
    idle.send(b"DONE\r\n")
    while not idle.readline().startswith(b"i OK"):
        pass
    other.select(readonly=True)
    (found, _) = other.fetch("1", "(RFC822.SIZE BODY[])")[1]
    assert isinstance(found, tuple) and found[1] == text.replace(b"\n", b"\r\n")
    assert b"RFC822.SIZE %d " % len(found[1]) in found[0]


def test_uids_survive_restart_kill_and_rebuild(own_server: Server) -> None:
    server = own_server
    server.start()
    for n in range(10):
        send(server, str(n))
    client = login(server)
    client.select()
    client.store("3,5", "+FLAGS.SILENT", r"(\Deleted)")
    client.expunge()
    client.store("1", "+FLAGS", r"(\Flagged)")

    def state() -> tuple[bytes, bytes]:
        one = login(server)
        one.select()
        return one.response("UIDVALIDITY")[1][0], b"|".join(one.fetch("1:*", "(UID FLAGS RFC822.SIZE)")[1]).replace(
            b" \\Recent", b""
        ).replace(b"\\Recent", b"")

    before = state()
    server.kill()
    server.start()
    assert state() == before
    server.stop()
    report = json.loads(server.cli("index", "check", "--json").stdout)
    assert sum(r["problems"] for r in report) == 0, report
    server.cli("index", "rebuild", server.user)
    server.start()
    assert state() == before
    send(server, "next")  # UIDs go on above all that can have been shown before the kill
    found = [int(uid) for uid in re.findall(rb"UID (\d+) ", state()[1])]
    assert found[:-1] == [1, 2, 4, 6, 7, 8, 9, 10] and found[-1] > 10


def test_a_dovecot_maildir_is_taken_over_with_its_uids(own_server: Server) -> None:
    server = own_server
    maildir = server.maildir()
    for sub in ("cur", "new", "tmp"):
        (maildir / sub).mkdir(parents=True)
    names = [f"170000000{n}.M{n}P1.vm,S=13,W=15" for n in range(4)]
    for n, name in enumerate(names):
        (maildir / "cur" / (name + (":2,Sb" if n == 1 else ":2,"))).write_bytes(b"Subject: %d\n\nx" % n)
    (maildir / "dovecot-uidlist").write_text(
        "3 V1234567 N50 G00ff\n7 :" + names[2] + "\n9 W15 :" + names[0] + "\n20 :" + names[1] + "\n"
    )
    (maildir / "dovecot-keywords").write_text("0 $Junk\n1 Work\n")
    server.start()
    client = login(server)
    client.select()
    assert client.response("UIDVALIDITY")[1] == [b"1234567"]
    assert client.uid("SEARCH", "ALL")[1] == [b"7 9 20 50"]
    assert client.uid("SEARCH", "KEYWORD", "Work")[1] == [b"20"]
    assert client.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1] == b"Subject: 2\r\n\r\n"
    client.logout()


def test_kill_of_one_worker_leaves_the_service_up(own_server: Server) -> None:
    server = own_server
    server.start()
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    for n in range(20):
        send(server, str(n))
    eventually(lambda: len(server.workers()) == 2 and set(server.workers()) != set(before))
    client = login(server)
    assert client.select()[1] == [b"20"]
    client.logout()


def test_two_servers_do_not_share_a_port(own_server: Server, tmp_path: Path) -> None:
    server = own_server
    server.start()
    other = Server(tmp_path / "other")
    text = other.config.read_text()
    other.config.write_text(text.replace(f":{other.ports['imap']}", f":{server.ports['imap']}"))
    done = other.cli("serve", check=False)
    assert done.returncode == 78 and "Address already in use" in done.stderr
    again = server.cli("serve", check=False)
    assert again.returncode == 78 and "another server runs" in again.stderr


def test_no_worker_outlives_its_supervisor(own_server: Server) -> None:
    server = own_server
    server.start()
    assert server.process is not None
    server.process.kill()
    server.process.wait(10)
    server.process = None
    eventually(lambda: not server.listens())


@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_nothing_acknowledged_is_lost_by_kill(tmp_path: Path, content: str) -> None:
    server = Server(tmp_path / "s", content=content)
    acknowledged: list[str] = []
    for turn in range(3):
        server.start()
        with (
            contextlib.suppress(OSError, smtplib.SMTPException),
            smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=5) as lmtp,
        ):
            deadline = time.monotonic() + 0.3 + turn / 10
            while time.monotonic() < deadline:
                name = f"m{turn}-{len(acknowledged)}"
                lmtp.sendmail("a@b.example", [server.user], f"Subject: {name}\r\n\r\n".encode())
                acknowledged.append(name)
        server.kill()
    server.start()
    client = login(server)
    client.select()
    found = [
        part[1].decode().split()[1]
        for part in client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        if isinstance(part, tuple)
    ]
    assert sorted(found) == sorted(set(found)), "doubled"
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + 3
    client.logout()
    assert server.cli("content", "check").returncode == 0
    server.stop()


def test_sighup_brings_a_new_certificate(own_server: Server) -> None:
    server = own_server
    server.start()

    def certificate() -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", server.ports["imaps"])) as raw, context.wrap_socket(raw) as tls:
            return tls.getpeercert(True) or b""

    old = certificate()
    client = login(server)
    write_certificate(str(server.directory), "other.example.test")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: certificate() != old)
    assert client.noop()[0] == "OK"
    (server.directory / "cert.pem").write_text("broken")
    fresh = certificate()
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "tls.reload " in server.log.read_text() or "event=tls.reload " in server.log.read_text())
    assert certificate() == fresh


@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_a_full_disk_is_temporary(tmp_path: Path, content: str) -> None:
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small tmpfs")
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        server = Server(place / "s", workers=1, content=content)
        server.start()
        send(server, "before")
        filler = place / "filler"
        with contextlib.suppress(OSError), open(filler, "wb") as file:
            while True:
                file.write(b"x" * 65536)
        with pytest.raises(smtplib.SMTPDataError) as caught:
            for _ in range(300):
                send(server, "full")
        assert caught.value.smtp_code == 452
        client = login(server)
        assert client.select()[0] == "OK"
        assert client.fetch("1", "(BODY.PEEK[TEXT])")[1][0][1] == b"body\r\n"
        assert client.append("Sent", None, None, b"Subject: x\r\n\r\n" + b"y" * 100_000)[0] == "NO"
        filler.unlink()
        send(server, "after")
        client.logout()
    finally:
        with contextlib.suppress(UnboundLocalError):
            server.stop()
        subprocess.run(["umount", str(place)], check=True)


def test_deliver_command_while_the_server_runs(own_server: Server) -> None:
    server = own_server
    server.start()
    client = login(server)
    client.select()
    client.send(b"i IDLE\r\n")
    client.readline()
    server.cli("deliver", "-r", "a@b.example", server.user, stdin="Subject: by hand\n\nhi\n")
    assert client.readline() == b"* 1 EXISTS\r\n"
    done = server.cli("deliver", "nobody@example.test", stdin="x\n", check=False)
    assert done.returncode == 67 and "5.1.1" in done.stderr
    client.send(b"DONE\r\n")
    client.shutdown()


def test_a_removed_account_leaves_its_files_and_no_records(own_server: Server) -> None:
    server = own_server
    server.start()
    server.cli("account", "add", "gone@example.test", "--password-stdin", stdin=server.password + "\n")
    send(server, "kept", "gone@example.test")
    server.cli("account", "remove", "gone@example.test")
    assert len(list((server.maildir("gone@example.test") / "new").iterdir())) == 1
    with pytest.raises(smtplib.SMTPException):
        send(server, "lost", "gone@example.test")
    server.cli("account", "add", "gone@example.test", "--password-stdin", stdin=server.password + "\n")
    time.sleep(5.2)  # younger files could be deliveries under way
    client = login(server, "gone@example.test")
    assert client.select()[1] == [b"1"]
    client.logout()
    server.cli("account", "remove", "gone@example.test", "--delete-mail")
    assert not server.maildir("gone@example.test").exists()


def test_graceful_stop_says_goodbye(own_server: Server) -> None:
    server = own_server
    server.start()
    client = login(server)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    assert client.readline().startswith(b"* BYE")
    assert server.process.wait(15) == 0
    assert "event=bug" not in server.log.read_text()


def test_a_move_cut_short_leaves_one_message(own_server: Server) -> None:
    server = own_server
    server.start()
    send(server, "moved")
    send(server, "deleted meanwhile")
    client = login(server)
    client.create("Kept")
    client.select("Kept")
    client.select("INBOX")
    client.logout()
    server.stop()
    server.start()
    send(server, "later")
    server.kill()  # only a stop that was not clean can have cut a MOVE short
    inbox, kept = server.maildir() / "cur", server.maildir() / ".Kept" / "cur"
    for number, path in enumerate(sorted(inbox.iterdir(), key=lambda p: b"meanwhile" in p.read_bytes())):
        stamp, _, rest = path.name.partition("Q")
        count, _, tail = rest.partition(".")
        os.link(path, kept / f"{stamp}Q9{count}C.{tail}")  # as MOVE makes it, before its commit
        if number:
            path.unlink()  # by another program: now the link is all there is
    server.start()
    client = login(server)
    assert client.select("INBOX")[1] == [b"2"], "the first and the last"
    assert client.select("Kept")[1] == [b"1"]
    assert b"deleted meanwhile" in client.fetch("1", "(BODY[])")[1][0][1]
    client.logout()
    assert len(list(kept.iterdir())) == 1
