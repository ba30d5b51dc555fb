"""``make bench-auth``: what the checks of sender authentication cost, and signing; writes benchmarks/auth.md.

In this process: canonical forms and hashes by size, signatures by kind of key, SPF and DMARC from the cache, and all
checks of a message (benchmarks.auth_work), as CPU of the thread and, where valgrind is installed, as instructions: these
tell more on a machine that does other work too. Then a started server with the checks and without, in turn, and Postfix
with OpenDKIM, OpenDMARC and policyd-spf-python with them and without (benchmarks.auth_load), where these are installed.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import fastmail
from benchmarks import auth_load, auth_session, auth_work, instructions
from benchmarks.auth_work import LINE, private, shown, timed
from fastmail.policy.dkim import Content

HERE = Path(__file__).parent
SIZES = {"1 KB": 1 << 10, "4 KB": 1 << 12, "100 KB": 100 << 10, "1 MB": 1 << 20, "10 MB": 10 << 20}
SECONDS = 0.3  # of hashing, for each size and form
# what openssl speed calls an algorithm, and which of ours is measured beside it
ALONE = {"rsa2048": "RSA-2048", "ed25519": "Ed25519"}


def rate(work: object, octets: int) -> str:
    """GB/s by the quickest of some rounds: others disturb, and nobody helps."""
    assert callable(work)
    best, end = float("inf"), time.monotonic() + SECONDS
    while time.monotonic() < end:
        since = time.thread_time_ns()
        times = max(1, (256 << 10) // octets)
        for _ in range(times):
            work()
        best = min(best, (time.thread_time_ns() - since) / times)
    return f"{octets / best:.2f}"


def hashing() -> str:
    lines = ["| size | simple | relaxed | SHA-256 alone |", "|---|---|---|---|"]
    for name, size in SIZES.items():
        body = (LINE * (size // len(LINE) + 1))[:size]

        def canonical(relaxed: bool, body: bytes = body) -> None:
            content = Content(b"From: a@b.example\n")
            content.want(relaxed)
            content.feed(body)
            content.finish()

        forms = [lambda: canonical(False), lambda: canonical(True), lambda body=body: hashlib.sha256(body).digest()]
        lines.append(f"| {name} | {' | '.join(rate(one, size) for one in forms)} |")
    return "\n".join(lines)


def by_openssl() -> dict[str, str]:
    """us of one signature and one verification by ``openssl speed``, by the kind's name here."""
    if shutil.which("openssl") is None:
        return {}
    out = {}
    for name, kind in ALONE.items():
        done = subprocess.run(["openssl", "speed", "-seconds", "1", name], capture_output=True, text=True, check=False)
        found = re.search(r"([0-9.]+) +([0-9.]+)$", done.stdout.strip())  # a second
        if found is not None:
            signing, verifying = (1e6 / float(text) for text in found.groups())
            out[f"{kind} signed"], out[f"{kind} verified"] = f"{signing:.0f}", f"{verifying:.0f}"
    return out


def checks(rounds: int) -> str:
    """The table of all cases."""
    pem = private().private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    counts = instructions.counted("benchmarks.auth_work", pem) if instructions.able() else {}
    alone = by_openssl()
    lines = ["| | CPU, us | instructions | openssl speed, us |", "|---|---|---|---|"]
    for case in auth_work.cases(pem):
        count = f"{counts[case.name]:,}" if case.name in counts else ""
        lines.append(f"| {case.name} | {shown(timed(case, rounds))} | {count} | {alone.get(case.name, '')} |")
    return "\n".join(lines)


def _row(name: str, found: dict[str, list[float]]) -> str:
    cells = [f"{statistics.median(one):.2f} ({min(one):.2f} to {max(one):.2f})" for one in found.values()]
    more = statistics.median(found["with"]) - statistics.median(found["without"])
    return f"| {name} | {' | '.join(cells)} | {more * 1000:.0f} |"


def delivery(parent: str, rounds: int, count: int) -> str:
    lines = ["| | without, ms | with, ms | the checks, us |", "|---|---|---|---|"]
    lines.append(_row("fastmail", auth_load.measure(parent, rounds, count)))
    why = auth_load.missing()
    if not why:
        try:
            lines.append(_row("Postfix, OpenDKIM, OpenDMARC, policyd-spf", auth_load.theirs(parent, rounds, count)))
        except RuntimeError as error:
            why = str(error)
    if why:
        lines.append(f"\nPostfix with OpenDKIM, OpenDMARC and policyd-spf was not measured: {why}.")
    return "\n".join(lines)


def sessions(rounds: int) -> str:
    found = auth_session.measure(rounds)
    more = [checked - plain for plain, checked in zip(found["without"], found["with"], strict=True)]
    lines = ["| without, us | with, us | the checks, us |", "|---|---|---|"]
    lines.append(f"| {' | '.join(shown(one) for one in (found['without'], found['with'], more))} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of deliveries")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--times", type=int, default=60, help="rounds of what is measured in this process")
    parser.add_argument("--dir", default="", help="where servers keep their mail")
    options = parser.parse_args()
    parts = (
        hashing(),
        checks(options.times),
        sessions(options.times),
        delivery(options.dir, options.rounds, options.messages),
    )
    now = time.strftime("%Y-%m-%d", time.gmtime())
    (HERE / "auth.md").write_text(
        f"""# What sender authentication costs

Made by `make bench-auth` on {now}: fastmail {fastmail.__version__}, Python {platform.python_version()}, on one machine with
{os.cpu_count()} cores. notes.md says what was tried and what it paid.

## Canonical forms and hashes, GB/s

A body of lines of {len(LINE)} octets with LF, as content is kept here; the quickest of many rounds.

{parts[0]}

## Checks in one process

CPU of the thread, the median and where nine of ten rounds are; instructions by callgrind, which has no SHA extensions of
the processor, and other vector units: what it says of hashes and RSA is more than what they cost. The first four
have SHA-256 of header and body and one RSA-2048 verification in them. Each message is another one, of one sender where
nothing else is said.
Signing a message has its canonical form and its hash in it.

{parts[1]}

## Sessions in one process

The same messages through a session of port 25 into a store in memory, with the checks and without, in turn.

{parts[2]}

## Deliveries by port 25

A signed message of 4 KB until it is in a mailbox, {auth_load.SESSIONS} sessions, {options.messages} messages, {options.rounds} rounds in turn: CPU of all
processes for each message, medians and range. Answers of the DNS are cached here; Postfix's company asks a name
server beside it, whose CPU does not count, but for OpenDKIM, which reads the key from a file.

{parts[3]}
"""
    )
    print((HERE / "auth.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
