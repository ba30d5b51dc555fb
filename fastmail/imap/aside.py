"""Moves long work off the event loop: parsing or decoding many octets for FETCH and SEARCH (RFC 3501 6.4), BINARY
(RFC 3516) and URLFETCH (RFC 4467) runs on another thread, so that no other session waits. The compiled parts of it run
without the GIL.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
BIG = 65536  # octets up to which work is done on the event loop


async def aside(octets: int, work: Callable[..., T], *args: Any) -> T:
    """Do the work here, or on another thread if it works on many octets."""
    if octets <= BIG:
        return work(*args)
    return await asyncio.get_running_loop().run_in_executor(None, work, *args)
