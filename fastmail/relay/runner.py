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
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fastmail.delivery.deliver import Deliverer, Envelope, Held
from fastmail.delivery.outbound import Outbound
from fastmail.dns.resolver import LookupFailed, NoSuchDomain, NullMx
from fastmail.message import dsn
from fastmail.model.errors import ClientError, CorruptData, DamagedAccount, MailError
from fastmail.queue.model import LOCAL, Item, Job, Rcpt, number_of
from fastmail.queue.routes import STRICT, Hop, parts
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.relay import pipe
from fastmail.relay.targets import Finder, Loops, NoTls
from fastmail.relay.tlsreport import Reporter
from fastmail.smtp.client import ClientTrouble, ConnectFailed, Reply, Sending, Sent, SmtpClient, Timeouts, TlsFailed
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

RESERVE = 5  # one connection of so many is for destinations that took mail the last time
REMEMBERED = 20_000
WINDOW = 50  # jobs of a destination that are held in memory
LINGER = 3.0  # s that a connection waits for another message
SWEEP = 60.0
DOWN = [60.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0]
LOOK = 0.02  # s between two looks for new destinations, at least
PER_CONNECTION = 200  # messages
NOTHING_TAKEN = Sent()


@dataclass(slots=True)
class Limits:
    """Connections to one destination and to all; seconds."""

    per_destination: int = 20
    all: int = 500
    timeouts: Timeouts = field(default_factory=Timeouts)
    source4: str = ""
    source6: str = ""
    pipe: float = 600.0


@dataclass(slots=True)
class Destination:
    """What is known of one destination while it has mail. ``due``: when its next job outside the window is; ``good``:
    it took mail the last time; ``born``: grows with each destination that is seen."""

    name: str
    due: float = math.inf
    limit: float = 2.0
    streams: int = 0
    window: deque[Job] = field(default_factory=deque)
    busy: set[bytes] = field(default_factory=set)
    down_until: float = 0.0
    failures: int = 0
    idle: list[tuple[float, SmtpClient]] = field(default_factory=list)
    most: int = 20
    good: bool = False
    born: int = 0


class Expired(ClientError):
    """A message was not delivered in its time (RFC 2852)."""


class Down(Exception):
    """No host of a destination can be reached; str() says why."""


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
        self._reporter = Reporter(outbound, finder.resolver, hostname, Counter())
        self._spool = spool
        self._outbound = outbound
        self._schedule = outbound.schedule
        self._finder = finder
        self._deliverer = deliverer
        self._hostname = hostname
        self._limits = limits
        self._destinations: dict[str, Destination] = {}
        self._streams: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._sweeping: asyncio.Future[int] | None = None
        self._turn = itertools.count()
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
        for task in self._tasks:
            task.cancel()
        if self._streams:
            await asyncio.wait(self._streams, timeout=grace)
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._streams, return_exceptions=True)
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
        last = time.monotonic()
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
                    await self._reporter.send()
                    self._sweeping = loop.run_in_executor(None, self._spool.sweep)
                    await asyncio.shield(self._sweeping)
                    await self._spool.let_go()
                except (MailError, OSError) as error:
                    log.event("queue.sweep", "warning", error=error)

    # ---------------------------------------------------------------- what is due

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
        now = time.time()
        pause = SWEEP
        strangers = sum(d.streams for d in self._destinations.values() if not d.good)
        bound = max(1, self._limits.all - max(1, self._limits.all // RESERVE))
        for destination in sorted(self._destinations.values(), key=lambda d: (not d.good, d.streams, -d.born)):
            ready = max(destination.due, destination.down_until)
            if not destination.window and ready > now:
                pause = min(pause, ready - now)
                continue
            if destination.down_until > now:
                pause = min(pause, destination.down_until - now)
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
        if self._stopping or destination.down_until > now:
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
                    if destination.name == LOCAL:
                        await self._deliver(job, item, content)
                    elif (hop := self._outbound.routes.of(destination.name).hop) is not None and hop.kind == "pipe":
                        await self._pipe(job, item, content, hop)
                    else:
                        client = await self._attempt(destination, job, item, content, client)
                except (MailError, OSError) as error:  # our disk: the job stays as it is
                    log.event("queue.settle", "error", id=job.item, error=repr(error))
                    destination.down_until = time.time() + 10.0
                finally:
                    destination.busy.discard(job.key)
        except Exception as error:
            count("bugs")
            log.event("bug", "error", error=repr(error), where="relay", destination=destination.name)
            destination.down_until = time.time() + 60.0
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
            await self._settle(job, item, [lost] * len(job.recipients), "", b"Subject: (damaged)\n\n", "")
            return None

    async def _attempt(
        self, destination: Destination, job: Job, item: Item, content: bytes, client: SmtpClient | None
    ) -> SmtpClient | None:
        try:
            if item.by_mode.startswith("R") and item.by <= time.time():
                raise Expired("its time of delivery is over")
            client = client if client is not None and client.usable else await self._client(destination)
            sent = await client.send(_sending(item, job.recipients, content))
        except tuple(GONE) as error:
            code, status = GONE[type(error)]
            reply = Reply(code, "5.7.30" if "REQUIRETLS" in str(error) else status, str(error))
            await self._settle(job, item, [reply] * len(job.recipients), "", content, "")
            return client if isinstance(error, Expired) else None
        except Down as down:
            self._set_down(destination, str(down))
            await self._settle(job, item, [Reply(451, "4.4.1", str(down))] * len(job.recipients), "", content, "")
            return None
        except ClientTrouble as error:
            assert client is not None
            await client.close(False)
            destination.limit = max(1.0, destination.limit / 2)
            self._failed(destination)
            said = error.reply
            reply = Reply(said.code, said.enhanced, said.text) if said is not None else Reply(451, "4.4.2", str(error))
            await self._settle(job, item, [reply] * len(job.recipients), client.target.shown, content, client.tls)
            if said is not None and said.code == 421:
                destination.down_until = time.time() + (0.0 if client.sent else 60.0)
            return None
        if any(reply.ok for reply in sent.replies):
            destination.limit = min(destination.limit + 1 / destination.limit, destination.most)
            destination.failures = 0
            self._succeeded(destination)
        await self._settle(job, item, sent.replies, client.target.shown, content, client.tls, sent)
        if not client.usable or client.sent >= PER_CONNECTION:
            await client.close()
            return None
        return client

    async def _client(self, destination: Destination) -> SmtpClient:
        """An idle connection, or a new one to the first host that answers. Down when none does."""
        while destination.idle:
            at, client = destination.idle.pop()
            if client.usable and time.monotonic() - at < LINGER:
                return client
            await client.close()
        try:
            targets = await self._finder.find(destination.name)
        except LookupFailed as error:
            raise Down(str(error)) from None
        trouble: ConnectFailed | None = None
        pool = self._outbound.routes.pools.get(self._outbound.routes.of(destination.name).pool, [])
        strict = destination.name.endswith(STRICT)
        refusals = 0
        for target in targets:
            source = self._limits.source6 if ":" in target.address else self._limits.source4
            if pool and not target.address.startswith("/"):
                fitting = [one for one in pool if (":" in one) == (":" in target.address)]
                if not fitting:
                    trouble = trouble or ConnectFailed(f"the pool has no address that reaches {target.shown}")
                    continue
                source = fitting[next(self._turn) % len(fitting)]
            client = SmtpClient(target, self._hostname, self._limits.timeouts, source)
            try:
                await client.open()
                self._reporter.note(parts(destination.name)[0], target, bool(client.tls))
                if not strict or client.offers("REQUIRETLS"):
                    return client
                await client.close()
                refusals += 1
                trouble = ConnectFailed(f"{target.shown} does not offer REQUIRETLS, which this message needs")
            except TlsFailed as error:
                trouble = error
                refusals += 1
                self._reporter.note(parts(destination.name)[0], target, False, str(error))
                if target.tls == "may":
                    plain = SmtpClient(replace(target, tls="none"), self._hostname, self._limits.timeouts, source)
                    try:
                        await plain.open()
                        return plain
                    except ConnectFailed as again:
                        trouble = again
            except ConnectFailed as error:
                trouble = error
                if error.reply is not None and error.reply.code // 100 == 5 and len(targets) == 1:
                    break
        if strict and trouble is not None and refusals == len(targets):
            raise NoTls(str(trouble))  # every host answered, and none will do (RFC 8689 4.2.1)
        raise Down(str(trouble) if trouble is not None else "no host to connect to")

    def _set_down(self, destination: Destination, why: str) -> None:
        pause = DOWN[min(destination.failures, len(DOWN) - 1)]
        destination.failures += 1
        self._failed(destination)
        destination.limit = min(2.0, destination.most)
        destination.down_until = time.time() + min(pause, self._schedule_of(destination.name).steps[0])
        log.event("relay.down", "warning", destination=destination.name, error=why, tries_again_in=pause)

    async def _deliver(self, job: Job, item: Item, content: bytes) -> None:
        """Recipients of this server."""
        envelope = Envelope(item.sender, helo=item.helo, peer=item.peer, protocol=item.protocol)
        replies: dict[str, Reply] = {}
        if item.by_mode.startswith("R") and item.by <= time.time():
            expired = Reply(*GONE[Expired], "its time of delivery is over")
            await self._settle(job, item, [expired] * len(job.recipients), "", content, "")
            return
        for rcpt in job.recipients:
            try:
                records = self._deliverer.resolve(rcpt.address)
            except DamagedAccount as error:
                log.event("relay.recipient", "error", address=rcpt.address, why=error)
                replies[rcpt.address] = Reply(451, "4.3.0", "the mailbox cannot be reached now")
                continue
            if records:
                envelope.recipients.append((rcpt.address, records))
            else:
                replies[rcpt.address] = Reply(550, "5.1.1", "no such user here")
        if envelope.recipients:
            there = Held(item.hold, item.shared_with, item.skip, item.arrived) if item.hold else None
            outcomes = await self._deliverer.deliver(envelope, content, number=item.number, there=there)
            for (address, _), one in zip(envelope.recipients, outcomes, strict=True):
                replies[address] = Reply(one.code, one.enhanced, one.text)
        await self._settle(job, item, [replies[rcpt.address] for rcpt in job.recipients], "", content, "")

    async def _pipe(self, job: Job, item: Item, content: bytes, hop: Hop) -> None:
        """Recipients whose mail goes to a program."""
        replies = [
            await pipe.run(hop, item.sender, rcpt.address, item.number, content, self._limits.pipe)
            for rcpt in job.recipients
        ]
        await self._settle(job, item, replies, "", content, "")

    # ---------------------------------------------------------------- outcomes

    def _schedule_of(self, destination: str) -> Schedule:
        """Its route's waits, or those of everything else."""
        route = self._outbound.routes.of(destination)
        if not route.retry and not route.lifetime:
            return self._schedule
        steps = list(route.retry) or self._schedule.steps
        return replace(self._schedule, steps=steps, lifetime=route.lifetime or self._schedule.lifetime)

    async def _settle(
        self,
        job: Job,
        item: Item,
        replies: list[Reply],
        remote: str,
        content: bytes,
        tls: str,
        sent: Sent = NOTHING_TAKEN,
    ) -> None:
        """Write down what became of each recipient, with the reports that it makes."""
        now = time.time()
        age = now - item.begun
        left: list[Rcpt] = []
        fates: dict[str, list[dsn.Fate]] = {"failed": [], "delayed": [], "delivered": [], "relayed": []}
        schedule = self._schedule_of(job.destination)
        late = bool(item.by) and now >= item.by and not job.late
        warn = (age > schedule.warn_after and not job.warned) or late
        for rcpt, reply in zip(job.recipients, replies, strict=True):
            words, status = str(reply), reply.enhanced
            if reply.temporary and item.by_mode.startswith("R") and now >= item.by:
                words, status = f"not delivered in time; the last reply was: {reply}", "5.4.7"
            elif reply.temporary and age > schedule.lifetime:
                words, status = f"given up after {age / 86400:.1f} days; the last reply was: {reply}", "5.4.7"
            elif reply.temporary:
                left.append(rcpt)
                if warn and _wants(rcpt, "DELAY"):
                    status = "4.4.7" if late else status
                    fates["delayed"].append(dsn.Fate(rcpt.address, rcpt.orcpt, "delayed", status, words, remote))
                continue
            if reply.ok:
                action = "delivered" if job.destination == LOCAL else "relayed"
                if ("SUCCESS" in rcpt.notify and not sent.dsn) or (action == "relayed" and _traced(item, rcpt, sent)):
                    fates[action].append(dsn.Fate(rcpt.address, rcpt.orcpt, action, "2.0.0", words, remote))
            elif _wants(rcpt, "FAILURE"):
                fates["failed"].append(dsn.Fate(rcpt.address, rcpt.orcpt, "failed", status, words, remote))
        reports = [self._outbound.report(item, group, content, schedule.lifetime) for group in fates.values() if group]
        last = next((str(reply) for reply in replies if not reply.ok), str(replies[0]) if replies else "")
        await self._spool.change(
            job.key,
            self._changed(left, now, last, warn, item, schedule),
            [report for report in reports if report is not None],
        )
        for rcpt, reply in zip(job.recipients, replies, strict=True):
            word = "sent" if reply.ok else "deferred" if rcpt in left else "failed"
            count(f"relay.{word}")
            log.event(
                f"relay.{word}",
                "info" if reply.ok else "warning",
                id=item.number,
                recipient=rcpt.address,
                destination=job.destination,
                host=remote,
                tls=tls,
                attempt=job.attempts + 1,
                reply=" ".join(str(reply).split()),
            )
            self._outbound.history.note(
                item.number,
                word,
                (rcpt.address,),
                recipient=rcpt.address,
                host=remote or job.destination,
                tls=tls,
                attempt=job.attempts + 1,
                reply=" ".join(str(reply).split())[:300],
            )

    def _changed(
        self, left: list[Rcpt], now: float, last: str, warned: bool, item: Item, schedule: Schedule
    ) -> Callable[[Job], Job | None]:
        """How the job goes on: with what is left, later; or not at all."""

        def change(old: Job) -> Job | None:
            if not left:
                return None
            old.recipients = left
            old.attempts += 1
            old.due = schedule.next(old.attempts, now)
            if now < item.by:
                old.due = min(old.due, item.by)  # neither later than its time, nor told too late of that
            old.last = last[:500]
            old.warned = old.warned or warned
            old.late = old.late or bool(item.by and now >= item.by)
            return old

        return change

    def state(self) -> dict[str, Any]:
        """For people: destinations with their connections and troubles."""
        return {
            name: {"streams": d.streams, "limit": round(d.limit, 1), "window": len(d.window), "failures": d.failures}
            for name, d in self._destinations.items()
        }


def _wants(rcpt: Rcpt, what: str) -> bool:
    """Did the sender ask to hear of this, or not say (RFC 3461 4.1)?"""
    return what in rcpt.notify or not rcpt.notify


def _traced(item: Item, rcpt: Rcpt, sent: Sent) -> bool:
    """Is the sender told that a message with a time of delivery was handed on: to a host that does not know of such
    times, or because it asked (RFC 2852 4)?"""
    return bool(item.by) and "NEVER" not in rcpt.notify and (not sent.by or item.by_mode.endswith("T"))


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
