"""Turns of long commands (SEARCH, SORT, THREAD, MULTISEARCH), which all sessions of a worker take; and how their
progress is sent, INPROGRESS (RFC 9585).

Promise: in one round of the event loop at most one of them gets a turn, the one that has waited longest, and works for
SLICE seconds before it waits again. So a command of another session waits for one slice, however many searches are
under way, and two searches have equal shares whatever they ask for. Their work on threads is bounded too, so that
threads are left for others. A search whose client is gone ends at its next turn.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from fastmail.net.connection import Connection

T = TypeVar("T")
SLICE = 0.005  # s of a turn
ASIDE = 2  # threads that long commands use at a time
PROGRESS = 5.0  # s between two INPROGRESS responses


class Turns:
    """One for all IMAP sessions of a worker."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._aside: asyncio.Semaphore | None = None

    async def wait(self) -> None:
        """Wait for this one's turn."""
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
        """Do the work on a thread, when there is a turn for it."""
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
        """Let others have a turn if this one's is over.

        Now and then the client gets a line that its command is still running, with ``done`` of ``total`` if known
        (RFC 9585). Writing also shows whether anybody still reads, which the end of the client's input does not.
        ConnectionError once the client is gone."""
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
        """Do the work on a thread. ConnectionError once the client is gone."""
        found = await self._turns.aside(work, *args)
        await self.breathe()
        return found

    def is_over(self) -> bool:
        """True if the client is gone; for work on a thread."""
        return bool(self._conn.closing)
