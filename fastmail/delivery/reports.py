"""Delivery reports (RFC 3461 6, RFC 3464, RFC 5321 6.1): which are made, and how they get into the queue.

``make`` is a pure function: the same message, fates and circumstances give the same report. A Report is nothing but a
value until its commit; whoever commits it calls ``Reports.queued`` afterwards, which writes the log and the history. So
a crash before the commit leaves no trace of a report that nobody will get. Before it comes ``Reports.sign``, because
receivers ask of reports what they ask of any mail.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastmail.delivery import signing
from fastmail.delivery.envelope import Envelope
from fastmail.delivery.forward import Told
from fastmail.delivery.history import History
from fastmail.message import dsn, trace
from fastmail.message.header import Octets
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.policy.signer import Signer
from fastmail.queue.bounds import Bounds
from fastmail.queue.model import Item, Outgoing
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.telemetry import log

SUCCESS = ("delivered", "relayed")  # actions of reports that nobody misses who did not ask for them
FULL = 1 << 20  # a bigger message is not sent back whole


@dataclass(frozen=True, slots=True)
class Report:
    """A report that waits for its commit. ``about``: the message."""

    outgoing: Outgoing
    about: Item
    action: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a report depends on beside the message. ``ident``: its number in the queue; ``until``: when the message is
    given up; ``destination``: where the report goes; ``mark``: digits that are in no other message (dsn.report)."""

    hostname: str
    ident: int
    now: float
    until: int
    destination: str
    mark: str


def heard_by(item: Item) -> str:
    """The address that hears what becomes of a message: its sender, or the owner of the address that forwards it."""
    return item.owner or item.sender


def make(item: Item, fates: Sequence[dsn.Fate], content: bytes, under: Circumstances) -> Report:
    """A report of the message's own priority (RFC 6710 4.6), for its sender, or for the owner of the address that
    forwards it. All fates have one action."""
    asked, action, to = item.options, fates[0].action, heard_by(item)
    full = asked.ret != "HDRS" and not asked.require_tls and action == "failed" and len(content) <= FULL
    about = dsn.About(to, item.number, item.arrived, under.until, content, full, asked)
    text = dsn.report(about, fates, under.hostname, under.now, under.mark)
    report = Item(
        under.ident,
        "",
        int(under.now),
        len(text) + text.count(b"\n"),
        EsmtpOptions(
            utf8=dsn.needs_utf8(to),
            require_tls=asked.require_tls,  # where it can be had (RFC 8689 5)
            priority=asked.priority,
        ),
        not text.isascii(),
        login=item.login if action in SUCCESS else "",  # whose limits it counts in; the others must be sent
        owner=item.owner,
    )
    here = under.hostname
    received = trace.received(here, "local", here, "LOCAL", report.number, to, now=under.now)
    report.size += len(received) + received.count(b"\n")
    groups = {under.destination: [Rcpt(to, notify="NEVER")]}
    return Report(Outgoing(report, groups, [received, text]), item, action)


class Reports:
    """One in each process that reports. ``destination``: where a message of our own to an address goes."""

    def __init__(
        self,
        spool: Spool,
        schedule: Schedule,
        hostname: str,
        bounds: Bounds,
        destination: Callable[[str], str],
        history: History,
        signer: Signer | None = None,
    ) -> None:
        self._spool = spool
        self._signer = signer
        self._schedule = schedule
        self._hostname = hostname
        self._bounds = bounds
        self._destination = destination
        self._history = history
        self._told = Told()

    @property
    def hourly(self) -> tuple[int, int]:
        """Recipients in an hour, of a login and of its domain, that reports of success count in."""
        return self._bounds.hourly

    def about(self, item: Item, fates: Sequence[dsn.Fate], content: bytes, lifetime: float = 0.0) -> Report | None:
        """A report, to be committed with what it reports. None when there is nobody to be told (RFC 3461 6: a report
        makes no other report), or when it would tell of success and the queue is full. ``lifetime``: of the message,
        where its route has one of its own."""
        if not item.sender or not fates:
            return None
        to = heard_by(item)
        if item.owner:
            fates = self._told.news(item.owner, fates)
            if not fates:
                return None
        if fates[0].action in SUCCESS and not self._bounds.allow_one_more(self._spool):
            log.event("queue.report", "warning", id=item.number, to=to, why="the queue is full")
            return None
        under = Circumstances(
            self._hostname,
            self._spool.new_id(),
            time.time(),
            item.begun + int(lifetime or self._schedule.lifetime),
            self._destination(to),
            f"{random.getrandbits(96):024x}",
        )
        return make(item, fates, content, under)

    async def sign(self, reports: Sequence[Report]) -> None:
        """Sign reports before their commit, by the domain of their From, which is this host."""
        for report in reports:
            await signing.put(self._signer, report.outgoing, self._hostname, 1)

    def queued(self, reports: Sequence[Report], ids: Sequence[int]) -> None:
        """The commit is durable: note those of the reports that it put into the queue (``ids``)."""
        for report in reports:
            item, about, to = report.outgoing.item, report.about, heard_by(report.about)
            if item.id not in ids:
                continue
            log.event("queue.report", id=about.number, report=item.number, action=report.action, to=to)
            self._history.note(
                about.number,
                "reported",
                (item.number,),
                report=item.number,
                action=report.action,
                recipient=to,
            )
            self._history.note(item.number, "report", (to,), about=about.number, recipient=to)

    async def tell_delivered(self, envelope: Envelope, content: Octets, done: list[bool]) -> None:
        """Success reports for what was delivered here, where the sender asked for them (RFC 3461 4.1, 6.2.1)."""
        fates = [
            dsn.Fate(asked.address, asked.orcpt, "delivered", "2.0.0", "delivered to the mailbox")
            for asked, good in zip(envelope.asked, done, strict=True)
            if good and "SUCCESS" in asked.notify
        ]
        if not fates or not envelope.sender:
            return
        now = int(time.time())
        item = Item(self._spool.new_id(), envelope.sender, now, len(content), envelope.options, login=envelope.login)
        try:
            report = self.about(item, fates, bytes(content[: dsn.HEADER + 1]))  # of which the header is sent back
            if report is not None:
                await self.sign([report])
                kept = await self._spool.enqueue(report.outgoing, *self.hourly)
                self.queued([report], [kept.id])
        except Exception as error:  # the message itself is delivered, and that is what its client hears
            log.event("queue.report", "warning", sender=envelope.sender, error=repr(error))
