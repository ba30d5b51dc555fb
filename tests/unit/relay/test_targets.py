"""From a destination to its hosts: what strangers put into the DNS, and what the administrator wrote into a route."""

import asyncio
from typing import Any

import pytest

from fastmail.dns.resolver import LookupFailed, NoSuchDomain, Resolver
from fastmail.queue import routes
from fastmail.relay.targets import Finder, Loops
from fastmail.smtp.client import Target
from fastmail.telemetry.counters import snapshot
from tests.support.hosts import NameServer, name_server

Records = dict[tuple[str, str], list[str]]


def find(
    destination: str, records: Records, lines: list[str] | None = None, broken: str = "", **options: Any
) -> list[Target]:
    async def work() -> list[Target]:
        server: NameServer = await name_server(records)
        server.broken |= set(broken.split())
        server.secure = bool(options.pop("secure", False))
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=server.secure)
        try:
            return await Finder(routes.parse(lines or [], []), resolver, "mx.near.test", **options).find(destination)
        finally:
            server.transport.close()

    return asyncio.run(work())


def names(found: list[Target]) -> list[str]:
    return [one.name for one in found]


LITERALS = [
    "[127.0.0.1]",
    "[127.9.9.9]",
    "[IPv6:::1]",
    "[ipv6:::ffff:127.0.0.1]",
    "[IPv6:::ffff:7f00:1]",
    "[IPv6:64:ff9b::7f00:1]",
    "[0.0.0.0]",
    "[IPv6:::]",
    "127.0.0.1",
    "127.0.0.1.",
    "::1",
]


@pytest.mark.parametrize("domain", LITERALS)
def test_s20_literals_of_this_machine_go_nowhere(domain: str) -> None:
    with pytest.raises(Loops):
        find(domain, {})
    (target,) = find(domain, {}, loopback=True)
    assert target.port == 25


@pytest.mark.parametrize(
    "domain", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[0x7f000001]", "[127.1]", "[x]"]
)
def test_s20_other_spellings_are_no_domains(domain: str) -> None:
    with pytest.raises(NoSuchDomain):
        find(domain, {(domain, "A"): ["127.0.0.1"], (domain, "MX"): [f"10 {domain}."]} if domain[0] != "[" else {})


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("A", "127.0.0.1"),
        ("A", "0.0.0.0"),
        ("AAAA", "::1"),
        ("AAAA", "::ffff:127.0.0.1"),
        ("AAAA", "64:ff9b::7f00:1"),
        ("A", "169.254.169.254"),
    ],
)
def test_s20_hosts_of_the_dns_on_this_machine(kind: str, address: str) -> None:
    records: Records = {("far.test", "MX"): ["10 mail.far.test."], ("mail.far.test", kind): [address]}
    with pytest.raises(Loops):
        find("far.test", records)
    records[("far.test", "MX")].append("20 good.far.test.")
    records[("good.far.test", "A")] = ["198.51.100.7"]
    assert names(find("far.test", records)) == ["good.far.test"]


def test_s20_an_alias_of_this_machine() -> None:
    records: Records = {("far.test", "MX"): ["10 127.0.0.1."], ("127.0.0.1", "A"): ["127.0.0.1"]}
    with pytest.raises((Loops, NoSuchDomain)):
        find("far.test", records)


def test_a_route_of_the_administrator_may_name_this_machine() -> None:
    (target,) = find("smtp:127.0.0.1:2525", {}, ["far.test smtp:127.0.0.1:2525"])
    assert target.route and (target.address, target.port) == ("127.0.0.1", 2525)


@pytest.mark.parametrize("bad", [9, 10, 30])
def test_hosts_without_address_in_front_of_a_good_one(bad: int) -> None:
    records: Records = {("good.far.test", "A"): ["198.51.100.7"]}
    records[("far.test", "MX")] = [f"10 no{n}.far.test." for n in range(bad)] + ["20 good.far.test."]
    assert names(find("far.test", records)) == ["good.far.test"]


def test_hosts_that_can_not_be_looked_up_in_front_of_a_good_one() -> None:
    records: Records = {("good.far.test", "A"): ["198.51.100.7"]}
    records[("far.test", "MX")] = [f"10 no{n}.far.test." for n in range(12)] + ["20 good.far.test."]
    broken = " ".join(f"no{n}.far.test" for n in range(12))
    assert names(find("far.test", records, broken=broken)) == ["good.far.test"]


def test_more_hosts_than_are_looked_up_are_no_refusal() -> None:
    """A bound of ours returns no mail."""
    records: Records = {("far.test", "MX"): [f"10 no{n}.far.test." for n in range(200)]}
    with pytest.raises(LookupFailed, match="none of the first 50 mail hosts"):
        find("far.test", records)
    records[("far.test", "MX")] = records[("far.test", "MX")][:20]
    with pytest.raises(NoSuchDomain):
        find("far.test", records)


def test_thousands_of_addresses_are_bounded() -> None:
    records: Records = {("far.test", "MX"): ["10 mail.far.test."]}
    records[("mail.far.test", "A")] = [f"198.51.100.{n}" for n in range(60)]
    assert len(find("far.test", records)) == 20


@pytest.mark.parametrize(
    "lines", [["* smtp:gone.test:25"], ["far.test smtp:gone.test"], ["from:@near.test smtp:gone.test"]]
)
@pytest.mark.parametrize("broken", ["", "gone.test"])
def test_a_next_hop_that_the_dns_does_not_know_is_no_refusal(lines: list[str], broken: str) -> None:
    before = snapshot().get("relay.route_trouble", 0)
    with pytest.raises(LookupFailed, match=r"gone\.test"):
        find("smtp:gone.test:25", {("other.test", "A"): ["198.51.100.7"]}, lines, broken)
    assert snapshot().get("relay.route_trouble", 0) == before + (not broken)


@pytest.mark.parametrize(
    "destination", ["smtp:", "stmp:10.0.0.1:25", "smtp:10.0.0.1:x", "smtp:a b:25", "pipe:/bin/x", ":"]
)
def test_a_next_hop_that_is_none_waits(destination: str) -> None:
    with pytest.raises(LookupFailed):
        find(destination, {})


def test_a_next_hop_of_the_queue_may_lack_its_port() -> None:
    (target,) = find("smtp:198.51.100.7", {})
    assert (target.address, target.port, target.route) == ("198.51.100.7", 25, True)


@pytest.mark.parametrize("secure", [True, False])
def test_dane_of_a_signed_domain_without_mx(secure: bool) -> None:
    """RFC 7672 2.2.2."""
    records: Records = {("far.test", "A"): ["198.51.100.7"], ("_25._tcp.far.test", "TLSA"): ["3 1 1 " + "0" * 64]}
    (target,) = find("far.test", records, secure=secure)
    assert (target.tls, target.policy) == (("dane", "tlsa") if secure else ("may", "no-policy-found"))


def test_dane_of_an_alias() -> None:
    """RFC 7672 2.1.3: the records are at the name behind the CNAME first."""
    records: Records = {("far.test", "MX"): ["10 mail.far.test."], ("mail.far.test", "A"): ["198.51.100.7"]}
    records[("_25._tcp.real.test", "TLSA")] = ["3 1 1 " + "0" * 64]

    async def work() -> list[Target]:
        server = await name_server(records)
        server.secure = True
        server.aliases["mail.far.test"] = "real.test"
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=True)
        records[("real.test", "A")] = ["198.51.100.7"]
        try:
            return await Finder(routes.parse([], []), resolver, "mx.near.test").find("far.test")
        finally:
            server.transport.close()

    (target,) = asyncio.run(work())
    assert target.tls == "dane" and target.name == "mail.far.test"


HOPS = [
    ("smtp:10.0.0.1", "smtp:10.0.0.1:25"),
    ("smtp:10.0.0.1:2525", "smtp:10.0.0.1:2525"),
    ("smtps:mail.test", "smtps:mail.test:465"),
    ("lmtp:mail.test", "lmtp:mail.test:24"),
    ("smtp:[2001:db8::1]:26", "smtp:2001:db8::1:26"),
    ("smtp:[2001:db8::1]", "smtp:2001:db8::1:25"),
    ("smtp:2001:db8::1", "smtp:2001:db8::1:25"),
    ("smtp:2001:db8::1:26", "smtp:2001:db8::1:26"),
    ("lmtp:unix:/run/lmtp", "lmtp:unix:/run/lmtp"),
]


@pytest.mark.parametrize(("text", "destination"), HOPS)
def test_next_hops(text: str, destination: str) -> None:
    hop = routes.hop(text)
    assert hop is not None and hop.destination == destination
    again = routes.hop(destination)
    assert again is not None and again.host == hop.host


NO_HOPS = ["", "smtp:", "smpt:10.0.0.1", "smtp:10.0.0.1:", "smtp:10.0.0.1:0", "smtp:10.0.0.1:70000", "smtp:a..b", "mx"]
NO_HOPS += ["smtp:[10.0.0.1", "smtp:[x]:25", "smtp:unix:/x", "lmtp:unix:x", "smtp: a", "smtp:a:b", "pipe:/bin/true"]


@pytest.mark.parametrize("text", NO_HOPS)
def test_what_is_no_next_hop(text: str) -> None:
    assert routes.hop(text) is None
