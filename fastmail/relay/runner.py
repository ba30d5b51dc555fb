"""Empties the queue: takes what is due, destination by destination, and settles each attempt.

Each destination has a window of jobs and as many connections as it deserves: one more after each success, half of them
after trouble, none for a while when no host of it answers; so a dead destination costs one try now and then. Those that
took mail the last time go first, and a fifth of all connections is theirs alone; of the others the newest goes first: a
hundred thousand dead destinations delay no live one. Connections are kept for the next message as long as there is one,
and a little longer.

Promise: what is settled is settled in one commit with the reports it makes; until then the job is as it was, so a
crash repeats an attempt at most. A job is under way once at a time. No destination, reply or content stops the others.
"""

import asyncio
import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastmail.delivery import forward
from fastmail.delivery.deliver import Deliverer, Envelope, Held, Named
from fastmail.delivery.outbound import Outbound
from fastmail.directory.lookup import Destinations
from fastmail.dns.resolver import NoSuchDomain, NullMx
from fastmail.model.errors import ClientError, CorruptData, DamagedAccount, MailError
from fastmail.queue.model import LOCAL, Item, Job, Outgoing, Rcpt, number_of
from fastmail.queue.routes import Hop
from fastmail.queue.spool import Spool
from fastmail.relay import attempt, pipe
from fastmail.relay.attempt import Attempt
from fastmail.relay.clock import Clock
from fastmail.relay.connecting import Connector, Down
from fastmail.relay.outcomes import Outcomes, Said
from fastmail.relay.targets import Finder, Loops, NoTls
from fastmail.relay.tlsreport import Reporter
from fastmail.smtp.client import Reply, Sending, SmtpClient, Timeouts
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

RESERVE = 5  # one connection of so many is for destinations that took mail the last time
REMEMBERED = 20_000
WINDOW = 50  # jobs of a destination that are held in memory
LINGER = 3.0  # s that a connection waits for another message
SWEEP = 60.0
REFRESH = 1800.0  # s between two looks at the MTA-STS policies that are kept
DOWN = [60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0]
LOOK = 0.02  # s between two looks for new destinations, at least
PER_CONNECTION = 200  # messages
OUR_TROUBLE = 10.0  # s without a new attempt after our own disk failed
BUG = 60.0  # s without one after an error that nobody foresaw
CLOSING = 60.0  # s without a new connection after one was answered with 421
SLOWEST = 60.0  # s between two messages for hosts that take none for now
PATIENCE = 3  # messages in a row that are put off, until recipients are asked no faster than one in GREY
GREY = 1.0  # s


@dataclass(slots=True)
class Limits:
    """Connections to one destination and to all; seconds."""

    per_destination: int = 20
    all: int = 500
    timeouts: Timeouts = field(default_factory=Timeouts)
    source4: str = ""
    source6: str = ""
    pipe: float = 600.0
    inside: bool = False  # may web servers that domains name have private addresses?


@dataclass(slots=True)
class Destination:
    """What is known of one destination while it has mail. ``due``: when its next job outside the window is (s since
    1970); ``down_until``: when it may be tried again (monotonic, so that no clock that is set stops it); ``failures``:
    how often no host of it was reached, ``put_off``: how many messages no host took for now, both in a row; ``good``:
    it took mail the last time; ``born``: grows with each destination that is seen."""

    name: str
    due: float = math.inf
    limit: float = 2.0
    streams: int = 0
    window: deque[Job] = field(default_factory=deque)
    busy: set[bytes] = field(default_factory=set)
    down_until: float = 0.0
    failures: int = 0
    put_off: int = 0
    idle: list[tuple[float, SmtpClient]] = field(default_factory=list)
    most: int = 20
    good: bool = False
    born: int = 0


class Expired(ClientError):
    """A message was not delivered in its time (RFC 2852)."""


CLOCK = b"clock"  # where the spool keeps what relay.clock knows
GONE = {  # code (556: RFC 7505 4.2) and status
    NoSuchDomain: (550, "5.1.2"),
    NullMx: (556, "5.1.10"),
    Loops: (550, "5.4.6"),
    Expired: (550, "5.4.7"),
    NoTls: (550, "5.7.10"),
}


class Runner:
    """One for each queue, in one process."""

    def __init__(
        self, spool: Spool, outbound: Outbound, finder: Finder, deliverer: Deliverer, hostname: str, limits: Limits
    ) -> None:
        self._reporter = Reporter(outbound, finder.resolver, hostname, Counter(), limits.inside)
        self._spool = spool
        self._outbound = outbound
        self._clock = Clock(spool.state(CLOCK))
        self._outcomes = Outcomes(spool, outbound, self._clock)
        self._finder = finder
        finder.report = self._reporter.told
        if finder.policies is not None:
            finder.policies.report = self._reporter.told
        self._connector = Connector(
            finder, self._reporter, outbound, hostname, limits.timeouts, (limits.source4, limits.source6)
        )
        self._deliverer = deliverer
        self._limits = limits
        self._destinations: dict[str, Destination] = {}
        self._streams: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._sweeping: asyncio.Future[int] | None = None
        self._besides: dict[str, asyncio.Task[None]] = {}
        self._births = itertools.count()
        self._took: dict[str, None] = {}  # destinations that took mail lately, the latest last

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._sweep())]

    def wake(self) -> None:
        """Something was queued or changed."""
        self._wake.set()

    async def close(self, grace: float = 5.0) -> None:
        """Begin no attempt any more, and let those under way end."""
        self._stopping = True
        besides = list(self._besides.values())
        for task in [*self._tasks, *besides]:
            task.cancel()
        if self._streams:
            await asyncio.wait(self._streams, timeout=grace)
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._tasks, *besides, *self._streams, return_exceptions=True)
        if self._finder.policies is not None:
            await self._finder.policies.close()
        await asyncio.gather(self._reporter.write(), return_exceptions=True)
        if self._sweeping is not None:
            await asyncio.gather(self._sweeping, return_exceptions=True)  # its thread still reads the spool
        for destination in self._destinations.values():
            for _, client in destination.idle:
                await client.close()

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            begun = time.monotonic()
            try:
                await self._orders()
                self._look()
                pause = self._begin()
            except MailError as error:
                log.event("queue.look", "error", error=error)
                pause = 5.0
            started = time.monotonic()
            rest = max(LOOK, 10 * (started - begun))  # with many destinations a look is not for nothing
            try:
                async with asyncio.timeout(max(0.05, min(pause, SWEEP))):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(max(0.0, rest - (time.monotonic() - started)))

    async def _sweep(self) -> None:
        """Close connections that nobody needs, forget destinations without mail, remove segments without messages."""
        loop = asyncio.get_running_loop()
        last = refreshed = time.monotonic()
        while not self._stopping:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for destination in list(self._destinations.values()):
                kept = [(at, client) for at, client in destination.idle if now - at < LINGER]
                over = [client for at, client in destination.idle if now - at >= LINGER]
                destination.idle = kept
                for client in over:
                    await client.close()
                if not (kept or destination.streams or destination.window) and destination.due == math.inf:
                    del self._destinations[destination.name]
            if now - last > SWEEP:
                last = now
                try:
                    await self._reporter.write()
                    self._beside("reports", self._reporter.send)
                    self._sweeping = loop.run_in_executor(None, self._spool.sweep)
                    await asyncio.shield(self._sweeping)
                    await self._spool.let_go()
                    await self._outbound.history.prune()
                    if self._finder.policies is not None and now - refreshed > REFRESH:
                        refreshed = now
                        self._beside("policies", self._finder.policies.refresh)
                except (MailError, OSError) as error:
                    log.event("queue.sweep", "warning", error=error)

    def _beside(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do what waits for others' web servers beside the sweep, once at a time."""

        async def quietly() -> None:
            try:
                await work()
            except Exception as error:  # whatever strangers' servers say, it is tried again at the next sweep
                log.event("queue.sweep", "warning", what=name, error=repr(error))

        if name not in self._besides:
            task = self._besides[name] = asyncio.get_running_loop().create_task(quietly())
            task.add_done_callback(lambda _: self._besides.pop(name, None))

    # ---------------------------------------------------------------- what is due

    async def _orders(self) -> None:
        """What an administrator wants tried now is tried now, whatever is known of its destination; and a clock that
        was set back makes nothing wait for the hours that come again."""
        wanted = self._spool.wanted()
        for name in wanted:
            if (destination := self._destinations.get(name)) is not None:
                destination.down_until = 0.0
                destination.failures = destination.put_off = 0
        if wanted:
            self._connector.memory.forget()
            await self._spool.heard(wanted)
        if self._clock.look() < 0.0:
            longest = max(self._outbound.schedule.steps)
            await asyncio.get_running_loop().run_in_executor(None, self._spool.pull_in, longest)
        if self._clock.changed:
            await self._spool.set_state(CLOCK, self._clock.state())

    def _look(self) -> None:
        """Learn of new destinations, and when those without a window have something to do."""
        for name, due in self._spool.destinations().items():
            destination = self._destinations.get(name)
            if destination is None:
                destination = self._destinations[name] = self._new(name)
            if not destination.busy:
                destination.due = due
            elif due < destination.due:
                destination.due = min(destination.due, time.time())  # perhaps one that is under way; refill finds out

    def _new(self, name: str) -> Destination:
        most = self._outbound.routes.of(name).connections or self._limits.per_destination
        good = name == LOCAL or name in self._took
        return Destination(name, limit=min(2.0, most), most=most, good=good, born=next(self._births))

    def _succeeded(self, destination: Destination) -> None:
        destination.good = True
        self._took.pop(destination.name, None)
        self._took[destination.name] = None
        if len(self._took) > REMEMBERED:
            del self._took[next(iter(self._took))]

    def _failed(self, destination: Destination) -> None:
        destination.good = destination.name == LOCAL
        self._took.pop(destination.name, None)

    def _begin(self) -> float:
        """Start streams where there is work and room; seconds until there may be more."""
        now, clock = time.time(), time.monotonic()
        pause = SWEEP
        strangers = sum(d.streams for d in self._destinations.values() if not d.good)
        bound = max(1, self._limits.all - max(1, self._limits.all // RESERVE))
        for destination in sorted(self._destinations.values(), key=lambda d: (not d.good, d.streams, -d.born)):
            wait = destination.down_until - clock
            if not destination.window:
                wait = max(wait, destination.due - now)
            if wait > 0.0:
                pause = min(pause, wait)
                continue
            room = self._limits.all - len(self._streams)
            if not destination.good:
                room = max(0, min(room, bound - strangers))
            if not destination.window and not room:
                continue  # a stream that ends wakes us
            if not destination.window:
                self._refill(destination, now)
            limit = 1 if destination.failures else int(destination.limit)
            wanted = min(limit, destination.streams + len(destination.window)) - destination.streams
            for _ in range(min(wanted, room)):
                destination.streams += 1
                strangers += not destination.good
                task = asyncio.get_running_loop().create_task(self._stream(destination))
                self._streams.add(task)
                task.add_done_callback(self._streams.discard)
            if not destination.window and destination.due < math.inf:
                pause = min(pause, max(0.0, destination.due - now))
        return pause

    def _refill(self, destination: Destination, now: float) -> None:
        jobs, due = self._spool.due(destination.name, now, WINDOW, destination.busy.__contains__)
        destination.window.extend(jobs)
        destination.busy.update(job.key for job in jobs)
        destination.due = due or math.inf

    def _next(self, destination: Destination) -> Job | None:
        now = time.time()
        if self._stopping or destination.down_until > time.monotonic():
            return None
        if not destination.window and destination.due <= now:
            self._refill(destination, now)
        return destination.window.popleft() if destination.window else None

    # ---------------------------------------------------------------- streams

    async def _stream(self, destination: Destination) -> None:
        """Attempts of one destination one after the other, over one connection as long as it lasts."""
        client: SmtpClient | None = None
        try:
            while (job := self._next(destination)) is not None:
                try:
                    found = await self._found(job)
                    if found is None:
                        continue
                    item, content = found
                    said = self._outcomes.known(job)
                    if said is not None:
                        await self._outcomes.settle(job, item, said, content)
                    elif destination.name == LOCAL:
                        await self._deliver(job, item, content)
                    elif (hop := self._outbound.routes.of(destination.name).hop) is not None and hop.kind == "pipe":
                        await self._pipe(job, item, content, hop)
                    else:
                        client = await self._attempt(destination, job, item, content, client)
                except (MailError, OSError) as error:  # our disk: the job stays as it is
                    log.event("queue.settle", "error", id=job.item, error=repr(error))
                    destination.down_until = time.monotonic() + OUR_TROUBLE
                finally:
                    destination.busy.discard(job.key)
        except Exception as error:
            count("bugs")
            log.event("bug", "error", error=repr(error), where="relay", destination=destination.name)
            destination.down_until = time.monotonic() + BUG
        finally:
            destination.streams -= 1
            if client is not None and client.usable and not self._stopping:
                destination.idle.append((time.monotonic(), client))
            elif client is not None:
                await client.close()
            self.wake()

    async def _found(self, job: Job) -> tuple[Item, bytes] | None:
        """The job's message and its content; None when there is none, or it is damaged, and the job is settled."""
        try:
            item = self._spool.item(job.item)
        except CorruptData as error:
            addresses = [one.address for one in job.recipients]
            log.event("queue.damaged", "error", id=number_of(job.item), error=error, recipients=addresses)
            item = None
        if item is None:
            await self._spool.change(job.key, lambda old: None)
            return None
        try:
            return item, await self._spool.content(item)
        except CorruptData as error:
            log.event("queue.damaged", "error", id=item.number, error=error)
            lost = Reply(554, "5.3.0", "the message was damaged on this server")
            await self._outcomes.settle_all(job, item, lost, b"Subject: (damaged)\n\n")
            return None

    async def _attempt(
        self, destination: Destination, job: Job, item: Item, content: bytes, client: SmtpClient | None
    ) -> SmtpClient | None:
        """One message to the hosts of a destination; the connection for the next one."""
        try:
            if item.by_mode.startswith("R") and item.by <= time.time():
                raise Expired("its time of delivery is over")
            if client is None or not client.usable:
                client = await self._idle(destination)
            done = await attempt.run(self._connector, destination.name, _sending(item, job.recipients, content), client)
        except tuple(GONE) as error:
            code, status = GONE[type(error)]
            reply = Reply(code, "5.7.30" if "REQUIRETLS" in str(error) else status, str(error))
            await self._outcomes.settle_all(job, item, reply, content)
            return client if isinstance(error, Expired) else None
        except Down as down:
            self._set_down(destination, str(down))
            await self._outcomes.settle_all(job, item, Reply(451, "4.4.1", str(down)), content)
            return None
        self._learn(destination, done)
        await self._outcomes.settle(job, item, done.said, content)
        if done.client is not None and done.client.sent >= PER_CONNECTION:
            await done.client.close()
            return None
        return done.client

    def _learn(self, destination: Destination, done: Attempt) -> None:
        """One connection more after a success, half of them after trouble. Hosts that take nothing for now are asked
        slower and slower; recipients that are put off one by one (greylisting) only a little, because other recipients
        of the same destination may be welcome."""
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

    async def _idle(self, destination: Destination) -> SmtpClient | None:
        """A connection that waits for another message and is still good."""
        while destination.idle:
            at, client = destination.idle.pop()
            if client.usable and time.monotonic() - at < LINGER:
                return client
            await client.close()
        return None

    def _set_down(self, destination: Destination, why: str) -> None:
        pause = DOWN[min(destination.failures, len(DOWN) - 1)]
        destination.failures += 1
        self._failed(destination)
        destination.limit = min(2.0, destination.most)
        pause = min(pause, self._outcomes.schedule(destination.name).steps[0])
        destination.down_until = time.monotonic() + pause
        log.event("relay.down", "warning", destination=destination.name, error=why, tries_again_in=pause)

    async def _deliver(self, job: Job, item: Item, content: bytes) -> None:
        """Recipients of this server."""
        envelope = Envelope(item.sender, helo=item.helo, peer=item.peer, protocol=item.protocol)
        replies: dict[str, Reply] = {}
        there: dict[str, Destinations] = {}
        if item.by_mode.startswith("R") and item.by <= time.time():
            expired = Reply(*GONE[Expired], "its time of delivery is over")
            await self._outcomes.settle_all(job, item, expired, content)
            return
        for rcpt in job.recipients:
            try:
                there[rcpt.address] = forward.here(self._deliverer, item, rcpt.address)
            except DamagedAccount as error:
                log.event("relay.recipient", "error", address=rcpt.address, why=error)
                replies[rcpt.address] = Reply(451, "4.3.0", "the mailbox cannot be reached now")
                continue
            found = there[rcpt.address]
            if found.accounts:
                envelope.recipients.append((rcpt.address, found.accounts))
            elif found.elsewhere:
                replies[rcpt.address] = Reply(250, "2.0.0", "forwarded")
            else:
                replies[rcpt.address] = Reply(550, "5.1.1", "no such user here")
        if envelope.recipients:
            held = Held(item.hold, item.shared_with, item.skip, item.arrived) if item.hold else None
            named = Named(item.number, item.transaction, held)
            outcomes = await self._deliverer.deliver(envelope, content, item.mailbox or "INBOX", named)
            for (address, _), one in zip(envelope.recipients, outcomes, strict=True):
                replies[address] = Reply(one.code, one.enhanced, one.text)
        more = await self._forwarded(job, item, content, there, replies)
        # nobody hears that it was delivered where it was only handed on
        said = [
            Said(replies[rcpt.address], dsn=rcpt.address in there and not there[rcpt.address].accounts)
            for rcpt in job.recipients
        ]
        await self._outcomes.settle(job, item, said, content, more)

    async def _forwarded(
        self, job: Job, item: Item, content: bytes, there: dict[str, Destinations], replies: dict[str, Reply]
    ) -> list[Outgoing]:
        """What goes on to other hosts, for the recipients that are not tried again."""
        leaving = [
            rcpt
            for rcpt in job.recipients
            if rcpt.address in there and there[rcpt.address].elsewhere and not replies[rcpt.address].temporary
        ]
        if not leaving:
            return []
        deliverer, routes, new_id = self._deliverer, self._outbound.routes, self._spool.new_id
        if deliverer.srs is not None:
            await asyncio.get_running_loop().run_in_executor(None, deliverer.srs.prepare)
        out = []
        for rcpt in leaving:
            elsewhere = there[rcpt.address].elsewhere
            made = forward.outgoing(deliverer, routes, new_id, item, rcpt, content, elsewhere)
            for one in made:
                number = one.item.number
                log.event("queue.forward", id=item.number, forward=number, recipient=rcpt.address)
                self._outbound.history.note(item.number, "forwarded", (number,), recipient=rcpt.address, forward=number)
            out += made
        return out

    async def _pipe(self, job: Job, item: Item, content: bytes, hop: Hop) -> None:
        """Recipients whose mail goes to a program."""
        said = [
            Said(await pipe.run(hop, item.sender, rcpt.address, item.number, content, self._limits.pipe))
            for rcpt in job.recipients
        ]
        await self._outcomes.settle(job, item, said, content)

    def state(self) -> dict[str, Any]:
        """For people: destinations with their connections and troubles."""
        return {
            name: {"streams": d.streams, "limit": round(d.limit, 1), "window": len(d.window), "failures": d.failures}
            for name, d in self._destinations.items()
        }


def _sending(item: Item, recipients: list[Rcpt], content: bytes) -> Sending:
    return Sending(
        item.sender,
        [(rcpt.address, rcpt.orcpt, rcpt.notify) for rcpt in recipients],
        content,
        item.size,
        item.utf8,
        item.eight,
        item.ret,
        item.envid,
        item.require_tls,
        item.by,
        item.by_mode,
        item.priority,
    )
