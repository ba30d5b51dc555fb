"""Long work off the event loop: what takes apart or decodes many octets for FETCH and SEARCH (RFC 3501 6.4), BINARY
(RFC 3516) and URLFETCH (RFC 4467) runs on another thread, so that no other session waits for it. The compiled parts
of that work run without the GIL.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
BIG = 65536  # octets of what is decoded on the event loop; more goes to another thread


async def aside(octets: int, work: Callable[..., T], *args: Any) -> T:
    """Do it here, or in another thread when it works on many octets."""
    if octets <= BIG:
        return work(*args)
    return await asyncio.get_running_loop().run_in_executor(None, work, *args)
