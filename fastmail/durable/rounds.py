"""Gathers operations into rounds for a commit thread.

Clients whose operations were committed together come back together. If a commit begins with the first of them, its
thread and the event loop, which still reads from the others, need the interpreter at the same time: they take it from
each other several times for each message, and every time costs as much as a short command. So a round waits for the
operations of as many clients as there were in the last one, those included that came while it was committed. Such a
round also shares one sync of the disk.

Promise: an operation that comes alone never waits. Others wait while more come, with pauses up to PAUSE or as long as
the last commit took (the loop has as much to read as that commit had to write), and at most PATIENCE times as long.
After a wait in vain the next 2 * FEWEST rounds do not wait, after another one twice as many, up to MOST_UNWAITED; a
wait that brought all who were expected makes that FEWEST again.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
PAUSE = 0.002  # s without a new operation that end a wait after a short commit
PATIENCE = 2.0  # a wait may take so many times as long as the last commit
LARGEST = 256  # operations in a round at most, which bounds the time and memory of one transaction
FEWEST, MOST_UNWAITED = 4, 256  # rounds that do not wait after a wait in vain


class Rounds(Generic[T]):
    """Used on the event loop only. ``begin`` gets a round; the next one begins after ``committed``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Callable[[list[T]], None]) -> None:
        self._loop = loop
        self._begin = begin
        self._gathered: list[T] = []
        # the round that is being committed
        self._running = 0  # operations in it; 0: there is none
        self._begun = 0.0
        self._took = 0.0  # s, the last one
        # the wait for company
        self._expected = 1  # operations that the next round should have
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._came = 0  # operations at the last look
        self._unwaited = 0  # rounds that still do not wait
        self._next_unwaited = FEWEST  # half as many as will not wait after the next wait in vain

    def add(self, operation: T) -> None:
        self._gathered.append(operation)
        if not self._running:
            self._begin_or_wait()

    def committed(self) -> None:
        """The last round is committed: begin the next one, or wait for its company."""
        self._took = time.monotonic() - self._begun
        self._expected = min(self._running + len(self._gathered), LARGEST)
        self._running = 0
        if self._gathered:
            self._begin_or_wait()

    def take(self) -> list[T]:
        """Return what was gathered and has not begun; nobody waits for more."""
        self._stop_waiting()
        rest, self._gathered = self._gathered, []
        return rest

    def _begin_or_wait(self) -> None:
        if len(self._gathered) >= self._expected:
            if self._timer is not None:
                self._next_unwaited = FEWEST
            self._begin_round()
        elif self._timer is not None:
            return
        elif self._unwaited:
            self._unwaited -= 1
            self._begin_round()
        else:
            self._since, self._came = time.monotonic(), len(self._gathered)
            self._timer = self._loop.call_later(max(PAUSE, self._took), self._look)

    def _look(self) -> None:
        """Go on waiting if more came since the last look."""
        if len(self._gathered) > self._came and time.monotonic() - self._since < PATIENCE * self._took:
            self._came = len(self._gathered)
            self._timer = self._loop.call_later(max(PAUSE, self._took), self._look)
            return
        self._next_unwaited = min(2 * self._next_unwaited, MOST_UNWAITED)
        self._unwaited = self._next_unwaited
        self._begin_round()

    def _begin_round(self) -> None:
        self._stop_waiting()
        some, self._gathered = self._gathered[:LARGEST], self._gathered[LARGEST:]
        self._running, self._begun = len(some), time.monotonic()
        self._begin(some)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
