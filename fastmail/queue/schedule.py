"""When a message is tried again, and when that ends (RFC 5321 4.5.4.1)."""

from dataclasses import dataclass, field, replace

from fastmail.queue.routes import Routes

STEPS = [300.0, 600.0, 1200.0, 2400.0, 3600.0, 7200.0, 14400.0]


@dataclass(slots=True)
class Schedule:
    """``steps``: waits after the first, second, ... try; the last one repeats. ``lifetime``: when it is given up.
    ``warn_after``: when the sender is told of the delay. All in seconds."""

    steps: list[float] = field(default_factory=lambda: list(STEPS))
    lifetime: float = 5 * 86400.0
    warn_after: float = 4 * 3600.0

    def next(self, attempts: int, now: float) -> int:
        """When to try again after so many tries; a second later at least."""
        return max(int(now) + 1, int(now + self.steps[min(max(attempts, 1), len(self.steps)) - 1]))


@dataclass(slots=True)
class Schedules:
    """The schedule of each destination. ``usual``: of those whose route has none of its own."""

    routes: Routes
    usual: Schedule

    def of(self, destination: str) -> Schedule:
        """The waits of a destination's route, or those of everything else."""
        route, usual = self.routes.of(destination), self.usual
        if not route.retry and not route.lifetime:
            return usual
        return replace(usual, steps=list(route.retry) or usual.steps, lifetime=route.lifetime or usual.lifetime)
