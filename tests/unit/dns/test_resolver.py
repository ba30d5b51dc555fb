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


@pytest.mark.parametrize("validates", [True, False])
def test_name_servers_on_this_machine_tell_whether_they_validate(validates: bool) -> None:
    """And are trusted then, as often as they are asked; the root is asked about once."""

    async def main() -> None:
        server = await name_server(dict(RECORDS))
        server.secure = validates
        resolver = Resolver([f"127.0.0.1:{server.port}"])
        found = await asyncio.gather(*(resolver.mx(name) for name in ("a.test", "plain.test", "a.test")))
        assert {one.secure for hosts in found for one in hosts} == {validates}
        assert server.asked.count((".", "SOA")) == 1
        server.transport.close()

    asyncio.run(main())


def test_what_name_servers_elsewhere_say_of_dnssec_is_hearsay() -> None:
    async def main() -> None:
        server = await name_server(dict(RECORDS))
        server.secure = True
        resolver = Resolver([f"127.0.0.1:{server.port}"])
        ours, resolver._resolver.nameservers = resolver._resolver.nameservers, ["192.0.2.53"]
        await resolver._settle()
        resolver._resolver.nameservers = ours
        assert not any(one.secure for one in await resolver.mx("a.test"))
        assert (".", "SOA") not in server.asked
        server.transport.close()

    asyncio.run(main())


def test_dnssec_is_off_where_the_configuration_says_so() -> None:
    async def main() -> None:
        server = await name_server(dict(RECORDS))
        server.secure = True
        assert not any(
            one.secure for one in await Resolver([f"127.0.0.1:{server.port}"], trusted=False).mx("plain.test")
        )
        server.transport.close()

    asyncio.run(main())


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
