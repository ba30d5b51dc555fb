"""``make bench-sessions``: what more sessions at once cost, on this server and on Debian's Dovecot in turn: deliveries by
1, 10, 64 and 256 LMTP sessions, with their latency and CPU, and the memory of up to 10,000 idle IMAP sessions; writes
benchmarks/sessions.md with plots.

Medians of the rounds, with the lowest and the highest; the load is on the same cores. Dovecot is not asked for 10,000
sessions: it has a process for each, and half a megabyte in it. Needs root and ``apt-get install dovecot-imapd
dovecot-pop3d dovecot-lmtpd``.
"""

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import fastmail
from benchmarks import svg
from benchmarks.peers import KINDS, Series
from benchmarks.servers import dovecot
from fastmail.bench import server
from fastmail.bench.journeys import Bench, Target

HERE = Path(__file__).parent
DELIVERIES = {1: 400, 10: 2000, 64: 4000, 256: 6000}  # sessions: messages
IDLE = (100, 1000, 10_000)
MOST_PROCESSES = 1000


@dataclass
class Found:
    """One server with one kind of content. ``idle``: KiB of each session."""

    sent: dict[int, Series] = field(default_factory=dict)
    idle: dict[int, float] = field(default_factory=dict)


def _started(name: str, parent: str, content: str, fresh: int) -> AbstractContextManager[Target]:
    """A server with so many users whom it has not served yet."""
    if name == "Dovecot":
        return dovecot(parent, KINDS[content], fresh)
    return server.running(parent, content, 0, fresh=fresh)


def measure(parent: str, rounds: int, content: str) -> dict[str, Found]:
    """Both servers, in turn."""
    out = {"Dovecot": Found(), "fastmail": Found()}
    for number in range(rounds):
        for name, found in out.items():
            print(f"{content}, round {number + 1} of {rounds}: {name}", flush=True)
            for sessions in IDLE if number == 0 else ():
                if name == "fastmail" or sessions <= MOST_PROCESSES:
                    with _started(name, parent, content, sessions) as target:
                        found.idle[sessions] = Bench(target, 1, lambda row: None).idle(sessions, 0)
            with _started(name, parent, content, 0) as target:
                one = Bench(target, 1, lambda row: None)
                one.warm()
                for sessions, messages in DELIVERIES.items():
                    one.deliver("lmtp", sessions, messages, 4096)
                    found.sent.setdefault(sessions, Series()).add(one.rows[-1])
    return out


def _shown(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def table(found: dict[str, Found]) -> str:
    lines = [
        "| LMTP sessions | server | deliveries/s | CPU ms | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
    ]
    for sessions in DELIVERIES:
        for name, one in found.items():
            row = one.sent[sessions]
            lines.append(
                f"| {sessions} | {name} | {_shown(row.rates, ',.0f')} | {_shown(row.cpu, '.3f')} "
                f"| {_shown(row.p50, '.1f')} | {_shown(row.p99, '.1f')} |"
            )
    lines += ["", "| idle IMAP sessions | " + " | ".join(f"{n:,}" for n in IDLE) + " |", "|---" * (len(IDLE) + 1) + "|"]
    for name, one in found.items():
        cells = [f"{one.idle[n]:,.1f} KiB each" if n in one.idle else "" for n in IDLE]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plots(every: dict[str, dict[str, Found]]) -> dict[str, str]:
    """SVGs by file name."""
    named = {
        f"{name}, {KINDS[content] if name == 'Dovecot' else content}": found
        for content, both in every.items()
        for name, found in both.items()
    }

    def sent(what: str) -> list[svg.Line]:
        return [
            (name, [statistics.median(getattr(one.sent[n], what)) for n in DELIVERIES]) for name, one in named.items()
        ]

    idle: list[svg.Line] = [(name, [one.idle.get(n) for n in IDLE]) for name, one in named.items()]
    counts, how = list(DELIVERIES), "LMTP sessions"
    return {
        "sessions-rate.svg": svg.lines("Deliveries a second, each synced", counts, sent("rates"), how, "/s"),
        "sessions-cpu.svg": svg.lines("Server CPU of a delivery", counts, sent("cpu"), how, "ms"),
        "sessions-p99.svg": svg.lines("99 of 100 deliveries are answered within", counts, sent("p99"), how, "ms", True),
        "sessions-memory.svg": svg.lines("Memory of a session in IDLE", IDLE, idle, "IMAP sessions", "KiB", True),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default="", help="where both keep their mail: decides which disk is measured")
    options = parser.parse_args()
    if shutil.which("dovecot", path=os.environ["PATH"] + ":/usr/sbin") is None or os.geteuid() != 0:
        print("this needs root, and dovecot-imapd, dovecot-pop3d and dovecot-lmtpd", file=sys.stderr)
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2 * IDLE[-1]:
        print(f"this needs {2 * IDLE[-1]} descriptors: ulimit -n", file=sys.stderr)
        return 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * IDLE[-1], most))
    every = {content: measure(options.dir, options.rounds, content) for content in KINDS}
    version = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    parts = [
        f"""# What more sessions cost

Made by `make bench-sessions` on {time.strftime("%Y-%m-%d", time.gmtime())}: fastmail {fastmail.__version__} (Python
{platform.python_version()}, one worker a core) and Dovecot {version}, in turn, {options.rounds} rounds each, {os.cpu_count()} cores, the
load on the same: median (lowest to highest). Messages of 4 KB to random users out of 100, each answered when it is synced;
CPU of all processes. Idle sessions are in IDLE, each of another user whom the server had not served before, and were measured
once for each number, on a server that had just been started: what its first sessions bring with them is in the figure.
Dovecot has a process for each, and was not asked for 10,000.
"""
    ]
    for content, found in every.items():
        own, like = {"maildir": ("Maildir", "Maildir"), "segments": ("Segments", "mdbox")}[content]
        parts.append(f"## {own} beside Dovecot's {like}\n\n{table(found)}\n")
    drawn = plots(every)
    for name, text in drawn.items():
        (HERE / "plots" / name).write_text(text)
    parts.append("\n".join(f"![{name}](plots/{name})" for name in drawn) + "\n")
    (HERE / "sessions.md").write_text("\n".join(parts))
    print((HERE / "sessions.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
