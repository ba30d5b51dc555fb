"""Settles attempts: writes down the result for each recipient, with the reports that it causes (RFC 5321 4.2.5,
4.5.4.1, RFC 3461 5.2, RFC 2852 4).

Promise: a result and its reports are one commit; the log and the history are written after it. A message is given up
for its age only when that much time has really passed on this machine, even if its clock was set meanwhile.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastmail.delivery.forward import Forward
from fastmail.delivery.history import History
from fastmail.delivery.reports import Reports
from fastmail.dns.resolver import NoSuchDomain, NullMx
from fastmail.message import dsn
from fastmail.model.errors import ClientError, MailError
from fastmail.model.esmtp import Rcpt
from fastmail.queue.model import LOCAL, Item, Job
from fastmail.queue.schedule import Schedule, Schedules
from fastmail.queue.spool import Spool
from fastmail.relay.clock import Clock
from fastmail.relay.suspicion import Watch
from fastmail.relay.targets import Loops, NoTls
from fastmail.smtp.client import Reply
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

REMEMBERED = 1000  # results that could not be written and are kept in memory
NO_MORE_AT_ONCE = (452, 552)  # as answers to RCPT after an accepted one: the rest goes into the next transaction


class Expired(ClientError):
    """A message was not delivered within its time (RFC 2852)."""

    def __init__(self) -> None:
        super().__init__("its time of delivery is over")


FINAL = {  # permanent errors of an attempt: reply code (556: RFC 7505 4.2) and enhanced status code
    NoSuchDomain: (550, "5.1.2"),
    NullMx: (556, "5.1.10"),
    Loops: (550, "5.4.6"),
    Expired: (550, "5.4.7"),
    NoTls: (550, "5.7.10"),
}


def final_reply(error: Exception) -> Reply:
    """Return the reply that stands for a permanent error (FINAL)."""
    code, status = FINAL[type(error)]
    return Reply(code, "5.7.30" if "REQUIRETLS" in str(error) else status, str(error))


@dataclass(frozen=True, slots=True)
class Said:
    """The answer for one recipient.

    ``host``: who gave it, empty for this server; ``tls``: TLS of that session; ``dsn``, ``by``: the host itself tells
    the sender what was asked about notifications, and about times of delivery."""

    reply: Reply
    host: str = ""
    tls: str = ""
    dsn: bool = False
    by: bool = False


@dataclass(slots=True)
class Outcomes:
    """Settles the attempts of a queue.

    ``unsettled``: results that could not be written, by the key of the job, with the job's state at that time. The host
    has the message already, so it does not get it again while this process lives. ``watch``: hears of each outcome."""

    spool: Spool
    schedules: Schedules
    reports: Reports
    history: History
    clock: Clock
    unsettled: dict[bytes, tuple[int, list[Rcpt], list[Said]]] = field(default_factory=dict)
    watch: Watch | None = None

    async def settle_all(self, job: Job, item: Item, reply: Reply, content: bytes) -> None:
        """Settle a job with one reply of this server for all recipients."""
        await self.settle(job, item, [Said(reply)] * len(job.recipients), content)

    async def settle(
        self, job: Job, item: Item, said: Sequence[Said], content: bytes, forwards: Sequence[Forward] = ()
    ) -> None:
        """Write down the result for each recipient.

        If that fails, ``known`` returns the result for the next attempt. ``forwards`` are queued in the same commit; if
        it fails with forwards, the whole attempt is made again."""
        try:
            await self._settle(job, item, said, content, forwards)
        except (MailError, OSError):
            if forwards:
                raise
            if len(self.unsettled) >= REMEMBERED:
                del self.unsettled[next(iter(self.unsettled))]
            self.unsettled[job.key] = job.attempts, job.recipients, list(said)
            raise

    def known(self, job: Job) -> list[Said] | None:
        """Return the answers of the last attempt if the queue does not have them yet, which is so when the job is
        unchanged."""
        found = self.unsettled.pop(job.key, None)
        if found is None or found[:2] != (job.attempts, job.recipients):
            return None
        return found[2]

    async def _settle(
        self, job: Job, item: Item, said: Sequence[Said], content: bytes, forwards: Sequence[Forward]
    ) -> None:
        now = time.time()
        age = self.clock.age(item.begun)
        left: list[Rcpt] = []
        fates: dict[str, list[dsn.Fate]] = {}
        schedule = self.schedules.of(job.destination)
        asked = item.options
        late = bool(asked.by) and now >= asked.by and not job.late
        warn = (age > schedule.warn_after and not job.warned) or late

        def tell(rcpt: Rcpt, one: Said, action: str, status: str, words: str) -> None:
            fate = dsn.Fate(rcpt.address, rcpt.orcpt, action, status, words, one.host)
            fates.setdefault(action, []).append(fate)

        for rcpt, one in zip(job.recipients, said, strict=True):
            reply = one.reply
            words, status = str(reply), reply.enhanced
            if reply.temporary and asked.expired(now):
                words, status = f"not delivered in time; the last reply was: {reply}", "5.4.7"
            elif reply.temporary and age > schedule.lifetime:
                words, status = f"given up after {age / 86400:.1f} days; the last reply was: {reply}", "5.4.7"
            elif reply.temporary:
                left.append(rcpt)
                if warn and _wants(rcpt, "DELAY"):
                    tell(rcpt, one, "delayed", "4.4.7" if late else status, words)
                continue
            if reply.ok:
                action = "delivered" if job.destination == LOCAL else "relayed"
                if ("SUCCESS" in rcpt.notify and not one.dsn) or (action == "relayed" and _traced(item, rcpt, one)):
                    tell(rcpt, one, action, "2.0.0", words)
            elif _wants(rcpt, "FAILURE"):
                tell(rcpt, one, "failed", status, words)
        made = (self.reports.about(item, group, content, schedule.lifetime) for group in fates.values())
        reports = [report for report in made if report is not None]
        await self.reports.sign(reports)
        replies = [one.reply for one in said]
        last = next((str(reply) for reply in replies if not reply.ok), str(replies[0]) if replies else "")
        soon = any(reply.ok for reply in replies) and any(reply.code in NO_MORE_AT_ONCE for reply in replies)
        change = _changed(left, now, last, warn, item, schedule, soon)
        outgoing = [*(one.outgoing for one in forwards), *(report.outgoing for report in reports)]
        queued = await self.spool.change(job.key, change, outgoing, *self.reports.hourly)
        # After the commit, so that a crash before it leaves no log line about something that did not happen.
        self.reports.queued(reports, queued)
        for forward in forwards:
            if forward.outgoing.item.id in queued:
                self._note_forward(item, forward)
        for rcpt, one in zip(job.recipients, said, strict=True):
            self._note(job, item, rcpt, one, rcpt in left)
            if self.watch is not None:
                self.watch.note(job, item, rcpt.address, one.reply)

    def _note_forward(self, item: Item, forward: Forward) -> None:
        number, recipient = forward.outgoing.item.number, forward.recipient
        log.event("queue.forward", id=item.number, forward=number, recipient=recipient)
        self.history.note(item.number, "forwarded", (number,), recipient=recipient, forward=number)

    def _note(self, job: Job, item: Item, rcpt: Rcpt, one: Said, left: bool) -> None:
        """Write the log, the counters and the history."""
        word = "sent" if one.reply.ok else "deferred" if left else "failed"
        reply = " ".join(str(one.reply).split())
        count(f"relay.{word}")
        log.event(
            f"relay.{word}",
            "info" if one.reply.ok else "warning",
            id=item.number,
            recipient=rcpt.address,
            destination=job.destination,
            host=one.host,
            tls=one.tls,
            attempt=job.attempts + 1,
            reply=reply,
        )
        self.history.note(
            item.number,
            word,
            (rcpt.address,),
            recipient=rcpt.address,
            host=one.host or job.destination,
            tls=one.tls,
            attempt=job.attempts + 1,
            reply=reply[:300],
        )


def _changed(
    left: list[Rcpt], now: float, last: str, warned: bool, item: Item, schedule: Schedule, soon: bool
) -> Callable[[Job], Job | None]:
    """Return the change of a job: what is left is tried later (``soon``: in a second); with nothing left the job is
    done."""

    def change(old: Job) -> Job | None:
        if not left:
            return None
        old.recipients = left
        old.attempts += 1
        old.due = int(now) + 1 if soon else schedule.next(old.attempts, now)
        if now < item.options.by:
            # so that it is tried, or its sender told, no later than its time of delivery
            old.due = min(old.due, item.options.by)
        old.last = last[:500]
        old.warned = old.warned or warned
        old.late = old.late or bool(item.options.by and now >= item.options.by)
        return old

    return change


def _wants(rcpt: Rcpt, what: str) -> bool:
    """Return True if the sender asked for this kind of report, or did not say (RFC 3461 4.1)."""
    return what in rcpt.notify or not rcpt.notify


def _traced(item: Item, rcpt: Rcpt, said: Said) -> bool:
    """Return True if the sender must be told that a message with a time of delivery was passed on: the host does not
    support such times, or the sender asked for it (RFC 2852 4)."""
    asked = item.options
    return bool(asked.by) and "NEVER" not in rcpt.notify and (not said.by or asked.by_mode.endswith("T"))
