"""Reverse DNS (RFC 8601 3)."""

import asyncio

import pytest

from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.policy import iprev

REVERSE = "1.2.0.192.in-addr.arpa"


def check(names: MemoryResolver, ip: str = "192.0.2.1") -> iprev.Reverse:
    return asyncio.run(iprev.Iprev(names).check(ip, Budget()))


@pytest.mark.parametrize(
    ("names", "result"),
    [
        ({}, "permerror"),
        ({(REVERSE, "PTR"): ["a.test"]}, "fail"),
        ({(REVERSE, "PTR"): ["a.test"], ("a.test", "A"): ["192.0.2.2"]}, "fail"),
        ({(REVERSE, "PTR"): ["a.test"], ("a.test", "A"): ["192.0.2.2", "192.0.2.1"]}, "pass"),
        ({(REVERSE, "PTR"): ["b.test", "a.test"], ("a.test", "A"): ["192.0.2.1"]}, "pass"),
    ],
)
def test_results(names: dict[tuple[str, str], list[str]], result: str) -> None:
    assert check(MemoryResolver(names)).result == result


def test_ipv6_and_mapped_addresses() -> None:
    six = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
    names = MemoryResolver({(six, "PTR"): ["a.test"], ("a.test", "AAAA"): ["2001:db8::1"]})
    assert check(names, "2001:db8::1").result == "pass"
    names = MemoryResolver({(REVERSE, "PTR"): ["a.test"], ("a.test", "A"): ["192.0.2.1"]})
    assert check(names, "::ffff:192.0.2.1").name == "a.test"
    assert check(names, "local").result == "permerror"


def test_trouble_and_bounds() -> None:
    names = MemoryResolver({(REVERSE, "PTR"): ["a.test"]})
    names.broken.add("a.test")
    assert check(names).result == "temperror"
    names.broken.add(REVERSE)
    assert check(names).result == "temperror"
    many = MemoryResolver({(REVERSE, "PTR"): [f"n{n:03}.test" for n in range(100)]})
    assert check(many).result == "fail" and len(many.asked) == 11


def test_results_are_kept_as_long_as_their_answers_count() -> None:
    names = MemoryResolver({(REVERSE, "PTR"): ["a.test"], ("a.test", "A"): ["192.0.2.1"]})
    made = iprev.Iprev(names)
    assert made.known("192.0.2.1") is None
    assert asyncio.run(made.check("192.0.2.1", Budget())) == made.known("192.0.2.1")
    names.broken.add(REVERSE.replace("1", "2", 1))
    assert asyncio.run(made.check("192.0.2.2", Budget())).result == "temperror" and made.known("192.0.2.2") is None
