"""When a message is tried again, and when it is given up (RFC 5321 4.5.4.1)."""

from dataclasses import dataclass, field, replace

from fastmail.queue.routes import Routes

STEPS = [300.0, 600.0, 1200.0, 2400.0, 3600.0, 7200.0, 14400.0]


@dataclass(slots=True)
class Schedule:
    """Times in seconds.

    ``steps``: waits after the first, second, ... attempt; the last one repeats. ``lifetime``: age at which a message is
    given up. ``warn_after``: age at which the sender is told of the delay."""

    steps: list[float] = field(default_factory=lambda: list(STEPS))
    lifetime: float = 5 * 86400.0
    warn_after: float = 4 * 3600.0

    def next(self, attempts: int, now: float) -> int:
        """Return the time of the next attempt after so many attempts; at least one second from now."""
        return max(int(now) + 1, int(now + self.steps[min(max(attempts, 1), len(self.steps)) - 1]))


@dataclass(slots=True)
class Schedules:
    """The schedule of each destination. ``usual``: for destinations whose route has none of its own."""

    routes: Routes
    usual: Schedule

    def of(self, destination: str) -> Schedule:
        """Return the schedule of a destination."""
        route, usual = self.routes.of(destination), self.usual
        if not route.retry and not route.lifetime:
            return usual
        return replace(usual, steps=list(route.retry) or usual.steps, lifetime=route.lifetime or usual.lifetime)
