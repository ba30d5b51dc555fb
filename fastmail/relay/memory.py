"""Remembers single hosts for a while, in memory: those that had errors, those that break off TLS, and those that offer
BDAT but cannot do it.

A host with errors is tried after the others (RFC 5321 5.1 lets a client remember failed hosts), but never left out.
"""

import time
from dataclasses import dataclass, field

from fastmail.smtp.client import Target

MOST = 10_000  # hosts; when there are more, all are forgotten
FIRST = 60.0  # s that a host comes last after its first error, twice as long after each further one
LONGEST = 1800.0  # s that a host comes last, at most: it may work again
HABIT = 600.0  # s until TLS or BDAT is tried again with a host


@dataclass(slots=True)
class HostMemory:
    """``_trouble``: by address and port, (until when, number of errors in a row); ``_without``: by address and port,
    the extensions to avoid and until when. Times are monotonic seconds."""

    _trouble: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    _without: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)

    def in_trouble(self, target: Target) -> bool:
        found = self._trouble.get((target.address, target.port))
        return found is not None and found[0] > time.monotonic()

    def failed(self, target: Target) -> None:
        """Note that the host was not reached, broke off, or accepted nothing for now."""
        key = target.address, target.port
        times = self._trouble.get(key, (0.0, 0))[1] + 1
        if len(self._trouble) >= MOST:
            self._trouble.clear()
        self._trouble[key] = time.monotonic() + min(FIRST * 2 ** min(times - 1, 10), LONGEST), times

    def succeeded(self, target: Target) -> None:
        self._trouble.pop((target.address, target.port), None)

    def ordered(self, targets: list[Target]) -> list[Target]:
        """Return the same hosts, with those in trouble last."""
        return sorted(targets, key=self.in_trouble)

    def avoid(self, target: Target, extension: str) -> None:
        """Do without an extension that the host offers but cannot do."""
        if len(self._without) >= MOST:
            self._without.clear()
        self._without.setdefault((target.address, target.port), {})[extension] = time.monotonic() + HABIT

    def avoided(self, target: Target) -> frozenset[str]:
        now = time.monotonic()
        found = self._without.get((target.address, target.port), {})
        return frozenset(name for name, until in found.items() if until > now)

    def forget(self) -> None:
        """Forget everything, so that all hosts are tried again as usual."""
        self._trouble.clear()
        self._without.clear()
