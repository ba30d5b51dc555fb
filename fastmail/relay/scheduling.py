"""Decides which destination is tried when, and with how many connections at once (RFC 5321 4.5.4.1).

Each destination has a window of jobs and a limit of connections: one more after each success, half after an error, none
for a while when none of its hosts answers. So a dead destination costs one attempt now and then. Destinations that took
mail the last time ("good") go first, and a fifth of all connections is reserved for them; among the others the newest
goes first. So a hundred thousand dead destinations do not delay a live one.

Promise: a job is under way only once at a time, and as it is in the queue when its attempt begins: one that was held,
dropped, moved or put off meanwhile is passed over, though it is in a window. Memory does not grow with the depth of the
queue: at most WINDOW jobs of a destination are in memory. Waits use the monotonic clock, so setting the time of day
does not prolong them.
"""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from fastmail.model.errors import CorruptData
from fastmail.queue.model import LOCAL, Job
from fastmail.queue.routes import Routes
from fastmail.queue.schedule import Schedules
from fastmail.queue.spool import Spool
from fastmail.relay.attempt import Attempt
from fastmail.telemetry import log

RESERVE = 5  # one connection in so many is reserved for destinations that took mail the last time
REMEMBERED = 20_000  # destinations that took mail, remembered after their jobs are done
WINDOW = 50  # jobs of a destination in memory at once
SWEEP = 60.0  # s between two looks at all destinations, at most
DOWN = [60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0]
CLOSING = 60.0  # s without a new connection after one was answered with 421
SLOWEST = 60.0  # s between two messages for hosts that accept none for now, at most
PATIENCE = 3  # messages put off in a row; after more than that there is only one attempt in each GREY seconds
GREY = 1.0  # s


@dataclass(slots=True)
class Most:
    """Connections to one destination, and to all together."""

    per_destination: int = 20
    all: int = 500


@dataclass(slots=True)
class Destination:
    """What is known of one destination while it has mail.

    - ``due``: when its next job outside the window is due (s since 1970)
    - ``limit``: connections at once now, never more than ``most``; ``streams``: connections in use
    - ``down_until``: when it may be tried again (monotonic)
    - ``failures``: how often in a row none of its hosts was reached; ``put_off``: how many messages in a row no host
      accepted for now
    - ``good``: it took mail the last time; ``born``: grows with each destination that is added"""

    name: str
    due: float = math.inf
    limit: float = 2.0
    most: int = 20
    streams: int = 0
    window: deque[Job] = field(default_factory=deque)
    busy: set[bytes] = field(default_factory=set)  # keys of jobs in the window or under way
    down_until: float = 0.0
    failures: int = 0
    put_off: int = 0
    good: bool = False
    born: int = 0

    @property
    def forgettable(self) -> bool:
        """True when it has no mail."""
        return not self.streams and not self.window and self.due == math.inf


class Scheduler:
    """The destinations of one runner."""

    def __init__(self, spool: Spool, routes: Routes, schedules: Schedules, most: Most) -> None:
        self._spool = spool
        self._routes = routes
        self._schedules = schedules
        self._most = most
        self.destinations: dict[str, Destination] = {}
        self._births = itertools.count()
        self._took: dict[str, None] = {}  # destinations that took mail the last time, the latest last

    # ---------------------------------------------------------------- what is due

    def look(self) -> None:
        """Add new destinations, and learn when those without a window have something to do."""
        for name, due in self._spool.destinations().items():
            destination = self.destinations.get(name)
            if destination is None:
                destination = self.destinations[name] = self._new(name)
            if not destination.busy:
                destination.due = due
            elif due < destination.due:
                # may be a job that is under way already; _refill finds out
                destination.due = min(destination.due, time.time())

    def _new(self, name: str) -> Destination:
        most = self._routes.of(name).connections or self._most.per_destination
        good = name == LOCAL or name in self._took
        return Destination(name, limit=min(2.0, most), most=most, good=good, born=next(self._births))

    def want(self, name: str) -> None:
        """Try a destination now, whatever is known of it: an administrator wants it."""
        if (destination := self.destinations.get(name)) is not None:
            destination.down_until = 0.0
            destination.failures = destination.put_off = 0

    def begin(self, start: Callable[[Destination], None]) -> float:
        """Call ``start`` for each connection that is to be started now; returns the seconds until there may be more.

        A connection is counted in ``streams`` until ``end`` is called."""
        now, clock = time.time(), time.monotonic()
        pause = SWEEP
        every = self.destinations.values()
        free = self._most.all - sum(one.streams for one in every)
        strangers = sum(one.streams for one in every if not one.good)
        bound = max(1, self._most.all - max(1, self._most.all // RESERVE))
        for destination in sorted(every, key=lambda d: (not d.good, d.streams, -d.born)):
            wait = destination.down_until - clock
            if not destination.window:
                wait = max(wait, destination.due - now)
            if wait > 0.0:
                pause = min(pause, wait)
                continue
            room = free if destination.good else max(0, min(free, bound - strangers))
            if not destination.window and not room:
                continue  # a stream that ends wakes the runner
            if not destination.window:
                self._refill(destination, now)
            limit = 1 if destination.failures else int(destination.limit)
            wanted = min(limit, destination.streams + len(destination.window)) - destination.streams
            some = max(0, min(wanted, room))
            for _ in range(some):
                destination.streams += 1
                start(destination)
            free -= some
            strangers += 0 if destination.good else some
            if not destination.window and destination.due < math.inf:
                pause = min(pause, max(0.0, destination.due - now))
        return pause

    def end(self, destination: Destination) -> None:
        """Note that a started connection has ended."""
        destination.streams -= 1

    def _refill(self, destination: Destination, now: float) -> None:
        jobs, due = self._spool.due(destination.name, now, WINDOW, destination.busy.__contains__)
        destination.window.extend(jobs)
        destination.busy.update(job.key for job in jobs)
        destination.due = due or math.inf

    def next(self, destination: Destination) -> Job | None:
        """Return the next job of a destination; it counts as under way until ``ended``."""
        now = time.time()
        if destination.down_until > time.monotonic():
            return None
        if not destination.window and destination.due <= now:
            self._refill(destination, now)
        while destination.window:
            known = destination.window.popleft()
            job = self._current(destination, known.key, now)
            if job is not None:
                return job
            destination.busy.discard(known.key)
        return None

    def _current(self, destination: Destination, key: bytes, now: float) -> Job | None:
        """Return a job as it is in the queue now. None when it is not to be attempted: commands change jobs that are in
        a window, and an administrator who holds one expects that it does not leave any more."""
        try:
            job = self._spool.job(key)
        except CorruptData:
            return None  # Spool.due takes it out of the line
        if job is None or job.paused or job.destination != destination.name or job.due > now:
            return None
        return job

    def ended(self, destination: Destination, job: Job) -> None:
        """Note that a job is not under way any more."""
        destination.busy.discard(job.key)

    def pause_for(self, destination: Destination, seconds: float) -> None:
        """Make no attempt for a while, because this server itself has an error."""
        destination.down_until = time.monotonic() + seconds

    def forget(self, kept: Container[str]) -> None:
        """Forget destinations without mail, except those in ``kept``."""
        for name in [one.name for one in self.destinations.values() if one.forgettable and one.name not in kept]:
            del self.destinations[name]

    # ---------------------------------------------------------------- what came of it

    def learn(self, destination: Destination, done: Attempt) -> None:
        """Adapt to the result of an attempt: one more connection after a success, half of them after an error.

        Hosts that accept nothing for now are asked more and more slowly. Where only single recipients are put off
        (greylisting), the pace drops just a little, because other recipients of the destination may be accepted."""
        if done.accepted:
            destination.limit = min(destination.limit + 1 / destination.limit, destination.most)
            destination.failures = destination.put_off = 0
            self._succeeded(destination)
            return
        if not done.put_off:
            return
        destination.limit = max(1.0, destination.limit / 2)
        destination.put_off += 1
        pause = 0.0
        if done.broken:
            self._failed(destination)
            pause = min(SLOWEST, 2.0 ** (destination.put_off - 1)) if destination.put_off > 1 else 0.0
        elif destination.put_off > PATIENCE:
            pause = GREY
        destination.down_until = time.monotonic() + (CLOSING if done.closing else pause)

    def set_down(self, destination: Destination, why: str) -> None:
        """Note that no host of the destination was reached: no connection for a while, then one."""
        pause = DOWN[min(destination.failures, len(DOWN) - 1)]
        destination.failures += 1
        self._failed(destination)
        destination.limit = min(2.0, destination.most)
        pause = min(pause, self._schedules.of(destination.name).steps[0])
        destination.down_until = time.monotonic() + pause
        log.event("relay.down", "warning", destination=destination.name, error=why, tries_again_in=pause)

    def _succeeded(self, destination: Destination) -> None:
        destination.good = True
        self._took.pop(destination.name, None)
        self._took[destination.name] = None
        if len(self._took) > REMEMBERED:
            del self._took[next(iter(self._took))]

    def _failed(self, destination: Destination) -> None:
        destination.good = destination.name == LOCAL
        self._took.pop(destination.name, None)
