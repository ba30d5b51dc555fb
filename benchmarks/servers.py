"""The servers that benchmarks run beside each other, each private, on loopback and fresh: Debian's Dovecot and Postfix, and
this one. Needs root: Dovecot and Postfix change users.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

from fastmail.app import child
from fastmail.app.quickstart import write_certificate
from fastmail.bench import server
from fastmail.bench.journeys import FRESH, FRESH_PATTERN, USERS, Target
from fastmail.queue.spool import Spool
from tests.support import mtas

DOMAIN = "bench.example"
MAIL_USER = "nobody"
CONFIG = """
base_dir = {place}/run
state_dir = {place}/state
instance_name = bench
stats_writer_socket_path =
protocols = imap pop3 lmtp
listen = 127.0.0.1
log_path = {place}/log
ssl = yes
ssl_cert = <{place}/cert.pem
ssl_key = <{place}/key.pem
disable_plaintext_auth = no
auth_cache_size = 16M
auth_cache_verify_password_with_worker = no
first_valid_uid = 1
mail_location = {kind}:~/
mail_uid = {uid}
mail_gid = {gid}
maildir_very_dirty_syncs = yes
maildir_stat_dirs = no
mailbox_list_index = yes
mail_max_userip_connections = 20000
default_process_limit = 4000
default_client_limit = 12000
default_vsz_limit = 2G
passdb {{
  driver = passwd-file
  args = username_format=%u {place}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={place}/mail/%u
}}
namespace inbox {{
  inbox = yes
}}
service anvil {{
  client_limit = 12000
}}
service auth {{
  unix_listener auth-smtp {{
    mode = 0666
  }}
  client_limit = 12000
}}
service stats {{
  client_limit = 12000
}}
service imap-login {{
  service_count = 0
  process_min_avail = 2
  process_limit = 2
  client_limit = 6000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service imap {{
  process_min_avail = 4
  process_limit = 4000
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  process_min_avail = 4
  process_limit = 400
  client_limit = 1
  service_count = 0
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
"""


INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
SESSIONS = 8192
TUNED = (
    "in_flow_delay = 0\ndefault_process_limit = 100\ninitial_destination_concurrency = 20\n"
    "default_destination_concurrency_limit = 40\nsmtp_connection_cache_on_demand = yes\n"
    "lmtp_connection_cache_on_demand = yes\nsmtpd_peername_lookup = no\nsmtpd_client_connection_count_limit = 0\n"
    "smtp_dns_support_level = disabled\nsmtp_host_lookup = native\nsmtp_tls_security_level = none\n"
    "smtpd_recipient_restrictions =\nsmtpd_relay_restrictions = permit_mynetworks, reject\n"
)
WITH_LOGIN = (
    "smtpd_tls_wrappermode = yes\nsmtpd_tls_security_level = encrypt\nsmtpd_sasl_auth_enable = yes\n"
    "smtpd_tls_cert_file = {place}/cert.pem\nsmtpd_tls_key_file = {place}/key.pem\n"
    "smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {accounts}/auth-smtp\nsmtpd_sasl_security_options = noanonymous\n"
)


@contextlib.contextmanager
def dovecot(parent: str, kind: str = "maildir", fresh: int = FRESH) -> Iterator[Target]:
    """A private Dovecot, ready for much load. ``kind``: how it keeps mail; ``fresh``: see Target."""
    place = tempfile.mkdtemp(prefix="dovecot-bench-", dir=parent or None)
    os.chmod(place, 0o755)
    who = pwd.getpwnam(MAIL_USER)
    ports = dict(zip(("imap", "imaps", "pop3", "lmtp"), child.free_ports(4), strict=True))
    write_certificate(place, "localhost")
    names = [f"u{n}@bench.example" for n in range(USERS)] + ["big@bench.example"]
    names += [FRESH_PATTERN % n for n in range(fresh)]
    Path(place, "users").write_text("".join(f"{name}:{{PLAIN}}secret\n" for name in names))
    os.chmod(Path(place, "users"), 0o644)
    Path(place, "mail").mkdir()
    os.chown(Path(place, "mail"), who.pw_uid, who.pw_gid)
    config = Path(place, "dovecot.conf")
    config.write_text(CONFIG.format(place=place, kind=kind, uid=who.pw_uid, gid=who.pw_gid, **ports))
    pid = 0
    watchers = INSTANCES.read_text()
    try:
        if int(watchers) < SESSIONS:  # without its own, an idle session of Dovecot's looks for mail every 30 s
            INSTANCES.write_text(str(SESSIONS))
        path = os.environ["PATH"] + ":/usr/sbin"
        subprocess.run(["dovecot", "-c", str(config)], check=True, env=os.environ | {"PATH": path}, timeout=30)
        pid = _pid(Path(place, "run", "master.pid"))
        for port in ports.values():
            _wait(port)
        yield Target(
            "127.0.0.1",
            ports,
            "u%d@bench.example",
            "secret",
            "big@bench.example",
            pid,
            directory=place,
            fresh=fresh,
        )
    finally:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            for _ in range(200):
                with contextlib.suppress(OSError):
                    os.kill(pid, 0)
                    time.sleep(0.05)
                    continue
                break
        INSTANCES.write_text(watchers)
        shutil.rmtree(place, ignore_errors=True)


def _pid(path: Path) -> int:
    """Written soon after the command has returned."""
    for _ in range(200):
        with contextlib.suppress(OSError, ValueError):
            return int(path.read_text())
        time.sleep(0.05)
    raise RuntimeError("Dovecot did not start")


def _wait(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"Dovecot does not listen on {port}")


@dataclass
class Side:
    """A server, or two, under load. ``left``: messages that are still on their way; ``users``: it takes mail over TLS from
    users who log in."""

    port: int
    pids: list[int]
    left: Callable[[], int]
    users: bool = False


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """Postfix's smtp-sink: its port."""
    (port,) = child.free_ports(1)
    command = ["smtp-sink", "-u", "nobody", f"127.0.0.1:{port}", "1024"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


@contextlib.contextmanager
def postfix(parent: str, hop: str, hop_port: int, more: list[int], accounts: str = "") -> Iterator[Side]:
    """``accounts``: where a Dovecot that knows them keeps its sockets."""
    place = Path(tempfile.mkdtemp(prefix="postfix-bench-", dir=parent or None))
    place.chmod(0o755)
    tuned = TUNED
    if accounts:
        write_certificate(str(place), "localhost")
        tuned = TUNED.replace("permit_mynetworks", "permit_sasl_authenticated") + WITH_LOGIN.format(
            place=place, accounts=accounts
        )
    try:
        with mtas.postfix(place / "pf", hop_port, DOMAIN, hop, tuned) as port:
            spool = place / "pf" / "spool"

            def left() -> int:
                return sum(
                    len(files) for part in ("incoming", "active", "deferred") for _, _, files in os.walk(spool / part)
                )

            yield Side(port, [int((spool / "pid" / "master.pid").read_text()), *more], left, bool(accounts))
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def ours(parent: str, content: str, sink_port: int, users: bool = False) -> Iterator[Side]:
    """With a sink everything goes there; without one into mailboxes."""
    extra = ""
    if sink_port:
        extra = f'[relay]\nnetworks = ["127.0.0.0/8"]\nroutes = ["* smtp:127.0.0.1:{sink_port} tls=none"]\n'
    with server.running(parent, content, 0, extra) as target:
        spool = Spool(os.path.join(target.directory, "data"), 1 << 30)
        try:
            port = target.ports["submissions" if users else "smtp"]
            yield Side(port, [target.pid], lambda: spool.depth()[0] if sink_port else 0, users)
        finally:
            uvloop.run(spool.close())
