"""What the DNS says, and what it can not say."""

import asyncio
from pathlib import Path

import pytest

from fastmail.app.child import free_ports
from fastmail.dns import resolver as resolver_module
from fastmail.dns.interface import Budget
from fastmail.dns.resolver import LookupFailed, Mx, NoSuchDomain, NullMx, Resolver, _place, of_machine
from fastmail.dns.wire import Server
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
        ours, resolver.servers = resolver.servers, [Server("192.0.2.53", 53)]
        await resolver._probe()
        resolver.servers = ours
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
    monkeypatch.setattr(resolver_module.of_machine, "__defaults__", ("/nowhere/resolv.conf",))
    resolver = Resolver([])

    async def main() -> None:
        with pytest.raises(LookupFailed):
            await resolver.mx("a.test")

    asyncio.run(main())


def test_name_servers_of_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# mine\nsearch a.test\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver name\nnameserver\n"
    )
    assert of_machine(str(file)) == ["192.0.2.1", "fe80::1"]
    file.write_text("nameserver 192.0.2.1\n" * 9)
    assert of_machine(str(file)) == ["192.0.2.1"] * 3


def test_names_are_asked_for_with_a_labels() -> None:
    """Not with those of IDNA 2003, where sharp s and final sigma were other letters."""
    RECORDS[("xn--fa-hia.test", "MX")] = ["10 one.a.test."]
    RECORDS[("fass.test", "MX")] = ["10 wrong.test."]
    for name in ("fa\u00df.test", "FA\u1e9e.test", "XN--FA-HIA.test"):
        assert ask(lambda r, name=name: r.mx(name)) == [Mx(10, "one.a.test")]
    for name in ("\U0001f4a9.test", "xn--a.test", "a b.test", "\u00fc" * 300):
        with pytest.raises(NoSuchDomain):
            ask(lambda r, name=name: r.mx(name))


def test_one_question_however_many_wait_for_it() -> None:
    async def main() -> None:
        server = await name_server(dict(RECORDS))
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=False)
        answers = await asyncio.gather(*(resolver.ask("A.test", "MX") for _ in range(50)))
        assert {answer.state for answer in answers} == {"found"}
        assert (await resolver.ask("a.test", "MX")).records and resolver.cached("a.test", "MX") is not None
        assert server.asked == [("a.test", "MX")]
        resolver.forget()
        assert resolver.cached("a.test", "MX") is None
        resolver.close()
        server.transport.close()

    asyncio.run(main())


def test_who_is_cancelled_does_not_take_the_answer_from_others() -> None:
    async def main() -> None:
        server = await name_server(dict(RECORDS))
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=False)
        first, second = (asyncio.create_task(resolver.ask("a.test", "MX")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).state == "found"
        resolver.close()
        server.transport.close()

    asyncio.run(main())


def test_failures_are_remembered_for_messages_and_not_for_mail_that_waits() -> None:
    async def main() -> None:
        server = await name_server(dict(RECORDS))
        server.broken.add("a.test")
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=False)
        for _ in range(3):
            assert (await resolver.ask("a.test", "MX")).state == "failed"
        assert len(server.asked) == 1
        server.broken.clear()
        assert await resolver.mx("a.test")
        assert (await resolver.ask("a.test", "MX")).state == "found"
        resolver.close()
        server.transport.close()

    asyncio.run(main())


def test_the_next_server_is_asked_when_one_is_away_or_broken() -> None:
    async def main() -> None:
        broken, good = await name_server({}), await name_server(dict(RECORDS))
        broken.broken.add("a.test")
        for first in (f"127.0.0.1:{broken.port}", f"127.0.0.1:{free_ports(1)[0]}"):
            resolver = Resolver([first, f"127.0.0.1:{good.port}"], trusted=False)
            assert await resolver.mx("a.test")
            resolver.close()
        broken.transport.close()
        good.transport.close()

    asyncio.run(main())


def test_ports_and_numbers_are_drawn() -> None:
    """RFC 5452: a forger has to guess both."""

    async def main() -> None:
        server = await name_server(dict(RECORDS))
        seen: set[tuple[int, int]] = set()
        taken = server.datagram_received

        def note(data: bytes, peer: tuple[str, int]) -> None:
            seen.add((peer[1], data[0] << 8 | data[1]))
            taken(data, peer)

        server.datagram_received = note  # type: ignore[method-assign]
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=False)
        await asyncio.gather(*(resolver.ask(f"n{n}.test", "A") for n in range(200)))
        assert len({port for port, _ in seen}) == 4
        numbers = sorted(number for _, number in seen)
        assert len(numbers) >= 190 and numbers[-1] - numbers[0] > 30_000
        resolver.close()
        server.transport.close()

    asyncio.run(main())


def test_s16_strangers_cannot_have_more_than_so_many_questions_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail that waits is still looked up."""
    monkeypatch.setattr(resolver_module, "CROWD", 20)

    async def main() -> None:
        server = await name_server(dict(RECORDS))
        server.silent |= {f"n{n}.test" for n in range(100)}
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=False)
        waiting = [asyncio.create_task(resolver.ask(f"n{n}.test", "A", Budget(0.5))) for n in range(100)]
        done, _ = await asyncio.wait(waiting, timeout=0.3)
        assert len(done) == 80 and {one.result().state for one in done} == {"failed"}
        assert await resolver.mx("a.test")
        await asyncio.gather(*waiting)
        resolver.close()
        server.transport.close()

    asyncio.run(main())


def test_the_last_question_of_a_budget_may_wait_for_its_answer() -> None:
    asked = Budget(5.0, 2)
    for name in ("plain.test", "nowhere.test", "one.a.test"):
        assert (
            ask(lambda r, name=name: r.ask(name, "A", asked), trusted=False).state
            == {
                "plain.test": "found",
                "nowhere.test": "no such name",
                "one.a.test": "failed",
            }[name]
        )
