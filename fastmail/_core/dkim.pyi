from collections.abc import Callable

from fastmail._core.sha256 import Sum

Octets = bytes | bytearray | memoryview

class Body:
    """The canonical form of a body, as it comes (RFC 6376 3.4.3, 3.4.4). ``to`` takes its octets: a hash, or a function
    that gets a view, which is void when it returns. ``size``: octets that it got."""

    size: int
    def __init__(self, relaxed: bool, to: Sum | Callable[[memoryview], object]) -> None: ...
    def feed(self, data: Octets) -> None:
        """More of the body, cut anywhere."""
    def finish(self) -> None:
        """All of it has come; ``to`` gets what is left."""

def ways() -> int:
    """How many ways to look at a body this machine has (canonical.h); the last one is the quickest, and in use."""

def use(way: int) -> None:
    """Look at bodies in that way from now on: for tests and comparisons. ValueError for one that is not there."""

def field(data: Octets, relaxed: bool) -> bytes:
    """One header field in its canonical form (RFC 6376 3.4.1, 3.4.2), with CRLF. ValueError for what has no colon."""
