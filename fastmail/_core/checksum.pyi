from collections.abc import Iterable

Octets = bytes | bytearray | memoryview

def crc32(data: Octets, value: int = 0) -> int:
    """Return the CRC-32 of ``data``; ``value``: that of what comes before it. As zlib.crc32."""

def crc32_of(parts: Iterable[Octets], value: int = 0) -> int:
    """Return the CRC-32 of buffers one after the other."""

def able() -> bool:
    """True if this processor has instructions for it; otherwise zlib computes it."""
