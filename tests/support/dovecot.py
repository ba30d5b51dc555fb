"""A private Dovecot (2.3, Debian's package) on loopback, over Maildirs in a directory of a test's own."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.ports import free_ports

USER = "nobody"  # Dovecot reads no mail as root


def needed() -> None:
    """Skip where it cannot run."""
    if shutil.which("dovecot") is None and not Path("/usr/sbin/dovecot").exists():
        pytest.skip("Dovecot is not installed: apt-get install dovecot-imapd dovecot-pop3d")
    if os.geteuid() != 0:
        pytest.skip("Dovecot changes to another user: it needs root")


def own(path: Path) -> None:
    """Give what lies there to Dovecot's user."""
    who = pwd.getpwnam(USER)
    for top, _, names in os.walk(path):
        os.chown(top, who.pw_uid, who.pw_gid)
        for name in names:
            os.chown(os.path.join(top, name), who.pw_uid, who.pw_gid, follow_symlinks=False)


class Dovecot:
    """``mail``: where Maildirs are, one for each user, named like it; any user with ``password``. ``extra``: more of
    its configuration; ``location``: options behind the path of the Maildirs."""

    password = "pass word"

    def __init__(self, directory: Path, mail: Path, extra: str = "", location: str = "") -> None:
        self.directory, self.mail = directory, mail
        directory.mkdir(parents=True, exist_ok=True)
        mail.mkdir(parents=True, exist_ok=True)
        for path in (directory, mail, *mail.parents):
            if str(path).startswith("/tmp/") and path != Path("/tmp"):
                path.chmod(path.stat().st_mode | 0o755)
        self.ports = dict(zip(("imap", "pop3"), free_ports(2), strict=True))
        self.config = directory / "dovecot.conf"
        who = pwd.getpwnam(USER)
        self.config.write_text(f"""
base_dir = {directory}/run
state_dir = {directory}/state
instance_name = test-{self.ports["imap"]}
protocols = imap pop3
listen = 127.0.0.1
log_path = {directory}/log
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/{location}
mail_uid = {who.pw_uid}
mail_gid = {who.pw_gid}
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = username_format=%u {directory}/users
}}
userdb {{
  driver = static
  args = uid={who.pw_uid} gid={who.pw_gid} home={mail}/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {self.ports["imap"]}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {self.ports["pop3"]}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
{extra}
""")
        users = directory / "users"
        users.write_text(
            "".join(f"{name}:{{PLAIN}}{self.password}\n" for name in ("user@example.test", "copy@example.test"))
        )
        users.chmod(0o644)
        self.pid = 0

    def start(self) -> None:
        own(self.mail)
        subprocess.run(["dovecot", "-c", str(self.config)], check=True, timeout=20, env=self._env())
        path = self.directory / "run" / "master.pid"
        for _ in range(200):
            if path.exists() and path.read_text().strip():
                break
            time.sleep(0.05)
        self.pid = int(path.read_text())

    def stop(self) -> None:
        if not self.pid:
            return
        os.kill(self.pid, signal.SIGTERM)
        for _ in range(200):
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        self.pid = 0

    def _env(self) -> dict[str, str]:
        return os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin"}

    def doveadm(self, *args: str) -> str:
        done = subprocess.run(
            ["doveadm", "-c", str(self.config), *args], capture_output=True, text=True, timeout=60, env=self._env()
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
