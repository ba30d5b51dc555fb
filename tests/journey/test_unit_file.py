"""docs/fastmail.service as it is shipped: the server lives with its system-call filter, on Debian 12 too."""

import imaplib
import shutil
import signal
import smtplib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import seccomp
from tests.support.server import Server

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "docs" / "fastmail.service"
LANDLOCK = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
pytestmark = pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="needs a C compiler")


class Filtered(Server):
    """A server whose every process has the filter."""

    missing: tuple[str, ...] = ()

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.support.seccomp",
            str(UNIT),
            *(f"-{name}" for name in self.missing),
            "--",
        ]
        command += [sys.executable, "-c", "from fastmail.cli.main import main; main()", "serve", "-c", str(self.config)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        end = time.monotonic() + 40
        while b"event=ready" not in self.log.read_bytes():
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)


def test_the_sets_are_those_of_systemd_252() -> None:
    """Where systemd is here, in that version, the list that is checked in is its own."""
    program = shutil.which("systemd-analyze")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout if program else ""
    if not version.startswith("systemd 252 "):
        pytest.skip("needs systemd-analyze of systemd 252")
    for name, calls in seccomp.sets().items():
        shown = subprocess.run([str(program), "syscall-filter", name], capture_output=True, text=True).stdout
        found = [line.strip() for line in shown.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
        assert found == calls, name


def test_what_the_unit_allows() -> None:
    allowed = seccomp.allowed(UNIT.read_text(), seccomp.sets())
    assert allowed >= LANDLOCK | {"chown", "fchown"}  # a Maildir's files keep their group when they are replaced
    assert not allowed & {"mount", "ptrace", "chroot", "bpf", "init_module", "reboot", "setuid", "kexec_load"}
    # without the line that names them they are missing there: this is what the line is for
    lines = [line for line in UNIT.read_text().splitlines() if "landlock" not in line]
    assert not seccomp.allowed("\n".join(lines), seccomp.sets()) & LANDLOCK


@pytest.mark.parametrize("missing", [(), tuple(sorted(LANDLOCK))], ids=["as shipped", "a kernel without Landlock"])
@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_a_server_under_the_filter(tmp_path: Path, missing: tuple[str, ...], content: str) -> None:
    server = Filtered(tmp_path / "s", content=content)
    server.missing = missing
    server.start()
    assert server.process is not None
    try:
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=30) as client:
            for number in range(5):
                text = f"Subject: {number}\r\nMessage-ID: <{number}@x>\r\n\r\n" + "words and more words\r\n" * 20_000
                client.sendmail("you@example.org", [server.user], text)
        with smtplib.SMTP_SSL("127.0.0.1", server.ports["submissions"], timeout=30) as client:
            client.login(server.user, server.password)
            client.sendmail(server.user, [server.user, "far@elsewhere.invalid"], "Subject: out\r\n\r\nx\r\n")
        imap = imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"])
        imap.login(server.user, server.password)
        imap.select()
        end = time.monotonic() + 20
        while len(imap.search(None, "ALL")[1][0].split()) < 6:
            assert time.monotonic() < end
            time.sleep(0.1)
            imap.noop()
        assert len(imap.search(None, "BODY", "words")[1][0].split()) == 5
        imap.store("1:3", "+FLAGS", "(\\Deleted)")
        imap.expunge()
        imap.create("Folder")
        imap.copy("1", "Folder")
        imap.rename("Folder", "Other")
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGUSR1)
        time.sleep(2.5)  # for what runs once a second
        assert imap.status("Other", "(MESSAGES)")[1] == [b'"Other" (MESSAGES 1)'] or imap.list()[0] == "OK"
        imap.logout()
    finally:
        server.stop()
    said = server.log.read_text()
    assert server.process is None and "worker.died" not in said and "Traceback" not in said, said
    assert said.count("worker.unconfined" if missing else "worker.confined") == 2, said
    assert server.cli("check").stdout == "all is well\n"
