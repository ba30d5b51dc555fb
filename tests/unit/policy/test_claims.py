"""What clients say in EHLO and MAIL FROM, and what the names of their addresses look like (RFC 5321 4.1.1.1, 4.1.4, 7505)."""

import asyncio
from typing import Any

import pytest

from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.policy import claims
from fastmail.policy.claims import Claims, generic

ZONE: dict[tuple[str, str], list[Any]] = {
    ("mail.example.org", "A"): ["192.0.2.1"],
    ("six.example.org", "AAAA"): ["2001:db8::1"],
    ("example.org", "MX"): [(10, "mail.example.org")],
    ("deaf.test", "MX"): [(0, "")],
    ("dot.test", "MX"): [(0, ".")],
    ("address.test", "A"): ["192.0.2.5"],
    ("empty.test", "TXT"): ["x"],
}


def names(found: Any) -> list[str]:
    return [name for name, _ in found]


def helo(text: str, ip: str = "192.0.2.1", **more: Any) -> list[str]:
    resolver = MemoryResolver(ZONE)
    resolver.broken |= set(more.get("broken", ()))
    return names(asyncio.run(Claims(resolver, "mx.example.test").helo(ip, text, Budget())))


def sender(domain: str, **more: Any) -> list[str]:
    resolver = MemoryResolver(ZONE)
    resolver.broken |= set(more.get("broken", ()))
    return names(asyncio.run(Claims(resolver, "mx.example.test").sender(domain, Budget())))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mail.example.org", []),
        ("six.example.org", []),
        ("example.org", []),  # a mail host (RFC 5321 2.3.5)
        ("MX.Example.TEST.", ["helo.own"]),
        ("[192.0.2.1]", []),
        ("[192.0.2.9]", ["helo.literal"]),
        ("[IPv6:2001:db8::9]", ["helo.literal"]),
        ("192.0.2.1", ["helo.bare"]),
        ("localhost", ["helo.bare"]),
        ("1.2", ["helo.bare"]),
        ("a..b", ["helo.bare"]),
        ("nowhere.test", ["helo.unresolved"]),
        ("empty.test", ["helo.unresolved"]),
    ],
)
def test_names_in_ehlo(text: str, found: list[str]) -> None:
    assert helo(text) == found


def test_a_name_of_another_address_is_no_reason() -> None:
    """RFC 5321 4.1.4."""
    assert helo("mail.example.org", "198.51.100.7") == []


def test_this_hosts_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "is_own", lambda address: address == "203.0.113.1")
    assert helo("[203.0.113.1]") == ["helo.own"]


def test_trouble_of_the_dns_is_not_held_against_a_name_in_ehlo() -> None:
    assert helo("nowhere.test", broken=["nowhere.test"]) == []


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("", []),
        ("[192.0.2.1]", []),
        ("example.org", []),
        ("address.test", []),
        ("deaf.test", ["sender.null_mx"]),
        ("dot.test", ["sender.null_mx"]),
        ("empty.test", ["sender.no_host"]),
        ("nowhere.test", ["sender.no_host"]),
    ],
)
def test_domains_of_senders(domain: str, found: list[str]) -> None:
    assert sender(domain) == found


def test_a_domain_that_cannot_be_looked_up() -> None:
    assert sender("example.org", broken=["example.org"]) == ["sender.unsure"]


def test_results_are_kept_and_trouble_is_not() -> None:
    resolver = MemoryResolver(ZONE)
    checks = Claims(resolver, "mx.example.test")

    async def main() -> None:
        resolver.broken = {"example.org"}
        assert names(await checks.sender("example.org", Budget())) == ["sender.unsure"]
        assert await checks.helo("192.0.2.1", "nowhere.test", Budget()) == checks.known_helo(
            "192.0.2.1", "Nowhere.test"
        )
        resolver.broken = set()
        assert checks.known_sender("example.org") is None
        assert await checks.sender("example.org", Budget()) == ()
        asked = len(resolver.asked)
        assert await checks.sender("Example.org", Budget()) == checks.known_sender("example.org") == ()
        await checks.helo("192.0.2.1", "nowhere.test", Budget())
        assert len(resolver.asked) == asked

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "ip", "is_generic"),
    [
        ("192-0-2-1.example.net", "192.0.2.1", True),
        ("1.2.0.192.example.net", "192.0.2.1", True),
        ("host-2-1.0.example.net", "192.0.2.1", False),
        ("c0000201.example.net", "192.0.2.1", True),
        ("192000002001.example.net", "192.0.2.1", True),
        ("p4.dyn.example.net", "192.0.2.1", True),
        ("adsl-7.example.net", "192.0.2.1", True),
        ("7.pool.example.net", "192.0.2.1", True),
        ("mail.example.net", "192.0.2.1", False),
        ("mail2.example.net", "192.0.2.2", False),
        ("dynamo.example.net", "192.0.2.1", False),
        ("carpool.example.net", "192.0.2.1", False),
        ("2001-db8-0-0-211-22ff-fe33-4455.example.net", "2001:db8::211:22ff:fe33:4455", True),
        ("mail.example.net", "2001:db8::211:22ff:fe33:4455", False),
        ("mail.example.net", "2001:db8::1", False),
        ("", "192.0.2.1", False),
    ],
)
def test_names_of_customers(name: str, ip: str, is_generic: bool) -> None:
    assert names(generic(name, ip)) == (["reverse.generic"] if is_generic else [])
