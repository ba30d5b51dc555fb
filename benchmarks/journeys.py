"""Whole-server benchmark on a throw-away instance: `python -m benchmarks.journeys [--json FILE] [--quick]`.

Each line is what clients did and had answered: messages or commands a second, and the CPU that all server processes
spent on each (user and system, children that ended included). Memory is PSS over all server processes. Everything is
as durable as in production; the directory (TMPDIR decides the disk) is removed at the end. The clients are plain
Python sockets in other processes, so at high rates they, not the server, are the limit: compare runs.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.server import Server

USERS = 100


class Line:
    """A client connection that reads reply lines."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb", 1 << 20)

    def smtp(self, data: bytes, replies: int = 1) -> bytes:
        """Send and read whole replies; AssertionError for an error reply."""
        self.sock.sendall(data)
        line = b""
        for _ in range(replies):
            while True:
                line = self.file.readline()
                if line[3:4] != b"-":
                    break
            assert line[:1] in b"23", line
        return line

    def imap(self, tag: bytes, command: bytes) -> int:
        """Send a command; octets of the answer. AssertionError unless OK."""
        self.sock.sendall(tag + b" " + command + b"\r\n")
        size = 0
        while True:
            line = self.file.readline()
            size += len(line)
            if line.startswith(tag + b" "):
                assert line.startswith(tag + b" OK"), line
                return size
            if line.endswith(b"}\r\n") and b"{" in line:
                count = int(line[line.rindex(b"{") + 1 : -3])
                size += len(self.file.read(count))


def message(size: int) -> bytes:
    body = b"The quick brown fox jumps over the lazy dog, and then it does so once more.\r\n"
    head = b"From: a@b.example\r\nTo: you@example.test\r\nSubject: benchmark\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n"
    return head + body * max(1, (size - len(head)) // len(body))


def deliver(port: int, hello: bytes, count: int, size: int, seed: int) -> None:
    """One session that delivers ``count`` messages to random users."""
    client, mail, rng = Line(port), message(size), random.Random(seed)
    client.smtp(b"", 1)
    client.smtp(hello + b" bench.example\r\n")
    for _ in range(count):
        to = b"RCPT TO:<u%03d@example.test>\r\n" % rng.randrange(USERS)
        client.smtp(b"MAIL FROM:<a@b.example>\r\n" + to + b"DATA\r\n", 3)
        client.smtp(mail + b".\r\n")
    client.smtp(b"QUIT\r\n")


def login_cycles(port: int, count: int) -> None:
    for n in range(count):
        client = Line(port)
        client.file.readline()
        client.imap(b"a", b"LOGIN u%03d@example.test secret" % (n % USERS))
        client.imap(b"b", b"SELECT INBOX")
        client.imap(b"c", b"LOGOUT")
        client.sock.close()


class Bench:
    """Runs journeys and keeps their figures."""

    def __init__(self, server: Server) -> None:
        self.server = server
        assert server.process is not None
        self.root = psutil.Process(server.process.pid)
        self.rows: list[dict[str, Any]] = []

    def cpu(self) -> float:
        total = 0.0
        for process in [self.root, *self.root.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def pss(self) -> int:
        return sum(p.memory_full_info().pss for p in [self.root, *self.root.children(recursive=True)])

    def journey(self, name: str, count: int, work: Callable[[], Any], **more: Any) -> None:
        cpu, start = self.cpu(), time.perf_counter()
        work()
        wall, spent = time.perf_counter() - start, self.cpu() - cpu
        row = {
            "journey": name, "count": count, "per_second": round(count / wall, 1), "cpu_us_each": round(spent / count * 1e6, 1),
            "pss_mib": round(self.pss() / 2**20, 1), **more,
        }  # fmt: skip
        self.rows.append(row)
        print(
            f"{name:34} {row['per_second']:>10}/s {row['cpu_us_each']:>10} us CPU each   PSS {row['pss_mib']} MiB",
            flush=True,
        )

    def parallel(self, sessions: int, function: Callable[..., None], *args: Any) -> Callable[[], None]:
        def go() -> None:
            context = multiprocessing.get_context("fork")
            workers = [context.Process(target=function, args=(*args, n)) for n in range(sessions)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
                assert worker.exitcode == 0

        return go


def run(server: Server, quick: bool) -> list[dict[str, Any]]:
    bench = Bench(server)
    scale = 4 if quick else 40
    for proto, hello in (("lmtp", b"LHLO"), ("smtp", b"EHLO")):
        for size in (4096, 51200):
            each = scale if size == 4096 else scale // 2
            work = bench.parallel(64, deliver, server.ports[proto], hello, each, size)
            bench.journey(f"deliver {size // 1024} KB by {proto}, 64 sessions", 64 * each, work)
    port = server.ports["imap"]
    client = Line(port)
    client.file.readline()
    client.imap(b"l", b"LOGIN big@example.test secret")
    count = 1000 if quick else 10000
    bench.journey(f"first SELECT of {count}", count, lambda: client.imap(b"s", b"SELECT INBOX"))
    for name, items in (
        ("FLAGS", b"(UID FLAGS)"),
        ("ENVELOPE", b"(UID ENVELOPE)"),
        ("BODYSTRUCTURE", b"(BODYSTRUCTURE)"),
    ):
        bench.journey(
            f"FETCH 1:{count} {name} (x5)",
            5,
            lambda items=items: [client.imap(b"f", b"FETCH 1:* " + items) for _ in range(5)],
        )
    rng = random.Random(1)
    uids = [rng.randrange(1, count) for _ in range(200)]
    bench.journey("BODY[] one by one", 200, lambda: [client.imap(b"b", b"FETCH %d BODY.PEEK[]" % n) for n in uids])
    stores = [rng.randrange(1, count) for _ in range(100 if quick else 1000)]
    bench.journey(
        "STORE one by one",
        len(stores),
        lambda: [client.imap(b"t", b"STORE %d +FLAGS (\\Flagged $B%d)" % (n, n % 20)) for n in stores],
    )
    cycles = 50 if quick else 250
    bench.journey(
        "login, SELECT, LOGOUT, 4 clients",
        4 * cycles,
        bench.parallel(4, lambda p, c, _: login_cycles(p, c), port, cycles),
    )
    idle = 100 if quick else 1000
    before = bench.pss()
    clients = []

    def open_idle() -> None:
        for n in range(idle):
            one = Line(port)
            one.file.readline()
            one.imap(b"a", b"LOGIN u%03d@example.test secret" % (n % USERS))
            one.imap(b"b", b"SELECT INBOX")
            one.sock.sendall(b"c IDLE\r\n")
            clients.append(one)

    bench.journey("open idle sessions", idle, open_idle)
    time.sleep(2)
    each = (bench.pss() - before) / idle / 1024
    bench.rows.append({"journey": "idle session", "kib_pss_each": round(each, 1)})
    print(f"{'idle session':34} {each:10.1f} KiB PSS each")
    delays = []
    sender = Line(server.ports["lmtp"])
    sender.smtp(b"", 1)
    sender.smtp(b"LHLO x\r\n")
    for n in range(40):
        watcher = clients[n % USERS]
        sender.smtp(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u%03d@example.test>\r\nDATA\r\n" % (n % USERS), 3)
        start = time.perf_counter()
        sender.smtp(b"Subject: x\r\n\r\n.\r\n")
        while b"EXISTS" not in watcher.file.readline():
            pass
        delays.append((time.perf_counter() - start) * 1000)
    delays.sort()
    row = {
        "journey": "delivery to EXISTS",
        "p50_ms": round(statistics.median(delays), 1),
        "worst_ms": round(delays[-1], 1),
    }
    bench.rows.append(row)
    print(f"{'delivery to EXISTS':34} p50 {row['p50_ms']} ms, worst of {len(delays)} {row['worst_ms']} ms")
    return bench.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="fastmail-bench-"))
    server = Server(directory, extra='\n[limits]\nconnections_per_ip = 100000\n[log]\nlevel = "warning"\n')
    users = (
        "".join(f"u{n:03d}@example.test:{{PLAIN}}secret\n" for n in range(USERS)) + "big@example.test:{PLAIN}secret\n"
    )
    server.cli("account", "import", "-", stdin=users)
    maildir = server.maildir("big@example.test")
    for sub in ("cur", "new", "tmp"):
        (maildir / sub).mkdir(parents=True)
    for n in range(1000 if options.quick else 10000):
        flags = "S" if n % 3 else ""
        (maildir / "cur" / f"{1_700_000_000 + n}.M{n}.bench:2,{flags}").write_bytes(
            message(2000 + n % 20000).replace(b"\r\n", b"\n")
        )
    try:
        server.start()
        rows = run(server, options.quick)
        server.stop()
    finally:
        if server.process is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
