"""The PROXY protocol: headers octet by octet, and connections that bring one, with and without TLS behind it."""

import asyncio
import ssl
import struct
from pathlib import Path

import pytest

from fastmail.app.quickstart import write_certificate
from fastmail.net import networks
from fastmail.net.listener import Listener, Registry, bind
from fastmail.net.proxy import SIGNATURE, ProxyError, ProxyHeader
from fastmail.net.tls import ServerTls
from tests.support import certificates
from tests.support.sessions import Bench

V4 = SIGNATURE + b"\x21\x11" + struct.pack(">H", 12) + bytes([192, 0, 2, 7, 10, 0, 0, 1]) + b"\x12\x34\x00\x19"
V6 = (
    SIGNATURE + b"\x21\x21" + struct.pack(">H", 40) + bytes.fromhex("20010db8" + "0" * 22 + "07") + bytes(16) + bytes(8)
)


def read(data: bytes) -> tuple[str, int]:
    header = ProxyHeader()
    used = 0
    while not header.done:
        step = header.wanted()
        assert step > 0
        piece = data[used : used + step]
        if not piece:
            raise EOFError
        header.feed(piece)
        used += len(piece)
    return header.host, used


@pytest.mark.parametrize(
    ("data", "host"),
    [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 25\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4660 25\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN ff:: ff:: 1 2\r\n", ""),
        (V4, "192.0.2.7"),
        (V6, "2001:db8::7"),
        (SIGNATURE + b"\x20\x00\x00\x00", ""),
        (SIGNATURE + b"\x21\x11" + struct.pack(">H", 15) + V4[16:] + b"tlv", "192.0.2.7"),
    ],
)
def test_headers_are_read_to_the_octet(data: bytes, host: str) -> None:
    assert read(data + b"EHLO x\r\n") == (host, len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO client.example\r\n",
        b"PROXY TCP4 300.0.2.7 10.0.0.1 4660 25\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY " + b"x" * 200 + b"\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(100),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00",
    ],
)
def test_s35_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ProxyError):
        read(data)


def test_s5_header_and_handshake_in_one_segment(tmp_path: Path) -> None:
    """A balancer that sends its header and the client's first octets at once: what is behind the header is TLS."""

    async def main() -> None:
        bench = Bench(str(tmp_path))
        write_certificate(str(tmp_path), "mx.example.test")
        tls = ServerTls(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), "1.2")
        trusted = [networks.parse("127.0.0.0/8")]
        listener = Listener(Registry(), bench.makers["smtp"], bench.limits, b"", tls, True, trusted)
        sock = bind("127.0.0.1:0")
        await listener.start(sock)
        context = certificates.any_certificate()
        received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(received, to_send)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        header = V4
        greeting = b""
        while not greeting:
            try:
                greeting = client.read(4096)
            except ssl.SSLWantReadError:
                writer.write(header + to_send.read())
                header = b""
                data = await asyncio.wait_for(reader.read(65536), 5)
                assert data, "the connection was closed"
                received.write(data)
        assert greeting.startswith(b"220 ")
        writer.close()
        listener.close()

    asyncio.run(main())


@pytest.mark.parametrize("implicit", [False, True])
def test_a_session_behind_a_balancer(tmp_path: Path, implicit: bool) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        write_certificate(str(tmp_path), "mx.example.test")
        tls = ServerTls(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"), "1.2")
        registry = Registry()
        trusted = [networks.parse("127.0.0.0/8")]
        listener = Listener(registry, bench.makers["smtp"], bench.limits, b"", tls, implicit, trusted)
        sock = bind("127.0.0.1:0")
        await listener.start(sock)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(V4)
        await writer.drain()
        if implicit:
            context = certificates.any_certificate()
            await writer.start_tls(context)
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"220 ")
        (connection,) = registry.connections
        assert (connection.host, connection.local, connection.tls) == ("192.0.2.7", False, implicit)
        assert registry.hosts == {"192.0.2.7": 1}
        writer.close()
        stranger_reader, stranger = await asyncio.open_connection(*sock.getsockname())
        stranger.write(b"EHLO client.example\r\n")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(stranger_reader.readexactly(1), 5)
        stranger.close()
        listener.close()

    asyncio.run(main())
