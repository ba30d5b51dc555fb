"""``make bench-directory``: the directory with many accounts. What a look-up costs for RCPT, for a login (without its
hash) and for a sender, in us; what a process holds before and after 100,000 look-ups; the time until `fastmail account
list` has printed its first line; and changes a second of `fastmail batch`. Writes benchmarks/directory.md.

``cold``: an address that the process did not ask for before; ``warm``: one that it did, lately. One account of ten has an
alias, which is the sender that is checked. Each measurement has a process of its own. The rows are in the page cache, as
they are in a server that runs: what a disk adds is measured nowhere here.
"""

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fastmail
from fastmail.app.quickstart import quickstart
from fastmail.directory import access
from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address

HERE = Path(__file__).parent
SIZES = ((100_000, 1_000), (1_000_000, 10_000))  # accounts, domains
AT_ONCE = 50_000  # accounts of one transaction
ALIASED = 10  # one account of so many has an alias
LOOKUPS = 20_000
FOR_MEMORY = 100_000
REQUESTS = 20_000
GOAL_US, GOAL_MB = 15.0, 64.0  # a look-up that is cold; what a process holds more after FOR_MEMORY look-ups
KINDS = ("RCPT", "login", "sender")


@dataclass
class Cost:
    """Of a look-up, in us."""

    p50: float
    p99: float


@dataclass
class Size:
    """All that is measured of one size. ``memory``: MB of its own that a process holds, before and after look-ups;
    ``first``: s until the first line; ``changes``: a second."""

    accounts: int
    domains: int
    octets: int
    filled: float
    costs: dict[str, dict[str, Cost]]
    memory: tuple[float, float]
    first: float
    changes: float


def address(number: int, domains: int) -> str:
    return f"user{number}@d{number % domains}.bench.example"


def alias(number: int, domains: int) -> str:
    return f"alias{number}@d{number % domains}.bench.example"


def fill(place: str, accounts: int, domains: int) -> str:
    """A server's directory; the configuration."""
    quickstart(place, account_address("first@bench.example"), "localhost", "unused", standard_ports=False)
    users = LocalDirectory(os.path.join(place, "data"))
    with users.batch():
        for number in range(domains):
            users.add_domain(f"d{number}.bench.example")
    for start in range(0, accounts, AT_ONCE):
        some = range(start, min(start + AT_ONCE, accounts))
        with users.batch():
            users.add_accounts([(address(number, domains), "{PLAIN}secret") for number in some])
            for number in some[::ALIASED]:
                users.add_alias(alias(number, domains), [address(number, domains)])
    users.close()
    return os.path.join(place, "fastmail.toml")


# ---------------------------------------------------------------- in a process of its own


def look(place: str, kind: str, accounts: int, domains: int) -> None:
    """Prints the cost of each look-up: cold, then of the last ones again."""
    users = LocalDirectory(os.path.join(place, "data"))
    chance = random.Random(kind)
    numbers = [
        number * ALIASED for number in chance.sample(range(accounts // ALIASED), min(LOOKUPS, accounts // ALIASED))
    ]

    def login(number: int) -> object:
        record = users.account(address(number, domains))
        assert record is not None
        return access.refusal(record, users.domain(record.address.rpartition("@")[2]))

    def sender(number: int) -> object:
        return users.may_send_as(known[number], alias(number, domains))

    asked: dict[str, Callable[[int], object]] = {
        "RCPT": lambda number: users.destinations(address(number, domains)),
        "login": login,
        "sender": sender,
    }
    senders = numbers if kind == "sender" else []
    known = {number: found for number in senders if (found := users.account(address(number, domains))) is not None}
    users.domain("bench.example")
    print(json.dumps([_timed(asked[kind], numbers), _timed(asked[kind], numbers[-LOOKUPS // 4 :])]))
    users.close()


def _timed(call: Callable[[int], object], numbers: list[int]) -> list[float]:
    """(p50, p99) in us."""
    took = []
    for number in numbers:
        begun = time.perf_counter_ns()
        call(number)
        took.append(time.perf_counter_ns() - begun)
    took.sort()
    return [took[len(took) // 2] / 1000, took[int(len(took) * 0.99)] / 1000]


def remember(place: str, accounts: int, domains: int) -> None:
    """Prints MB that the process holds of its own before and after look-ups of different addresses."""
    users = LocalDirectory(os.path.join(place, "data"))
    users.destinations(address(0, domains))
    before = _own()
    for number in random.Random(1).sample(range(accounts), min(FOR_MEMORY, accounts)):
        users.destinations(address(number, domains))
    print(json.dumps([before, _own()]))
    users.close()


def _own() -> float:
    """MB without pages of files, which all processes share."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


# ---------------------------------------------------------------- the whole


def _alone(*words: str) -> list[list[float]] | list[float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.directory", *words], capture_output=True, text=True, check=True
    )
    found: list[list[float]] | list[float] = json.loads(done.stdout)
    return found


def _first_line(config: str) -> float:
    """S from the start of the program until the first row is there."""
    begun = time.monotonic()
    with subprocess.Popen([_fastmail(), "account", "list", "-c", config], stdout=subprocess.PIPE) as listing:
        assert listing.stdout is not None and listing.stdout.readline() and listing.stdout.readline()
        took = time.monotonic() - begun
        listing.kill()
    return took


def _changes(config: str, accounts: int, domains: int) -> float:
    numbers = random.Random(2).sample(range(accounts), min(REQUESTS, accounts))
    requests = [
        {"do": "account.set", "name": address(number, domains), "fields": {"notes": f"number {number}"}}
        for number in numbers
    ]
    text = "".join(json.dumps(one) + "\n" for one in requests).encode()
    begun = time.monotonic()
    done = subprocess.run([_fastmail(), "batch", "-c", config], input=text, capture_output=True, check=True)
    took = time.monotonic() - begun
    assert done.stdout.count(b'"ok": true') == len(numbers)
    return len(numbers) / took


def _fastmail() -> str:
    return os.path.join(os.path.dirname(sys.executable), "fastmail")


def measure(parent: str, accounts: int, domains: int) -> Size:
    place = tempfile.mkdtemp(prefix="fastmail-bench-", dir=parent or None)
    try:
        base = os.path.join(place, "s")
        begun = time.monotonic()
        config = fill(base, accounts, domains)
        filled = time.monotonic() - begun
        words = str(accounts), str(domains)
        costs: dict[str, dict[str, Cost]] = {}
        for kind in KINDS:
            cold, warm = _alone("look", base, kind, *words)
            assert isinstance(cold, list) and isinstance(warm, list)
            costs[kind] = {"cold": Cost(*cold), "warm": Cost(*warm)}
        before, after = _alone("remember", base, *words)
        assert isinstance(before, float) and isinstance(after, float)
        size = os.stat(os.path.join(base, "data", "directory", "data.mdb")).st_blocks * 512
        first, changes = _first_line(config), _changes(config, accounts, domains)
        return Size(accounts, domains, size, filled, costs, (before, after), first, changes)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def report(found: list[Size]) -> str:
    lines = [
        "# The directory with many accounts",
        "",
        f"Made by `make bench-directory` on {time.strftime('%Y-%m-%d')}: fastmail {fastmail.__version__} "
        f"(Python {platform.python_version()}), {os.cpu_count()} cores.",
        "us of a look-up, cold (an address that this process did not ask for before) and warm. The sender is an alias",
        "that names the account: its row is enough, and nothing but its domain is remembered, so warm costs what cold does.",
        f"The goal is {GOAL_US:.0f} us at the median, with any number of accounts.",
        "",
        "| accounts | domains | look-up | cold p50 | cold p99 | warm p50 | warm p99 |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        for kind, costs in one.costs.items():
            cold, warm = costs["cold"], costs["warm"]
            lines.append(
                f"| {one.accounts:,} | {one.domains:,} | {kind} | {cold.p50:.1f} | {cold.p99:.1f} | {warm.p50:.1f} "
                f"| {warm.p99:.1f} |"
            )
    lines += [
        "",
        f"MB that a process holds of its own before and after {FOR_MEMORY:,} look-ups of different addresses (at most "
        f"{GOAL_MB:.0f} more,",
        "with any number of accounts); s until `fastmail account list` has its first row, the start of Python among it;",
        f"changes a second of `fastmail batch` with {REQUESTS:,} requests.",
        "",
        "| accounts | directory MB | filled in s | MB before | MB after | first row s | changes/s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.accounts:,} | {one.octets / 1e6:,.0f} | {one.filled:.0f} | {one.memory[0]:.1f} | {one.memory[1]:.1f} "
        f"| {one.first:.2f} | {one.changes:,.0f} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    if sys.argv[1:2] == ["look"]:
        look(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return 0
    if sys.argv[1:2] == ["remember"]:
        remember(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default="", help="where the directory lies")
    parser.add_argument("--accounts", type=int, default=0, help="only so many, in a hundredth as many domains")
    options = parser.parse_args()
    sizes = [(options.accounts, options.accounts // 100)] if options.accounts else SIZES
    found = []
    for accounts, domains in sizes:
        found.append(measure(options.dir, accounts, domains))
        print(report(found[-1:]), flush=True)
    if not options.accounts:
        (HERE / "directory.md").write_text(report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
