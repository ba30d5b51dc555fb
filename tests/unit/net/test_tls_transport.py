"""TLS between a socket and a protocol (net.tls_transport), by both event loops, against Python's own blocking client."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fastmail.app.quickstart import write_certificate
from fastmail.net.listener import Listener, Registry, bind
from fastmail.net.tls import ServerTls
from fastmail.net.tls_transport import TlsTransport
from tests.support.sessions import Bench

LOOPS: list[Callable[..., Any]] = [asyncio.run, uvloop.run]
SEALED = memoryview(bytearray(65536))
PLAIN = memoryview(bytearray(65536))


class Peer(asyncio.BufferedProtocol):
    """The server's end: keeps what comes, and what happened."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.got = bytearray()
        self.events: list[str] = []
        self.stays = False  # after the client's end
        self.echo = False

    def connection_made(self, transport: Any) -> None:
        self.events.append("made")
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return PLAIN

    def buffer_updated(self, nbytes: int) -> None:
        self.got += PLAIN[:nbytes]
        if self.echo:
            self.transport.write(bytes(PLAIN[:nbytes]))

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")

    def pause_writing(self) -> None:
        self.events.append("full")

    def resume_writing(self) -> None:
        self.events.append("room")


class Server:
    """A listening socket whose connections begin with TLS."""

    def __init__(self) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []
        self.echo = self.stays = False  # of the peers to come

    async def until(self, true: Callable[[], Any]) -> None:
        for _ in range(1000):
            if true():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it does not come about")


@asynccontextmanager
async def serving(tmp_path: Path, patience: float = 10.0) -> AsyncIterator[Server]:
    write_certificate(str(tmp_path), "mail.example.test")
    context = ServerTls(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")).context
    loop = asyncio.get_running_loop()
    out = Server()

    def make() -> TlsTransport:
        out.peers.append(Peer())
        out.peers[-1].echo, out.peers[-1].stays = out.echo, out.stays
        failed = lambda transport, error: out.failures.append(error)  # noqa: E731
        return TlsTransport(loop, out.peers[-1], context, SEALED, patience, failed)

    server = await loop.create_server(make, "127.0.0.1", 0)
    out.port = server.sockets[0].getsockname()[1]
    try:
        yield out
    finally:
        server.close()


def connect(port: int, **more: Any) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in more.items():
        setattr(context, name, value)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), suppress_ragged_eofs=False)


def end_of(sock: ssl.SSLSocket) -> None:
    """The end of what the client sends, without a word of TLS."""
    with socket.socket(fileno=os.dup(sock.fileno())) as raw:
        raw.shutdown(socket.SHUT_WR)


def all_of(sock: ssl.SSLSocket) -> bytes:
    out = b""
    while data := sock.recv(1 << 20):
        out += data
    return out


def threaded(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    return asyncio.get_running_loop().run_in_executor(None, function, *args)


async def met(server: Server) -> tuple[ssl.SSLSocket, Peer]:
    """Both ends of a first connection."""
    sock: ssl.SSLSocket = await threaded(connect, server.port)
    await server.until(lambda: server.peers[0].events == ["made"])
    return sock, server.peers[0]


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 16384, 3_000_001])
def test_octets_go_through_both_ways(tmp_path: Path, run: Any, version: ssl.TLSVersion, size: int) -> None:
    data = os.urandom(size)

    def client(port: int) -> bytes:
        with connect(port, maximum_version=version) as sock:
            sock.settimeout(20)
            got = b""
            for at in range(0, size, 50_000):
                sock.sendall(data[at : at + 50_000])
                while len(got) < min(size, at + 50_000):
                    got += sock.recv(1 << 20)
            return got

    async def main() -> None:
        async with serving(tmp_path) as server:
            server.echo = True
            assert await threaded(client, server.port) == data
            (peer,) = server.peers
            await server.until(lambda: "lost" in peer.events)
            assert peer.events[0] == "made" and bytes(peer.got) == data

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_what_was_written_is_read_before_the_end(tmp_path: Path, run: Any) -> None:
    """Three megabytes, ``close`` at once: the client has all of it, then close_notify, not a ragged end; and its own
    end ends the connection."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            sock, peer = await met(server)
            data = os.urandom(3_000_000)
            peer.transport.write(data)
            peer.transport.close()
            peer.transport.write(b"too late")
            assert await threaded(all_of, sock) == data
            assert "lost" not in peer.events
            sock.close()
            await server.until(lambda: "lost" in peer.events)

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_a_client_that_does_not_go_is_cut_off(tmp_path: Path, run: Any) -> None:
    async def main() -> None:
        async with serving(tmp_path, patience=0.3) as server:
            sock, peer = await met(server)
            peer.transport.close()
            await server.until(lambda: peer.events == ["made", "lost"])
            sock.close()

    run(main())


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("notify", [True, False])
def test_an_end_of_the_client_leaves_time_for_the_answer(tmp_path: Path, run: Any, notify: bool) -> None:
    """Whether the client says close_notify or only shuts its side of the socket."""

    def client(port: int) -> bytes:
        with connect(port) as sock:
            sock.sendall(b"question")
            if notify:
                with pytest.raises(ssl.SSLError):
                    sock.setblocking(False)
                    sock.unwrap()
                sock.setblocking(True)
            else:
                end_of(sock)
            return sock.recv(100) if not notify else b""

    async def main() -> None:
        async with serving(tmp_path) as server:
            server.stays = True
            waiting = threaded(client, server.port)
            await server.until(lambda: server.peers and server.peers[0].events)
            peer = server.peers[0]
            await server.until(lambda: peer.got == b"question" and "eof" in peer.events)
            peer.transport.write(b"answer")
            if not notify:
                assert await waiting == b"answer"
            peer.transport.close()
            await waiting
            await server.until(lambda: "lost" in peer.events)
            assert peer.events.count("eof") == 1

    run(main())


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize(
    "data", [b"EHLO client.example\r\n" + bytes(100), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b""]
)
def test_what_is_no_handshake(tmp_path: Path, run: Any, data: bytes) -> None:
    """It is refused with an alert where it can be, nobody hears of a connection, and ``failed`` is told, unless the
    client only looked whether the port is open."""

    def client(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(100)

    async def main() -> None:
        async with serving(tmp_path) as server:
            answer = await threaded(client, server.port)
            assert answer[:1] in (b"", b"\x15")
            if data:
                await server.until(lambda: server.failures)
            assert len(server.failures) == bool(data) and server.peers[0].events == []

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_a_handshake_has_its_time(tmp_path: Path, run: Any) -> None:
    async def main() -> None:
        async with serving(tmp_path, patience=0.2) as server:
            with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
                sock.sendall(b"\x16\x03\x01\x02\x00")
                assert await threaded(sock.recv, 100) == b""
            assert isinstance(server.failures[0], TimeoutError) and server.peers[0].events == []

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_nothing_is_handed_on_while_reading_is_paused(tmp_path: Path, run: Any) -> None:
    data = os.urandom(200_000)

    async def main() -> None:
        async with serving(tmp_path) as server:
            sock, peer = await met(server)
            peer.transport.pause_reading()
            sending = threaded(sock.sendall, data)
            await asyncio.sleep(0.2)
            assert peer.got == b""
            peer.transport.resume_reading()
            await sending
            await server.until(lambda: len(peer.got) == len(data))
            assert peer.got == data
            sock.close()

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_pausing_in_the_middle_of_what_came(tmp_path: Path, run: Any) -> None:
    """What OpenSSL has already is handed on at ``resume_reading``, though nothing more comes from the client."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            sock, peer = await met(server)
            hand_on = peer.buffer_updated

            def once(nbytes: int) -> None:
                hand_on(nbytes)
                peer.transport.pause_reading()

            peer.buffer_updated = once  # type: ignore[method-assign]
            await threaded(sock.sendall, bytes(150_000))
            for _ in range(50):
                await asyncio.sleep(0.02)
                if len(peer.got) == 150_000:
                    break
                peer.transport.resume_reading()
            assert len(peer.got) == 150_000
            sock.close()

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_a_client_that_does_not_read_is_felt(tmp_path: Path, run: Any) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            sock, peer = await met(server)
            for _ in range(200):
                peer.transport.write(bytes(65536))
                await asyncio.sleep(0)
                if "full" in peer.events:
                    break
            assert "full" in peer.events
            reading = threaded(all_of, sock)
            await server.until(lambda: "room" in peer.events)
            peer.transport.close()
            await reading
            sock.close()

    run(main())


@pytest.mark.parametrize("run", LOOPS)
def test_a_reset_and_a_bad_record_end_it(tmp_path: Path, run: Any) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            first = await threaded(connect, server.port)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(first.detach())
            second = await threaded(connect, server.port)
            raw = socket.socket(fileno=os.dup(second.fileno()))
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            await server.until(lambda: all("lost" in peer.events for peer in server.peers))
            assert len(server.peers) == 2 and not server.failures
            second.close()
            raw.close()

    run(main())


def test_an_idle_session_does_not_keep_what_it_sent(tmp_path: Path) -> None:
    """Sixty sessions that sent and got 1 MB each hold less than 150 KB each."""

    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def client(port: int) -> ssl.SSLSocket:
        sock = connect(port)
        sock.sendall(bytes(1_000_000))
        got = 0
        while got < 1_000_000:
            got += len(sock.recv(65536))
        return sock

    async def main() -> None:
        async with serving(tmp_path) as server:
            socks = [await threaded(client_of, server) for _ in range(10)]
            before = resident()
            socks += [await threaded(client_of, server) for _ in range(60)]
            grown = (resident() - before) / 60
            assert grown < 150_000, f"{grown:.0f} octets each, both ends"
            for sock in socks:
                sock.close()

    def client_of(server: Server) -> ssl.SSLSocket:
        return client(server.port)

    original = Peer.buffer_updated

    def answer(self: Peer, nbytes: int) -> None:
        self.got[:] = b"%d" % (int(self.got or b"0") + nbytes)
        if self.got == b"1000000":
            self.transport.write(bytes(1_000_000))

    Peer.buffer_updated = answer  # type: ignore[method-assign]
    try:
        uvloop.run(main())
    finally:
        Peer.buffer_updated = original  # type: ignore[method-assign]


@pytest.mark.parametrize("run", LOOPS)
def test_a_command_is_answered_though_its_client_ends_at_once(tmp_path: Path, run: Any) -> None:
    """A script that sends its commands with the end of its input behind them."""

    def client(port: int) -> bytes:
        sock = connect(port)
        sock.sendall(b'a1 LOGIN user@example.test secret\r\na2 SELECT INBOX\r\na3 LIST "" *\r\n')
        end_of(sock)
        out = b""
        try:
            while data := sock.recv(65536):
                out += data
        except ssl.SSLError:
            pass
        sock.close()
        return out

    async def main() -> None:
        bench = Bench(str(tmp_path))
        write_certificate(str(tmp_path), "mail.example.test")
        tls = ServerTls(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
        listener = Listener(Registry(), bench.makers["imap"], bench.limits, b"", tls, True)
        sock = bind("127.0.0.1:0")
        await listener.start(sock)
        port = sock.getsockname()[1]
        got = await threaded(client, port)
        assert b"a1 OK" in got
        assert not listener.registry.connections
        listener.close()

    run(main())
