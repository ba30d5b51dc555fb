"""``make bench-peers``: the journeys of ``fastmail bench`` on this server and on Debian's Dovecot, in turn, on one disk;
writes benchmarks/report.md with SVG plots.

Honest by construction: the same load generator, messages, users and disk; both answer only when a message is synced
(Dovecot with ``mail_fsync`` as it comes, which syncs before the reply); rounds alternate, medians count, and the range
is shown. CPU is that of all processes and threads of a server. Needs root (Dovecot changes users) and
``apt-get install dovecot-imapd dovecot-pop3d dovecot-lmtpd``.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import fastmail
from benchmarks import relay
from benchmarks.servers import dovecot
from benchmarks.svg import bars
from fastmail.bench import machine, server
from fastmail.bench.journeys import REST, Bench, Row, everything

HERE = Path(__file__).parent


@dataclass
class Series:
    """One journey on one server, over the rounds."""

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rates.append(row.rate)
        for kept, value in ((self.cpu, row.cpu_ms), (self.p50, row.p50_ms), (self.p99, row.p99_ms)):
            if value is not None:
                kept.append(value)


Found = dict[str, dict[str, Series]]  # journey: server: series
Idle = dict[str, dict[str, list[float]]]  # kind of session: server: KiB
KINDS = {"maildir": "maildir", "segments": "mdbox"}  # ours: what is its like in Dovecot


@dataclass(frozen=True)
class Goal:
    """What is to be reached, as ratios to Dovecot: of the rate, and of its CPU to ours; 0 for none."""

    rate: float = 0.0
    cpu: float = 0.0


GOALS: dict[str, dict[str, Goal]] = {
    "deliver 4 KB by lmtp, 1 session": {"maildir": Goal(1.3), "segments": Goal(2)},
    "deliver 4 KB by lmtp, 10 sessions": {"maildir": Goal(5, 6), "segments": Goal(9, 10)},
    "deliver 4 KB by lmtp, 30 sessions": {"maildir": Goal(5, 6), "segments": Goal(9, 10)},
    "deliver 50 KB by lmtp, 10 sessions": {"maildir": Goal(3, 4), "segments": Goal(5, 6)},
    "deliver 4 KB by lmtp, 10 sessions, 10 recipients": {"maildir": Goal(5), "segments": Goal(12)},
    "SELECT of 10000 messages": {"maildir": Goal(cpu=20), "segments": Goal(cpu=1)},
    "FETCH 1:* (UID FLAGS)": {"maildir": Goal(cpu=5), "segments": Goal(cpu=5)},
    "FETCH 1:* (ENVELOPE)": {"maildir": Goal(cpu=6), "segments": Goal(cpu=6)},
    "FETCH 1:* (BODYSTRUCTURE)": {"maildir": Goal(cpu=1.5), "segments": Goal(cpu=1.5)},
    "FETCH 1:* header fields": {"maildir": Goal(cpu=3), "segments": Goal(cpu=3)},
    "FETCH 1:* (ENVELOPE), asked first": {"maildir": Goal(cpu=15), "segments": Goal(cpu=15)},
    "FETCH 1:* (BODYSTRUCTURE), asked first": {"maildir": Goal(cpu=15), "segments": Goal(cpu=15)},
    "FETCH 1:* (header fields), asked first": {"maildir": Goal(cpu=15), "segments": Goal(cpu=15)},
    "FETCH n (BODY.PEEK[])": {"maildir": Goal(cpu=2), "segments": Goal(cpu=1.5)},
    "FETCH 1:n (BODY.PEEK[]), each message": {"maildir": Goal(cpu=1.3), "segments": Goal(cpu=1)},
    "STORE n +FLAGS": {"maildir": Goal(1, 5), "segments": Goal(1, 1.5)},
    "STORE n -FLAGS, pipelined": {"maildir": Goal(1, 4), "segments": Goal(1, 1)},
    "SEARCH UNSEEN": {"maildir": Goal(cpu=6), "segments": Goal(cpu=1)},
    "SEARCH SINCE": {"maildir": Goal(cpu=50), "segments": Goal(cpu=50)},
    "SEARCH SUBJECT": {"maildir": Goal(cpu=4), "segments": Goal(cpu=4)},
    "APPEND": {"maildir": Goal(cpu=4), "segments": Goal(cpu=2.5)},
    "COPY, each message": {"maildir": Goal(cpu=1), "segments": Goal(cpu=1)},
    "MOVE, each message": {"maildir": Goal(cpu=1), "segments": Goal(cpu=1)},
    "EXPUNGE, each message": {"maildir": Goal(cpu=1), "segments": Goal(cpu=1)},
    "STATUS": {"maildir": Goal(cpu=1.4), "segments": Goal(cpu=1)},
    "NOOP": {"maildir": Goal(cpu=1.4), "segments": Goal(cpu=1)},
    "login, SELECT, LOGOUT, 1 session": {"maildir": Goal(4, 6), "segments": Goal(4, 6)},
    "login, SELECT, LOGOUT, 10 sessions": {"maildir": Goal(4, 6), "segments": Goal(4, 6)},
    "POP3 session, each RETR": {"maildir": Goal(cpu=1.5), "segments": Goal(cpu=1.5)},
}
IDLE_GOALS = {"plain": 80.0, "TLS": 20.0}
EXISTS = "delivery to EXISTS at an idling client"
EXISTS_P99 = 20.0  # ms


def measure(parent: str, rounds: int, scale: float, content: str) -> tuple[Found, Idle]:
    """The journeys on both, in turn; and KiB of an idle session."""
    found: Found = {}
    idle: Idle = {}
    for number in range(rounds):
        for name in ("Dovecot", "fastmail"):
            print(f"{content}, round {number + 1} of {rounds}: {name}", flush=True)
            here = dovecot(parent, KINDS[content]) if name == "Dovecot" else server.running(parent, content, 0)
            with here as target:
                used = ("imap", "imaps", "pop3", "lmtp")
                target.ports = {key: port for key, port in target.ports.items() if key in used}
                one = Bench(target, 1, lambda row: None)
                for kind, each in everything(one, scale, lambda text: None).items():
                    idle.setdefault(kind, {}).setdefault(name, []).append(each)
                for row in one.rows:
                    found.setdefault(row.journey, {}).setdefault(name, Series()).add(row)
    return found, idle


def workers(parent: str, rounds: int, scale: float, content: str) -> dict[str, dict[int, list[float]]]:
    """Rates of this server with one worker and with two: {journey: {workers: rates}}."""
    out: dict[str, dict[int, list[float]]] = {}
    for number in range(rounds):
        for count in (1, 2):
            print(f"{content}, round {number + 1} of {rounds}: {count} of our workers", flush=True)
            with server.running(parent, content, count) as target:
                one = Bench(target, 1, lambda row: None)
                one.warm()
                one.deliver("lmtp", 30, int(6000 * scale), 4096)
                one.fill(int(10_000 * scale))
                time.sleep(REST)
                one.mix(20, int(20_000 * scale))
                for row in one.rows:
                    out.setdefault(row.journey, {}).setdefault(count, []).append(row.rate)
    return out


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else 0.0


def _range(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}" if values else ""


def _against(reached: float, goal: float) -> str:
    """``reached`` beside its goal; in bold where it is missed."""
    shown = f"{reached:.1f}x"
    if not goal:
        return shown
    return f"{shown} (goal {goal:g}x)" if reached >= goal else f"**{shown}** (goal {goal:g}x)"


def table(found: Found, idle: Idle, content: str) -> str:
    """Markdown: rates, CPU, ratios, ranges, goals."""
    lines = [
        "| journey | Dovecot /s | fastmail /s | rate | Dovecot CPU ms | fastmail CPU ms | less CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for journey, servers in found.items():
        theirs, ours = servers["Dovecot"], servers["fastmail"]
        if not _median(ours.rates):
            continue
        rate = _median(ours.rates) / max(_median(theirs.rates), 1e-9)
        cpu = _median(theirs.cpu) / max(_median(ours.cpu), 1e-9)
        goal = GOALS.get(journey, {}).get(content, Goal())
        lines.append(
            f"| {journey} | {_median(theirs.rates):,.0f} ({_range(theirs.rates, ',.0f')}) "
            f"| {_median(ours.rates):,.0f} ({_range(ours.rates, ',.0f')}) | {_against(rate, goal.rate)} "
            f"| {_median(theirs.cpu):.3f} ({_range(theirs.cpu, '.3f')}) "
            f"| {_median(ours.cpu):.3f} ({_range(ours.cpu, '.3f')}) | {_against(cpu, goal.cpu)} |"
        )
    lines += ["", "| | Dovecot | fastmail | |", "|---|---|---|---|"]
    for kind, both in idle.items():
        theirs_, ours_ = _median(both["Dovecot"]), _median(both["fastmail"])
        less = _against(theirs_ / max(ours_, 1e-9), IDLE_GOALS[kind])
        lines.append(f"| memory of an idle session, {kind}, KiB | {theirs_:,.1f} | {ours_:,.1f} | {less} less |")
    for journey, servers in found.items():
        theirs, ours = servers["Dovecot"], servers["fastmail"]
        if ours.p50:
            lines.append(
                f"| {journey}: p50, p99 in ms | {_median(theirs.p50):.1f}, {_median(theirs.p99):.1f} "
                f"| {_median(ours.p50):.1f}, {_median(ours.p99):.1f} | "
                + (
                    f"{'' if _median(ours.p99) <= EXISTS_P99 else '**missed** '}(goal p99 {EXISTS_P99:g})"
                    * (journey == EXISTS)
                )
                + " |"
            )
    return "\n".join(lines)


def plots(found: Found, idle: Idle) -> dict[str, str]:
    """SVGs by file name."""

    def rows(names: list[str], what: str) -> list[tuple[str, float, float]]:
        out = []
        for name in names:
            both = [getattr(found[name][one], what) for one in ("Dovecot", "fastmail")]
            if all(both):
                out.append((name, _median(both[0]), _median(both[1])))
        return out

    sent = [name for name in found if name.startswith("deliver ")]
    read = [name for name in found if not name.startswith("deliver ") and name != EXISTS]
    memory = [(f"IDLE, {kind}", _median(both["Dovecot"]), _median(both["fastmail"])) for kind, both in idle.items()]
    return {
        "deliveries.svg": bars("Deliveries a second, each synced", rows(sent, "rates"), "/s"),
        "delivery-cpu.svg": bars("Server CPU of a delivery", rows(sent, "cpu"), "ms"),
        "reading-cpu.svg": bars("Server CPU of a command", rows(read, "cpu"), "ms"),
        "memory.svg": bars("Memory of an idle IMAP session", memory, "KiB"),
    }


def section(content: str, found: Found, idle: Idle, twos: dict[str, dict[int, list[float]]]) -> str:
    """One kind of content beside its like."""
    own = {"maildir": "Maildir", "segments": "segments"}[content]
    like = "Maildir, maildir_very_dirty_syncs" if content == "maildir" else KINDS[content]
    lines = ["| | one worker /s | two workers /s | |", "|---|---|---|---|"]
    for journey, rates in twos.items():
        ratio = _median(rates[2]) / max(_median(rates[1]), 1e-9)
        cells = [f"{_median(rates[n]):,.0f} ({_range(rates[n], ',.0f')})" for n in (1, 2)]
        lines.append(f"| {journey} | {cells[0]} | {cells[1]} | {_against(ratio, 1.6)} |")
    workers_table = "\n".join(lines)
    return f"## {own} beside Dovecot's {like}\n\n{table(found, idle, content)}\n\n{workers_table}\n"


def beside_postfix(parent: str, rounds: int, scale: float) -> str:
    """Mail that comes by SMTP and lands in a mailbox, beside Postfix in front of Dovecot; LMTP is in the tables above."""
    found = relay.mx(parent, rounds, int(3000 * scale), "maildir")
    return f"## SMTP beside Postfix before Dovecot (Maildir)\n\n{relay.table(found)}\n"


def report(able: machine.Machine, rounds: int, sections: list[str], drawn: dict[str, str]) -> None:
    """benchmarks/report.md and the plots beside it."""
    version = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    (HERE / "plots").mkdir(exist_ok=True)
    for name, text in drawn.items():
        (HERE / "plots" / name).write_text(text)
    when = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"""# Beside Dovecot

Made by `make bench-peers` on {when}: fastmail {fastmail.__version__} (Python {platform.python_version()}, one worker a
core) and Dovecot {version} (as many processes as it likes), in turn, {rounds} rounds each, on one machine and disk with
the load on the same cores: {able.cores} cores, Linux {able.kernel}, {able.appends:,.0f} synced appends and
{able.files:,.0f} durable files a second by one thread. A figure is the median of the rounds, with the lowest and the
highest; a goal that was missed is in bold, and notes.md says why. Both answer a delivery when it is synced; flags that
Dovecot stores are not synced before its reply, ours are. Idle sessions are 1,000 in IDLE, each of another user whom
the server had not served before. Relaying and submission beside Postfix are in relay.md, mailboxes of 250,000 messages
in mailbox.md, 256 and 10,000 sessions in sessions.md.

"""
    shown = "\n".join(f"![{name}](plots/{name})" for name in drawn)
    (HERE / "report.md").write_text(head + "\n".join(sections) + "\n" + shown + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the work of `fastmail bench`")
    parser.add_argument("--dir", default="", help="where both keep their mail: decides which disk is measured")
    parser.add_argument("--content", default="", choices=["maildir", "segments"], help="one kind alone")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    missing = [name for name in ("dovecot", "postfix", "smtp-sink") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(
            f"this needs root, and is missing {', '.join(missing) or 'root'}: apt-get install postfix dovecot-imapd",
            end="",
        )
        print(" dovecot-pop3d dovecot-lmtpd")
        return 2
    with tempfile.TemporaryDirectory(prefix="fastmail-bench-", dir=options.dir or None) as place:
        able = machine.measure(place)
    sections, drawn = [], {}
    for content in [options.content] if options.content else list(KINDS):
        found, idle = measure(options.dir, options.rounds, options.scale, content)
        twos = workers(options.dir, options.rounds, options.scale, content)
        sections.append(section(content, found, idle, twos))
        drawn = drawn or plots(found, idle)
    sections.append(beside_postfix(options.dir, options.rounds, options.scale))
    report(able, options.rounds, sections, drawn)
    print((HERE / "report.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
