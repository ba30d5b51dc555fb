"""Courier's IMAP and POP3 servers (Debian's packages, unpacked beside the system, as they cannot be installed together
with Dovecot), each session a process of its own behind a pipe."""

import imaplib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = (
    *("courier-imap", "courier-pop", "courier-base", "courier-authlib", "libcourier-unicode4", "libgamin0"),
    *("libgdbm6", "libpcre3", "libltdl7", "libidn12"),
)
CAPABILITY = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE"


class Courier:
    """Over the Maildir ``mail``. Skips where the packages cannot be had."""

    def __init__(self, directory: Path, mail: Path) -> None:
        self.root, self.mail = directory / "root", mail
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            pytest.skip("Courier comes from Debian's packages: apt-get and dpkg are not here")
        directory.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", "download", *PACKAGES]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.skip(f"Courier's packages cannot be downloaded: {done.stderr.strip()[:200]}")
        for package in directory.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(self.root)], check=True, timeout=60)
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
