"""One exchange with a scanner over TCP or a Unix socket: a message goes there, an answer comes back.

Promise: an answer may come before all was sent, and counts; nothing is sent after it. What is read is bounded by ANSWER
octets. A message that lies in a file is read by another thread, a PIECE at a time, so neither the event loop waits for
the disk nor is all of it in memory. The connection is gone when the call returns, however it ends. The caller sets the
deadline.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from fastmail.message.header import Octets
from fastmail.model.place import split_place
from fastmail.policy.scanners.nouns import Scanner, Trouble

PIECE = 262144  # octets that are sent at once
ANSWER = 262144  # octets
T = TypeVar("T")


async def exchange(
    address: str,
    send: Callable[[asyncio.StreamWriter], Awaitable[None]],
    read: Callable[[asyncio.StreamReader], Awaitable[T]],
) -> T:
    """What ``read`` makes of the answer. OSError; what ``read`` raises."""
    reader, writer = await _open(address)
    kept = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
    sending, answer = asyncio.ensure_future(send(writer)), asyncio.ensure_future(read(reader))
    try:
        await asyncio.wait((sending, answer), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            with suppress(OSError):  # it has ended the connection: what it said before that counts
                sending.result()
        try:
            return await answer
        except OSError:
            said = _unread(kept)
            if not said:
                raise
            late = asyncio.StreamReader(ANSWER)
            late.feed_data(said)
            late.feed_eof()
            return await read(late)
    finally:
        kept.close()
        sending.cancel()
        answer.cancel()
        writer.transport.abort()
        await asyncio.gather(sending, answer, return_exceptions=True)


def _unread(kept: socket.socket) -> bytes:
    """What came before the other side ended the connection, and was not read: where a piece cannot be sent any more, a
    transport is closed at once. Empty where there is nothing."""
    with suppress(OSError):
        return kept.recv(ANSWER, socket.MSG_DONTWAIT)
    return b""


async def _open(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address[5:], limit=ANSWER)
    host, port = split_place(address)
    return await asyncio.open_connection(host, port, limit=ANSWER)


def owner_field(name: str, scanner: Scanner, owner: str) -> bytes:
    """The line that tells a scanner whose message it is, by the address of an account; empty where that is not wanted
    or nobody's. Both the check and the lesson have it, so that a user is judged by what the same user taught."""
    return f"{name}: {owner}\r\n".encode() if scanner.per_user and owner.isprintable() and owner else b""


async def pieces(content: Octets) -> AsyncIterator[Octets]:
    """The content, a piece at a time."""
    loop = asyncio.get_running_loop()
    for start in range(0, len(content), PIECE):
        part = content[start : start + PIECE] if len(content) > PIECE else content
        # what is no bytes is a mapping of a file, whose pages may not be in memory
        yield part if isinstance(part, bytes) else await loop.run_in_executor(None, bytes, part)


async def send_all(writer: asyncio.StreamWriter, front: bytes, content: Octets) -> None:
    """Send both, as fast as the other side takes them."""
    writer.write(front)
    async for piece in pieces(content):
        writer.write(piece)
        await writer.drain()


async def until(reader: asyncio.StreamReader, mark: bytes) -> bytes:
    """Up to a mark, which is left out. Trouble where there is none within the bound."""
    try:
        return (await reader.readuntil(mark)).removesuffix(mark)
    except asyncio.LimitOverrunError:
        raise Trouble("its answer is too long") from None
    except asyncio.IncompleteReadError:
        raise Trouble("it ended its answer early") from None


async def rest(reader: asyncio.StreamReader, most: int) -> bytes:
    """What comes up to the end, or the first ``most`` octets of it."""
    out = bytearray()
    while len(out) < most and (piece := await reader.read(most - len(out))):
        out += piece
    return bytes(out)
