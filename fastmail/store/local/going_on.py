"""Work that goes on to its end, whoever is cancelled meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class GoingOn:
    """Work that must not end in its middle, because it holds another program's lock or has to tell what it did."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work. Whoever is cancelled waits no more, and the work goes on."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits has been told of it

    async def ended(self) -> None:
        """Wait until nothing goes on any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)
