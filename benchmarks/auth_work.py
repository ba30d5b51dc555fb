"""What ``make bench-auth`` calls again and again in one process: each check by itself, and all checks of a message as
the server makes them (policy.receive), with every answer of the DNS in the cache.

Run as a program it counts the instructions of each case (benchmarks.instructions) instead of measuring.
"""

import asyncio
import gc
import hashlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from benchmarks.instructions import Counter
from fastmail.bench.load import BODY
from fastmail.dns.interface import Answer, Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.dns.resolver import Resolver
from fastmail.policy import keys, lists, sign
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.policy.sign import SigningKey

DOMAIN, IP, HELO, SENDER = "b.example", "192.0.2.1", "mail.b.example", "a@b.example"
HEADER = (
    b"Received: from inner.b.example (inner.b.example [10.1.2.3])\n\tby mail.b.example (Postfix) with ESMTPS id 4F00\n"
    b"\tfor <u1@bench.example>; Mon, 1 Jan 2024 00:00:00 +0000 (UTC)\n"
    b"Received: from [10.9.8.7] (unknown [10.9.8.7])\n\tby inner.b.example (Postfix) with ESMTPSA id 3E00;\n"
    b"\tMon, 1 Jan 2024 00:00:00 +0000 (UTC)\n"
    b"From: Some Body <a@b.example>\nTo: Somebody Else <u1@bench.example>\nSubject: quarterly figures\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-ID: <20240101.1@b.example>\nIn-Reply-To: <20231231.1@bench.example>\n"
    b"References: <20231230.1@bench.example>\n <20231231.1@bench.example>\nUser-Agent: Some Program 1.2\n"
    b"X-Mailer: Some Program 1.2\nX-Priority: 3\nMIME-Version: 1.0\nContent-Language: en-GB\n"
    b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
)
LINE = BODY.replace(b"\r\n", b"\n")
ZONES = ("one.lists.example=127.0.0.[2..11]*3", "two.lists.example*-1"), ("names.lists.example=127.0.1.[2..99]*4",)
HOUR = 3600.0
SIZE = 4096
ALL = "all checks of a message of 4 KB, DNS lists too"
SENDERS = 100
SIGNATURE = 850  # octets of a field, about


def text(size: int, number: int = 1) -> bytes:
    """A message (LF) of about that many octets, not signed. Each number is another message of the same sender."""
    return HEADER.replace(b"20240101.1@", b"20240101.%d@" % number) + LINE * max(1, (size - len(HEADER)) // len(LINE))


def signed(size: int, number: int, signer: SigningKey) -> bytes:
    """The same with a signature of its author's domain, all of it of about that many octets."""
    plain = text(size - SIGNATURE, number).replace(SENDER.encode(), f"a@{signer.domain}".encode())
    return sign.message(plain, [signer]) + plain


def private(pem: bytes = b"") -> SigningKey:
    """The RSA key of 2,048 bits that signs; one made before where a key is given."""
    made: Any = load_pem_private_key(pem, None) if pem else generate_private_key(65537, 2048)
    return SigningKey(DOMAIN, "one", made)


def zone(*signers: SigningKey) -> dict[tuple[str, str], list[Any]]:
    """All that the checks of a message ask for."""
    domains = {one.domain for one in signers}
    return {
        **{(domain, "TXT"): ["v=spf1 include:spf.b.example mx -all"] for domain in domains},
        **{(f"_dmarc.{domain}", "TXT"): ["v=DMARC1; p=reject; rua=mailto:dmarc@b.example"] for domain in domains},
        **{(f"{one.selector}._domainkey.{one.domain}", "TXT"): [one.record()] for one in signers},
        ("spf.b.example", "TXT"): ["v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ?all"],
        ("1.2.0.192.in-addr.arpa", "PTR"): [HELO],
        (HELO, "A"): [IP],
        (HELO, "TXT"): ["v=spf1 a -all"],
        ("2.0.0.127.one.lists.example", "A"): ["127.0.0.2"],
        ("2.0.0.127.two.lists.example", "A"): ["127.0.0.2"],
        ("test.names.lists.example", "A"): ["127.0.1.2"],
    }


class Warm(Resolver):
    """The server's resolver, whose first look at a name is answered from a zone in memory, and kept for an hour."""

    def __init__(self, records: dict[tuple[str, str], list[Any]]) -> None:
        super().__init__(["127.0.0.1:9"], trusted=False)
        self._memory = MemoryResolver(records)

    async def _look(self, key: tuple[str, str]) -> Answer:
        found = await self._memory.ask(*key)
        made = Answer(found.state, found.records, found.name, False, time.monotonic() + HOUR, found.why)
        self._cache.put(key, made)
        return made


@dataclass(frozen=True, slots=True)
class Case:
    """``make(n)`` gives what ``work`` is to do n times; only ``work`` is measured. ``times``: n of a round."""

    name: str
    times: int
    make: Callable[[int], list[Any]]
    work: Callable[[list[Any]], Coroutine[Any, Any, None]]


def _same(number: int) -> list[Any]:
    """Nothing to be made beforehand."""
    return [None] * number


def _plain(name: str, times: int, call: Callable[[], object]) -> Case:
    async def work(given: list[Any]) -> None:
        for _ in given:
            call()

    return Case(name, times, _same, work)


def _message(name: str, settings: Settings, signer: SigningKey, again: bool = False) -> Case:
    """All checks of a message that comes in one piece, up to the field that is put in front of it. No two messages are
    the same, but they come from one sender, so all that the DNS says of him is known. ``again``: they are one message,
    as a list's post is that comes in a transaction for each subscriber."""
    receivers: list[Receiver] = []
    made = itertools.count(1)

    def make(number: int) -> list[Any]:
        if again:
            return [signed(SIZE, next(made), signer)] * number
        return [signed(SIZE, next(made), signer) for _ in range(number)]

    async def work(given: list[Any]) -> None:
        if not receivers:
            receivers.append(Receiver(Warm(zone(signer)), settings))
        for content in given:
            receiving = receivers[0].begin(IP, HELO)
            receiving.mail_from(SENDER)
            receiving.feed(content)
            found = await receiving.finish()
            receiving.close()
        assert found.words.startswith("spf=pass dkim=pass dmarc=pass: accept"), found.words

    return Case(name, 100, make, work)


def _senders(name: str, settings: Settings, signer: SigningKey, known: bool) -> Case:
    """The same of many senders in turn, whose domains have one key. ``known``: each has sent something before; else only
    the answers of the DNS are known."""
    signers = [SigningKey(f"b{n}.example", "one", signer.private) for n in range(SENDERS)]
    resolver: list[Warm] = []
    receivers: list[Receiver] = []
    made = itertools.count(1)

    def make(number: int) -> list[Any]:
        chosen = [signers[n % SENDERS] for n in range(number)]
        return [(one.domain, signed(SIZE, next(made), one)) for one in chosen]

    async def work(given: list[Any]) -> None:
        if not resolver:
            resolver.append(Warm(zone(*signers)))
        if not receivers or not known:
            receivers[:] = [Receiver(resolver[0], settings)]
        for domain, content in given:
            receiving = receivers[0].begin(IP, HELO)
            receiving.mail_from(f"a@{domain}")
            receiving.feed(content)
            found = await receiving.finish()
            receiving.close()
        assert found.words.startswith("spf=pass dkim=pass dmarc=pass: accept"), found.words

    return Case(name, SENDERS, make, work)


def _records(signer: SigningKey) -> list[Case]:
    """SPF and DMARC from the cache."""
    receivers: list[Receiver] = []

    def receiver() -> Receiver:
        if not receivers:
            receivers.append(Receiver(Warm(zone(signer)), Settings("mx.bench.example")))
        return receivers[0]

    async def spf(given: list[Any]) -> None:
        made = receiver()
        for _ in given:
            found = await made.spf.mail_from(IP, HELO, SENDER, Budget())
        assert found.result == "pass"

    async def dmarc(given: list[Any]) -> None:
        made = receiver()
        for _ in given:
            found = await made.dmarc.evaluate(DOMAIN, DOMAIN, [DOMAIN], (), Budget())
        assert found.result == "pass"

    return [Case("SPF of MAIL FROM, cached", 1000, _same, spf), Case("DMARC, cached", 1000, _same, dmarc)]


def cases(pem: bytes = b"") -> list[Case]:
    """All of them, by the same key."""
    rsa, ed25519 = private(pem), SigningKey(DOMAIN, "two", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    plain, content = text(SIZE), signed(SIZE, 1, rsa)
    listed, named = ([lists.parse(one) for one in zones] for zones in ZONES)
    chosen = Settings("mx.bench.example", lists=listed, domain_lists=named)
    digest = hashlib.sha256(content).digest()
    out = [
        _message(ALL, chosen, rsa),
        _message("the same without DNS lists", Settings("mx.bench.example"), rsa),
        _message("the same message again and again", chosen, rsa, True),
        _senders(f"the same of {SENDERS} senders in turn", chosen, rsa, True),
        _senders("the first message of each, answers of the DNS known", chosen, rsa, False),
        _plain("SHA-256 of such a message", 200, lambda: hashlib.sha256(content).digest()),
    ]
    for kind, signer in (("RSA-2048", rsa), ("Ed25519", ed25519)):
        public, octets = keys.parse(signer.record().encode()), signer.sign(content)
        out += [
            _plain(f"{kind} verified", 100,
                   lambda public=public, octets=octets: public.computed(octets, digest)),
            _plain(f"{kind} signed", 20, lambda signer=signer: signer.sign(content)),
            _plain(f"a message of 4 KB signed, {kind}", 20, lambda signer=signer: sign.message(plain, [signer])),
        ]  # fmt: skip
    return out + _records(rsa)


# ---------------------------------------------------------------- time


def timed(case: Case, rounds: int) -> list[float]:
    """us of CPU of this thread, each time, in so many rounds."""

    async def run() -> list[float]:
        gc.set_threshold(20_000, 20, 20)  # as workers do
        await case.work(case.make(case.times))
        out = []
        for _ in range(rounds):
            given = case.make(case.times)
            since = time.thread_time_ns()
            await case.work(given)
            out.append((time.thread_time_ns() - since) / case.times / 1000)
        return out

    return uvloop.run(run())


def shown(values: list[float]) -> str:
    """The median, and where nine of ten are."""
    values = sorted(values)
    low, high = values[len(values) // 20], values[-1 - len(values) // 20]
    return f"{statistics.median(values):.1f} ({low:.1f} to {high:.1f})"


# ---------------------------------------------------------------- instructions

COUNTED = 25  # calls that are counted, after as many that are not


def main(place: str) -> None:
    """The process that valgrind watches: a line of JSON [name, instructions] for each case."""
    counter = Counter(Path(place))
    loop = asyncio.new_event_loop()
    for case in cases(Path(place, "key").read_bytes()):
        for _ in range(2):  # from the third message on, a sender is known
            loop.run_until_complete(case.work(case.make(COUNTED)))
        given = case.make(COUNTED)
        gc.collect()
        gc.disable()
        counter.begin()
        loop.run_until_complete(case.work(given))
        counter.end()
        gc.enable()
        print(json.dumps([case.name, counter.read() // COUNTED]), flush=True)
    loop.close()


if __name__ == "__main__":
    main(sys.argv[1])
