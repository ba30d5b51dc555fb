"""``make bench-mailbox``: what IMAP commands cost in mailboxes of 1,000, 10,000 and 250,000 messages, on this server and on
Debian's Dovecot, each over the same Maildir; writes benchmarks/mailbox.md.

CPU of all processes and threads of a server for one command, in ms: median of five batches, with the lowest and the
highest. The Maildirs are there before the server knows of them; each command is given once before it is measured, except
that SORT and THREAD have three rows (see ``ordered``). In the large one only commands are given whose answer does not grow with the mailbox. Needs root (Dovecot changes users) and
``apt-get install dovecot-imapd dovecot-pop3d dovecot-lmtpd``.
"""

import argparse
import os
import platform
import pwd
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import fastmail
from benchmarks import svg
from benchmarks.servers import MAIL_USER, dovecot
from fastmail.bench import load, machine, server
from fastmail.bench.journeys import Target

HERE = Path(__file__).parent
DISTINCT = 10_000  # files; a larger Maildir has more names for them
WORDS = [
    f"{a}{b}"
    for a in ("blue", "green", "quick", "slow", "old", "new")
    for b in ("fox", "dog", "report", "plan", "mill")
]
Measured = dict[str, tuple[float, float, float]]  # command: median, lowest, highest


def text(number: int, rng: random.Random) -> bytes:
    """A message: three in four are plain, one has two alternatives, some answer another."""
    subject = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {number}"
    above = (
        f"In-Reply-To: <{number - 7}@m.example>\nReferences: <{number - 7}@m.example>\n"
        if number % 3 == 0 and number > 7
        else ""
    )
    body = " ".join(rng.choice(WORDS) for _ in range(rng.randint(50, 800)))
    head = (
        f"Return-Path: <p{number % 50}@b.example>\nReceived: from a.example by b.example; {formatdate(number * 3600)}\n"
        f"From: Person {number % 50} <p{number % 50}@b.example>\nTo: You <you@c.example>\nCc: They <they@d.example>\n"
        f"Subject: {'Re: ' if above else ''}{subject}\nDate: {formatdate(1_600_000_000 + number * 600)}\n"
        f"Message-ID: <{number}@m.example>\n{above}MIME-Version: 1.0\n"
    )
    if number % 4:
        return (head + f"Content-Type: text/plain; charset=utf-8\n\n{body}\n").encode()
    return (
        head + 'Content-Type: multipart/alternative; boundary="b1"\n\n--b1\nContent-Type: text/plain; charset=utf-8\n\n'
        f"{body}\n--b1\nContent-Type: text/html; charset=utf-8\n\n<p>{body}</p>\n--b1--\n"
    ).encode()


def fill(root: Path, count: int) -> None:
    """A Maildir with so many messages, as other programs leave them."""
    for sub in ("new", "cur", "tmp"):
        (root / sub).mkdir(parents=True, exist_ok=True)
    rng, names = random.Random(7), random.Random(9)
    first: list[Path] = []
    for number in range(count):
        flags = "S" if number % 10 else ""
        # microseconds and process ids as they come: names that only count up fall into few buckets of Dovecot's hash
        # table, and cost it a hundred times as much at each SELECT
        unique = f"M{names.randrange(1_000_000)}P{names.randrange(300, 32_768)}"
        name = root / "cur" / f"{1_600_000_000 + number}.{unique}.bench:2,{flags}"
        if number < DISTINCT:
            name.write_bytes(text(number, rng))
            first.append(name)
        else:
            os.link(first[number % DISTINCT], name)


def commands(count: int, large: bool, since: int) -> dict[str, tuple[int, Callable[[int], bytes]]]:
    """How often in a batch, and what is sent."""
    rng = random.Random(5)
    some: dict[str, tuple[int, Callable[[int], bytes]]] = {
        "SELECT": (50, lambda n: b"SELECT INBOX"),
        "STATUS": (200, lambda n: b"STATUS INBOX (MESSAGES UIDNEXT UNSEEN)"),
        "NOOP": (300, lambda n: b"NOOP"),
        "FETCH of 50 FLAGS": (100, lambda n: b"UID FETCH %d:%d (UID FLAGS)" % (count // 2, count // 2 + 49)),
        "FETCH of 50 ENVELOPE": (50, lambda n: b"UID FETCH %d:%d (UID ENVELOPE)" % (count // 2, count // 2 + 49)),
        "one STORE": (100, lambda n: b"UID STORE %d %b (\\Flagged)" % (count // 2, b"+FLAGS" if n % 2 else b"-FLAGS")),
    }
    if large:
        return some
    return some | {
        "one BODY.PEEK[]": (200, lambda n: b"UID FETCH %d (BODY.PEEK[])" % rng.randint(1, count)),
        "FETCH 1:* (UID FLAGS)": (10, lambda n: b"FETCH 1:* (UID FLAGS)"),
        "FETCH 1:* (ENVELOPE)": (3, lambda n: b"FETCH 1:* (ENVELOPE)"),
        "FETCH 1:* (BODYSTRUCTURE)": (3, lambda n: b"FETCH 1:* (BODYSTRUCTURE)"),
        "FETCH 1:* header fields": (3, lambda n: b"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)])"),
        "SEARCH UNSEEN": (30, lambda n: b"SEARCH UNSEEN"),
        "SEARCH SINCE": (30, lambda n: b"SEARCH SINCE 1-Jan-2030"),
        "SEARCH SUBJECT": (10, lambda n: b"SEARCH SUBJECT quickmill"),
        "SEARCH TEXT": (3, lambda n: b"SEARCH TEXT greenreport"),
        "FETCH CHANGEDSINCE, 10 changes": (20, lambda n: b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % since),
    }


ORDERED = {
    "SORT (SUBJECT)": b"SORT (SUBJECT) UTF-8 ALL",
    "SORT (REVERSE DATE)": b"SORT (REVERSE DATE) UTF-8 ALL",
    "THREAD REFERENCES": b"THREAD REFERENCES UTF-8 ALL",
}
SETTLED = 1.5  # s after a message came in, until neither server is busy with it any more


def ordered(client: load.Client, target: Target, count: int) -> Measured:
    """SORT and THREAD three times each: asked first by anybody since the server knows the mailbox, which can be measured
    once; asked again, when nothing changed; and asked when one message came in since."""
    out: Measured = {}

    def spent(command: bytes, often: int = 1) -> float:
        before = machine.cpu(target.pid)
        for _ in range(often):
            client.imap(command)
        return (machine.cpu(target.pid) - before) / often * 1000

    for name, command in ORDERED.items():
        first = spent(command)
        again = [spent(command, 5) for _ in range(5)]
        later = []
        for number in range(5):
            client.append(b"INBOX", text(count + number, random.Random(number)))
            client.imap(b"NOOP")
            time.sleep(SETTLED)
            later.append(spent(command))
        out[f"{name}, first"] = first, first, first
        out[f"{name}, again"] = statistics.median(again), min(again), max(again)
        out[f"{name}, after one new message"] = statistics.median(later), min(later), max(later)
    return out


@dataclass(slots=True)
class Found:
    """``cpu``: ms for each command; ``first``: s until the first SELECT was answered; ``outside``: ms from a file that
    another program put into new/ until STATUS counts it."""

    cpu: Measured
    first: float
    outside: tuple[float, float, float]


def outside(client: load.Client, root: Path) -> tuple[float, float, float]:
    """Deliver as any MDA does, seven times, and ask until it shows."""
    took = []
    question = b"STATUS INBOX (MESSAGES)"
    for number in range(7):
        before = client.number(question, b"MESSAGES ")
        time.sleep(0.3)
        name = f"{int(time.time())}.M{number}P2.outside"
        (root / "tmp" / name).write_bytes(text(number, random.Random(number)))
        shutil.chown(root / "tmp" / name, (root / "new").stat().st_uid, (root / "new").stat().st_gid)
        begun = time.perf_counter()
        (root / "tmp" / name).rename(root / "new" / name)
        while client.number(question, b"MESSAGES ") == before:
            if time.perf_counter() - begun > 30:
                raise RuntimeError("a delivery of another program is not seen")
        took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took), min(took), max(took)


def measure(target: Target, count: int, large: bool, root: Path) -> Found:
    """Costs of commands, of the first look, and of mail that others deliver."""
    client = load.Client(target.host, target.ports["imap"])
    client.imap(b"LOGIN %b %b" % (target.big.encode(), target.password.encode()))
    begun = time.perf_counter()
    client.imap(b"SELECT INBOX")
    first = time.perf_counter() - begun
    since = client.number(b"STATUS INBOX (HIGHESTMODSEQ)", b"HIGHESTMODSEQ ")
    client.imap(b"UID STORE 1:10 +FLAGS (\\Answered)")
    out: Measured = {}
    for name, (often, command) in commands(count, large, since).items():
        client.imap(command(0))
        time.sleep(1.2 if name in ("one STORE", "SEARCH TEXT") else 0.2)
        spent = []
        for _ in range(5):
            cpu = machine.cpu(target.pid)
            for n in range(often):
                client.imap(command(n))
            if name == "one STORE":
                time.sleep(1.2)  # what it leaves to be done later counts
            spent.append((machine.cpu(target.pid) - cpu) / often * 1000)
        out[name] = statistics.median(spent), min(spent), max(spent)
    if not large:
        out |= ordered(client, target, count)
    client.imap(b"UNSELECT")
    late = outside(client, root)
    client.close()
    return Found(out, first, late)


def rows(parent: str, sizes: list[int]) -> dict[tuple[str, int], Found]:
    found = {}
    who = pwd.getpwnam(MAIL_USER)
    for size in sizes:
        for name in ("Dovecot", "fastmail"):
            print(f"{name}, {size:,} messages", flush=True)
            with dovecot(parent) if name == "Dovecot" else server.running(parent, "maildir", 0) as target:
                if name == "Dovecot":
                    root = Path(target.directory, "mail", target.big)
                else:
                    user, _, domain = target.big.partition("@")
                    root = Path(target.directory, "data", "mail", domain, user)
                fill(root, size)
                if name == "Dovecot":
                    subprocess.run(["chown", "-R", f"{who.pw_uid}:{who.pw_gid}", str(root)], check=True)
                found[(name, size)] = measure(target, size, size > DISTINCT, root)
    return found


def table(found: dict[tuple[str, int], Found], sizes: list[int]) -> str:
    def shown(value: tuple[float, float, float] | None) -> str:
        return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})" if value else ""

    middle, big = sizes[-2:]
    heads = [f"Dovecot, {size:,} | fastmail, {size:,}" for size in sizes]
    lines = [
        "| command | " + " | ".join(heads) + f" | at {middle:,} | {big:,} to {middle:,} |",
        "|---" * (2 * len(sizes) + 3) + "|",
    ]
    for name, ours in found[("fastmail", middle)].cpu.items():
        cells = [shown(found[(who, size)].cpu.get(name)) for size in sizes for who in ("Dovecot", "fastmail")]
        theirs, large = found[("Dovecot", middle)].cpu[name], found[("fastmail", big)].cpu.get(name)
        less = f"{theirs[0] / max(ours[0], 1e-6):.1f}x less"
        lines.append(
            f"| {name} | " + " | ".join(cells) + f" | {less} | " + (f"{large[0] / ours[0]:.2f}x |" if large else "|")
        )
    lines += ["", "| time, not CPU | " + " | ".join(heads) + " |", "|---" * (2 * len(sizes) + 1) + "|"]
    every = [(found[(who, size)], size) for size in sizes for who in ("Dovecot", "fastmail")]
    lines.append("| first SELECT, s | " + " | ".join(f"{one.first:.2f}" for one, _ in every) + " |")
    lines.append(
        "| the same, us a message | " + " | ".join(f"{one.first / size * 1e6:.0f}" for one, size in every) + " |"
    )
    lines.append(
        "| delivery by another program until STATUS counts it, ms | "
        + " | ".join(f"{one.outside[0]:.1f} ({one.outside[1]:.1f} to {one.outside[2]:.1f})" for one, _ in every)
        + " |"
    )
    return "\n".join(lines)


def plot(found: dict[tuple[str, int], Found], sizes: list[int]) -> str:
    """Cost against the size of the mailbox, of what is given in all of them."""
    names = ("SELECT", "STATUS", "one STORE", "FETCH of 50 ENVELOPE")
    series = [(name, [found[("fastmail", size)].cpu[name][0] for size in sizes]) for name in names]
    return svg.lines("Server CPU of a command", sizes, series, "messages in the mailbox", "ms", True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", default="1000,10000,250000", help="messages in the mailboxes, the last two are compared"
    )
    parser.add_argument("--dir", default="", help="where both keep their mail")
    options = parser.parse_args()
    if shutil.which("dovecot", path=os.environ["PATH"] + ":/usr/sbin") is None or os.geteuid() != 0:
        print("this needs root, and dovecot-imapd, dovecot-pop3d and dovecot-lmtpd", file=sys.stderr)
        return 2
    sizes = [int(one) for one in options.sizes.split(",")]
    found = rows(options.dir, sizes)
    version = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    (HERE / "mailbox.md").write_text(
        f"""# What a command costs, and how that grows with the mailbox

Made by `make bench-mailbox` on {time.strftime("%Y-%m-%d", time.gmtime())}: fastmail {fastmail.__version__} (Python
{platform.python_version()}) and Dovecot {version}, each over the same Maildirs, warm, {os.cpu_count()} cores. Server CPU of one
command in ms, all processes: median of five batches (lowest to highest), after each command was given once. SORT and THREAD have
three rows: first, when the server has seen the mailbox but nobody asked for this (one measurement); again, with nothing
changed, which fastmail answers from memory; and after one new message, {SETTLED:g} s after it came. Flags that fastmail stores are
synced before its reply; what a STORE leaves for later (names of files) is counted. The first SELECT of fastmail reads every
message, of Dovecot only names.

{table(found, sizes)}

![mailbox.svg](plots/mailbox.svg)
"""
    )
    (HERE / "plots" / "mailbox.svg").write_text(plot(found, sizes))
    print((HERE / "mailbox.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
