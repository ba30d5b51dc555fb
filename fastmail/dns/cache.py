"""Remembers answers of the DNS, and which questions are under way. When the cache is full, the least used answer is
dropped.

Bounds: about ``OCTETS`` of records. An answer counts for its TTL, but at least LEAST and at most LONGEST seconds; "no
such name" and "no data" for the time that the zone says (RFC 2308 5), at most NEGATIVE; a failure for FAILURE seconds
(RFC 2308 7), so that a zone whose servers do not answer costs one wait and not one for each message.
"""

import time
from collections import OrderedDict

from fastmail.dns.interface import FAILED, Answer

OCTETS = 16 << 20
ENTRY = 300  # octets that an entry costs beside its records
LEAST, LONGEST, NEGATIVE, FAILURE = 5.0, 3600.0, 900.0, 10.0
UNSAID = 60.0  # for "nothing there" without a word of how long
Key = tuple[str, str]


def until(ttl: int, found: bool) -> float:
    """Return when an answer is forgotten; ``ttl`` -1: the answer has none."""
    if ttl < 0:
        return time.monotonic() + UNSAID
    return time.monotonic() + min(max(float(ttl), LEAST), LONGEST if found else NEGATIVE)


class Cache:
    """Answers by name and type."""

    def __init__(self, octets: int = OCTETS) -> None:
        self._most = octets
        self._held = 0
        self._entries: OrderedDict[Key, tuple[Answer, int]] = OrderedDict()

    def get(self, key: Key) -> Answer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        answer, size = entry
        if answer.until < time.monotonic():
            del self._entries[key]
            self._held -= size
            return None
        self._entries.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self._held -= old[1]
        size = ENTRY + len(key[0]) + sum(_size(record) for record in answer.records)
        self._entries[key] = answer, size
        self._held += size
        while self._held > self._most:
            _, (_, gone) = self._entries.popitem(last=False)
            self._held -= gone

    def forget(self, failures: bool = False) -> None:
        """Everything, or only what could not be known."""
        for key in [key for key, (answer, _) in self._entries.items() if not failures or answer.state == FAILED]:
            self._held -= self._entries.pop(key)[1]

    @property
    def held(self) -> int:
        """Octets, about."""
        return self._held

    def __len__(self) -> int:
        return len(self._entries)


def _size(record: object) -> int:
    """Octets of a record in memory, about."""
    if isinstance(record, tuple):
        return 80 + sum(_size(part) for part in record)
    return 50 + (len(record) if isinstance(record, str | bytes) else 0)
