"""Real scanners, each started privately on loopback: what they say of clean mail, of GTUBE (spam), of EICAR (a virus);
and how they learn."""

import asyncio
import base64
import imaplib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fastmail.policy.reasons import Finding
from fastmail.policy.scanners.nouns import Shown
from fastmail.policy.scanners.panel import Panel
from fastmail.policy.scanners.teaching import Lesson, Pupil
from tests.journey.test_dkim import until
from tests.support.needs import program
from tests.support.ports import free_ports
from tests.support.scanning import scanner
from tests.support.server import Server

DINNER = (
    b"From: Joe <joe@example.org>\nTo: me@example.test\nSubject: dinner\nDate: Mon, 2 Nov 2026 10:00:00 +0000\n"
    b"Message-ID: <1@example.org>\n\nIs dinner ready?\n"
)
# in two pieces: files with these words are kept out of repositories and off disks by such programs
GTUBE = DINNER + b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n"
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
INFECTED = (
    b'From: a@b.test\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\nx\n'
    b"--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n"
    + base64.encodebytes(EICAR)
    + b"--b--\n"
)
LETTER = DINNER + b"Come home soon, because dinner is ready and the soup is getting cold on the table.\n" * 3
PASSWORD = "let me in, please"
ME, YOU = "me@example.test", "you@example.test"
SHOWN = {"ip": "192.0.2.1", "helo": "mail.example.org", "sender": "joe@example.org", "recipients": ["me@example.test"],
         "front": b"Received: from mail.example.org (mail.example.org [192.0.2.1])\n\tby mx.example.test with ESMTP id X;\n\tMon, 2 Nov 2026 10:00:01 +0000\n"}  # fmt: skip


@contextmanager
def running(base: Path, port: int, *words: str) -> Iterator[str]:
    """A daemon in the foreground; its address when it listens."""
    with open(base / "out", "wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True, cwd=base)
    deadline = time.monotonic() + 60
    try:
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None and time.monotonic() < deadline, (base / "out").read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def say(kind: str, address: str, *contents: bytes) -> list[Finding]:
    async def main() -> list[Finding]:
        panel = Panel([scanner(kind, address, seconds=60.0)])
        return [(await panel.ask("smtp", Shown(content, **SHOWN)))[0] for content in contents]  # type: ignore[arg-type]

    return asyncio.run(main())


@pytest.mark.peer("clamd")
def test_clamd(tmp_path: Path) -> None:
    """With one signature of our own: the hash of EICAR."""
    (port,) = free_ports(1)
    (tmp_path / "signatures").mkdir()
    (tmp_path / "signatures" / "test.hdb").write_text("44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test\n")
    config = tmp_path / "clamd.conf"
    config.write_text(
        f"Foreground yes\nTCPSocket {port}\nTCPAddr 127.0.0.1\nDatabaseDirectory {tmp_path}/signatures\n"
        f"TemporaryDirectory {tmp_path}\nStreamMaxLength 1M\nUser {os.environ.get('USER', 'root')}\n"
    )
    with running(tmp_path, port, str(program("clamd")), "-c", str(config)) as address:
        large = DINNER + b"A line of dinner.\n" * 200_000
        clean, infected, too_large, again = say("clamav", address, DINNER, INFECTED, large, DINNER * 500)
    assert (clean.said, clean.virus) == ("clean", "clean"), clean
    assert infected.action == "refuse" and "Eicar-Test" in infected.reply[2], infected
    assert too_large.said == "large" and again.said == "clean", (too_large, again)


@pytest.mark.peer("spamd")
def test_spamd(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    words = ["-x", "-L", "--cf", "use_bayes 0", "-i", "127.0.0.1", "-p", str(port), "-m", "1"]
    words += ["--min-children", "1", "--max-spare", "1", "-r", str(tmp_path / "pid"), "-H", str(tmp_path)]
    with running(tmp_path, port, str(program("spamd")), *words) as address:
        ham, spam = say("spamassassin", address, DINNER, GTUBE)
    assert ham.action == "accept" and ham.reasons[0].name == "spamassassin" and ham.reasons[0].score < 5, ham
    assert spam.action == "junk" and spam.reasons[0].score > 900 and "GTUBE" in spam.reasons[0].why, spam


def taught(kind: str, address: str, *lessons: tuple[bytes, bool], owner: str = "", **more: Any) -> list[str]:
    """What a scanner says of lessons (a message, is it spam), one after the other."""

    async def main() -> list[str]:
        pupil = Pupil(scanner(kind, "127.0.0.1:1", seconds=60.0, learns=address, **more))
        return [await pupil.teach(Lesson(content, spam, owner)) for content, spam in lessons]

    return asyncio.run(main())


@pytest.mark.peer("spamd")
def test_spamd_learns(tmp_path: Path) -> None:
    """Each message once; and one that was taught wrongly, again."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o777)  # started by root, spamd writes as nobody
        words = ["-x", "-L", "--cf", "use_bayes 1", "--cf", f"bayes_path {place}/bayes", "-i", "127.0.0.1"]
        words += ["-p", str(port), "-m", "1", "--min-children", "1", "--max-spare", "1"]
        words += ["-r", str(tmp_path / "pid"), "-H", place]
        lessons = [(DINNER, True), (DINNER, True), (DINNER, False)]
        with running(tmp_path, port, str(program("spamd")), "--allow-tell", *words) as address:
            assert taught("spamassassin", address, *lessons) == ["learned", "known", "learned"]
        with running(tmp_path, port, str(program("spamd")), *words) as address:
            assert taught("spamassassin", address, (DINNER, True)) == ["failed"], "it may not be taught"


@pytest.mark.peer("spamd")
def test_spamd_learns_for_each_user(tmp_path: Path) -> None:
    """With a directory for each; what one taught is not known of another."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o777)
        for name in (ME, YOU):
            os.mkdir(os.path.join(place, name))
            os.chmod(os.path.join(place, name), 0o777)
        words = ["-x", "-L", "--virtual-config-dir", f"{place}/%u", "--allow-tell", "--cf", "use_bayes 1"]
        words += ["-i", "127.0.0.1", "-p", str(port), "-m", "1", "--min-children", "1", "--max-spare", "1"]
        words += ["-u", "nobody"] if os.geteuid() == 0 else []
        with running(tmp_path, port, str(program("spamd")), *words, "-r", f"{place}/pid") as address:
            assert each_user("spamassassin", address, LETTER) == ["learned", "known", "learned", "known"]
            assert os.listdir(os.path.join(place, ME)) and os.listdir(os.path.join(place, YOU))


def each_user(kind: str, address: str, letter: bytes, **more: Any) -> list[str]:
    """What a scanner says of the same lesson, twice by each of two users."""
    return [
        taught(kind, address, (letter, True), owner=owner, per_user=True, **more)[0] for owner in (ME, ME, YOU, YOU)
    ]


def unknown() -> bytes:
    """A letter that no scanner has seen: rspamd remembers what it learned in a file of the whole machine."""
    return LETTER + b"".join(b"Dinner%d is for%d you%d.\n" % ((time.time_ns(),) * 3) for _ in range(3))


def learning(base: Path, scan: int, port: int, password: str, more: str = "") -> list[str]:
    """How to start an rspamd whose controller learns into files of its own. ``more``: of its classifier."""
    config = base / "rspamd.conf"
    config.write_text(
        f'options {{ pidfile = "{base}/pid"; dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1 }}\n'
        f' control_socket = "{base}/control"; hs_cache_dir = "{base}" }}\n'
        f'logging {{ type = "console"; level = "warning" }}\n'
        f'worker "normal" {{ bind_socket = "127.0.0.1:{scan}"; count = 1 }}\n'
        f'worker "controller" {{ bind_socket = "127.0.0.1:{port}"; count = 1; password = "{password}"; secure_ip = "192.0.2.1" }}\n'
        f'classifier "bayes" {{ tokenizer {{ name = "osb" }} backend = "sqlite3"; min_tokens = 1; min_learns = 1; {more}\n'
        f' learn_cache {{ type = "sqlite3"; path = "{base}/cache.sqlite" }}\n'
        f' statfile {{ symbol = "BAYES_HAM"; path = "{base}/ham.sqlite"; spam = false }}\n'
        f' statfile {{ symbol = "BAYES_SPAM"; path = "{base}/spam.sqlite"; spam = true }} }}\n'
    )
    return [str(program("rspamd")), "-f", "-c", str(config), *(["-i"] if os.geteuid() == 0 else [])]


def learned(port: int) -> tuple[int, int]:
    """(messages that it calls spam, ham), as its controller says."""
    ask = urllib.request.Request(f"http://127.0.0.1:{port}/stat", headers={"Password": "let me in, please"})
    with urllib.request.urlopen(ask, timeout=20) as answer:
        found = {one["symbol"]: one["revision"] for one in json.load(answer)["statfiles"]}
    return found["BAYES_SPAM"], found["BAYES_HAM"]


@pytest.mark.peer("rspamd")
def test_rspamd_learns(tmp_path: Path) -> None:
    """By its controller, with a password, into a file of its own."""
    scan, port = free_ports(2)
    password = "let me in, please"
    with running(tmp_path, port, *learning(tmp_path, scan, port, password)) as address:
        letter = unknown()
        assert taught("rspamd", address, (letter, True)) == ["failed"], "without the password"
        said = taught("rspamd", address, (letter, True), (letter, True), (letter, False), password=password)
        assert said == ["learned", "known", "learned"]


@pytest.mark.peer("rspamd")
def test_rspamd_learns_for_each_user(tmp_path: Path) -> None:
    """And a rule of its own sees in the check what it tells users apart by in lessons."""
    scan, port = free_ports(2)
    words, letter = learning(tmp_path, scan, port, PASSWORD, "per_user = true;"), unknown()
    (tmp_path / "rules.lua").write_text(
        "rspamd_config.IS_MINE = { score = 1.0,\n"
        f" callback = function(task) return task:get_principal_recipient() == '{ME}' end }}\n"
    )
    config = tmp_path / "rspamd.conf"
    config.write_text(config.read_text() + f'lua = "{tmp_path}/rules.lua"\n')

    async def main() -> list[str]:
        panel = Panel([scanner("rspamd", f"127.0.0.1:{scan}", seconds=60.0, per_user=True)])
        shown = [Shown(letter, **{**SHOWN, "recipients": ["x@b.test"], "owner": owner}) for owner in (ME, YOU)]  # type: ignore[arg-type]
        return [(await panel.ask("smtp", one))[0].said for one in shown]

    with running(tmp_path, port, *words) as address:
        assert each_user("rspamd", address, letter, password=PASSWORD) == ["learned", "known", "learned", "known"]
        assert asyncio.run(main()) == ["no action 1", "no action 0"]


@pytest.mark.peer("rspamd")
def test_rspamd(tmp_path: Path) -> None:
    """Its core, without rules: it knows GTUBE by itself."""
    (port,) = free_ports(1)
    config = tmp_path / "rspamd.conf"
    config.write_text(
        f'options {{ pidfile = "{tmp_path}/pid"; dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1 }}\n'
        f' control_socket = "{tmp_path}/control"; gtube_patterns = "reject" }}\n'
        f'logging {{ type = "console"; level = "warning" }}\n'
        f'worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1 }}\n'
        "actions { reject = 15; add_header = 6; greylist = 4 }\n"
    )
    words = ["-f", "-c", str(config), *(["-i"] if os.geteuid() == 0 else [])]
    with running(tmp_path, port, str(program("rspamd")), *words) as address:
        ham, spam = say("rspamd", address, DINNER, GTUBE)
    assert ham.action == "accept" and ham.said == "no action 0", ham
    assert spam.action == "refuse" and spam.reply[0] == 554 and "Gtube" in spam.reply[2], spam


@pytest.mark.peer("rspamd")
def test_what_a_user_moves_is_learned_by_rspamd(tmp_path: Path) -> None:
    """From IMAP to rspamd's statistics, without a classifier of our own."""
    scan, port = free_ports(2)
    (tmp_path / "rspamd").mkdir()
    (tmp_path / "password").write_text("let me in, please\n")
    settings = f'\n[[scanner]]\nkind = "rspamd"\naddress = "127.0.0.1:{scan}"\nlearn_address = "127.0.0.1:{port}"\n'
    server = Server(tmp_path / "server", settings + f'learn_password_file = "{tmp_path}/password"\n', workers=1)
    words = learning(tmp_path / "rspamd", scan, port, "let me in, please")
    with running(tmp_path / "rspamd", port, *words):
        server.start()
        try:
            imap = imaplib.IMAP4("127.0.0.1", server.ports["imap"])
            imap.login(server.user, server.password)
            assert imap.append("INBOX", "", "", unknown().replace(b"\n", b"\r\n"))[0] == "OK"
            for mailbox, target in (("INBOX", "Junk"), ("Junk", "INBOX")):
                imap.select(mailbox)
                assert imap.uid("MOVE", "1", target)[0] == "OK"
                until(lambda: learned(port) == (1, 0) if target == "Junk" else learned(port)[1] == 1)  # noqa: B023
            imap.logout()
        finally:
            server.stop()
    assert "scanner_taught_learned=2" in server.log.read_text()
