"""kill -9 while mail is queued and sent: part of `make test-crash`, or `python -m tests.crash.relay --rounds 20 --seed 1`.

Sessions hand over messages for one other host, each with a recipient of its own, and every fourth for a mailbox here as
well; the server is killed at random moments and started again. A ledger keeps what was answered with 250. At the end
everything in it must have arrived whole: a message counts when its final dot has come. At the other host a message may arrive twice only where the server was killed between
that host's answer and writing it down: at most as many times a kill as there were connections; the figure is printed.
In the mailbox nothing may be there twice.
"""

import argparse
import asyncio
import contextlib
import imaplib
import json
import random
import smtplib
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.crash.queue import Counting
from tests.support.server import Server

CONNECTIONS = 20  # to one destination, by default


class Ledger:
    """Recipients whose message was acknowledged."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.taken: set[str] = set()
        self.mine: set[str] = set()  # those that are for the mailbox too

    def name(self, big: bool) -> str:
        with self.lock:
            self.count += 1
            return f"{'b' if big else 'm'}{self.count:07d}@far.test"


def text(name: str) -> bytes:
    """The message for that recipient: its size and content follow from it."""
    line = f"a line of the message for {name}, one of many\r\n".encode()
    number = int(name[1:8])
    return f"Subject: {name}\r\n\r\n".encode() + line * ((3000, 5000, 9)[number % 3] if name[0] == "b" else 60)


def load(server: Server, ledger: Ledger, stop: threading.Event, big: bool) -> None:
    """One handing-over session after the other."""
    while not stop.is_set():
        with (
            contextlib.suppress(OSError, smtplib.SMTPException),
            smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=5) as client,
        ):
            while not stop.is_set():
                name = ledger.name(big)
                both = name[7] in "048"
                to = [name, server.user] if both else [name]
                client.sendmail("a@example.test", to, text(name))
                with ledger.lock:
                    ledger.taken.add(name)
                    if both:
                        ledger.mine.add(name)


def mailbox(server: Server) -> tuple[Counter[str], set[str]]:
    """(how often each message is in the mailbox, those that are not whole)."""
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=60) as imap:
        imap.login(server.user, server.password)
        count = int(imap.select("INBOX", readonly=True)[1][0])  # type: ignore[arg-type]
        found: Counter[str] = Counter()
        torn = set()
        for first in range(1, count + 1, 500):
            for row in imap.fetch(f"{first}:{min(first + 499, count)}", "(BODY.PEEK[])")[1]:
                if isinstance(row, tuple):
                    content = row[1]
                    name = content.rpartition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
                    found[name] += 1
                    if not content.endswith(text(name)):
                        torn.add(name)
    return found, torn


def sink(ready: threading.Event, ports: list[int]) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Counting, "127.0.0.1", 0, backlog=256)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(main())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", default=None)
    parser.add_argument("--content", default="maildir", choices=["maildir", "segments"])
    options = parser.parse_args()
    rng = random.Random(options.seed)
    Counting.expected = staticmethod(text)
    ready, ports, ledger = threading.Event(), [], Ledger()  # type: ignore[var-annotated]
    threading.Thread(target=sink, args=(ready, ports), daemon=True).start()
    ready.wait(10)
    with tempfile.TemporaryDirectory(dir=options.dir) as place, contextlib.ExitStack() as stack:
        extra = (
            f'\n[relay]\nroutes = ["* smtp:127.0.0.1:{ports[0]} tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
            'retry = ["1s"]\n[log]\nlevel = "error"\n'
        )
        server = Server(Path(place) / "s", extra, content=options.content)
        stack.callback(server.stop)
        server.start()
        for round_ in range(options.rounds):
            stop = threading.Event()
            threads = [threading.Thread(target=load, args=(server, ledger, stop, n == 0)) for n in range(6)]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.2, 1.5))
            server.kill()
            stop.set()
            for thread in threads:
                thread.join()
            start = time.monotonic()
            server.start()
            up = time.monotonic() - start
            print(
                f"round {round_ + 1}: {len(ledger.taken)} acknowledged, {len(Counting.got)} arrived, up in {up:.1f} s"
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if not json.loads(server.cli("queue", "list", "--json").stdout):
                break
            time.sleep(0.5)
        found, torn = mailbox(server)
        server.stop()
    lost = ledger.taken - Counting.got.keys()
    gone = ledger.mine - found.keys()
    twice = sorted(name for name, count in found.items() if count > 1)
    torn |= Counting.odd
    doubled = sum(count - 1 for count in Counting.got.values())
    print(
        f"{len(ledger.taken)} acknowledged, lost {len(lost)}, arrived again {doubled} times in {options.rounds} kills; "
        f"{len(ledger.mine)} of them for the mailbox here too: {len(gone)} lost, {len(twice)} twice; {len(torn)} not whole"
    )
    for name in sorted(lost | gone)[:10]:
        print(f"lost {name}")
    for name in twice[:10]:
        print(f"twice {name}")
    for name in sorted(torn)[:10]:
        print(f"not whole {name}")
    return 1 if lost or gone or twice or torn or doubled > options.rounds * CONNECTIONS else 0


if __name__ == "__main__":
    sys.exit(main())
