"""``make bench-journal``: the journal by itself. Records a second by 1 to 64 writers in one and in several processes, of
600 octets and of 4 KB; and the time from the start of a server that was killed until it greets, by the size of the journal
that it replays, with 100,000 accounts in its index. Writes benchmarks/journal.md.

A writer submits one operation to the commit queue and waits until it is durable. A record holds a row of 200 octets and the
content of a file, which is not written here. The kill comes when so much of the journal has been written since the last
checkpoint, which the keeper otherwise keeps to 32 MB.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import fastmail
from fastmail._core import mime
from fastmail.app import keeper
from fastmail.app.assembly import Assembly
from fastmail.app.child import free_ports
from fastmail.app.quickstart import quickstart
from fastmail.config.load import load
from fastmail.directory.local import LocalDirectory
from fastmail.durable import env as durable
from fastmail.durable.commit import CommitQueue, Operation
from fastmail.durable.env import Environment
from fastmail.durable.opening import Journaled
from fastmail.durable.transaction import Txn
from fastmail.model.address import account_address
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import Delivery, NewMessage
from fastmail.store.local.index import box_rows, mailboxes

HERE = Path(__file__).parent
WRITERS, PROCESSES, OCTETS = (1, 4, 16, 64), (1, 2, 4), (600, 4096)
SECONDS, ROW = 3.0, 200
SIZES = (1, 32, 64, 128, 256)  # MB of journal
ACCOUNTS, WITH_MAILDIR = 100_000, 1_000
BOXES = (INBOX, "Archive", "Drafts", "Junk", "Sent", "Trash")
MESSAGE = 4096
GOAL = 2.0  # s


@dataclass
class Rate:
    """One measurement: records a second of all writers, ms that one waits, CPU of a record in us."""

    rate: float
    p50: float
    p99: float
    cpu: float


# ---------------------------------------------------------------- records a second


def _environment(place: str) -> Environment:
    return Environment(os.path.join(place, "env"), ["rows"], 1, 4 << 30, journaled=Journaled(place))


async def _write(place: str, writers: int, octets: int) -> list[float]:
    """How long each record of this process took, in s."""
    env = _environment(place)
    queue = CommitQueue(env, asyncio.get_running_loop(), lambda results: None)
    rows, content = env.db["rows"], os.urandom(octets - ROW)
    took: list[float] = []
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    end = time.monotonic() + SECONDS

    async def one(number: int) -> None:
        count = 0
        while (begun := time.monotonic()) < end:
            key = b"%d %d %d" % (os.getpid(), number, count % 1000)

            def apply(txn: object, key: bytes = key) -> None:
                txn.put(key, bytes(ROW), db=rows)  # type: ignore[attr-defined]
                txn.made(b"file", -1, [content])  # type: ignore[attr-defined]

            await queue.submit(Operation(apply))
            took.append(time.monotonic() - begun)
            count += 1

    await asyncio.gather(*(one(n) for n in range(writers)))
    await queue.close()
    return took


def writer(place: str, writers: int, octets: int) -> None:
    """A process of its own."""
    took = asyncio.run(_write(place, writers, octets))
    print(json.dumps([took, time.process_time()]), flush=True)
    os._exit(0)


def rate(parent: str, processes: int, writers: int, octets: int) -> Rate:
    """All writers, in so many processes, with a keeper beside them."""
    with tempfile.TemporaryDirectory(prefix="fastmail-bench-", dir=parent or None) as place:
        env = _environment(place)
        every = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.journal", "writer", place, str(writers // processes), str(octets)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        for one in every:
            assert one.stdin is not None and one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in every:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            env.checkpoint(keeper.SECONDS, keeper.OCTETS)
            time.sleep(keeper.LOOK)
        took: list[float] = []
        cpu = 0.0
        for one in every:
            assert one.stdout is not None
            times, used = json.loads(one.stdout.readline())
            took += times
            cpu += used
            one.wait()
        env.close()
    took.sort()
    return Rate(
        len(took) / SECONDS, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, cpu / len(took) * 1e6
    )


# ---------------------------------------------------------------- recovery


@dataclass
class Recovery:
    """MB of journal, records and files that were replayed, s that this took, s from the start until a greeting."""

    size: int
    records: int
    mended: int
    replayed: float
    greeted: float


def prepare(place: str, content: str) -> tuple[str, int]:
    """A server's directory with all accounts in its index: (configuration, port of LMTP)."""
    quickstart(place, account_address("big@bench.example"), "localhost", "unused", standard_ports=False)
    path = Path(place, "fastmail.toml")
    lines = path.read_text().splitlines()
    ports = dict(zip(("lmtp", "imap", "smtp"), free_ports(3), strict=True))
    served = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
    for number, line in enumerate(lines):
        name = line.partition(" = ")[0]
        if name in served:
            lines[number] = f'{name} = ["127.0.0.1:{ports[name]}"]' if name in ports else f"{name} = []"
    text = "\n".join(lines).replace('content = "maildir"', f'content = "{content}"')
    path.write_text(text + '\n[log]\nlevel = "info"\n')
    users = LocalDirectory(os.path.join(place, "data"))
    users.add_accounts([(f"u{n}@bench.example", "{PLAIN}secret") for n in range(ACCOUNTS)], replace=True)
    users.close()
    asyncio.run(_make_mailboxes(str(path), content))
    return str(path), ports["lmtp"]


async def _make_mailboxes(config: str, content: str) -> None:
    """Rows for every account; with Maildir, directories for the first ones only."""
    assembly = Assembly(load(config))
    await assembly.start()
    store = assembly.store
    shard = store.commits.shards[0]
    rows = assembly.directory.accounts()
    if content == "maildir":
        for row in rows[:WITH_MAILDIR]:
            await store.open(assembly.deliverer.account(row))
    for start in range(0, len(rows), 1000):
        some = [row.id for row in rows[start : start + 1000]]

        def apply(txn: Txn, some: list[int] = some) -> None:
            for number in some:
                for name in BOXES:
                    if mailboxes.find(txn, shard.tables, number, name) is None:
                        box = mailboxes.create(txn, shard.tables, number, name, 0)
                        box.generation = 1
                        box_rows.save(txn, shard.tables, box)

        await shard.queue.submit(Operation(apply))
    await assembly.close()


async def _fill(config: str, megabytes: int) -> None:
    """Take mail until so much of the journal is written, without a checkpoint; then the process is gone."""
    durable.BEHIND = 10**9
    assembly = Assembly(load(config))
    await assembly.start()
    rng = random.Random(megabytes)
    accounts = [assembly.deliverer.account(row) for row in assembly.directory.accounts()]
    if assembly.config.store.content == "maildir":
        accounts = [account for account in accounts if os.path.isdir(assembly.homes.home(account).root)]
    body = b"Subject: x\nFrom: a@b.example\n\n" + b"x" * 70 + b"\n"
    body += b"y" * (MESSAGE - len(body) - 1) + b"\n"
    summary = mime.scan(body)
    left = megabytes * (1 << 20) // (MESSAGE + 600)

    async def one() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            account = rng.choice(accounts)
            await assembly.store.open(account)
            key = assembly.store.find(account, INBOX)
            assert key is not None
            message = NewMessage([body], summary, MESSAGE + 3, int(time.time()))
            await assembly.store.deliver([Delivery(account, key, message)])

    await asyncio.gather(*(one() for _ in range(64)))
    os._exit(0)


def recovery(config: str, port: int, megabytes: int) -> Recovery:
    """Kill a server with so much journal, and start it."""
    subprocess.run([sys.executable, "-m", "benchmarks.journal", "fill", config, str(megabytes)], check=True)
    said = Path(config).with_name("log")
    said.write_bytes(b"")
    begun = time.monotonic()
    with open(said, "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", "from fastmail.cli.main import main; main()", "serve", "-c", config],
            stdout=log,
            stderr=log,
        )
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 60) as sock:
                assert sock.recv(100).startswith(b"220"), "it does not greet"
                break
        except ConnectionRefusedError:
            assert server.poll() is None and time.monotonic() < begun + 120, said.read_text()
            time.sleep(0.005)
    greeted = time.monotonic() - begun
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    for line in said.read_text().splitlines():
        if "event=index.recovered" in line and "index-0" in line:
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            return Recovery(megabytes, int(fields["records"]), int(fields["files"]), float(fields["seconds"]), greeted)
    raise AssertionError(f"nothing was recovered: {said.read_text()}")


# ---------------------------------------------------------------- the report


def report(rates: dict[tuple[int, int, int], Rate], found: dict[str, list[Recovery]]) -> str:
    lines = [
        "# The journal by itself",
        "",
        f"Made by `make bench-journal` on {time.strftime('%Y-%m-%d', time.gmtime())}: fastmail {fastmail.__version__} "
        f"(Python {platform.python_version()}), {os.cpu_count()} cores. A writer",
        "submits one operation and waits until it is durable; a record is a row of 200 octets and content. Processes share",
        "one environment and one journal; checkpoints are taken meanwhile as the keeper takes them.",
        "",
        "| octets | processes | writers | records/s | p50 ms | p99 ms | CPU us |",
        "|---|---|---|---|---|---|---|",
    ]
    for (octets, processes, writers), one in rates.items():
        lines.append(
            f"| {octets:,} | {processes} | {writers} | {one.rate:,.0f} | {one.p50:.2f} | {one.p99:.2f} | {one.cpu:.0f} |"
        )
    lines += [
        "",
        f"Recovery: a server with {ACCOUNTS:,} accounts ({len(BOXES)} mailboxes each in the index) is killed when so much of the "
        "journal has been",
        "written since the last checkpoint, by messages of 4 KB, and started again: seconds that the replay takes, and",
        f"from the start of the program until LMTP greets. The goal is {GOAL:.0f} s with what a busy server has at most, 32 MB.",
        "",
        "| content | journal MB | records | files written anew | replay s | greeted after s |",
        "|---|---|---|---|---|---|",
    ]
    for content, every in found.items():
        for row in every:
            lines.append(
                f"| {content} | {row.size} | {row.records:,} | {row.mended:,} | {row.replayed:.2f} | {row.greeted:.2f} |"
            )
    return "\n".join(lines) + "\n"


def measure(parent: str) -> str:
    rates: dict[tuple[int, int, int], Rate] = {}
    for octets in OCTETS:
        for processes in PROCESSES:
            for writers in WRITERS:
                if writers >= processes:
                    one = rates[octets, processes, writers] = rate(parent, processes, writers, octets)
                    print(f"{octets} octets, {processes} processes, {writers} writers: {one.rate:,.0f}/s", flush=True)
    found: dict[str, list[Recovery]] = {}
    for content in ("maildir", "segments"):
        place = tempfile.mkdtemp(prefix="fastmail-bench-", dir=parent or None)
        try:
            config, port = prepare(os.path.join(place, "s"), content)
            for size in SIZES:
                row = recovery(config, port, size)
                found.setdefault(content, []).append(row)
                print(
                    f"{content}, {size} MB: replayed in {row.replayed:.2f} s, greeted after {row.greeted:.2f} s",
                    flush=True,
                )
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return report(rates, found)


def main() -> int:
    if sys.argv[1:2] == ["writer"]:
        writer(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    if sys.argv[1:2] == ["fill"]:
        asyncio.run(_fill(sys.argv[2], int(sys.argv[3])))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", default="", help="where the journal lies: decides which disk is measured")
    options = parser.parse_args()
    text = measure(options.dir)
    (HERE / "journal.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
