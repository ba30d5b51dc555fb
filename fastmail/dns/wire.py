"""Questions to one name server, by datagrams and, where an answer is cut short, by TCP (RFC 1035 4.2, RFC 7766 5).

A forged answer has to guess the port, the number of the question and the question itself (RFC 5452 9): each server has
a few sockets, whose ports the kernel draws, connected so that others cannot send to them; each is given up after some
time. Numbers are drawn at random. What does not fit is passed over, and the question waits on.

Promise: a question ends within its time, with the octets of an answer to it, or with OSError (TimeoutError too).
"""

import asyncio
import random
import secrets
import struct
import time

PAYLOAD = 1232  # octets of a datagram that pass everywhere (RFC 6891 6.2.5)
SOCKETS = 4  # for one server at a time
QUESTIONS = 2000  # by one socket
AGE = 60.0  # s of a socket
STREAM = 8.0  # s for an answer by TCP
RD, AD, TC, QR = 0x0100, 0x0020, 0x0200, 0x8000
_HEADER = struct.Struct("!HHHHHH")
_draw = random.SystemRandom()


def question(name: bytes, kind: int) -> bytes:
    """The one question, of a name as the wire has it."""
    return name + struct.pack("!HH", kind, 1)


def extension(dnssec: bool) -> bytes:
    """The OPT record of a question (RFC 6891 6.1.2); ``dnssec`` sets DO (RFC 3225 3)."""
    return b"\0" + struct.pack("!HHIH", 41, PAYLOAD, 0x8000 if dnssec else 0, 0)


class _Socket(asyncio.DatagramProtocol):
    """One port, with what was asked from it and not answered yet."""

    def __init__(self) -> None:
        self.waiting: dict[int, tuple[bytes, asyncio.Future[bytes]]] = {}
        self.asked = 0
        self.since = time.monotonic()
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    @property
    def old(self) -> bool:
        return self.asked >= QUESTIONS or time.monotonic() - self.since > AGE

    def datagram_received(self, data: bytes, peer: object) -> None:
        if len(data) < _HEADER.size:
            return
        asked = self.waiting.get(data[0] << 8 | data[1])
        if asked is None or not data[2] & 0x80:
            return
        wanted, future = asked
        if data[_HEADER.size : _HEADER.size + len(wanted)].lower() == wanted.lower() and not future.done():
            future.set_result(data)

    def error_received(self, error: Exception) -> None:
        """Nobody listens there."""
        for _, future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionError(str(error)))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.error_received(error or ConnectionError("closed"))


class Server:
    """A name server at an address and a port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._sockets: list[_Socket] = []
        self._making = asyncio.Lock()

    async def ask(self, asked: bytes, flags: int, more: bytes, seconds: float) -> bytes:
        """The answer to a question; ``more``: the OPT record, or nothing. OSError."""
        async with asyncio.timeout(seconds):
            data = await self._by_datagram(asked, flags, more)
        if not data[2] << 8 & TC:
            return data
        async with asyncio.timeout(STREAM):  # it is there and has an answer: that is worth a wait
            return await self._by_stream(asked, flags, more)

    async def probe(self, asked: bytes, flags: int, seconds: float) -> bytes:
        """The same by one datagram: how much of the answer fits into it does not matter. OSError."""
        async with asyncio.timeout(seconds):
            return await self._by_datagram(asked, flags, b"")

    async def _by_datagram(self, asked: bytes, flags: int, more: bytes) -> bytes:
        socket = await self._socket()
        number = secrets.randbits(16)
        while number in socket.waiting:
            number = secrets.randbits(16)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        socket.waiting[number] = asked, future
        socket.asked += 1
        try:
            if socket.transport is None:
                raise ConnectionError("closed")
            socket.transport.sendto(_HEADER.pack(number, flags, 1, 0, 0, 1 if more else 0) + asked + more)
            return await future
        finally:
            del socket.waiting[number]
            if socket.old and not socket.waiting and socket.transport is not None:
                socket.transport.close()

    async def _socket(self) -> _Socket:
        usable = self._usable()
        if len(usable) < SOCKETS:
            async with self._making:  # many questions at once do not make a socket each
                usable = self._usable()
                if len(usable) < SOCKETS:
                    _, made = await asyncio.get_running_loop().create_datagram_endpoint(
                        _Socket, remote_addr=(self.host, self.port)
                    )
                    usable.append(made)
                    self._sockets = [one for one in self._sockets if one.transport is not None] + [made]
        return _draw.choice(usable)

    def _usable(self) -> list[_Socket]:
        return [one for one in self._sockets if one.transport is not None and not one.old]

    async def _by_stream(self, asked: bytes, flags: int, more: bytes) -> bytes:
        """All of an answer (RFC 1035 4.2.2)."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            number = secrets.randbits(16)
            query = _HEADER.pack(number, flags, 1, 0, 0, 1 if more else 0) + asked + more
            writer.write(len(query).to_bytes(2, "big") + query)
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except EOFError as error:
            raise ConnectionError(str(error)) from None
        finally:
            writer.close()
        if len(data) < _HEADER.size or data[0] << 8 | data[1] != number or not data[2] & 0x80:
            raise ConnectionError("the answer is to another question")
        return data

    def close(self) -> None:
        for socket in self._sockets:
            if socket.transport is not None:
                socket.transport.close()
        self._sockets = []
