"""More gates of tests.load.gates, about who is who: S23 guessers, S29 summaries, S34 sessions of many users, S36 names in the handshake."""

import asyncio
import contextlib
import imaplib
import poplib
import random
import re
import smtplib
import socket
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastmail._core import mime
from fastmail.bench import load
from tests.load.room import OPEN, Watch, memory, running
from tests.support.server import Server

SENDERS = 8  # of them at once
MORE = 64  # MiB that a worker may have more of its own, whatever it does with many long summaries


def guess(server: Server, source: str, password: str) -> str:
    """A login from an address of loopback: ``in``, ``wrong`` (the password was looked at) or ``out``."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", server.ports["imap"]), 30, (source, 0)) as sock,
    ):
        file = sock.makefile("rb")
        if not file.readline().startswith(b"* OK"):
            return "out"
        sock.sendall(f'a LOGIN {server.user} "{password}"\r\n'.encode())
        while line := file.readline():
            if line.startswith(b"a OK"):
                return "in"
            if b"AUTHENTICATIONFAILED" in line:
                return "wrong"
            if line.startswith((b"a ", b"* BYE")):
                return "out"
    return "out"


def s23(place: Path, scale: float) -> str:
    """10,000 guesses from one address, then from 1,000: few are looked at, and the owner logs in meanwhile."""
    after = 5
    tries, addresses = max(60, int(10_000 * scale)), max(10, int(1000 * scale))
    extra = f"\n[limits]\nauth_failure_delay = 0.01\nban_after = {after}\nban_exempt = []\n"
    with running(place, extra) as server:
        assert guess(server, "127.0.0.1", server.password) == "in"
        said: Counter[str] = Counter(guess(server, "127.9.0.1", f"wrong{n}") for n in range(tries))
        assert said["wrong"] <= 2 * after and not said["in"], said
        assert guess(server, "127.9.0.1", server.password) == "out", "the right password from there is not looked at"
        assert guess(server, "127.0.0.1", server.password) == "in"
        crowd: Counter[str] = Counter()
        stop = threading.Event()

        def attack(part: int) -> None:
            for n in range(part, max(tries, 3 * after * addresses), 8):
                at = n % addresses
                crowd[guess(server, f"127.8.{at >> 8}.{at & 255 or 1}", f"wrong{n}")] += 1
            stop.set()

        threads = [threading.Thread(target=attack, args=(part,)) for part in range(8)]
        for thread in threads:
            thread.start()
        owner = []
        while not stop.is_set():
            begun = time.monotonic()
            assert guess(server, "127.0.0.1", server.password) == "in", "the owner is kept out"
            owner.append(time.monotonic() - begun)
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert crowd["wrong"] <= 2 * after * addresses and not crowd["in"] and crowd["out"], crowd
        assert max(owner) < 10, f"the owner waited {max(owner):.1f} s"
    return (
        f"{tries} guesses from one address: {said['wrong']} looked at; {crowd.total()} from {addresses}: "
        f"{crowd['wrong']} looked at; the owner in within {max(owner):.1f} s each of {len(owner)} times"
    )


def ask(client: load.Client, command: str) -> bytes:
    """A command's whole answer; AssertionError unless it is OK."""
    client.sock.sendall(b"a " + command.encode() + b"\r\n")
    told = bytearray()
    while not (line := client.line()).startswith(b"a "):
        told += line
        if line.endswith(b"}\r\n"):
            told += client.file.read(int(line[line.rindex(b"{") + 1 : -3]))
    assert line.startswith(b"a OK"), line
    return bytes(told + line)


def s34(place: Path, scale: float) -> str:
    """10,000 logins of 40 users, interleaved in the same connections and workers: each sees its own mail only."""
    users, logins = max(5, int(40 * min(1.0, scale * 10))), max(120, int(10_000 * scale))
    names = [f"u{n}@example.test" for n in range(users)]
    with running(place, OPEN + "ban_after = 0\n") as server:
        server.cli("account", "import", "-", stdin="".join(f"{name}:{{PLAIN}}pw-{name}\n" for name in names))
        for name in names:
            with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30) as imap:
                imap.login(name, f"pw-{name}")
                assert imap.create(f"Of-{name.partition('@')[0]}")[0] == "OK"
                for box in ("INBOX", f"Of-{name.partition('@')[0]}"):
                    imap.append(box, None, None, f"Subject: of {name}\r\nX-Owner: {name}\r\n\r\n{name}\r\n".encode())
        wrong: list[str] = []
        done: list[str] = []

        def look(client: load.Client, name: str) -> None:
            """Everything that the session is told names this user, and nobody else."""
            own = f"Of-{name.partition('@')[0]}"
            told = ask(client, f'LOGIN {name} "pw-{name}"')
            for command in ('LIST "" *', "SELECT INBOX", "FETCH 1:* (ENVELOPE BODY.PEEK[])", "SEARCH TEXT example"):
                told += ask(client, command)
            told += ask(client, f"STATUS {own} (MESSAGES)")
            seen = {one.decode() for one in re.findall(rb"u\d+@example\.test", told)}
            if seen != {name} or b"MESSAGES 1" not in told or set(re.findall(rb"Of-u\d+", told)) != {own.encode()}:
                wrong.append(f"{name} saw {sorted(seen)}: {told[-200:]!r}")
            done.append(name)

        def sessions(part: int) -> None:
            rng = random.Random(part)
            clients = [load.Client("127.0.0.1", server.ports["imap"]) for _ in range(3)]
            for n in range(part, logins, 4):
                client, name = clients[n % 3], rng.choice(names)
                look(client, name)
                ask(client, "UNAUTHENTICATE")
                if n % 10 == 0:
                    pop = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=30)
                    pop.user(name)
                    pop.pass_(f"pw-{name}")
                    if name.encode() not in b"\n".join(pop.retr(1)[1]):
                        wrong.append(f"{name} by POP3")
                    pop.quit()
                if n % 25 == 0:
                    client.close()
                    clients[n % 3] = load.Client("127.0.0.1", server.ports["imap"])

        threads = [threading.Thread(target=sessions, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong, wrong[:3]
        assert len(done) == logins, f"{len(done)} of {logins} logins came to an end"
    return f"{logins} logins of {users} users in connections that they share: each saw its own mail only"


def s36(place: Path, scale: float) -> str:
    """100,000 names in handshakes: memory stays flat."""
    count = max(600, int(100_000 * scale))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with running(place) as server:

        async def knock(first: int, last: int) -> None:
            gate = asyncio.Semaphore(16)

            async def one(n: int) -> None:
                async with gate:
                    name = f"n{n}-{random.Random(n).getrandbits(80):x}.example.test"
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", server.ports["imaps"], ssl=context, server_hostname=name
                    )
                    assert (await reader.read(4)) == b"* OK"
                    writer.close()
                    with contextlib.suppress(OSError, ssl.SSLError):
                        await writer.wait_closed()

            for start in range(first, last, 500):
                await asyncio.gather(*(one(n) for n in range(start, min(start + 500, last))))

        warm = count // 4
        asyncio.run(knock(0, warm))
        before = memory(server)
        asyncio.run(knock(warm, count))
        grown = (memory(server) - before) * 1024
        assert grown < 2048, f"{grown:.0f} KiB"
    return f"{count} names in handshakes: {grown:.0f} KiB more after the first quarter"


STEPS = (
    ("settled", "NOOP"),
    ("SELECT", "SELECT INBOX"),
    ("FETCH", "FETCH 1:* (ENVELOPE BODYSTRUCTURE)"),
    ("FETCH BODY", "FETCH 1:* (BODY PREVIEW)"),
    ("SEARCH", "SEARCH FROM nobody"),
    ("SEARCH TEXT", "SEARCH TEXT nobody"),
    ("SORT", "SORT (FROM SUBJECT) UTF-8 ALL"),
    ("THREAD", "THREAD REFERENCES UTF-8 ALL"),
    ("STORE", "STORE 1:* +FLAGS.SILENT (\\Flagged)"),
    ("named", "NOOP"),
    ("COPY", "COPY 1:* Copies"),
    ("MOVE", "MOVE 1:* Moved"),
    ("deleted", "DELETE Copies"),
    ("filled", "NOOP"),
)


def s29(place: Path, scale: float) -> str:
    """Messages of 2 MB whose ENVELOPE and BODYSTRUCTURE would be 200 MB; 26 of them filled an index of 64 GiB. Whatever
    is done with many of them, a worker has few in memory."""
    count = max(6, int(100 * scale))
    part = b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: " + b":;" * 500 + b"\r\n\r\n\r\n"
    bomb = b"From: " + b":;" * 60_000 + b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 2000
    with running(place) as server:
        index = server.directory / "data" / "index-0" / "data.mdb"

        def send(body: bytes) -> None:
            with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=60) as lmtp:
                lmtp.sendmail("a@b.example", [server.user], body)

        send(b"Subject: before\r\n\r\nbody\r\n")
        kept = index.stat().st_blocks * 512
        with Watch(server) as watch:
            watch.step("delivered")
            with ThreadPoolExecutor(SENDERS) as senders:
                list(senders.map(send, [bomb] * count))
            kept = (index.stat().st_blocks * 512 - kept) // count
            client = load.Client("127.0.0.1", server.ports["imap"])
            for command in (f'LOGIN {server.user} "{server.password}"', "CREATE Copies", "CREATE Moved"):
                ask(client, command)
            for name, command in STEPS:
                watch.step(name)
                told = ask(client, command)
                assert name != "FETCH" or told.count(b" FETCH (") == count + 1
                if command == "NOOP":
                    time.sleep(2.5)  # what comes behind a commit: names of files, texts
            client.close()
        assert kept < 2 * mime.MOST + 65536, f"{kept} octets of index a message"
        worst = ", ".join(f"{name} {grown:.0f}" for name, grown in watch.during.items())
        assert watch.grown < MORE, f"a worker had {watch.grown:.0f} MiB more: {worst}"
    return (
        f"{count} messages of {len(bomb) >> 10} KiB: {kept >> 10} KiB of index each, a worker had at most "
        f"{watch.grown:.0f} MiB more of its own ({worst})"
    )


GATES = {one.__name__: one for one in (s23, s29, s34, s36)}
