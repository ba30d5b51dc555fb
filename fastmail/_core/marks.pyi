import mmap
from collections.abc import Iterable

def marked(
    bits: bytes | bytearray | memoryview | mmap.mmap, keys: Iterable[bytes], account: int, everything: bytes
) -> list[bytes]:
    """Return the keys whose bit is set, or the bit of their whole account: of their first ``account`` octets with
    ``everything`` behind them.

    ``bits``: a map whose length is a power of two. ValueError for a key that is shorter than ``account``."""
