"""Coroutines that were started by hand: their first step runs at once, and the rest in a task if they wait."""

import types
from collections.abc import Coroutine, Generator
from typing import Any


@types.coroutine
def rest_of(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Continue a coroutine that has started already and waits for ``waits_for``."""
    while True:
        thrown: BaseException | None = None
        sent = None
        try:
            sent = yield waits_for
        except BaseException as error:
            thrown = error
        try:
            waits_for = work.send(sent) if thrown is None else work.throw(thrown)
        except StopIteration:
            return
