"""Cancel work at each of its waits, one after the other."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class Steps:
    """Awaits ``work``, and cancels the task that does so when it waits for the ``at``th time."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int) -> None:
        self._work = work
        self._at = at
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = self._work.send(None) if thrown is None else self._work.throw(thrown)
            except StopIteration as ended:
                return ended.value
            thrown = None
            self.waits += 1
            if self.waits == self._at:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield waits_for
            except BaseException as error:
                thrown = error


async def at_step(work: Coroutine[Any, Any, Any], at: int) -> Any:
    """The result of the work, which is cancelled at its ``at``th wait if it comes to that."""
    return await Steps(work, at)


async def is_cancelled(work: Coroutine[Any, Any, Any], at: int) -> bool:
    """Run the work, and cancel it at its ``at``th wait; False when it ended before that."""
    try:
        await asyncio.get_running_loop().create_task(at_step(work, at))
    except asyncio.CancelledError:
        return True
    return False
