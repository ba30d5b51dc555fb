"""``make bench-relay``: mail that is handed on, on this server and on Debian's Postfix, in turn, on one disk; writes
benchmarks/relay.md.

Three journeys. Relay: SMTP in, queue, SMTP out to one sink (Postfix's smtp-sink, with this server's domain as its one
destination); a message counts as accepted when it is answered, which both do when it is synced, and as through when the
queue is empty. Submission: the same over TLS from users who log in (Postfix asks a Dovecot who they are, by passwords in
the clear on both sides), each session once. MX: SMTP in until the message is in a mailbox; Postfix hands it to Dovecot by LMTP, this server keeps it
itself. Rounds alternate, medians count, the range is shown; CPU is that of all processes of all servers of a side. Needs
root and ``apt-get install postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd``.
"""

import argparse
import contextlib
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

import fastmail
from benchmarks.peers import dovecot
from fastmail.app import child
from fastmail.app.quickstart import write_certificate
from fastmail.bench import load, machine, server
from fastmail.queue.spool import Spool
from tests.support import mtas

HERE = Path(__file__).parent
CONNECTIONS = (10, 30, 64)
SUBMISSION = (64,)
DOMAIN = "bench.example"
TUNED = (
    "in_flow_delay = 0\ndefault_process_limit = 100\ninitial_destination_concurrency = 20\n"
    "default_destination_concurrency_limit = 40\nsmtp_connection_cache_on_demand = yes\n"
    "lmtp_connection_cache_on_demand = yes\nsmtpd_peername_lookup = no\nsmtpd_client_connection_count_limit = 0\n"
    "smtp_dns_support_level = disabled\nsmtp_host_lookup = native\nsmtp_tls_security_level = none\n"
    "smtpd_recipient_restrictions =\nsmtpd_relay_restrictions = permit_mynetworks, reject\n"
)
USERS = (
    "smtpd_tls_wrappermode = yes\nsmtpd_tls_security_level = encrypt\nsmtpd_sasl_auth_enable = yes\n"
    "smtpd_tls_cert_file = {place}/cert.pem\nsmtpd_tls_key_file = {place}/key.pem\n"
    "smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {accounts}/auth-smtp\nsmtpd_sasl_security_options = noanonymous\n"
)


@dataclass
class Side:
    """A server, or two, under load. ``left``: messages that are still on their way; ``users``: it takes mail over TLS from
    users who log in."""

    port: int
    pids: list[int]
    left: Callable[[], int]
    users: bool = False


@dataclass
class Series:
    """One journey on one side: messages a second accepted and through, CPU ms a message."""

    accepted: list[float] = field(default_factory=list)
    through: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


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
        tuned = TUNED.replace("permit_mynetworks", "permit_sasl_authenticated") + USERS.format(
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


def once(side: Side, found: Series, sessions: int, count: int, domain: str) -> None:
    """One run: ``count`` messages of 4 KB, then wait until the last is through."""
    text = load.message(4096).replace(b"\r\n.", b"\r\n..") + b".\r\n"
    job = load.Work(b"EHLO bench.example\r\n", count, text, [f"u{n}@{domain}" for n in range(100)])
    if side.users:
        job.logins = [(f"u{n}@bench.example", "secret") for n in range(50)]
    cpu, start = sum(machine.cpu(pid) for pid in side.pids), time.perf_counter()
    uvloop.run(load.deliver("127.0.0.1", side.port, job, sessions, side.users))
    accepted = time.perf_counter() - start
    while side.left():
        time.sleep(0.01)
    through = time.perf_counter() - start
    time.sleep(0.1)
    found.accepted.append(count / accepted)
    found.through.append(count / through)
    found.cpu.append((sum(machine.cpu(pid) for pid in side.pids) - cpu) / count * 1000)


def measure(parent: str, rounds: int, count: int, content: str) -> dict[tuple[str, int], dict[str, Series]]:
    found: dict[tuple[str, int], dict[str, Series]] = {}

    def run(journey: str, name: str, side: Side, domain: str, connections: tuple[int, ...] = CONNECTIONS) -> None:
        once(side, Series(), 10, 400, domain)  # what a new account or connection costs is not measured
        for sessions in connections:
            series = found.setdefault((journey, sessions), {}).setdefault(name, Series())
            once(side, series, sessions, count, domain)

    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        with sink() as port:
            with postfix(parent, "smtp", port, []) as side:
                run("relay", "Postfix", side, DOMAIN)
            with ours(parent, content, port) as side:
                run("relay", "fastmail", side, "far.example")
            with (
                dovecot(parent) as known,
                postfix(parent, "smtp", port, [known.pid], f"{known.directory}/run") as side,
            ):
                run("submission", "Postfix", side, DOMAIN, SUBMISSION)
            with ours(parent, content, port, True) as side:
                run("submission", "fastmail", side, "far.example", SUBMISSION)
        with dovecot(parent) as mailboxes, postfix(parent, "lmtp", mailboxes.ports["lmtp"], [mailboxes.pid]) as side:
            run("MX", "Postfix", side, DOMAIN)
        with ours(parent, content, 0) as side:
            run("MX", "fastmail", side, DOMAIN)
    return found


def _shown(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(found: dict[tuple[str, int], dict[str, Series]]) -> str:
    lines = [
        "| journey, sessions | | accepted/s | through/s | CPU ms a message |",
        "|---|---|---|---|---|",
    ]
    for (journey, sessions), sides in found.items():
        for name, series in sides.items():
            lines.append(
                f"| {journey}, {sessions} | {name} | {_shown(series.accepted, ',.0f')} | {_shown(series.through, ',.0f')} "
                f"| {_shown(series.cpu, '.2f')} |"
            )
        theirs, mine = sides["Postfix"], sides["fastmail"]
        accepted, through, cpu = (
            statistics.median(a) / statistics.median(b)
            for a, b in ((mine.accepted, theirs.accepted), (mine.through, theirs.through), (theirs.cpu, mine.cpu))
        )
        lines.append(f"| | ratio | {accepted:.1f}x | {through:.1f}x | {cpu:.1f}x less |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--dir", default="", help="where all keep their mail: decides which disk is measured")
    parser.add_argument("--content", default="maildir", choices=["maildir", "segments"])
    options = parser.parse_args()
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = [name for name in ("postfix", "smtp-sink", "dovecot") if shutil.which(name, path=path) is None]
    if missing or os.geteuid() != 0:
        print(f"this needs root, Postfix and Dovecot; missing: {', '.join(missing) or 'root'}", file=sys.stderr)
        return 2
    os.environ["PATH"] = path
    found = measure(options.dir, options.rounds, options.messages, options.content)
    version = subprocess.run(
        ["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=False
    ).stdout
    (HERE / "relay.md").write_text(
        f"""# Beside Postfix

Made by `make bench-relay` on {time.strftime("%Y-%m-%d", time.gmtime())}: fastmail {fastmail.__version__} (content in
{options.content}, Python {platform.python_version()}) and Postfix {version.strip()}, in turn, {options.rounds} rounds each of
{options.messages} messages of 4 KB, on one machine ({os.cpu_count()} cores) and disk, with the load and the sink on the same
cores. Relay: SMTP in, queue, SMTP out to Postfix's smtp-sink. Submission: the same over TLS, every session logged in. MX:
SMTP in until the message is in a mailbox (Postfix hands it to Dovecot by LMTP). Both answer when a message is synced.

{table(found)}
"""
    )
    print((HERE / "relay.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
