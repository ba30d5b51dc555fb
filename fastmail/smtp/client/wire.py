"""Octets to and from one host: lines out of one buffer, which also tells what nobody has read (RFC 5321 2.3.8).

Promise: at most ``HELD`` octets of a host wait in memory, however fast it sends. A connection that has ended, or holds
octets that belong to no question, is seen before the next command is written. A line without end is ProtocolError.
"""

import asyncio
import ssl
from typing import Any

from fastmail.smtp.client.replies import Lost, ProtocolError

LINE = 12_290  # octets of a reply's line: RFC 4954 4 lets a challenge be that long
HELD = 65536


class Wire(asyncio.Protocol):
    """One connection. ``shown``: the host's name in errors."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.ended = False
        self.transport: Any = None
        self._buffer = bytearray()
        self._reading = True
        self._more: asyncio.Future[None] | None = None  # somebody waits for octets
        self._room: asyncio.Future[None] | None = None  # somebody waits until octets are gone
        self._full = False

    # ---------------------------------------------------------------- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > HELD and self._reading:
            self._reading = False
            self.transport.pause_reading()
        _wake(self._more)

    def eof_received(self) -> bool:
        self.ended = True
        _wake(self._more)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        _wake(self._more)
        _wake(self._room)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._room)

    # ---------------------------------------------------------------- the session's side

    @property
    def unread(self) -> bool:
        """True while octets wait that nobody has read."""
        return bool(self._buffer)

    def write(self, data: bytes) -> None:
        """Send octets. Lost when the connection is closed."""
        if self.transport is None or self.transport.is_closing():
            raise Lost(f"{self.shown} ended the connection")
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the host has taken most of what was written."""
        while self._full and not self.ended:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        if self.ended and self.transport.is_closing():
            raise Lost(f"{self.shown} ended the connection")

    async def line(self) -> bytes:
        """One line with its end. Lost when the connection ends first."""
        start = 0
        while True:
            at = self._buffer.find(b"\n", start)
            if at > LINE or (at < 0 and len(self._buffer) > LINE):
                raise ProtocolError(f"{self.shown} sends a line without end")
            if at >= 0:
                found = bytes(self._buffer[: at + 1])
                del self._buffer[: at + 1]
                if not self._reading and len(self._buffer) < HELD and not self.transport.is_closing():
                    self._reading = True
                    self.transport.resume_reading()
                return found
            if self.ended:
                raise Lost(f"{self.shown} ended the connection")
            start = len(self._buffer)
            self._more = asyncio.get_running_loop().create_future()
            await self._more

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Encrypt from here on; OSError or ssl.SSLError when the handshake fails."""
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self.transport, self, context, server_hostname=name)
        if transport is None:
            raise ConnectionResetError("the connection ended in the TLS handshake")
        self.transport = transport

    def abort(self) -> None:
        """End the connection now; what was not sent yet is not sent."""
        if self.transport is not None:
            self.transport.abort()

    def info(self, name: str) -> Any:
        return self.transport.get_extra_info(name)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
