"""Loads and floods, each with its figure: `make test-load`, or `python -m tests.load.gates [GATE ...] --scale 1`.

R11 large messages at once, R12 slow clients in every phase, R13 a flood of connections, R19 reloads under load, R20 a stop
under load, R22 sizes, R23 MIME bombs, R24 what unpacks to much, R25 literals, S22 what the time of a refusal says, S24 a
crowd of wrong logins; S23, S29, S34 and S36 are in strangers.py, clients that do not read in unread.py. Everything goes
to loopback, and is bounded in count and time; ``--scale`` is the share of the full counts. A gate that is not kept is
an AssertionError with what was measured.
"""

import argparse
import asyncio
import contextlib
import imaplib
import random
import signal
import smtplib
import socket
import statistics
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import bcrypt

from fastmail._core import mime
from fastmail.bench import load
from tests.load import strangers
from tests.load.room import OPEN, memory, running
from tests.load.unread import unread
from tests.support.server import Server


def deliver(server: Server, subject: str) -> float:
    """One legitimate delivery: s."""
    start = time.perf_counter()
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=30) as lmtp:
        lmtp.sendmail("a@b.example", [server.user], f"Subject: {subject}\r\n\r\nbody\r\n")
    return time.perf_counter() - start


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] * 1000


def subjects(server: Server) -> list[str]:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=60) as imap:
        imap.login(server.user, server.password)
        imap.select("INBOX", readonly=True)
        rows = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return [row[1].decode().strip().removeprefix("Subject: ") for row in rows if isinstance(row, tuple)]


def r11(place: Path, scale: float) -> str:
    """100 messages of 100 MB at once."""
    clients, size = max(4, int(100 * scale)), max(2 << 20, int((100 << 20) * min(1.0, scale * 4)))
    with running(place, OPEN + 'message_size = "200m"\n') as server:
        deliver(server, "before")
        socks = []
        for _ in range(clients):
            sock = socket.create_connection(("127.0.0.1", server.ports["lmtp"]), 60)
            sock.recv(4096)
            sock.sendall(f"LHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<{server.user}>\r\nDATA\r\n".encode())
            got = b""
            while b"354" not in got:
                got += sock.recv(4096)
            socks.append(sock)
        before, top = memory(server), 0.0
        piece = (b"x" * 76 + b"\r\n") * 3300
        for step in range(size // len(piece)):
            for sock in socks:
                sock.sendall(piece)
            if step % 8 == 0:
                top = max(top, memory(server))
        each = (top - before) * 1024 / clients
        for sock in socks:
            sock.close()
        deliver(server, "after")
        assert each < 512, f"{each:.0f} KiB for each message under way"
        deadline = time.monotonic() + 10
        while list((server.directory / "data" / "staging").iterdir()):
            assert time.monotonic() < deadline, "spilled files stay"
            time.sleep(0.1)
    return f"{clients} messages of {size >> 20} MB at once: {each:.0f} KiB of memory each, top {top:.0f} MiB"


PHASES: dict[str, tuple[str, bytes]] = {
    "greeting": ("smtp", b""),
    "command": ("smtp", b"EHL"),
    "data": ("smtp", b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<%b>\r\nDATA\r\n"),
    "bdat": ("smtp", b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<%b>\r\nBDAT 100000\r\n"),
    "auth": ("imap", b"a AUTHENTICATE PLAIN\r\n"),
    "tls": ("imaps", b"\x16\x03\x01"),
    "imap": ("imap", b"a LOG"),
    "pop3": ("pop3", b"US"),
}


def r12(place: Path, scale: float) -> str:
    """10,000 clients that send an octet now and then, in every phase."""
    count = max(200, int(10_000 * scale))
    seconds = max(4.0, 20.0 * scale)
    with running(place, OPEN + f"command_timeout = {seconds}\nlogin_timeout = {seconds}\n") as server:
        quiet = [deliver(server, f"q{n}") for n in range(150)]
        late: Counter[str] = Counter()  # phases in which a client was still served behind the limit
        busy: list[float] = []

        async def slow(number: int, phase: str) -> None:
            protocol, first = PHASES[phase]
            local = f"127.0.{number >> 8 & 255}.{number & 255 or 1}"
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", server.ports[protocol], local_addr=(local, 0)
                )
                writer.write(first.replace(b"%b", server.user.encode()))
                until = time.monotonic() + seconds + 3.0 + seconds / 4  # swept every second; and the machine is busy
                while time.monotonic() < until:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            while await reader.read(4096):
                                pass
                            break
                    writer.write(b"x")
                else:
                    late[phase] += 1
                writer.close()

        def legitimate(stop: threading.Event) -> None:
            n = 0
            while not stop.is_set():
                busy.append(deliver(server, f"b{n}"))
                n += 1

        async def main() -> None:
            names = list(PHASES)
            tasks = [asyncio.create_task(slow(n, names[n % len(names)])) for n in range(count)]
            await asyncio.sleep(2.0)
            stop = threading.Event()
            thread = threading.Thread(target=legitimate, args=(stop,))
            thread.start()
            await asyncio.sleep(seconds * 0.7)
            stop.set()
            await asyncio.to_thread(thread.join)
            await asyncio.gather(*tasks)

        started = time.monotonic()
        asyncio.run(main())
        took = time.monotonic() - started
        assert not late, f"still served behind the limit: {dict(late)}"
        found = subjects(server)
        assert len(found) == len(quiet) + len(busy)
        ratio = statistics.median(busy) / statistics.median(quiet)
    return (
        f"{count} slow clients in {len(PHASES)} phases, all ended after {took:.0f} s (limit {seconds:.0f}); a delivery beside "
        f"them p50 {statistics.median(busy) * 1000:.1f} ms ({ratio:.1f}x), p99 {p99(busy):.0f} ms (before {p99(quiet):.0f})"
    )


def r13(place: Path, scale: float) -> str:
    """5,000 connections a second for 30 s."""
    seconds = max(2.0, 30.0 * scale)
    with running(place, "\n[limits]\nconnections_per_ip = 50\nauth_failure_delay = 0.05\n") as server:
        deliver(server, "before")
        made = refused = 0

        async def flood(until: float, part: int) -> None:
            nonlocal made, refused
            loop = asyncio.get_running_loop()
            n = part
            while time.monotonic() < until:
                n += 64
                sock = socket.socket()
                sock.setblocking(False)
                with contextlib.suppress(OSError):
                    sock.bind((f"127.1.{n >> 8 & 255}.{n & 255 or 1}", 0))
                    try:
                        await loop.sock_connect(sock, ("127.0.0.1", server.ports["smtp" if n % 2 else "imap"]))
                        made += 1
                        if n % 7 == 0:
                            sock.sendall(b"QUIT\r\n")
                    except OSError:
                        refused += 1
                sock.close()

        async def main() -> None:
            until = time.monotonic() + seconds
            await asyncio.gather(*(flood(until, part) for part in range(64)))

        start = time.monotonic()
        asyncio.run(main())
        rate = made / (time.monotonic() - start)
        after = time.monotonic()
        while True:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                deliver(server, "after")
                break
            assert time.monotonic() < after + 5, "no recovery within 5 s"
        recovery = time.monotonic() - after
        assert {"before", "after"} <= set(subjects(server)) and len(server.workers()) == 2
        assert server.process is not None and server.process.poll() is None
    return f"{rate:,.0f} connections a second for {seconds:.0f} s: {refused} refused, a delivery {recovery:.2f} s later"


def r19(place: Path, scale: float) -> str:
    """100 reloads under load; a broken certificate."""
    times = max(5, int(100 * scale))
    with running(place) as server:
        told: list[str] = []
        stop = threading.Event()

        def sender() -> None:
            with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=30) as lmtp:
                while not stop.is_set():
                    name = f"n{len(told)}"
                    lmtp.sendmail("a@b.example", [server.user], f"Subject: {name}\r\n\r\nbody\r\n")
                    told.append(name)

        living = imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=load.unverified(), timeout=30)
        living.login(server.user, server.password)
        thread = threading.Thread(target=sender)
        thread.start()
        assert server.process is not None
        certificate = server.directory / "cert.pem"
        good = certificate.read_bytes()
        for number in range(times):
            certificate.write_bytes(b"broken" if number % 2 == 0 else good)
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.03)
            assert living.noop()[0] == "OK"
            with socket.create_connection(("127.0.0.1", server.ports["imaps"])) as raw:
                load.unverified().wrap_socket(raw).close()
        certificate.write_bytes(good)
        stop.set()
        thread.join()
        living.logout()
        assert subjects(server) == told
    return f"{times} reloads, every second one broken: no session ended, {len(told)} messages delivered meanwhile"


def r20(place: Path, scale: float) -> str:
    """SIGTERM under load, twice."""
    rounds, longest, total = max(2, int(10 * scale)), 0.0, 0
    server = Server(place, OPEN)
    told: set[str] = set()
    for number in range(rounds):
        server.start()
        stop = threading.Event()

        def sender(part: int, number: int = number, stop: threading.Event = stop) -> None:
            n = 0
            with (
                contextlib.suppress(OSError, smtplib.SMTPException),
                smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as lmtp,
            ):
                while not stop.is_set():
                    name = f"r{number}.{part}.{n}"
                    lmtp.sendmail("a@b.example", [server.user], f"Subject: {name}\r\n\r\nbody\r\n")
                    told.add(name)
                    n += 1

        threads = [threading.Thread(target=sender, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        start = time.monotonic()
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        longest = max(longest, time.monotonic() - start)
        server.process = None
        stop.set()
        for thread in threads:
            thread.join()
    server.start()
    found = subjects(server)
    server.stop()
    total = len(told)
    assert told <= set(found) and len(found) == len(set(found)), f"{len(told - set(found))} lost"
    assert longest < 10, f"a stop took {longest:.1f} s"
    return f"{rounds} stops under load: {longest:.1f} s at most, {total} acknowledged, all there"


def r22(place: Path, scale: float) -> str:
    """Commands, lines, headers and recipients that are too long or too many."""
    with running(place) as server:

        def smtp(data: bytes, wanted: bytes) -> None:
            """The data, in a session that is good for a delivery afterwards."""
            with socket.create_connection(("127.0.0.1", server.ports["smtp"]), 30) as sock:
                file = sock.makefile("rb")
                file.readline()
                sock.sendall(b"EHLO x\r\n")
                while file.readline()[3:4] == b"-":
                    pass
                sock.sendall(data)
                line = file.readline()
                assert line.startswith(wanted), (data[:60], line)
                sock.sendall(b"RSET\r\nNOOP\r\n")
                while line and b"2.0.0" not in line:
                    line = file.readline()
                assert line, "the session is usable afterwards"

        before = memory(server)
        smtp(b"NOOP " + b"x" * 20000 + b"\r\n", b"500")
        smtp(b"NOOP " + b"x" * int((1 << 20) * max(0.1, scale)) + b"\r\n", b"500")
        smtp(b"MAIL FROM:<" + b"l" * 300 + b"@b.example>\r\n", b"5")
        smtp(b"MAIL FROM:<a@" + b"d" * 250 + b".example>\r\n", b"5")
        to = f"MAIL FROM:<a@b.example>\r\nRCPT TO:<{server.user}>\r\nDATA\r\n".encode()

        def message(text: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", server.ports["lmtp"]), 60) as sock:
                file = sock.makefile("rb")
                sock.sendall(b"LHLO x\r\n" + to)
                line = said = b""
                while line[:3] != b"354":
                    line = file.readline()
                    assert line[:1] in b"23", line
                sock.sendall(text + b"\r\n.\r\nQUIT\r\n")
                while line := file.readline():
                    said = line if line[:3] != b"221" else said
                return said

        big = int((10 << 20) * max(0.1, scale))
        answers = {
            "a line of 10 MB": message(b"Subject: x\r\n\r\n" + b"y" * big),
            "100,000 fields": message(
                b"".join(b"X-%d: y\r\n" % n for n in range(int(100_000 * max(0.1, scale)))) + b"\r\nb"
            ),
            "a header of 10 MB": message(b"Subject: " + b"y" * 70 + b"\r\n " * (big // 3) + b"\r\n\r\nb"),
        }
        assert all(line[:1] in b"25" for line in answers.values()), answers
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=60) as client:
            client.ehlo()
            client.mail("a@b.example")
            taken = 0
            while (code := client.rcpt(server.user)[0]) == 250 and taken < 10_000:
                taken += 1
            assert code == 452 and taken >= 100, f"{taken} recipients, then {code}"
        deliver(server, "after")
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=60) as imap:
            imap.login(server.user, server.password)
            imap.select("INBOX")
            assert imap.fetch("1:*", "(ENVELOPE BODYSTRUCTURE RFC822.SIZE)")[0] == "OK"
        grown = memory(server) - before
        assert grown < 200, f"{grown:.0f} MiB more"
    said = ", ".join(f"{what} {line[:3].decode()}" for what, line in answers.items())
    return f"commands of 20 KB and 1 MB 500, {said}; {taken} recipients taken, then 452; {grown:.0f} MiB more"


def nested(n: int) -> bytes:
    head = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(n))
    return head + b"Content-Type: text/plain\n\nx\n"


BOMBS: dict[str, Callable[[int], bytes]] = {
    "nested multiparts": nested,
    "nested messages": lambda n: b"Content-Type: message/rfc822\n\n" * n + b"\nx\n",
    "parts": lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * n + b"--b--\n",
    "parameters": lambda n: b"Content-Type: text/plain" + b"".join(b";\n p*%d*=x" % i for i in range(n)) + b"\n\nx\n",
    "no end": lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + b"--bb\n--\n" * n,
    "addresses": lambda n: b"To: g:" + b"a b <a@b.example>,\n " * n + b";\n\nx\n",
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?x?=\n " * n + b"\n\nx\n",
    "brackets": lambda n: b"To: " + b"(" * n + b"<" * n + b'"' * n + b"\n\nx\n",
}


def r23(place: Path, scale: float) -> str:
    """MIME and header bombs: twice as much costs at most two and a half times the time."""
    worst, slowest = 0.0, 0.0
    base = max(4000, int(50_000 * scale))

    def spent(make: Callable[[int], bytes], n: int) -> float:
        data = make(n)
        best = 9.0
        for _ in range(5):
            start = time.thread_time()
            mime.scan(data)
            best = min(best, time.thread_time() - start)
        return best

    for name, make in BOMBS.items():
        one, two = spent(make, base), spent(make, 2 * base)
        slowest = max(slowest, two)
        assert two < 1.0, f"{name}: {two:.2f} s"
        if two > 0.002:
            worst = max(worst, two / max(one, 1e-6))
            assert two / max(one, 1e-6) < 2.6, f"{name}: {one * 1000:.1f} ms, then {two * 1000:.1f}"
    with running(place) as server:
        for make in BOMBS.values():
            with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=60) as lmtp:
                lmtp.sendmail("a@b.example", [server.user], make(base // 2).replace(b"\n", b"\r\n"))
        deliver(server, "after")
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=60) as imap:
            imap.login(server.user, server.password)
            imap.select("INBOX")
            kind, rows = imap.fetch("1:*", "(ENVELOPE BODYSTRUCTURE)")
            assert kind == "OK" and len(rows) >= len(BOMBS) + 1
    return f"{len(BOMBS)} kinds with {2 * base:,} elements: {slowest * 1000:.0f} ms at most, at most {worst:.2f}x for twice as much"


def r24(place: Path, scale: float) -> str:
    """Commands that unpack to a thousand times as much."""
    size = int((256 << 20) * max(0.1, scale))
    with running(place) as server:
        before = memory(server)
        client = load.Client("127.0.0.1", server.ports["imap"])
        client.imap(b'LOGIN %b "%b"' % (server.user.encode(), server.password.encode()))
        client.imap(b"COMPRESS DEFLATE")
        pack = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = b"".join(pack.compress(b"x" * (1 << 20)) for _ in range(size >> 20)) + pack.flush(zlib.Z_SYNC_FLUSH)
        start = time.process_time()
        with contextlib.suppress(OSError):
            client.sock.sendall(bomb)
            client.sock.settimeout(10)
            while client.sock.recv(65536):
                pass
        del start
        grown = memory(server) - before
        deliver(server, "after")
        assert grown < 64, f"{grown:.0f} MiB"
        client.close()
    return f"{len(bomb) >> 10} KiB that unpack to {size >> 20} MiB: {grown:.0f} MiB of memory"


def r25(place: Path, scale: float) -> str:
    """Literals and lists."""
    with running(place) as server:
        before = memory(server)

        def imap(data: bytes, wanted: bytes) -> None:
            with socket.create_connection(("127.0.0.1", server.ports["imap"]), 30) as sock:
                sock.recv(4096)
                with contextlib.suppress(OSError):
                    sock.sendall(data)
                sock.settimeout(10)
                got = b""
                with contextlib.suppress(OSError):
                    while wanted not in got and (piece := sock.recv(65536)):
                        got += piece
                assert wanted in got or b"* BYE" in got, (data[:60], got[-200:])

        imap(b"a LOGIN {4294967295}\r\n", b"a BAD")
        imap(b"a LOGIN {999999999999+}\r\n", b"* BYE")
        imap(b"a LOGIN " + b"{1}\r\nx" * int(1000 * max(0.1, scale)) + b"\r\n", b"a BAD")
        imap(b"a SEARCH " + b"(" * int(1_000_000 * max(0.1, scale)) + b"\r\n", b"a BAD")
        imap(b"a FETCH 1 (" + b"BODY[" * 1000 + b"\r\n", b"a BAD")
        grown = memory(server) - before
        deliver(server, "after")
        assert grown < 32, f"{grown:.0f} MiB"
    return f"literals of 4 GiB and 1 TB, a thousand before the login, a million brackets: refused, {grown:.1f} MiB more"


def refused(server: Server, user: str, password: str) -> float:
    """A wrong login: s until it is refused."""
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=60) as imap:
        begun = time.perf_counter()
        with contextlib.suppress(imaplib.IMAP4.error):
            imap.login(user, password)
        return time.perf_counter() - begun


def s22(place: Path, scale: float) -> str:
    """Paired: a user that is not there, one with a hash of today, ones with cheap and dear hashes of yesterday."""
    extra = "\n[limits]\nauth_failure_delay = 0.5\nban_after = 0\n"
    with running(place, extra) as server:
        dear = bcrypt.hashpw(b"secret", bcrypt.gensalt(10)).decode()
        lines = f"cheap@example.test:{{PLAIN}}secret\ndear@example.test:{{BLF-CRYPT}}{dear}\n"
        (place / "more").write_text(lines)
        server.cli("account", "import", str(place / "more"))
        users = ["nobody@example.test", server.user, "cheap@example.test", "dear@example.test"]
        took: dict[str, list[float]] = {user: [] for user in users}
        for _ in range(max(3, int(20 * scale))):
            for user in random.sample(users, len(users)):
                took[user].append(refused(server, user, "wrong"))
        medians = {user: statistics.median(times) for user, times in took.items()}
        spread = max(medians.values()) - min(medians.values())
        assert spread < (0.02 if scale >= 1 else 0.1), medians
    return f"refusals of {len(users)} kinds of users, {len(took[users[0]])} each: medians within {spread * 1000:.1f} ms"


def s24(place: Path, scale: float) -> str:
    """A thousand wrong logins at once: who logged in not long ago does so again, others are told to come later."""
    count = int(1000 * scale)
    extra = OPEN + "auth_failures = 100000\nban_after = 0\n"
    with running(place, extra) as server:

        def good() -> float:
            with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=60) as imap:
                begun = time.perf_counter()
                imap.login(server.user, server.password)
                return time.perf_counter() - begun

        for _ in range(20):
            good()  # in every worker
        said: Counter[bytes] = Counter()
        socks = [socket.create_connection(("127.0.0.1", server.ports["imap"]), 60) for _ in range(count)]
        files = [sock.makefile("rb") for sock in socks]
        for file in files:
            file.readline()
        for n, sock in enumerate(socks):
            sock.sendall(b"a LOGIN user@example.test wrong%d\r\n" % n)
        times = [good() for _ in range(30)]
        for file in files:
            said[file.readline()[:20]] += 1
        for sock in socks:
            sock.close()
        assert p99(times) < 1000, times
        later = said[b"a NO [UNAVAILABLE] l"]
        assert later + said[b"a NO [AUTHENTICATION"] == count, said
    return f"{count} wrong logins at once, {later} told to come later; good ones beside them p99 {p99(times):.0f} ms"


GATES: dict[str, Callable[[Path, float], str]] = {
    one.__name__: one for one in (r11, r12, r13, r19, r20, r22, r23, r24, r25, s22, s24, unread)
}
GATES.update(strangers.GATES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gates", nargs="*", metavar="GATE", help=", ".join(GATES))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--dir", default=None)
    options = parser.parse_args()
    random.seed(1)
    failed = 0
    for name in options.gates or GATES:
        with tempfile.TemporaryDirectory(dir=options.dir) as place:
            try:
                print(f"{name.upper()}: {GATES[name](Path(place) / 's', options.scale)}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"{name.upper()} NOT KEPT: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
