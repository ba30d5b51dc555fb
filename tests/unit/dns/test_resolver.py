"""What the DNS says, and what it can not say."""

import asyncio

import dns.resolver
import pytest

from fastmail.dns.resolver import LookupFailed, Mx, NoSuchDomain, NullMx, Resolver, _place
from tests.support.hosts import NameServer, name_server

RECORDS = {
    ("a.test", "MX"): ["20 two.a.test.", "10 one.a.test."],
    ("one.a.test", "A"): ["192.0.2.1"],
    ("one.a.test", "AAAA"): ["2001:db8::1"],
    ("none.test", "MX"): ["0 ."],
    ("plain.test", "A"): ["192.0.2.2"],
}


def ask(work, **options):  # type: ignore[no-untyped-def]
    async def main():  # type: ignore[no-untyped-def]
        server: NameServer = await name_server(dict(RECORDS))
        server.broken.add("broken.test")
        try:
            return await work(Resolver([f"127.0.0.1:{server.port}"], **options))
        finally:
            server.transport.close()

    return asyncio.run(main())


def test_hosts_come_by_preference() -> None:
    assert ask(lambda r: r.mx("A.test")) == [Mx(10, "one.a.test"), Mx(20, "two.a.test")]
    assert ask(lambda r: r.mx("plain.test")) == [Mx(0, "plain.test")]


def test_addresses_of_both_kinds() -> None:
    assert ask(lambda r: r.addresses("one.a.test")) == ["2001:db8::1", "192.0.2.1"]
    assert ask(lambda r: r.addresses("one.a.test"), ipv6=False) == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("none.test", NullMx), ("nowhere.test", NoSuchDomain), ("broken.test", LookupFailed), ("a..test", NoSuchDomain)],
)
def test_errors_that_last_and_errors_that_pass(name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(lambda r: r.mx(name))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("[::1]", ("::1", 53)),
    ],
)
def test_places_of_servers(text: str, place: tuple[str, int]) -> None:
    assert _place(text) == place


def test_a_machine_without_name_servers_still_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", lambda self, f: _none())
    resolver = Resolver([])

    async def main() -> None:
        with pytest.raises(LookupFailed):
            await resolver.mx("a.test")

    asyncio.run(main())


def _none() -> None:
    raise dns.resolver.NoResolverConfiguration


def test_names_are_asked_for_with_a_labels() -> None:
    """Not with those of IDNA 2003, where sharp s and final sigma were other letters."""
    RECORDS[("xn--fa-hia.test", "MX")] = ["10 one.a.test."]
    RECORDS[("fass.test", "MX")] = ["10 wrong.test."]
    for name in ("fa\u00df.test", "FA\u1e9e.test", "XN--FA-HIA.test"):
        assert ask(lambda r, name=name: r.mx(name)) == [Mx(10, "one.a.test")]
    for name in ("\U0001f4a9.test", "xn--a.test", "a b.test", "\u00fc" * 300):
        with pytest.raises(NoSuchDomain):
            ask(lambda r, name=name: r.mx(name))
