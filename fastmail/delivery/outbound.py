"""Into the queue: a message for other hosts is completed, traced and kept; reports about messages go the same way.

Promise: all recipients of a message that leaves this host, those of this server among them, are one entry of the queue:
either the client hears 250 for a message that is on disk with all of them, or nothing was kept.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastmail._core import mime
from fastmail.delivery import forward
from fastmail.delivery.deliver import MAX_HOPS, SCAN_ON_LOOP, Deliverer, Envelope, Outcome, note_accepted
from fastmail.delivery.history import History
from fastmail.message import dsn, submitted, trace
from fastmail.message.header import Octets
from fastmail.model.errors import MailError, StorageFull, TooMuch
from fastmail.queue.model import LOCAL, Item, Outgoing, Rcpt, number_of
from fastmail.queue.routes import LAX, STRICT, Routes, marked
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

SUCCESS = ("delivered", "relayed")  # actions of reports that nobody misses who did not ask for them
FULL = 1 << 20  # a bigger message is not sent back whole


def _measure(chunks: Sequence[bytes | memoryview]) -> tuple[int, bool]:
    """(octets with CRLF, are there 8-bit ones?)."""
    size = sum(mime.served_size(chunk) for chunk in chunks if len(chunk))
    return size, not all(bytes(chunk).isascii() for chunk in chunks)


@dataclass(slots=True)
class _Seen:
    """What the header of a message says to the queue, and the message as it will be sent, in pieces."""

    hops: int
    without_tls: bool
    message_id: str
    pieces: Sequence[Octets]


def _look(content: Octets, sender: str | None, hostname: str) -> _Seen:
    """Read the header, and complete it for a user's ``sender``."""
    pieces = submitted.complete(content, sender, hostname) if sender is not None else [content]
    found = submitted.message_id(pieces[0]) or submitted.message_id(content)
    return _Seen(submitted.hops(content), submitted.does_without_tls(content), found, pieces)


class Outbound:
    """One in each worker. ``most``: messages that the queue may hold, 0 for any number; ``is_local``: is a domain
    of this server? ``rate``, ``domain_rate``: recipients that a login, or all of its domain, may have in an hour, 0
    for any number. ``deliverer``: who keeps content that a mailbox of this server will have too."""

    def __init__(
        self,
        spool: Spool,
        routes: Routes,
        schedule: Schedule,
        hostname: str,
        most: int,
        is_local: Callable[[str], bool],
        history: History,
        rate: int = 0,
        domain_rate: int = 0,
        deliverer: Deliverer | None = None,
    ) -> None:
        self._deliverer = deliverer
        self.spool = spool
        self.routes = routes
        self.schedule = schedule
        self.hostname = hostname
        self._most = most
        self._is_local = is_local
        self.history = history
        self._rates = rate, domain_rate
        self._told = forward.Told()

    async def submit(
        self, envelope: Envelope, content: Octets, complete: bool, ident: int = 0, mailbox: str = "INBOX"
    ) -> Outcome:
        """Queue a message (LF) for all its recipients. ``complete``: it comes from a user's program, which may have
        left out what a message must have. ``ident``: the number that this process gave it already; what a mailbox got
        in its transaction it does not get again. ``mailbox``: where recipients of this server get it."""
        large = len(content) > SCAN_ON_LOOP
        loop = asyncio.get_running_loop()
        message = content, envelope.sender if complete else None, self.hostname
        seen = await loop.run_in_executor(None, _look, *message) if large else _look(*message)
        if seen.hops > MAX_HOPS:
            count("delivery.loops")
            return Outcome(554, "5.4.6", "Too many hops: the message loops")
        if self._deliverer is not None and envelope.forwards and forward.loops(self._deliverer, envelope, content):
            count("delivery.loops")
            return Outcome(554, "5.4.6", "the message was forwarded by this address already: it loops")
        if not self._has_room():
            return Outcome(452, "4.3.1", "the queue is full, try again later")
        mark = ""
        if envelope.require_tls and envelope.sender:
            mark = STRICT
        elif not envelope.require_tls and seen.without_tls:
            mark = LAX
        groups: dict[str, list[Rcpt]] = {}
        for (address, records), asked in zip(envelope.recipients, envelope.asked, strict=True):
            where = self.routes.destination(address.rpartition("@")[2], envelope.sender)
            where = LOCAL if records or address in envelope.forwards else marked(where, mark)
            groups.setdefault(where, []).append(Rcpt(address, asked.orcpt, asked.notify))
        ident = ident or self.spool.new_id()
        number = number_of(ident)
        single = envelope.recipients[0][0] if len(envelope.recipients) == 1 else ""
        received = trace.received(
            envelope.helo, envelope.peer, self.hostname, envelope.protocol, number, single, envelope.priority
        )
        chunks: list[bytes | memoryview] = [received, *(memoryview(piece) for piece in seen.pieces)]
        size, eight = await loop.run_in_executor(None, _measure, chunks) if large else _measure(chunks)
        item = Item(
            1,
            ident,
            envelope.sender,
            int(time.time()),
            size,
            utf8=envelope.utf8,
            eight=eight,
            ret=envelope.ret,
            envid=envelope.envid,
            helo=envelope.helo,
            peer=envelope.peer,
            login=envelope.login,
            protocol=envelope.protocol,
            require_tls=envelope.require_tls,
            release=envelope.release,
            by=envelope.by,
            by_mode=envelope.by_mode,
            priority=envelope.priority,
            mailbox=mailbox if mailbox != "INBOX" else "",
        )
        try:
            await self._keep(envelope, Outgoing(item, groups, chunks))
        except TooMuch as error:
            count("queue.rate")
            log.event("queue.rate", "warning", login=envelope.login, peer=envelope.peer)
            return Outcome(450, "4.7.1", f"{error}, try again later")
        except (MailError, OSError) as error:
            log.event("queue.refused", "error", id=number, error=repr(error))
            full = isinstance(error, StorageFull)
            return Outcome(452 if full else 451, "4.3.1" if full else "4.3.0", "cannot queue it now, try again later")
        count("queue.messages")
        log.event(
            "queued",
            id=number,
            sender=envelope.sender,
            size=item.size,
            recipients=len(envelope.recipients),
            login=envelope.login,
            peer=envelope.peer,
            protocol=envelope.protocol,
        )
        note_accepted(self.history, number, envelope, seen.message_id, item.size)
        return Outcome(250, "2.0.0", f"{number} queued")

    async def _keep(self, envelope: Envelope, outgoing: Outgoing) -> None:
        """Into the queue; what a mailbox of this server will have too is kept once."""
        item = outgoing.item
        deliverer = self._deliverer
        if deliverer is None or LOCAL not in outgoing.groups or envelope.release:
            await self._enqueue(outgoing)
            return
        try:
            held = await deliverer.hold(envelope, outgoing.content, item.size, item.id, item.arrived)
        except (MailError, OSError) as error:  # trouble of that mailbox: the queue keeps the message by itself
            log.event("queue.unshared", "warning", id=item.number, error=repr(error))
            held = None
        if held is not None:
            item.hold, item.shared_with, item.skip = held.hold, held.address, held.skip
            item.length = sum(map(len, outgoing.content))
            for piece in outgoing.content:
                item.checksum = zlib.crc32(piece, item.checksum)
        try:
            await self._enqueue(outgoing)
        except TooMuch:  # after anything else it may be in the queue all the same: Spool.let_go finds out
            if held is not None:
                await deliverer.store.let_go([item.id])
            raise

    async def _enqueue(self, outgoing: Outgoing) -> None:
        """Into the queue. Where its commit failed and may have been kept all the same, the queue is asked: the client
        hears that it is to try again only if the message is not there."""
        try:
            await self.spool.enqueue(outgoing, *self._rates)
        except (TooMuch, StorageFull):
            raise
        except (MailError, OSError):
            if not await self.spool.has(outgoing.item.id):
                raise
            log.event("queue.kept", "warning", id=outgoing.item.number)

    @property
    def rates(self) -> tuple[int, int]:
        """Recipients in an hour: of a login, and of its domain."""
        return self._rates

    def _has_room(self) -> bool:
        """May the queue hold one message more?"""
        if self._most and self.spool.depth()[0] >= self._most:
            count("queue.full")
            return False
        return True

    def destination(self, address: str) -> str:
        """Where a message of our own goes."""
        domain = address.rpartition("@")[2].lower()
        return LOCAL if self._is_local(domain) else self.routes.destination(domain)

    def report(self, item: Item, fates: Sequence[dsn.Fate], content: bytes, lifetime: float = 0.0) -> Outgoing | None:
        """A notification for the sender, of the message's own priority (RFC 6710 4.6); None when there is nobody to be
        told (RFC 3461 6, RFC 5321 6.1), or when it would tell of success and the queue is full. ``lifetime``: of the
        message, where its route has one of its own."""
        if not item.sender or not fates:
            return None
        to = item.owner or item.sender
        if item.owner:  # who forwards mail hears what becomes of it, and nobody else
            fates = self._told.news(item.owner, fates)
            if not fates:
                return None
        success = fates[0].action in SUCCESS
        if success and not self._has_room():
            log.event("queue.report", "warning", id=item.number, to=to, why="the queue is full")
            return None
        full = item.ret != "HDRS" and not item.require_tls and fates[0].action == "failed" and len(content) <= FULL
        until = item.begun + int(lifetime or self.schedule.lifetime)
        about = dsn.About(to, item.envid, item.number, item.arrived, until, content, full, item.utf8, item.by)
        text = dsn.report(about, list(fates), self.hostname)
        report = Item(1, self.spool.new_id(), "", int(time.time()), len(text) + text.count(b"\n"))
        report.login = item.login if success else ""  # whose limits it counts in; the others must be sent
        report.utf8 = dsn.needs_utf8(to)
        report.eight = not text.isascii()
        report.priority, report.owner = item.priority, item.owner
        report.require_tls = item.require_tls  # where it can be had (RFC 8689 5)
        number = report.number
        received = trace.received(self.hostname, "local", self.hostname, "LOCAL", number, to)
        report.size += len(received) + received.count(b"\n")
        where = self.destination(to)
        log.event("queue.report", id=item.number, report=number, action=fates[0].action, to=to)
        self.history.note(item.number, "reported", (number,), report=number, action=fates[0].action, recipient=to)
        self.history.note(number, "report", (to,), about=item.number, recipient=to)
        return Outgoing(report, {where: [Rcpt(to, notify="NEVER")]}, [received, text])

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
        item = Item(
            1, self.spool.new_id(), envelope.sender, now, len(content), utf8=envelope.utf8, envid=envelope.envid
        )
        item.priority, item.login = envelope.priority, envelope.login
        try:
            report = self.report(item, fates, bytes(content[: dsn.HEADER + 1]))  # of which the header is sent back
            if report is not None:
                await self.spool.enqueue(report, *self._rates)
        except Exception as error:  # the message itself is delivered, and that is what its client hears
            log.event("queue.report", "warning", sender=envelope.sender, error=repr(error))
