"""Sends failure reports (RFC 9991): about single messages that did not authenticate, to those whom the record of their
domain names (``ruf``). Off until a setting says otherwise, because such a report shows other people's mail.

A report is no copy of a flood. Messages that fail in the same way are collected for PAUSE seconds and reported once,
with their number (Incidents); the same failure is then not reported for QUIET seconds, and what came meanwhile is
counted into the next report. So many reports leave in an hour about one domain, and so many in all (RFC 9991 2, 8.1):
the commit that queues a report counts it (queue.rates), so these limits hold for all processes together.

No report is made about a report, or about what has no sender (``about``): ours have a null reverse-path. What is not
queued, for whatever reason, is forgotten: reports are no mail. Promise: ``note`` waits for nothing and costs memory for
WAITING messages at most; nothing raises for what a message or the DNS says.
"""

import asyncio
import time
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fastmail._core import header
from fastmail.dns.interface import FOUND, Budget, Names
from fastmail.feedback.failure import Failure, Incident, failed, mail
from fastmail.feedback.redaction import Hide
from fastmail.feedback.targets import RUF, Agreements, Later
from fastmail.model.errors import MailError
from fastmail.policy.received import Received
from fastmail.queue.rates import Charge
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

PAUSE = 20.0  # s in which messages that fail alike become one report
QUIET = 3600.0  # s until the same failure is reported again
WAITING = 100  # reports of a worker that wait for the end of the pause
AT_ONCE = 10  # reports on their way: each may wait for the DNS of a stranger, and must not hold up the others
REMEMBERED = 2000  # failures that were reported
HEADER = 65536  # octets of a header that a report has
WHOLE = 262144  # octets of a message
SECONDS, LOOKUPS = 20.0, 5  # for the record of SPF
RECORDS = 3  # of SPF
REDACTED, HEADERS, MESSAGE = "redacted", "header", "message"  # what a report has of the message
REPORTS = "failure reports"
PLACES = 4096  # rows of domains in queue.rates
EVERYBODY, ONE_DOMAIN = b"\0failures", b"\0failures\0"  # keys in queue.rates
Octets = bytes | bytearray | memoryview
Post = Callable[[str, bytes, Sequence[Charge]], Awaitable[None]]
Over = Callable[[Sequence[Charge]], str]


@dataclass(frozen=True, slots=True)
class Rules:
    """``shows``: REDACTED, HEADERS or MESSAGE; ``of_domain``, ``in_all``: reports in an hour; ``hide``:
    hides addresses, where ``shows`` is REDACTED."""

    shows: str = HEADERS
    of_domain: int = 10
    in_all: int = 100
    hide: Hide | None = None


@dataclass(slots=True)
class _Waiting:
    incident: Incident
    messages: int = 1


@dataclass(slots=True)
class _Quiet:
    """Until when a failure is not reported (monotonic), and how many messages came since its report."""

    until: float
    messages: int = 0


@dataclass(slots=True)
class Failures:
    """One in each process that takes mail of strangers. ``sender``: whom reports are from; ``over``: why so much may
    not be sent now; ``post``: queues a message (LF) for an address, MailError where that cannot be."""

    names: Names
    hostname: str
    sender: str
    rules: Rules
    over: Over
    post: Post
    pause: float = PAUSE
    _waiting: dict[Failure, _Waiting] = field(default_factory=dict, init=False)
    _quiet: OrderedDict[Failure, _Quiet] = field(default_factory=OrderedDict, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def note(self, received: Received, ip: str, sender: str, content: Octets) -> None:
        """A message (LF) whose checks are done and whose fate is decided. Within the event loop."""
        failure = failed(received, ip)
        if failure is None or not about(sender, content):
            return
        known = self._waiting.get(failure)
        if known is not None:
            known.messages += 1
            return
        quiet = self._quiet.get(failure)
        if quiet is not None and time.monotonic() < quiet.until:
            quiet.messages += 1
            return
        if len(self._waiting) >= WAITING:
            count("feedback.failures_left_out")
            return
        shown = self._shown(content)
        before = quiet.messages if quiet is not None else 0
        self._waiting[failure] = _Waiting(Incident(failure, sender, int(time.time()), *shown), 1 + before)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send_soon())

    def _shown(self, content: Octets) -> tuple[bytes, bool]:
        """(what the report has of a message, has it a body?)."""
        if self.rules.shows == MESSAGE:
            return bytes(content[:WHOLE]), True
        head = bytes(content[:HEADER])
        return head[: header.end(head)].rstrip(b"\n") + b"\n", False

    async def _send_soon(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(self.pause)
                await self.send()
        finally:
            self._task = None

    async def send(self) -> int:
        """Send what waits, AT_ONCE reports side by side; how many were sent."""
        waiting = iter(list(self._waiting))

        async def some() -> int:
            return sum([await self._one(failure) for failure in waiting])

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(some()) for _ in range(min(AT_ONCE, len(self._waiting)))]
        return sum(task.result() for task in tasks)

    async def _one(self, failure: Failure) -> int:
        """Send the report of one failure; to how many."""
        one = self._waiting.pop(failure, None)
        if one is None:
            return 0  # somebody else sends it
        self._quiet[failure] = _Quiet(time.monotonic() + QUIET)
        self._quiet.move_to_end(failure)
        while len(self._quiet) > REMEMBERED:
            self._quiet.popitem(last=False)
        try:
            return await self._send(one.incident, one.messages)
        except (Later, MailError, OSError) as error:
            count("feedback.failures_left_out")
            log.event("feedback.failed", "warning", domain=failure.domain, what=REPORTS, error=str(error))
            return 0

    def _charges(self, domain: str) -> list[Charge]:
        # domains that share a number share a limit, so that strangers' domains make no more rows than PLACES
        own = ONE_DOMAIN + b"%d" % (zlib.crc32(domain.encode("ascii", "replace")) % PLACES)
        return [
            Charge(own, 1, self.rules.of_domain, REPORTS, domain),
            Charge(EVERYBODY, 1, self.rules.in_all, REPORTS, "this server"),
        ]

    async def _send(self, one: Incident, messages: int) -> int:
        failure = one.failure
        charges = self._charges(failure.domain)
        why = await asyncio.to_thread(self.over, charges)
        if why:  # before anybody is asked anything
            count("feedback.failures_left_out")
            log.event("feedback.unwanted", domain=failure.domain, what=REPORTS, why=why)
            return 0
        wanted = [(uri, 0) for uri in failure.ruf]
        targets, refused = await Agreements(self.names).targets(failure.domain, wanted, RUF)
        if not targets:
            log.event("feedback.unwanted", domain=failure.domain, what=REPORTS, why=refused[0][1] if refused else "")
            return 0
        records = await self._records(failure.spf) if failure.spf else []
        sent = 0
        for target in targets:
            about_it = (self.hostname, self.sender, target.address, records, messages, self.rules.hide, time.time())
            content = await asyncio.to_thread(mail, one, *about_it)
            try:
                await self.post(target.address, content, charges)
            except MailError as error:  # the others get theirs
                count("feedback.failures_left_out")
                log.event("feedback.failed", "warning", domain=failure.domain, to=target.address, error=str(error))
                continue
            sent += 1
            count("feedback.failures_sent")
            log.event("feedback.failure_sent", domain=failure.domain, to=target.address, messages=messages)
        return sent

    async def _records(self, domain: str) -> list[str]:
        """The SPF records of a domain, for SPF-DNS; none where the DNS does not say now."""
        answer = await self.names.ask(domain, "TXT", Budget(SECONDS, LOOKUPS))
        if answer.state != FOUND:
            return []
        texts = [one.decode("latin-1") for one in answer.records]
        return [one for one in texts if one.lower().startswith("v=spf1")][:RECORDS]

    async def close(self) -> None:
        """Forget what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def about(sender: str, content: Octets) -> bool:
    """May a report be made about a message? Not about one without a sender, and not about a report."""
    kind = bytes(header.value(content, b"content-type", 100) or b"").strip().lower()
    return bool(sender) and not kind.startswith(b"multipart/report")
