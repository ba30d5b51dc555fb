"""kill -9 while mail is queued and sent: part of `make test-crash`, or `python -m tests.crash.relay --rounds 20 --seed 1`.

Sessions hand over messages for one other host, each with a recipient of its own; the server is killed at random moments
and started again. A ledger keeps what was answered with 250. At the end everything in it must have arrived. A message
may arrive twice only where the server was killed between the other host's answer and writing it down: at most as many
times a kill as there were connections; the figure is printed.
"""

import argparse
import asyncio
import contextlib
import json
import random
import smtplib
import sys
import tempfile
import threading
import time
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

    def name(self) -> str:
        with self.lock:
            self.count += 1
            return f"m{self.count:07d}@far.test"


def load(server: Server, ledger: Ledger, stop: threading.Event, big: bool) -> None:
    """One handing-over session after the other."""
    body = b"Subject: x\r\n\r\n" + b"line of a message that is not short\r\n" * (3000 if big else 60)
    while not stop.is_set():
        with (
            contextlib.suppress(OSError, smtplib.SMTPException),
            smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=5) as client,
        ):
            while not stop.is_set():
                name = ledger.name()
                client.sendmail("a@example.test", [name], body)
                with ledger.lock:
                    ledger.taken.add(name)


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
    options = parser.parse_args()
    rng = random.Random(options.seed)
    ready, ports, ledger = threading.Event(), [], Ledger()  # type: ignore[var-annotated]
    threading.Thread(target=sink, args=(ready, ports), daemon=True).start()
    ready.wait(10)
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        extra = (
            f'\n[relay]\nroutes = ["* smtp:127.0.0.1:{ports[0]} tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
            'retry = ["1s"]\n[log]\nlevel = "error"\n'
        )
        server = Server(Path(place) / "s", extra)
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
        server.stop()
    lost = ledger.taken - Counting.got.keys()
    doubled = sum(count - 1 for count in Counting.got.values())
    print(
        f"{len(ledger.taken)} acknowledged, lost {len(lost)}, arrived again {doubled} times in {options.rounds} kills"
    )
    for name in sorted(lost)[:10]:
        print(f"lost {name}")
    return 1 if lost or doubled > options.rounds * CONNECTIONS else 0


if __name__ == "__main__":
    sys.exit(main())
