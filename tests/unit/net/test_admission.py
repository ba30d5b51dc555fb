"""Who is let in is decided when a connection is accepted: before TLS, before a PROXY header, for a /64 as one, once."""

import asyncio
import ipaddress
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fastmail.app.quickstart import write_certificate
from fastmail.model.limits import Limits
from fastmail.net import networks
from fastmail.net.bans import Bans, Rules
from fastmail.net.connection import Connection, host_of
from fastmail.net.listener import Listener, Registry, bind
from fastmail.net.networks import address_in, network_of, plain
from fastmail.net.proxy import SIGNATURE
from fastmail.net.tls import ServerTls
from fastmail.smtp import xclient
from tests.support import certificates
from tests.support.sessions import Bench, FakeTransport

LOOPS: list[Callable[..., Any]] = [asyncio.run, uvloop.run]
REFUSED, BANNED = b"421 too many\r\n", b"421 not you\r\n"
MAPPED = ["::ffff:192.0.2.7", "::FFFF:192.0.2.7", "::ffff:c000:207", "0:0:0:0:0:ffff:c000:0207"]


def v2(address: str) -> bytes:
    """A PROXY header that names an IPv6 client."""
    return SIGNATURE + b"\x21\x21" + struct.pack(">H", 36) + ipaddress.IPv6Address(address).packed + bytes(20)


def hello() -> bytes:
    """The first octets of a TLS client."""
    context = certificates.any_certificate()
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


class Place:
    """A listener on loopback."""

    def __init__(self, tmp_path: Path, implicit: bool, balancer: bool, **limits: Any) -> None:
        write_certificate(str(tmp_path), "mx.example.test")
        tls = ServerTls(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), "1.2")
        self.registry = Registry()
        self.bans = Bans(str(tmp_path), Rules(exempt=[]))
        makers = Bench(str(tmp_path)).makers
        trusted = [networks.parse("127.0.0.1")] if balancer else []
        self.listener = Listener(
            self.registry, makers["smtp"], Limits(**limits), REFUSED, tls, implicit, trusted, self.bans, BANNED
        )
        self.sock = bind("127.0.0.1:0")

    async def ask(self, first: bytes, source: str = "127.0.0.1") -> bytes:
        """What comes back to the first octets of a client."""
        reader, writer = await asyncio.open_connection(*self.sock.getsockname(), local_addr=(source, 0))
        try:
            writer.write(first)
            return await asyncio.wait_for(reader.read(100), 5)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def until(self, count: int) -> None:
        for _ in range(500):
            if len(self.registry.connections) == count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{len(self.registry.connections)} connections, not {count}")


def at(
    tmp_path: Path, run: Any, work: Callable[[Place], Awaitable[None]], implicit: bool, balancer: bool, **limits: Any
) -> None:
    async def main() -> None:
        place = Place(tmp_path, implicit, balancer, **limits)
        await place.listener.start(place.sock)
        await work(place)
        place.listener.close()
        await place.until(0)
        assert not place.registry.hosts, place.registry.hosts
        place.bans.close()

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_no_handshake_is_begun_with_a_banned_peer(tmp_path: Path, run: Any) -> None:
    async def work(place: Place) -> None:
        place.bans.add("127.0.0.5", 60, "x")
        assert await place.ask(hello(), "127.0.0.6")
        assert await place.ask(hello(), "127.0.0.5") == b""

    at(tmp_path, run, work, True, False)


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n", *(v2(one) for one in MAPPED[2:])])
def test_no_handshake_is_begun_with_a_banned_peer_behind_a_balancer(tmp_path: Path, run: Any, header: bytes) -> None:
    async def work(place: Place) -> None:
        place.bans.add("192.0.2.0/28", 60, "x")
        assert await place.ask(header + hello()) == b""
        assert await place.ask(v2("2001:db8::1") + hello())

    at(tmp_path, run, work, True, True)


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize(("implicit", "balancer"), [(True, False), (False, True), (True, True)])
def test_those_who_say_nothing_count(tmp_path: Path, run: Any, implicit: bool, balancer: bool) -> None:
    """In their handshake, or before a PROXY header; and not once they are gone."""

    async def work(place: Place) -> None:
        ends = [socket.create_connection(place.sock.getsockname()) for _ in range(12)]
        await place.until(5)
        for end in ends:
            end.close()
        await place.until(0)

    at(tmp_path, run, work, implicit, balancer, connections=5, connections_per_ip=5)


@pytest.mark.parametrize("run", LOOPS)
def test_one_network_has_its_share_of_handshakes(tmp_path: Path, run: Any) -> None:
    async def work(place: Place) -> None:
        place.listener.limits.connections_per_ip = 3
        connections = []
        for n in range(5):
            connection = Connection(place.listener)
            refusal = connection.accepted(FakeTransport(f"2001:db8:0:1::{n}"))  # type: ignore[arg-type]
            connections.append((connection, refusal))
        assert [refusal for _, refusal in connections] == [b"", b"", b"", REFUSED, REFUSED]
        assert place.registry.hosts == {"2001:db8:0:1::/64": 5}
        other = Connection(place.listener)
        assert other.accepted(FakeTransport("2001:db8:0:2::1")) == b""  # type: ignore[arg-type]
        for connection, _ in [*connections, (other, b"")]:
            connection.dropped()
            connection.dropped()
            place.listener.release(connection)

    at(tmp_path, run, work, True, False)


@pytest.mark.parametrize("run", LOOPS)
def test_to_release_a_connection_again_releases_no_other(tmp_path: Path, run: Any) -> None:
    async def work(place: Place) -> None:
        one, two = Connection(place.listener), Connection(place.listener)
        for connection in (one, two):
            connection.connection_made(FakeTransport("192.0.2.7"))  # type: ignore[arg-type]
        for _ in range(3):
            place.listener.release(one)
        assert place.registry.hosts == {"192.0.2.7": 1} and place.registry.connections == {two}
        place.listener.release(two)

    at(tmp_path, run, work, False, False)


@pytest.mark.parametrize("run", LOOPS)
def test_a_port_with_tls_behind_a_balancer_begins_with_tls_for_others_too(tmp_path: Path, run: Any) -> None:
    async def work(place: Place) -> None:
        assert (await place.ask(hello(), "127.0.0.9"))[:1] == b"\x16", "a handshake"

    at(tmp_path, run, work, True, True)


@pytest.mark.parametrize("text", MAPPED)
def test_an_address_in_an_address_is_that_address(text: str) -> None:
    """RFC 4291 2.5.5.2: for what is logged and counted, for bans, trust and limits."""
    assert plain(text) == network_of(text) == host_of(FakeTransport(text)) == "192.0.2.7"  # type: ignore[arg-type]
    assert address_in(text, networks.parse("192.0.2.0/24")) and not address_in(text, networks.parse("10.0.0.0/8"))
    assert networks.parse(text) == networks.parse("192.0.2.7")
    assert xclient.parse(b"ADDR=IPV6:" + text.encode()).address == "192.0.2.7"


def test_a_network_of_such_addresses_is_the_network_in_them(tmp_path: Path) -> None:
    assert networks.parse("::ffff:10.0.0.0/104") == networks.parse("10.0.0.0/8")
    assert str(networks.parse("::/0")) == "::/0" and str(networks.parse("2001:db8::/32")) == "2001:db8::/32"
    bans = Bans(str(tmp_path), Rules(exempt=[networks.parse("::ffff:192.0.2.128/121")]))
    bans.add("::ffff:192.0.2.0/120", 60, "x")
    assert [ban.network for ban in bans.list()] == ["192.0.2.0/24"]
    assert [bans.refuses(host) for host in ("192.0.2.7", *MAPPED)] == [True] * 5
    assert not bans.refuses("::ffff:192.0.2.200") and not bans.refuses("::ffff:192.0.3.1")
    assert bans.remove("::ffff:192.0.2.0/120") == 1 and not bans.refuses("192.0.2.7")
    bans.add("2001:db8::5", 60, "x")  # one address of a /64, by command
    assert bans.refuses("2001:db8::5") and not bans.refuses("2001:db8::6")
    bans.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:7f09:1"]
)
def test_this_host_is_this_host(tmp_path: Path, host: str) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        assert bench.open("imap", host).connection.local
        bench.limits.connections_per_ip = 1
        listener = Listener(Registry(), bench.makers["imap"], bench.limits, REFUSED)
        for _ in range(3):
            assert Connection(listener).accepted(FakeTransport(host)) == b""  # type: ignore[arg-type]

    asyncio.run(main())


@pytest.mark.parametrize("host", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "::ffff:0:7f00:1"])
def test_another_host_is_not(tmp_path: Path, host: str) -> None:
    async def main() -> None:
        assert not Bench(str(tmp_path)).open("imap", host).connection.local

    asyncio.run(main())
