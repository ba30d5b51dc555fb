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
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

import fastmail
from benchmarks.servers import DOMAIN, Side, dovecot, ours, postfix, sink
from fastmail.bench import load, machine

HERE = Path(__file__).parent
CONNECTIONS = (10, 30, 64)
SUBMISSION = (64,)


@dataclass
class Series:
    """One journey on one side: messages a second accepted and through, CPU ms a message."""

    accepted: list[float] = field(default_factory=list)
    through: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def once(side: Side, found: Series, sessions: int, count: int, domain: str, size: int = 4096) -> None:
    """One run: ``count`` messages of ``size`` octets, then wait until the last is through."""
    text = load.message(size).replace(b"\r\n.", b"\r\n..") + b".\r\n"
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


Found = dict[str, dict[str, Series]]  # journey: server: series


def mx(parent: str, rounds: int, count: int, content: str) -> Found:
    """SMTP in until the message is in a mailbox, of 4 KB and of 50 KB, from 64 sessions: Postfix before Dovecot, and this
    server."""
    found: Found = {}

    def run(name: str, side: Side) -> None:
        once(side, Series(), 10, 400, DOMAIN)
        for size, share in ((4096, 1.0), (51200, 0.5)):
            journey = f"{size // 1024} KB by SMTP into a mailbox, 64 sessions"
            once(side, found.setdefault(journey, {}).setdefault(name, Series()), 64, int(count * share), DOMAIN, size)

    for number in range(rounds):
        print(f"Postfix and fastmail, round {number + 1} of {rounds}", flush=True)
        with dovecot(parent) as mailboxes, postfix(parent, "lmtp", mailboxes.ports["lmtp"], [mailboxes.pid]) as side:
            run("Postfix", side)
        with ours(parent, content, 0) as side:
            run("fastmail", side)
    return found


def measure(parent: str, rounds: int, count: int, content: str) -> Found:
    found: Found = {}

    def run(journey: str, name: str, side: Side, domain: str, connections: tuple[int, ...] = CONNECTIONS) -> None:
        once(side, Series(), 10, 400, domain)  # what a new account or connection costs is not measured
        for sessions in connections:
            series = found.setdefault(f"{journey}, {sessions}", {}).setdefault(name, Series())
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


def table(found: Found) -> str:
    lines = [
        "| journey, sessions | | accepted/s | through/s | CPU ms a message |",
        "|---|---|---|---|---|",
    ]
    for journey, sides in found.items():
        for name, series in sides.items():
            lines.append(
                f"| {journey} | {name} | {_shown(series.accepted, ',.0f')} | {_shown(series.through, ',.0f')} "
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
