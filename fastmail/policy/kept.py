"""Results of checks, kept for as long as the answers of the DNS count that they rest on.

Promise: bounded; the oldest result goes first. Nothing counts beyond its time.
"""

import time
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """``most`` results."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        found = self._held.get(key)
        return found[0] if found is not None and found[1] > time.monotonic() else None

    def until(self, key: K) -> float:
        """As long as the result counts that is kept, by the monotonic clock; 0 where none is."""
        found = self._held.get(key)
        return found[1] if found is not None else 0.0

    def put(self, key: K, value: V, until: float) -> None:
        """``until``: by the monotonic clock."""
        if until <= time.monotonic():
            return
        self._held[key] = value, until
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
