"""Waiting for what a test expects, instead of for a fixed time."""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 20.0  # s; what never comes is said to be missing then
LOOK = 0.01  # s between two looks


async def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until ``condition`` is true. AssertionError when it never is."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        await asyncio.sleep(LOOK)
