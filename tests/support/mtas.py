"""Other mail transfer agents (Debian's packages), each started privately on loopback: they take mail for example.test,
and hand it to a port of ours. Debian's packages exclude each other, so they are also found unpacked under build/mtas,
where .ci/run puts them.
"""

import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from fastmail.bench.load import unverified
from tests.support.ports import free_ports

UNPACKED = Path(__file__).parents[2] / "build" / "mtas"
Mta = Callable[[Path, int], AbstractContextManager[int]]


def _program(name: str, package: str, *users: str) -> str:
    """Where it is; skips where it cannot run."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:{UNPACKED}/usr/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} (Debian package {package}) is not installed here, nor unpacked under build/mtas")
    if os.geteuid() != 0:
        pytest.skip(f"{name} changes to another user: it needs root")
    for user in users:
        try:
            pwd.getpwnam(user)
        except KeyError:
            pytest.skip(f"{name} needs a system user {user}")
    return found


def _open_up(base: Path) -> None:
    """Let other users into a directory of ours."""
    base.mkdir(parents=True)
    for path in (base, *base.parents):
        if str(path).startswith("/tmp/") and path.stat().st_uid == os.geteuid():
            path.chmod(path.stat().st_mode | 0o011)


def _wait(port: int, log: Path, tls: bool = False) -> None:
    deadline = time.monotonic() + 15
    while True:
        with suppress(OSError, smtplib.SMTPException):
            if tls:
                smtplib.SMTP_SSL("127.0.0.1", port, timeout=5, context=unverified()).close()
            else:
                smtplib.SMTP("127.0.0.1", port, timeout=5).close()
            return
        assert time.monotonic() < deadline, log.read_text() if log.exists() else "it does not answer"
        time.sleep(0.1)


@contextmanager
def postfix(
    base: Path, far: int, domain: str = "example.test", hop: str = "smtp", extra: str = "", services: str = ""
) -> Iterator[int]:
    """``hop``: smtp or lmtp to the far port; ``extra``: more of its main.cf; ``services``: of its master.cf."""
    _program("postfix", "postfix")
    (port,) = free_ports(1)
    _open_up(base)
    for name in ("etc", "spool", "data"):
        (base / name).mkdir()
    shutil.chown(base / "data", "postfix")
    where = f"inet:127.0.0.1:{far}" if hop == "lmtp" else f"[127.0.0.1]:{far}"
    (base / "etc" / "main.cf").write_text(
        f"compatibility_level = 3.6\nmyhostname = pf.test\nmydestination =\ninet_interfaces = 127.0.0.1\n"
        f"queue_directory = {base}/spool\ndata_directory = {base}/data\nmail_owner = postfix\nsetgid_group = postdrop\n"
        f"command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmynetworks = 127.0.0.0/8\n"
        f"relayhost =\ntransport_maps = inline:{{ {domain}={hop}:{where} }}\n"
        f"relay_domains = {domain}\nsmtputf8_enable = no\nmaillog_file = {base}/log\n"
        f"maillog_file_prefixes = {base}\nsmtp_tls_security_level = may\n{extra}"
    )
    master = Path("/etc/postfix/master.cf")
    source = master if master.exists() else Path("/usr/share/postfix/master.cf.dist")
    lines = [line for line in source.read_text().splitlines() if not line.startswith("smtp      inet")]
    (base / "etc" / "master.cf").write_text(
        f"127.0.0.1:{port} inet n - n - - smtpd\n" + "\n".join([*lines, services]).replace(" y ", " n ") + "\n"
    )
    command = ["/usr/sbin/postfix", "-c", str(base / "etc")]
    done = subprocess.run([*command, "start"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this Postfix does not start privately: {done.stderr[-200:]}")
    try:
        _wait(port, base / "log", "smtpd_tls_wrappermode = yes" in extra)
        yield port
    finally:
        subprocess.run([*command, "stop"], capture_output=True)


EXIM = """
exim_path = {program}
primary_hostname = exim.test
exim_user = Debian-exim
exim_group = Debian-exim
spool_directory = {base}/spool
log_file_path = {base}/log/%slog
pid_file_path = {base}/spool/exim.pid
deliver_drop_privilege
local_interfaces = 127.0.0.1
keep_environment =
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
tls_advertise_hosts =
acl_smtp_rcpt = take
acl_smtp_data = take
begin acl
take:
  accept
begin routers
on:
  driver = manualroute
  domains = example.test
  transport = remote
  route_list = * 127.0.0.1 byname
  self = send
begin transports
remote:
  driver = smtp
  port = {far}
  hosts_try_chunking = *
  tls_tempfail_tryclear
begin retry
* * F,1h,1s
"""


@contextmanager
def exim(base: Path, far: int) -> Iterator[int]:
    program = _program("exim4", "exim4-daemon-light", "Debian-exim")
    (port,) = free_ports(1)
    _open_up(base)
    for name in ("spool", "log"):
        (base / name).mkdir()
        shutil.chown(base / name, "Debian-exim", "Debian-exim")
    config = base / "exim.conf"
    config.write_text(EXIM.format(program=program, base=base, far=far))
    config.chmod(0o644)
    with open(base / "out", "wb") as out:
        command = [program, "-C", str(config), "-bdf", "-oX", f"127.0.0.1.{port}", "-q1s"]
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(port, base / "log" / "mainlog")
        yield port
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def opensmtpd(base: Path, far: int) -> Iterator[int]:
    """Its queue and socket have places of their own in the system: only where no other OpenSMTPD has been."""
    program = _program("smtpd", "opensmtpd", "opensmtpd", "opensmtpq")
    places = [Path("/var/spool/smtpd"), Path("/var/lib/opensmtpd"), Path("/run/smtpd.sock")]
    if any(place.exists() for place in places):
        pytest.skip("another OpenSMTPD is, or was, on this machine")
    (port,) = free_ports(1)
    _open_up(base)
    config = base / "smtpd.conf"
    config.write_text(
        f"listen on 127.0.0.1 port {port} hostname opensmtpd.test\n"
        f'action "on" relay host smtp+notls://127.0.0.1:{far}\n'
        'match from any for domain "example.test" action "on"\n'
    )
    config.chmod(0o600)
    (places[1] / "empty").mkdir(parents=True, mode=0o755)
    places[0].mkdir(mode=0o711)
    try:
        with open(base / "out", "wb") as out:
            process = subprocess.Popen(
                [program, "-d", "-f", str(config)], stdout=out, stderr=out, start_new_session=True
            )
        try:
            _wait(port, base / "out")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
    finally:
        places[2].unlink(missing_ok=True)
        shutil.rmtree(places[0])
        shutil.rmtree(places[1])
