"""Turns of commands that are long, which all sessions of a worker take: SEARCH, SORT, THREAD, MULTISEARCH. What is said
of them meanwhile is INPROGRESS (RFC 9585).

Promise: in one round of the event loop at most one of them is given a turn, the one that has waited longest, and works
for SLICE seconds before it waits again. So a command of another session waits for one slice, however many searches are
under way, and two searches have the same share whatever they ask for. What they have done in threads is bounded too, so
that there are threads left for others. A search whose client is gone ends at its next turn.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from fastmail.net.connection import Connection

T = TypeVar("T")
SLICE = 0.005  # s of a turn
ASIDE = 2  # pieces of long work that are in threads at once
PROGRESS = 5.0  # s between two words on how far a command is


class Turns:
    """One for all IMAP sessions of a worker."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._aside: asyncio.Semaphore | None = None

    async def wait(self) -> None:
        """Until it is this one's turn."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            loop.call_soon(self._next)
        await mine

    def _next(self) -> None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if not self._waiting:
            return
        self._waiting.popleft().set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        """Do it in a thread, when it is its turn there."""
        if self._aside is None:
            self._aside = asyncio.Semaphore(ASIDE)
        async with self._aside:
            return await asyncio.get_running_loop().run_in_executor(None, work, *args)


class Pace:
    """One long command. ``breathe`` is called every few milliseconds of its work."""

    __slots__ = ("_conn", "_since", "_tag", "_told", "_turns")

    def __init__(self, turns: Turns, conn: Connection, tag: bytes) -> None:
        self._turns = turns
        self._conn = conn
        self._tag = tag
        self._since = self._told = time.monotonic()

    async def breathe(self, done: int = 0, total: int = 0) -> None:
        """Let others have their turn when this one had its own. A client is told now and then that its command goes on,
        and ``done`` of ``total`` where that is known (RFC 9585): what is written shows, too, that nobody reads it any
        more, which the end of what a client sends does not. ConnectionError once the client is gone."""
        now = time.monotonic()
        if now - self._since < SLICE:
            return
        conn = self._conn
        patience = PROGRESS if not conn.ended else 1.0
        if now - self._told > patience:
            self._told = now
            far = b"%d %d" % (done, total) if total else b"NIL NIL"
            conn.write(b'* OK [INPROGRESS ("%b" %b)] searching\r\n' % (self._tag, far))
            conn.flush()
        await self._turns.wait()
        if conn.closing or conn.transport is None:
            raise ConnectionResetError("peer is gone")
        if conn.stalled:
            await conn.drain()
        self._since = time.monotonic()

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        """Do it in a thread. ConnectionError once the client is gone."""
        found = await self._turns.aside(work, *args)
        await self.breathe()
        return found

    def is_over(self) -> bool:
        """Is the client gone? For what runs in a thread."""
        return bool(self._conn.closing)
