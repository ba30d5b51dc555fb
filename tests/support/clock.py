"""An event loop whose clock jumps over idle time: what waits for two seconds is tested in a few milliseconds.

When nothing is ready and only timers are left, the clock is put on to the next timer. Both ends of every connection must
be in this process and on this loop: nobody else then has anything to say while the loop is idle, and loopback sockets
hand over at once what was written. Not for work on other threads or in other processes: their time is not skipped.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
GRACE = 0.001  # s that the loop really waits before it counts as idle


class _Selector(selectors.DefaultSelector):
    """``skipped``: seconds that the clock is ahead."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= GRACE:
            return super().select(timeout)
        found = super().select(GRACE)
        if not found:
            self.skipped += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._passing = _Selector()
        super().__init__(self._passing)

    def time(self) -> float:
        return super().time() + self._passing.skipped


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do the same as asyncio.run, on such a loop."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)
