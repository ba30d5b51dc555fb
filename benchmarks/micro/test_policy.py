"""pytest-benchmark for the checks of mail from others: canonical forms and hashing by size, signatures, SPF, DNS.

``python -m pytest benchmarks/micro/test_policy.py -o addopts= --benchmark-only``. The sizes are in the names.
"""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import dns
from fastmail._core import links as scanner
from fastmail._core.signed import Fields
from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.dns.resolver import Resolver
from fastmail.policy import dkim, links, sign
from fastmail.policy.claims import Claims
from fastmail.policy.dkim import Content, Verifier
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.policy.spf import Spf
from fastmail.policy.strangers.gate import Gate
from fastmail.policy.strangers.rules import Rules, rate
from tests.support.hosts import name_server
from tests.support.signing import MESSAGE, key, parts, published, signed

LINE = b"The quick brown fox jumps over the lazy dog, and then it does so once more.\n"
SIZES = {"4k": 52, "100k": 1_316, "10m": 138_000}
ZONE = {
    **published(key()),
    ("example.org", "TXT"): ["v=spf1 include:a.test include:b.test mx -all"],
    ("a.test", "TXT"): ["v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/24 ?all"],
    ("b.test", "TXT"): ["v=spf1 ip4:192.0.2.0/24 ?all"],
    ("_dmarc.example.org", "TXT"): ["v=DMARC1; p=reject"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org"],
    ("mail.example.org", "A"): ["192.0.2.1"],
}


@pytest.mark.parametrize("form", ["simple", "relaxed"])
@pytest.mark.parametrize("size", SIZES)
def test_body_canonical_and_hashed(benchmark: Any, size: str, form: str) -> None:
    body = LINE * SIZES[size]
    header = b"From: a@b.test\n"

    def work() -> bytes:
        content = Content(header)
        content.want(form == "relaxed")
        content.feed(body)
        content.finish()
        return content.body_hash(form == "relaxed")

    assert benchmark(work)
    benchmark.extra_info["octets"] = len(body)


@pytest.mark.parametrize("size", ["4k", "100k"])
def test_body_hashed_alone(benchmark: Any, size: str) -> None:
    body = LINE * SIZES[size]
    assert benchmark(lambda: hashlib.sha256(body).digest())


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_verify_4k(benchmark: Any, kind: str) -> None:
    """Header and body of a message with one signature; the key is in the cache."""
    signer = key(kind=kind)
    header, body = parts(signed(MESSAGE + LINE * 48, signer))
    verifier, budget = Verifier(MemoryResolver(published(signer))), Budget(most=1 << 40)
    loop = asyncio.new_event_loop()

    async def work() -> str:
        content = Content(header)
        found, _ = dkim.read(content)
        content.feed(body)
        content.finish()
        assert isinstance(found[0], dkim.Signature)
        return (await verifier.one(content, found[0], budget)).result

    budget.deadline = time.monotonic() + 3600
    assert benchmark(lambda: loop.run_until_complete(work())) == "pass"
    loop.close()


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_sign_4k(benchmark: Any, kind: str) -> None:
    content, signer = MESSAGE + LINE * 48, [key(kind=kind)]
    assert benchmark(lambda: sign.message(content, signer))


def test_spf_from_cache(benchmark: Any) -> None:
    spf = Spf(MemoryResolver(ZONE), "mx.test")
    loop = asyncio.new_event_loop()

    async def many() -> str:
        budget = Budget()
        for _ in range(1000):
            found = await spf.mail_from("192.0.2.1", "mail.example.org", "joe@example.org", budget)
        return found.result

    assert benchmark(lambda: loop.run_until_complete(many())) == "pass"
    benchmark.extra_info["calls"] = 1000
    loop.close()


def test_all_checks_of_a_4k_message_with_answers_cached(benchmark: Any) -> None:
    """SPF, DKIM (RSA 2048), DMARC, ARC, reverse DNS, the verdict and its field; a hundred messages a round."""
    content = signed(MESSAGE + LINE * 48)
    receiver = Receiver(MemoryResolver(ZONE), Settings("mx.test"))
    loop = asyncio.new_event_loop()

    async def many() -> str:
        for _ in range(100):
            receiving = receiver.begin("192.0.2.1", "mail.example.org")
            receiving.mail_from("joe@example.org")
            receiving.feed(content)
            found = await receiving.finish()
        return found.verdict.action

    assert benchmark(lambda: loop.run_until_complete(many())) == "accept"
    loop.close()


def test_answers_of_the_cache(benchmark: Any) -> None:
    """A thousand a round, by a resolver that asked a name server once."""
    loop = asyncio.new_event_loop()

    async def ready() -> Resolver:
        server = await name_server({("a.test", "TXT"): ['"v=spf1 -all"']})
        made = Resolver([f"127.0.0.1:{server.port}"], trusted=False)
        await made.ask("a.test", "TXT")
        return made

    resolver = loop.run_until_complete(ready())

    async def many() -> None:
        budget = Budget(seconds=1e9)
        for _ in range(1000):
            await resolver.ask("a.test", "TXT", budget)

    benchmark(lambda: loop.run_until_complete(many()))
    loop.close()


def test_an_answer_is_read(benchmark: Any) -> None:
    data = bytes.fromhex(
        "123481800001000100000000016104746573740000100001c00c0010000100000005000c0b763d73706631202d616c6c"
    )
    assert benchmark(lambda: dns.answer(data, dns.wire("a.test"), 16))[1] == [b"v=spf1 -all"]


def test_relaxed_fields(benchmark: Any) -> None:
    header = parts(signed())[0]
    names = [b"from", b"to", b"subject", b"date", b"message-id"]
    assert benchmark(lambda: Fields(header).canonical(names, True))


SHOP = b'Dear reader, see <a href="https://www.shop.example/offer?id=1&amp;x=2">our offer</a>, or write to help@shop.example.\n'
HTML = (
    b"From: a@b.test\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n"
    b"Content-Transfer-Encoding: quoted-printable\n\n"
)


@pytest.mark.parametrize("size", [4096, 100_000, 1_000_000])
def test_names_in_a_message(benchmark: Any, size: int) -> None:
    """What a URL list costs before it is asked (policy.links)."""
    content = HTML + (SHOP.replace(b"=", b"=3D") * (size // len(SHOP) + 1))[:size]
    assert benchmark(lambda: links.read(content)).urls == ("www.shop.example",)


def test_hosts_in_100_kb(benchmark: Any) -> None:
    assert benchmark(lambda: scanner.hosts(SHOP * 862, 200))[0] == [b"www.shop.example"]


def test_what_a_known_client_says(benchmark: Any) -> None:
    """A hundred a round: EHLO and MAIL FROM, whose answers are kept (policy.claims)."""
    checks = Claims(
        MemoryResolver({("mail.example.org", "A"): ["192.0.2.1"], ("example.org", "A"): ["192.0.2.1"]}), "mx.test"
    )
    loop = asyncio.new_event_loop()
    loop.run_until_complete(checks.helo("192.0.2.1", "mail.example.org", Budget()))
    loop.run_until_complete(checks.sender("example.org", Budget()))

    def many() -> int:
        return sum(
            checks.known_helo("192.0.2.1", "mail.example.org") == () == checks.known_sender("example.org")
            for _ in range(100)
        )

    assert benchmark(many) == 100
    loop.close()


def test_a_stranger_of_a_good_past(benchmark: Any, tmp_path: Path) -> None:
    """A hundred messages a round, with every rule of [strangers] (policy.strangers)."""
    limits = ("connections client 1000000000", "messages network 1000000000", "messages recipient 1000000000")
    gate = Gate(str(tmp_path), Rules(2.0, guesses=20, tarpit=3.0, rates=tuple(map(rate, limits))))
    gate.good("192.0.2.1")

    def many() -> int:
        good = 0
        for _ in range(100):
            good += gate.connected("192.0.2.1") == "" and gate.known("192.0.2.1") and not gate.is_guesser("192.0.2.1")
            good += gate.mail("192.0.2.1", "joe@example.org") == "" == gate.addressed("user@example.test")
            gate.good("192.0.2.1")
        return good

    assert benchmark(many) == 200
    gate.close()
