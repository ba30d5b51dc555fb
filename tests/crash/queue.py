"""A deep queue: `make test-queue`, or `python -m tests.crash.queue --messages 100000 --destinations 1000 --dead 100`.

The queue is filled while the server is down, then a server starts over it: 100 of the destinations refuse connections
or take them and never say a word, the others are one host that counts what it gets. Measured: how long it takes until
the server answers (at most 30 s), until every live message was delivered, how long a new message for a live destination
takes meanwhile (99 of 100 at most 5 s), and the memory of all its processes (at most 256 MiB and 1 KiB a message). Every
live message must arrive exactly once, and every dead one must still be in the queue. R16 whole is
`--messages 1000000 --destinations 101000 --dead 100000 --seconds 3600`.
"""

import argparse
import asyncio
import json
import smtplib
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from fastmail.model.esmtp import Rcpt
from fastmail.queue.model import Item, Outgoing
from fastmail.queue.spool import Spool
from tests.support.hosts import dead_port, name_server
from tests.support.server import Server

MOST_UP = 30.0  # s until the server answers
MOST_LATE = 5.0  # s that a new message for a live destination takes, 99 of 100
MOST_MEMORY = 256 << 20, 1024  # octets for all processes, and for each message
BODY = b"From: a@example.test\nSubject: deep\n\n" + b"x" * 70 + b"\n" * 56 + b"y" * 3800 + b"\n"


class Counting(asyncio.Protocol):
    """The quickest SMTP server there is: it says yes to everything, and counts a recipient when the final dot of its
    message has come and before it answers that. ``odd``: recipients whose message was not what ``expected`` makes."""

    got: Counter[str] = Counter()
    odd: set[str] = set()
    expected: Callable[[str], bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.data = b""
        self.body = False
        self.named: list[str] = []
        transport.write(b"220 sink\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.data += data
        out = []
        while True:
            mark = b"\r\n.\r\n" if self.body else b"\r\n"
            line, found, rest = self.data.partition(mark)
            if not found:
                break
            self.data = rest
            if self.body:
                self.body = False
                self.got.update(self.named)
                if self.expected is not None:
                    content = line.replace(b"\r\n..", b"\r\n.") + b"\r\n"
                    self.odd.update(name for name in self.named if not content.endswith(self.expected(name)))
                self.named = []
                out.append(b"250 2.0.0 taken\r\n")
                continue
            verb = line[:4].upper()
            if verb == b"RCPT":
                self.named.append(line[9:].rstrip(b">").decode())
            elif verb in (b"MAIL", b"RSET"):
                self.named = []
            self.body = verb == b"DATA"
            out.append({b"DATA": b"354 go\r\n", b"EHLO": b"250-sink\r\n250 PIPELINING\r\n"}.get(verb, b"250 ok\r\n"))
        self.transport.write(b"".join(out))  # type: ignore[attr-defined]


class Probe(threading.Thread):
    """Hands over a new message for a live destination every now and then; ``took``: s until it had arrived."""

    def __init__(self, server: Server, domain: str, pause: float = 0.5) -> None:
        super().__init__()
        self.server, self.domain, self.pause = server, domain, pause
        self.took: list[float] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            name = f"probe{len(self.took)}@{self.domain}"
            begun = time.monotonic()
            with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], timeout=60) as smtp:
                smtp.sendmail("a@example.test", [name], "Subject: probe\r\n\r\nx\r\n")
            while not Counting.got[name] and time.monotonic() < begun + 120:
                time.sleep(0.01)
            self.took.append(time.monotonic() - begun)
            self.done.wait(self.pause)


async def fill(path: Path, messages: int, names: list[str]) -> float:
    spool = Spool(str(path), 16 << 30)
    start = time.monotonic()
    gate = asyncio.Semaphore(256)

    async def one(n: int) -> None:
        where = names[n % len(names)]
        item = Item(spool.new_id(), "a@example.test", int(time.time()) - 1, len(BODY))
        async with gate:
            await spool.enqueue(Outgoing(item, {where: [Rcpt(f"u{n}@{where}")]}, [BODY]))

    for first in range(0, messages, 5000):
        await asyncio.gather(*(one(n) for n in range(first, min(first + 5000, messages))))
    await spool.close()
    return time.monotonic() - start


def memory(pid: int) -> int:
    """PSS of a process and its children, in octets."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes)


def hosts(live: list[str], dead: list[str], ready: threading.Event, ports: dict[str, int]) -> None:
    """The name server and the live host, on a thread of their own."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Counting, "127.0.0.1", 0, backlog=1024)
        ports["sink"] = server.sockets[0].getsockname()[1]
        records = {(name, "MX"): ["10 mail.live.test."] for name in live}
        records |= {(name, "MX"): ["10 refuses.test." if n % 2 else "10 silent.test."] for n, name in enumerate(dead)}
        silent = socket.socket()
        silent.bind(("127.0.0.3", ports["sink"]))
        silent.listen(1024)
        records |= {
            ("mail.live.test", "A"): ["127.0.0.1"],
            ("refuses.test", "A"): ["127.0.0.2"],
            ("silent.test", "A"): ["127.0.0.3"],
        }
        ports["dns"] = (await name_server(records)).port
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(main())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--destinations", type=int, default=1000)
    parser.add_argument("--dead", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--dir", default=None)
    options = parser.parse_args()
    names = [f"d{n}.test" for n in range(options.destinations)]
    dead, live = names[: options.dead], names[options.dead :]
    ports: dict[str, int] = {"dead": dead_port()}
    ready = threading.Event()
    threading.Thread(target=hosts, args=(live, dead, ready, ports), daemon=True).start()
    ready.wait(10)
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        extra = (
            f'\n[relay]\ndns_servers = ["127.0.0.1:{ports["dns"]}"]\nport = {ports["sink"]}\nloopback_hosts = true\n'
            'ipv6 = false\ntls = "none"\nnetworks = ["127.0.0.0/8"]\n[log]\nlevel = "error"\n'
        )
        server = Server(Path(place) / "s", extra)
        took = asyncio.run(fill(server.directory / "data", options.messages, names))
        print(f"queued {options.messages} messages for {len(names)} destinations in {took:.1f} s")
        start = time.monotonic()
        server.start()
        up = time.monotonic() - start
        wanted = {f"u{n}@{names[n % len(names)]}" for n in range(options.messages) if n % len(names) >= options.dead}
        most = 0
        assert server.process is not None
        probe = Probe(server, live[0])
        probe.start()
        while not wanted <= Counting.got.keys() and time.monotonic() - start < options.seconds:
            most = max(most, memory(server.process.pid))
            time.sleep(0.5)
        drained = time.monotonic() - start
        probe.done.set()
        probe.join()
        doubled = sum(1 for count in Counting.got.values() if count > 1)
        missing = len(wanted - Counting.got.keys())
        time.sleep(1.0)
        left = {
            address
            for row in json.loads(server.cli("queue", "list", "--most", "0", "--json").stdout)
            for address in row["recipients"]
        }
        server.stop()
    left = {address for address in left if not address.startswith("probe")}
    lost = options.messages - len(wanted) - len(left)
    late = sorted(probe.took)[int(len(probe.took) * 0.99)]
    bound = MOST_MEMORY[0] + MOST_MEMORY[1] * options.messages
    print(f"{len(probe.took)} new messages for a live destination meanwhile: 99 of 100 within {late:.2f} s")
    print(f"server answers after {up:.2f} s; live messages delivered in {drained:.1f} s: {len(wanted) / drained:.0f}/s")
    print(
        f"memory of all processes at most {most >> 20} MiB; missing {missing}, doubled {doubled}, dead ones lost {lost}"
    )
    slow = [
        what
        for what, wrong in (("start", up > MOST_UP), ("probe", late > MOST_LATE), ("memory", most > bound))
        if wrong
    ]
    if slow:
        print(f"beyond its bound: {', '.join(slow)}")
    return 1 if missing or doubled or lost or slow else 0


if __name__ == "__main__":
    sys.exit(main())
