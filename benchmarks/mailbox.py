"""``make bench-mailbox``: what IMAP commands cost in a mailbox of 10,000 and one of 250,000 messages, on this server and
on Debian's Dovecot, each over the same Maildir; writes benchmarks/mailbox.md.

CPU of all processes and threads of a server for one command, in ms: median of five batches, with the lowest and the
highest. The Maildirs are there before the server knows of them; each command is given once before it is measured. In the
large one only commands are given whose answer does not grow with the mailbox. Needs root (Dovecot changes users) and
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
from email.utils import formatdate
from pathlib import Path

import fastmail
from benchmarks.peers import MAIL_USER, dovecot
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
    rng = random.Random(7)
    for number in range(count):
        flags = "S" if number % 10 else ""
        name = root / "cur" / f"{1_600_000_000 + number}.M{number}P1.bench:2,{flags}"
        if number < DISTINCT:
            name.write_bytes(text(number, rng))
        else:
            os.link(
                root
                / "cur"
                / f"{1_600_000_000 + number % DISTINCT}.M{number % DISTINCT}P1.bench:2,{'S' if number % DISTINCT % 10 else ''}",
                name,
            )


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
        "SORT (REVERSE DATE)": (5, lambda n: b"SORT (REVERSE DATE) UTF-8 ALL"),
        "THREAD REFERENCES": (3, lambda n: b"THREAD REFERENCES UTF-8 ALL"),
    }


def measure(target: Target, count: int, large: bool) -> tuple[Measured, float]:
    """Costs of commands, and s until the first SELECT was answered."""
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
    client.close()
    return out, first


def rows(parent: str, sizes: list[int]) -> dict[tuple[str, int], tuple[Measured, float]]:
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
                found[(name, size)] = measure(target, size, size > sizes[0])
    return found


def table(found: dict[tuple[str, int], tuple[Measured, float]], sizes: list[int]) -> str:
    def shown(value: tuple[float, float, float] | None) -> str:
        return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})" if value else ""

    small, big = sizes
    lines = [
        f"| command | Dovecot, {small:,} | fastmail, {small:,} | | Dovecot, {big:,} | fastmail, {big:,} | {big:,} to {small:,} |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, ours in found[("fastmail", small)][0].items():
        theirs = found[("Dovecot", small)][0][name]
        large, their_large = found[("fastmail", big)][0].get(name), found[("Dovecot", big)][0].get(name)
        growth = f"{large[0] / ours[0]:.2f}x" if large else ""
        lines.append(
            f"| {name} | {shown(theirs)} | {shown(ours)} | {theirs[0] / max(ours[0], 1e-6):.1f}x less "
            f"| {shown(their_large)} | {shown(large)} | {growth} |"
        )
    lines.append(
        "| first SELECT, s | "
        + " | ".join(f"{found[(name, small)][1]:.1f}" for name in ("Dovecot", "fastmail"))
        + " | | "
        + " | ".join(f"{found[(name, big)][1]:.1f}" for name in ("Dovecot", "fastmail"))
        + " | |"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10000,250000", help="messages in the small and the large mailbox")
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
command in ms, all processes: median of five batches (lowest to highest). Flags that fastmail stores are synced before its
reply; what a STORE leaves for later (names of files) is counted.

{table(found, sizes)}
"""
    )
    print((HERE / "mailbox.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
