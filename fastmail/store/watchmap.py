"""Maps by which workers tell each other which mailboxes they are interested in: one bit each, by the hash of the key.

A map is a small file that all workers have mapped into memory, so looking costs no system call. Two mailboxes may share
a bit, so a set bit means "perhaps". A worker clears its map when it starts; a worker that died leaves its bits set
until then.
"""

import mmap
import os
from collections.abc import Iterable
from zlib import crc32

from fastmail._core.marks import marked
from fastmail.model.keys import ACCOUNT, EVERYTHING

MAP = 8192  # octets of a map: 65,536 bits; a power of two


class WatchMap:
    """The mailboxes that one worker has added. Only its owner (``own``) writes to it."""

    def __init__(self, path: str, own: bool, octets: int = MAP) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < octets:
                os.ftruncate(descriptor, octets)
            self._bits = mmap.mmap(descriptor, octets)
        finally:
            os.close(descriptor)
        self._counts: dict[int, int] = {}
        self._mask = octets * 8 - 1
        if own:
            self._bits[:] = bytes(octets)  # bits of an earlier worker with this number

    def add(self, key: bytes) -> None:
        bit = crc32(key) & self._mask
        self._counts[bit] = self._counts.get(bit, 0) + 1
        self._bits[bit >> 3] |= 1 << (bit & 7)

    def remove(self, key: bytes) -> None:
        bit = crc32(key) & self._mask
        left = self._counts[bit] - 1
        if left:
            self._counts[bit] = left
        else:
            del self._counts[bit]
            self._bits[bit >> 3] &= 255 ^ (1 << (bit & 7))

    def has(self, key: bytes) -> bool:
        """True if this one may have been added."""
        bit = crc32(key) & self._mask
        return bool(self._bits[bit >> 3] >> (bit & 7) & 1)

    def watched(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of these mailboxes that may have been added, or whose whole account may have been."""
        return marked(self._bits, keys, ACCOUNT, EVERYTHING)
