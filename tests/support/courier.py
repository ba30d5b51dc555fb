"""Courier's IMAP and POP3 servers (Debian's packages, unpacked beside the system, as they cannot be installed together
with Dovecot), each session a process of its own behind a pipe."""

import imaplib
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "build" / "courier"
CAPABILITY = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE"


class Courier:
    """Over the Maildir ``mail``. Skips where it is not unpacked."""

    def __init__(self, mail: Path) -> None:
        self.root, self.mail = ROOT, mail
        if not (ROOT / "usr/bin/imapd").exists():
            pytest.skip(f"Courier is not unpacked in {ROOT}: .ci/run does it, with apt-get download and dpkg -x")
        mail.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([str(self.root / "usr/bin/maildirmake.courier"), str(mail)], env=self._env(), check=True)

    def _env(self) -> dict[str, str]:
        places = ["usr/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib/x86_64-linux-gnu"]
        return os.environ | {
            "LD_LIBRARY_PATH": ":".join(str(self.root / place) for place in [*places, "lib/aarch64-linux-gnu"]),
            "AUTHENTICATED": "user@example.test",
            "HOME": str(self.mail.parent),
            "IMAP_KEYWORDS": "1",
            "IMAP_USELOCKS": "0",  # they ask a notification service, and wait for it
            "IMAP_CAPABILITY": CAPABILITY,
        }

    def imap(self) -> imaplib.IMAP4:
        """A session that is logged in."""
        words = [f"{name}='{value}'" for name, value in self._env().items() if name not in os.environ]
        program = self.root / "usr/bin/imapd"
        session = imaplib.IMAP4_stream(f"cd {self.mail.parent} && {' '.join(words)} {program} {self.mail} 2>/dev/null")
        session.state = "AUTH"  # its first line is a complaint of a notification service, PREAUTH comes second
        return session

    def pop3(self) -> list[tuple[bytes, bytes]]:
        """UIDLs and sizes in order."""
        program = self.root / "usr/lib/courier/courier/courierpop3d"
        done = subprocess.run(
            [str(program), str(self.mail)],
            input=b"UIDL\r\nLIST\r\nQUIT\r\n",
            env=self._env(),
            cwd=self.mail.parent,
            capture_output=True,
            timeout=30,
        )
        lists = done.stdout.replace(b"\r\n", b"\n").split(b"\n.\n")
        rows = [[line for line in one.split(b"\n") if line[:1].isdigit()] for one in lists[:2]]
        return list(zip(*rows, strict=True))
