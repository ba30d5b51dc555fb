"""Empties the queue: a loop that finds what is due and starts connections for it, and housekeeping.

relay.scheduling says which destination is tried when, relay.connecting opens sessions with its hosts, relay.delivering
works off one job, relay.outcomes writes down the result.

Promise: a result and the reports that it causes are one commit; until then the job is unchanged, so a crash repeats at
most one attempt for each job under way. A job is under way only once at a time. No destination, reply or content stops
the others.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.history import History
from fastmail.delivery.lists.engine import Lists
from fastmail.delivery.lists.one_click import OneClick
from fastmail.delivery.lists.policies import Demands
from fastmail.delivery.reports import Reports
from fastmail.model.errors import MailError
from fastmail.policy.sealing import Sealer
from fastmail.policy.signer import Signer
from fastmail.queue.routes import Destinations, Routes
from fastmail.queue.schedule import Schedules
from fastmail.queue.spool import Spool
from fastmail.relay.clock import Clock
from fastmail.relay.connecting import Connector
from fastmail.relay.delivering import Deliveries
from fastmail.relay.outcomes import Outcomes
from fastmail.relay.scheduling import SWEEP as LONGEST
from fastmail.relay.scheduling import Destination, Most, Scheduler
from fastmail.relay.suspicion import Watch
from fastmail.relay.targets import Finder
from fastmail.relay.tlsreport import Reporter
from fastmail.smtp.client import SmtpClient, Timeouts
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

SWEEP = 60.0  # s between two rounds of housekeeping
REFRESH = 1800.0  # s between two checks of the stored MTA-STS policies
LOOK = 0.02  # s between two searches for new destinations, at least
OUR_TROUBLE = 10.0  # s without a new attempt after this server's own disk failed
BUG = 60.0  # s without a new attempt after an unexpected error
CLOCK = b"clock"  # name of relay.clock's state in the spool


@dataclass(slots=True)
class Limits:
    """``most``: connections at once; ``pipe``: seconds that a program may take; ``source4``, ``source6``: local
    addresses to send from, empty for any."""

    most: Most = field(default_factory=Most)
    timeouts: Timeouts = field(default_factory=Timeouts)
    source4: str = ""
    source6: str = ""
    pipe: float = 600.0
    inside: bool = False  # web servers that domains name may have private addresses


class Runner:
    """One for each queue, in one process of the server."""

    def __init__(
        self,
        spool: Spool,
        destinations: Destinations,
        schedules: Schedules,
        reports: Reports,
        history: History,
        deliverer: Deliverer,
        finder: Finder,
        hostname: str,
        limits: Limits,
        signer: Signer | None = None,
        sealer: Sealer | None = None,
        watch: Watch | None = None,
        one_click: OneClick | None = None,
    ) -> None:
        routes: Routes = destinations.routes
        self._spool = spool
        self._history = history
        self._usual = schedules.usual
        self._finder = finder
        self._reporter = Reporter(
            spool, destinations.of, finder.resolver, hostname, Counter(), limits.inside, signer=signer
        )
        finder.report = self._reporter.told
        if finder.policies is not None:
            finder.policies.report = self._reporter.told
        self._clock = Clock(spool.facts.state(CLOCK))
        self._scheduler = Scheduler(spool, routes, schedules, limits.most)
        self._connector = Connector(
            finder, self._reporter, routes, hostname, limits.timeouts, (limits.source4, limits.source6)
        )
        self._outcomes = Outcomes(spool, schedules, reports, history, self._clock, watch=watch)
        self._deliveries = Deliveries(
            spool,
            routes,
            deliverer,
            self._connector,
            self._scheduler,
            self._outcomes,
            limits.pipe,
            Lists(spool, deliverer, routes, history, hostname, Demands(finder.resolver).of, signer, sealer),
            signer,
            sealer,
            one_click,
        )
        # the loop
        self._streams: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        # the housekeeping
        self._sweeping: asyncio.Future[int] | None = None
        self._besides: dict[str, asyncio.Task[None]] = {}
        self.send_reports: Callable[[], Awaitable[object]] | None = None  # aggregate reports of DMARC

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._sweep())]

    def wake(self) -> None:
        """Look at the queue again: something was queued or changed."""
        self._wake.set()

    async def close(self, grace: float = 5.0) -> None:
        """Start no more attempts, and wait ``grace`` seconds for those under way."""
        self._stopping = True
        besides = list(self._besides.values())
        for task in [*self._tasks, *besides]:
            task.cancel()
        if self._streams:
            await asyncio.wait(self._streams, timeout=grace)
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._tasks, *besides, *self._streams, return_exceptions=True)
        if self._outcomes.watch is not None:
            await self._outcomes.watch.close()
        if self._finder.policies is not None:
            await self._finder.policies.close()
        await asyncio.gather(self._reporter.write(), return_exceptions=True)
        if self._sweeping is not None:
            # wait for its thread, which still reads the spool
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self._connector.close()

    # ---------------------------------------------------------------- the loop

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            begun = time.monotonic()
            try:
                await self._orders()
                self._scheduler.look()
                pause = self._scheduler.begin(self._start)
            except MailError as error:
                log.event("queue.look", "error", error=error)
                pause = 5.0
            started = time.monotonic()
            # with many destinations a search takes long, so its pause grows with it
            rest = max(LOOK, 10 * (started - begun))
            try:
                async with asyncio.timeout(max(0.05, min(pause, LONGEST))):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(max(0.0, rest - (time.monotonic() - started)))

    async def _orders(self) -> None:
        """Try now what an administrator wants tried now, whatever is known of its destination. And when the clock was
        set back, make due again what would wait for hours because of that."""
        wanted = self._spool.wanted()
        for name in wanted:
            self._scheduler.want(name)
        if wanted:
            self._connector.memory.forget()
            await self._spool.heard(wanted)
        if self._clock.look() < 0.0:
            longest = max(self._usual.steps)
            await asyncio.get_running_loop().run_in_executor(None, self._spool.pull_in, longest)
        if self._clock.changed:
            await self._spool.facts.set_state(CLOCK, self._clock.state())

    def _start(self, destination: Destination) -> None:
        task = asyncio.get_running_loop().create_task(self._stream(destination))
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    async def _stream(self, destination: Destination) -> None:
        """Make the attempts of one destination one after another, over one connection as long as it lasts."""
        client: SmtpClient | None = None
        try:
            while not self._stopping and (job := self._scheduler.next(destination)) is not None:
                try:
                    client = await self._deliveries.deliver(destination, job, client)
                except (MailError, OSError) as error:  # this server's disk failed: the job is unchanged
                    log.event("queue.settle", "error", id=job.item, error=repr(error))
                    self._scheduler.pause_for(destination, OUR_TROUBLE)
                finally:
                    self._scheduler.ended(destination, job)
        except Exception as error:
            count("bugs")
            log.event("bug", "error", error=repr(error), where="relay", destination=destination.name)
            self._scheduler.pause_for(destination, BUG)
        finally:
            self._scheduler.end(destination)
            if client is not None and client.usable and not self._stopping:
                self._connector.keep(destination.name, client)
            elif client is not None:
                await client.close()
            self.wake()

    # ---------------------------------------------------------------- housekeeping

    async def _sweep(self) -> None:
        """Close unused connections, forget destinations without mail, remove segments without messages."""
        last = refreshed = time.monotonic()
        while not self._stopping:
            await asyncio.sleep(1.0)
            await self._connector.close_old()
            self._scheduler.forget(self._connector.idle)
            now = time.monotonic()
            if now - last <= SWEEP:
                continue
            last = now
            try:
                await self._clean()
                if self._finder.policies is not None and now - refreshed > REFRESH:
                    refreshed = now
                    self._beside("policies", self._finder.policies.refresh)
            except (MailError, OSError) as error:
                log.event("queue.sweep", "warning", error=error)

    async def _clean(self) -> None:
        """Write down what was counted, and remove from the disk what nobody needs."""
        await self._reporter.write()
        self._beside("reports", self._reporter.send)
        if self.send_reports is not None:
            self._beside("dmarc", self.send_reports)
        self._sweeping = asyncio.get_running_loop().run_in_executor(None, self._spool.sweep)
        await asyncio.shield(self._sweeping)
        await self._spool.let_go()
        await self._history.prune()

    def _beside(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run work that waits for others' web servers beside the sweep, each kind once at a time."""

        async def quietly() -> None:
            try:
                await work()
            # no answer of a stranger's server may end the sweep; it is tried again next time
            except Exception as error:
                log.event("queue.sweep", "warning", what=name, error=repr(error))

        if name not in self._besides:
            task = self._besides[name] = asyncio.get_running_loop().create_task(quietly())
            task.add_done_callback(lambda _: self._besides.pop(name, None))
