"""Fuzzes whole sessions: `make fuzz`, or `python -m tests.fuzz.sessions --seconds 60 --seed 1 [--protocol imap]`.

Commands from the transcripts are cut, doubled, mixed and damaged, and fed to sessions in this process over a store in
memory, whole or in random pieces; some peers read their answers only now and then, and some say in the middle that they
send nothing more. A finding is: an exception that no handler expected (the counter ``bugs``), a session
that does not end a command, one that does not answer a good command behind the damaged ones, or one that holds more for a
peer than a batch of answers. Every finding is printed
with its seed and what was sent; exit code 1.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from fastmail.delivery.history import History
from fastmail.net import networks
from fastmail.queue import routes
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.store.filler import Filler
from fastmail.store.fulltext import FullText
from fastmail.telemetry import counters, log
from tests.support.relaying import Outward
from tests.support.sessions import Bench
from tests.support.slow import feed, opened

TRANSCRIPTS = Path(__file__).parents[1] / "transcript"
PROTOCOLS = ("imap", "pop3", "smtp", "submission", "lmtp")
HELD = 16 << 20  # octets for one peer: a batch, and one answer that asks for a message of 100 KB again and again
LOGIN = {
    "imap": b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\n",
    "pop3": b"USER user@example.test\r\nPASS secret\r\n",
    "smtp": b"EHLO me.test\r\n",
    "submission": b"EHLO me.test\r\nAUTH PLAIN AHVzZXJAZXhhbXBsZS50ZXN0AHNlY3JldA==\r\n",
    "lmtp": b"LHLO me.test\r\n",
}
SPICE = [
    *(
        b"\0",
        b"\r",
        b"\n",
        b"\r\n",
        b"(",
        b")",
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"*",
        b"%",
        b"~",
        b"<",
        b">",
        b"$",
    ),
    *(
        b"{5}\r\n",
        b"{3+}\r\nabc",
        b"~{3+}\r\n\0\0\0",
        b"{99999999999}\r\n",
        b"{0}\r\n",
        b'""',
        b"NIL",
        b"()",
        b"((((((",
    ),
    *(b"1:*", b"*:*", b"0", b"4294967295", b"99999999999999999999", b"1:4294967295", b",", b":", b"UID ", b"RETURN ("),
    *(
        b"\xff\xfe",
        "\u00e4\u65e5".encode(),
        b"=?utf-8?q?=ff?=",
        b"A" * 5000,
        b" ",
        b"  ",
        b"BODY[",
        b"BINARY[1.",
        b"<0.1>",
    ),
    *(
        b"CATENATE (URL ",
        b"TEXT {2+}\r\nxx",
        b"NOT NOT NOT ",
        b"OR OR ",
        b"FUZZY ",
        b"FROM:<",
        b"TO:<",
        b"SIZE=",
        b"BDAT 3 LAST\r\nabc",
    ),
    *(
        b" BY=120;RT",
        b" BY=-999999999;N",
        b" MT-PRIORITY=-9",
        b" REQUIRETLS",
        rb" ORCPT=utf-8;a\x{10FFFF}",
        b" ORCPT=rfc822;+41",
        b"BURL imap://user%40example.test@mx.example.test/INBOX/;UID=1;URLAUTH=anonymous:internal:01 LAST\r\n",
        b"XCLIENT ADDR=192.0.2.1 LOGIN=user@example.test HELO=+41\r\n",
    ),
]


def corpus(protocol: str) -> list[bytes]:
    """Lines that clients send."""
    folders = [protocol, "smtp"] if protocol in ("submission", "lmtp") else [protocol]
    lines = [
        line[3:].encode()
        for folder in folders
        for path in sorted((TRANSCRIPTS / folder).glob("*.txt"))
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("C:")
    ]
    return [
        line
        for line in lines
        if not line.upper().endswith((b" LOGOUT", b"QUIT", b"STARTTLS", b"STLS", b" COMPRESS DEFLATE"))
    ]


def damaged(rng: random.Random, lines: list[bytes]) -> bytes:
    """One line, or what became of it."""
    line = rng.choice(lines)
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        at = rng.randint(0, len(line))
        what = rng.random()
        if what < 0.4:
            line = line[:at] + rng.choice(SPICE) + line[at:]
        elif what < 0.55:
            line = line[:at] + line[at + rng.randint(1, 5) :]
        elif what < 0.7:
            other = rng.choice(lines)
            line = line[:at] + other[rng.randint(0, len(other)) :]
        elif what < 0.85 and line:
            at = min(at, len(line) - 1)
            line = line[:at] + bytes([line[at] ^ 1 << rng.randint(0, 7)]) + line[at + 1 :]
        else:
            line = line[:at] + line[at:] * 2
    return line + b"\r\n"


async def one(bench: Bench, protocol: str, lines: list[bytes], rng: random.Random) -> str:
    """One session; what went wrong, or nothing."""
    before = counters.snapshot().get("bugs", 0)
    client = bench.open(protocol)
    sent = LOGIN[protocol] if rng.random() < 0.9 else b""
    sent += b"".join(damaged(rng, lines) for _ in range(rng.randint(1, 25)))
    try:
        async with asyncio.timeout(20):
            await client.send(LOGIN[protocol] if not sent else b"")
            at = 0
            while at < len(sent) and not client.transport.closed:
                step = rng.choice([1, 7, 100, 4000]) if rng.random() < 0.5 else len(sent)
                await client.send(sent[at : at + step])
                at += step
    except Exception as error:
        return f"{error!r} after {sent!r}"
    if counters.snapshot().get("bugs", 0) != before:
        return f"an unexpected exception after {sent!r}"
    client.connection.connection_lost(None)
    fresh = bench.open(protocol)
    good = {"imap": b"x NOOP\r\n", "pop3": b"CAPA\r\n"}.get(protocol, b"NOOP\r\n")
    if not (await fresh.send(good)).strip():
        return f"no answer to a good command after {sent!r}"
    fresh.connection.connection_lost(None)
    return ""


async def unread(bench: Bench, protocol: str, lines: list[bytes], rng: random.Random) -> str:
    """A session whose peer reads when it likes, and may send nothing more; what went wrong, or nothing."""
    before = counters.snapshot().get("bugs", 0)
    client, slow = await opened(bench, protocol, LOGIN[protocol], rng.choice([10, 1000, 100_000]))
    connection, half = client.connection, rng.random() < 0.5
    sent = b"".join(damaged(rng, lines) * rng.choice([1, 1, 1, 30]) for _ in range(rng.randint(1, 15)))
    at, stays = 0, True
    while at < len(sent) and stays and not slow.closed:
        step = rng.choice([1, 7, 100, 4000, 60_000])
        await feed(client, sent[at : at + step])
        at += step
        if slow.reading > slow.most + HELD:
            return f"{slow.reading} octets wait to be read after {sent[:at]!r}"
        if rng.random() < 0.3:
            slow.read_on()
        if half and rng.random() < 0.1:
            stays = False
    if half and not slow.closed and not connection.eof_received():
        slow.close()
    try:
        async with asyncio.timeout(20):
            while not slow.closed and (connection.busy or half):
                slow.read_on()
                await asyncio.sleep(0)
    except TimeoutError:
        return f"a command does not end, half closed: {half}, after {sent[:at]!r}"
    if counters.snapshot().get("bugs", 0) != before:
        return f"an unexpected exception after {sent!r}"
    connection.connection_lost(None)
    if len(client.listener.unread):
        return f"output of a connection that is gone counts after {sent!r}"
    return ""


async def main(options: argparse.Namespace) -> int:
    log.setup("text", "error")
    findings = rounds = 0
    with tempfile.TemporaryDirectory() as place:
        deadline = time.monotonic() + options.seconds
        while time.monotonic() < deadline:
            spool = Spool(place, 1 << 26)
            history = History(place, 0.0, 1 << 24)
            table = routes.parse([], [])
            outbound = Outward(spool, table, Schedule(), history, 100).submission
            relay = {"outbound": outbound, "xclient": [networks.parse("127.0.0.0/8")]}
            bench = Bench(place, outbound=relay, errors=1000, message_size=100_000)
            bench.imap.filler = Filler(FullText(place), bench.store)
            until = min(deadline, time.monotonic() + 10)
            while time.monotonic() < until:
                seed = options.seed + rounds
                rng = random.Random(seed)
                protocol = options.protocol or rng.choice(PROTOCOLS)
                session = unread if rng.random() < 0.25 else one
                found = await session(bench, protocol, corpus(protocol), rng)
                rounds += 1
                if found:
                    findings += 1
                    print(f"seed {seed}, {protocol}: {found[:3000]}", flush=True)
                if findings >= 10:
                    break
            await bench.imap.filler.close()
            await spool.close()
            if findings >= 10:
                break
    print(f"{rounds} sessions, {findings} findings")
    return 1 if findings else 0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--protocol", choices=PROTOCOLS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(options())))
