"""What is remembered of single hosts, in memory and for a while: which were in trouble, which break TLS off, and which
do not know the BDAT that they offer.

A host in trouble is tried after the others (RFC 5321 5.1 lets a client remember that a host failed), never left out.
"""

import time
from dataclasses import dataclass, field

from fastmail.smtp.client import Target

MOST = 10_000  # hosts; more than that are forgotten all at once
FIRST = 60.0  # s that a host is put off after its first trouble, twice as long after each further one
LONGEST = 1800.0
HABIT = 600.0  # s until TLS, or BDAT, is tried again


@dataclass(slots=True)
class HostMemory:
    """``_trouble``: address and port -> (until when, how often in a row); monotonic seconds."""

    _trouble: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)
    _without: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)

    def in_trouble(self, target: Target) -> bool:
        found = self._trouble.get((target.address, target.port))
        return found is not None and found[0] > time.monotonic()

    def failed(self, target: Target) -> None:
        """The host was not reached, or broke off, or took nothing for now."""
        key = target.address, target.port
        times = self._trouble.get(key, (0.0, 0))[1] + 1
        if len(self._trouble) >= MOST:
            self._trouble.clear()
        self._trouble[key] = time.monotonic() + min(FIRST * 2 ** min(times - 1, 10), LONGEST), times

    def succeeded(self, target: Target) -> None:
        self._trouble.pop((target.address, target.port), None)

    def ordered(self, targets: list[Target]) -> list[Target]:
        """The same hosts, those in trouble last."""
        return sorted(targets, key=self.in_trouble)

    def avoid(self, target: Target, extension: str) -> None:
        """Do without an extension that the host offers and can not do."""
        if len(self._without) >= MOST:
            self._without.clear()
        self._without.setdefault((target.address, target.port), {})[extension] = time.monotonic() + HABIT

    def avoided(self, target: Target) -> frozenset[str]:
        now = time.monotonic()
        found = self._without.get((target.address, target.port), {})
        return frozenset(name for name, until in found.items() if until > now)

    def forget(self) -> None:
        """Try everything again."""
        self._trouble.clear()
        self._without.clear()
