"""Scanners made up for tests: servers in this process, on real sockets, that say what a test wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastmail.policy.reasons import Finding
from fastmail.policy.scanners.nouns import Scanner, Shown
from fastmail.policy.scanners.panel import ASK

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MESSAGE = b"From: joe@example.org\nSubject: dinner\n\nIs dinner ready?\n"


@dataclass
class Far:
    """``address``: where it listens; ``heard``: what each connection said; ``now`` and ``most``: connections at once."""

    address: str = ""
    heard: list[bytes] = field(default_factory=list)
    now: int = 0
    most: int = 0


@asynccontextmanager
async def far(answer: bytes | Handler, path: str = "", read: str = "end", singly: bool = False) -> AsyncIterator[Far]:
    """A server that reads (``read``: clamd, spamd, http: up to the message's end as that protocol has it; nothing) and
    gives ``answer``, ``singly`` an octet at a time, then ends the connection."""
    there, tasks = Far(), set[Any]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        there.now += 1
        there.most = max(there.most, there.now)
        try:
            if callable(answer):
                await answer(reader, writer)
                return
            there.heard.append(await READ[read](reader))
            for at in range(len(answer)) if singly else ():
                writer.write(answer[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(b"" if singly else answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            there.now -= 1
            writer.close()

    if path:
        server = await asyncio.start_unix_server(serve, path)
        there.address = f"unix:{path}"
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        there.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield there
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _nothing(reader: asyncio.StreamReader) -> bytes:
    return b""


async def _clamd(reader: asyncio.StreamReader) -> bytes:
    """The content of the chunks."""
    assert await reader.readexactly(10) == b"zINSTREAM\0"
    out = b""
    while size := int.from_bytes(await reader.readexactly(4), "big"):
        out += await reader.readexactly(size)
    return out


async def _spamd(reader: asyncio.StreamReader) -> bytes:
    """All of it: our side closes its half."""
    return await reader.read(-1)


async def _http(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(size)


READ: dict[str, Callable[[asyncio.StreamReader], Awaitable[bytes]]] = {
    "nothing": _nothing,
    "clamd": _clamd,
    "spamd": _spamd,
    "http": _http,
}


def scanner(kind: str, address: str, **more: Any) -> Scanner:
    return Scanner(kind, address, more.pop("name", kind), **{"seconds": 30.0, **more})


def ask(
    kind: str, answer: bytes | Handler, read: str, content: Any = MESSAGE, singly: bool = False, **more: Any
) -> tuple[Finding, Far]:
    """What a scanner with this answer makes of a message, by the functions of its protocol; what it heard."""

    async def main() -> tuple[Finding, Far]:
        async with far(answer, read=read, singly=singly) as there:
            shown = Shown(content, **more)
            return await ASK[kind](scanner(kind, there.address), shown), there

    return asyncio.run(main())
