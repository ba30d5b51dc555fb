"""The sweep of deadlines goes by the clock that nobody sets."""

import asyncio
import time
from typing import Any

import pytest

from fastmail.net import listener


class Connected:
    """What the sweep sees of a connection, and whether its session was ended."""

    def __init__(self, deadline: float) -> None:
        self.deadline, self.closing, self.ended = deadline, False, 0
        self.stalled = False
        self.session = self
        self.told = asyncio.Event()

    def timed_out(self) -> None:
        self.ended += 1
        self.told.set()

    def rest(self) -> None: ...

    def is_reading(self) -> bool:
        return False


@pytest.mark.parametrize("jump", [-1e8, 0.0, 1e8])
def test_r14_deadlines_do_not_follow_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """``jump``: how many seconds the clock of the machine goes forth or back. RFC 5321 4.5.3.2: minutes are minutes."""
    there = time.time()
    monkeypatch.setattr(listener, "SWEEP", 0.01)
    monkeypatch.setattr(time, "time", lambda: there + jump)
    late, early, none = Connected(time.monotonic() - 1), Connected(time.monotonic() + 600), Connected(0.0)

    async def main() -> None:
        registry: Any = listener.Registry()
        registry.connections.update((late, early, none))
        sweep = asyncio.ensure_future(registry.sweep())
        async with asyncio.timeout(20):
            await late.told.wait()
        await asyncio.sleep(0.05)
        sweep.cancel()

    asyncio.run(main())
    assert (late.ended, early.ended, none.ended) == (1, 0, 0)
