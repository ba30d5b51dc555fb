"""Into the queue: a message for other hosts is completed, traced and kept.

Promise: all recipients of a message that leaves this host, those of this server among them, are one entry of the queue:
either the client hears 250 for a message that is on disk with all of them, or nothing was kept. The history of a
message begins after its commit.

A message whose author is ours is signed here, once for all recipients, behind our Received field (policy.signer): so
what leaves, what is delivered here and what is forwarded has the same signature.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from fastmail._core import mime
from fastmail._core.checksum import crc32
from fastmail.delivery import forward
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.envelope import LEAVES_NOT, Envelope, Outcome, note_accepted
from fastmail.delivery.history import History
from fastmail.delivery.lists import posting
from fastmail.delivery.planning import MAX_HOPS, SCAN_ON_LOOP
from fastmail.delivery.reports import Reports
from fastmail.message import submitted, trace
from fastmail.message.header import Octets
from fastmail.model.errors import BadAddress, MailError, StorageFull, TooMuch
from fastmail.model.esmtp import Rcpt
from fastmail.net.networks import Network
from fastmail.policy import dmarc, sign
from fastmail.policy.signer import Signer
from fastmail.queue import stopped
from fastmail.queue.bounds import Bounds
from fastmail.queue.model import LOCAL, Item, Outgoing, number_of
from fastmail.queue.rates import Charge
from fastmail.queue.routes import LAX, STRICT, Routes, marked
from fastmail.queue.spool import Spool
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LOOPS = Outcome(554, "5.4.6", "the message was forwarded by this address already: it loops")


def _measure(chunks: Sequence[bytes | memoryview]) -> tuple[int, bool]:
    """(octets with CRLF, are there 8-bit ones?)."""
    size = sum(mime.served_size(chunk) for chunk in chunks if len(chunk))
    return size, not all(bytes(chunk).isascii() for chunk in chunks)


@dataclass(slots=True)
class _Seen:
    """What the header of a message says to the queue, and the message as it will be sent, in pieces. ``author``: the
    domain of its From, where it was asked for and there is one."""

    hops: int
    without_tls: bool
    message_id: str
    pieces: Sequence[Octets]
    author: str = ""


def _author(pieces: Sequence[Octets]) -> str:
    """The domain that a message shows as its author's; empty where it shows none, or several."""
    try:
        return dmarc.author(sign.split(pieces)[0])
    except (dmarc.NoAuthor, BadAddress):
        return ""


def _look(content: Octets, sender: str | None, hostname: str, signs: bool = False, feedback: str = "") -> _Seen:
    """Read the header, and complete it for a user's ``sender``."""
    pieces = submitted.complete(content, sender, hostname, feedback) if sender is not None else [content]
    found = submitted.message_id(pieces[0]) or submitted.message_id(content)
    author = _author(pieces) if signs else ""
    return _Seen(submitted.hops(content), submitted.does_without_tls(content), found, pieces, author)


def _item(envelope: Envelope, ident: int, size: int, eight: bool, mailbox: str) -> Item:
    """What the queue keeps of a message beside its content and recipients."""
    return Item(
        ident,
        envelope.sender,
        int(time.time()),
        size,
        envelope.options,
        eight,
        helo=envelope.helo,
        peer=envelope.peer,
        login=envelope.login,
        protocol=envelope.protocol,
        mailbox=mailbox if mailbox != "INBOX" else "",
        signed=envelope.signed,
        checked=envelope.checked,
        places=envelope.places,
        junk=tuple(sorted(envelope.junk)),
    )


class Submission:
    """One in each worker. ``deliverer``: who keeps content that a mailbox of this server will have too; ``signer``: who
    signs, None where nothing is signed; ``empties``: a relay empties the queue. Where none does, a message that was
    queued would wait for ever: nothing is queued."""

    def __init__(
        self,
        spool: Spool,
        routes: Routes,
        hostname: str,
        bounds: Bounds,
        reports: Reports,
        history: History,
        deliverer: Deliverer | None = None,
        signer: Signer | None = None,
        empties: bool = True,
    ) -> None:
        self._empties = empties
        self._spool = spool
        self._routes = routes
        self._hostname = hostname
        self._bounds = bounds
        self._reports = reports
        self._history = history
        self._deliverer = deliverer
        self._signer = signer

    def new_id(self) -> int:
        """A number for a message that may be submitted later, by ``submit``."""
        return self._spool.new_id()

    async def submit(
        self, envelope: Envelope, content: Octets, complete: bool, ident: int = 0, mailbox: str = "INBOX"
    ) -> Outcome:
        """Queue a message (LF) for all its recipients. ``complete``: it comes from a user's program, which may have
        left out what a message must have. ``ident``: the number that this process gave it already; what a mailbox got
        in its transaction it does not get again. ``mailbox``: where recipients of this server get it, but for those in
        ``envelope.places``."""
        if not self._empties:
            return Outcome(550, "5.7.1", LEAVES_NOT)
        large = len(content) > SCAN_ON_LOOP
        loop = asyncio.get_running_loop()
        signs = envelope.signs and self._signer is not None
        message = content, envelope.sender if complete else None, self._hostname, signs, envelope.feedback
        seen = await loop.run_in_executor(None, _look, *message) if large else _look(*message)
        if seen.hops > MAX_HOPS:
            count("delivery.loops")
            return Outcome(554, "5.4.6", "Too many hops: the message loops")
        refused = await self._refusal(envelope, content, mailbox == forward.JUNK_BOX)
        if refused is not None:
            return refused
        if not self._bounds.allow_one_more(self._spool):
            return Outcome(452, "4.3.1", "the queue is full, try again later")
        ident = ident or self._spool.new_id()
        received = self._received(envelope, number_of(ident))
        signature = await self._signature(envelope, seen.pieces, seen.author)
        front = [received, signature] if signature else [received]
        chunks: list[bytes | memoryview] = [*front, *(memoryview(piece) for piece in seen.pieces)]
        size, eight = await loop.run_in_executor(None, _measure, chunks) if large else _measure(chunks)
        item = _item(envelope, ident, size, eight, mailbox)
        refused = await self._kept(envelope, Outgoing(item, self._groups(envelope, seen), chunks))
        if refused is not None:
            return refused
        count("queue.messages")
        log.event(
            "queued",
            id=item.number,
            sender=envelope.sender,
            size=item.size,
            recipients=len(envelope.recipients),
            login=envelope.login,
            peer=envelope.peer,
            protocol=envelope.protocol,
        )
        note_accepted(self._history, item.number, envelope, seen.message_id, item.size)  # it is durable now
        return Outcome(250, "2.0.0", f"{item.number} queued")

    async def signed(self, envelope: Envelope, content: bytes) -> bytes:
        """A message (LF) whose recipients are all of this server, with its signature in front of it."""
        loop = asyncio.get_running_loop()
        large = len(content) > SCAN_ON_LOOP
        if not envelope.signs or self._signer is None:
            return content
        author = await loop.run_in_executor(None, _author, [content]) if large else _author([content])
        pieces = await self._signature(envelope, [content], author), content
        return await loop.run_in_executor(None, b"".join, pieces) if large else b"".join(pieces)

    async def _signature(self, envelope: Envelope, pieces: Sequence[Octets], author: str) -> bytes:
        """Our signatures of a message, once; empty where there are none."""
        if not envelope.signs or self._signer is None or not author:
            return b""
        fields = await self._signer.sign(pieces, author, envelope.options.release)
        envelope.signs, envelope.signed = False, author if fields else ""
        return fields

    async def _refusal(self, envelope: Envelope, content: Octets, junk: bool) -> Outcome | None:
        """Why the message may not be forwarded, or go to a mailing list that it is for; None where it may."""
        deliverer = self._deliverer
        if deliverer is None or not envelope.forwards:
            return None
        if forward.looping(deliverer, envelope.forwards, content):
            count("delivery.loops")
            return LOOPS
        return await self._list_refusal(deliverer, envelope, content, junk)

    async def _list_refusal(
        self, deliverer: Deliverer, envelope: Envelope, content: Octets, junk: bool
    ) -> Outcome | None:
        """Why the message may not go to a mailing list that it is for."""
        if not any(deliverer.destinations(one).lists for one in envelope.forwards):
            return None
        loop = asyncio.get_running_loop()
        refused = await loop.run_in_executor(None, posting.refusal, deliverer, self._spool, envelope, content, junk)
        if refused is not None:
            count("lists.refused")
            log.event("list.refused", sender=envelope.sender, login=envelope.login, why=refused.text)
        return refused

    async def refusals(self, envelope: Envelope, content: Octets) -> dict[str, Outcome]:
        """The same for each address of ``envelope.forwards`` by itself: those that are refused, and why."""
        deliverer = self._deliverer
        if deliverer is None or not envelope.forwards:
            return {}
        found = dict.fromkeys(forward.looping(deliverer, envelope.forwards, content), LOOPS)
        count("delivery.loops", len(found))
        for address in envelope.forwards - found.keys():
            refused = await self._list_refusal(deliverer, replace(envelope, forwards={address}), content, False)
            if refused is not None:
                found[address] = refused
        return found

    def _received(self, envelope: Envelope, number: str) -> bytes:
        """Our Received field."""
        single = envelope.recipients[0][0] if len(envelope.recipients) == 1 else ""
        priority = envelope.options.priority
        return trace.received(envelope.helo, envelope.peer, self._hostname, envelope.protocol, number, single, priority)

    def _groups(self, envelope: Envelope, seen: _Seen) -> dict[str, list[Rcpt]]:
        """The recipients by destination."""
        mark = ""
        if envelope.options.require_tls and envelope.sender:
            mark = STRICT
        elif not envelope.options.require_tls and seen.without_tls:
            mark = LAX
        groups: dict[str, list[Rcpt]] = {}
        for (address, records), asked in zip(envelope.recipients, envelope.asked, strict=True):
            where = self._routes.destination(address.rpartition("@")[2], envelope.sender)
            where = LOCAL if records or address in envelope.forwards else marked(where, mark)
            groups.setdefault(where, []).append(asked)
        return groups

    async def _kept(self, envelope: Envelope, outgoing: Outgoing) -> Outcome | None:
        """Queue it; why that could not be."""
        try:
            await self._keep(envelope, outgoing)
        except TooMuch as error:
            return self._over(envelope, error)
        except (MailError, OSError) as error:
            log.event("queue.refused", "error", id=outgoing.item.number, error=repr(error))
            full = isinstance(error, StorageFull)
            return Outcome(452 if full else 451, "4.3.1" if full else "4.3.0", "cannot queue it now, try again later")
        return None

    async def _keep(self, envelope: Envelope, outgoing: Outgoing) -> None:
        """Into the queue; what a mailbox of this server will have too is kept once."""
        item = outgoing.item
        deliverer = self._deliverer
        if deliverer is None or LOCAL not in outgoing.groups or item.options.release:
            await self._enqueue(envelope, outgoing)
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
                item.checksum = crc32(piece, item.checksum)
        try:
            await self._enqueue(envelope, outgoing)
        except TooMuch:  # after anything else it may be in the queue all the same: Spool.let_go finds out
            if held is not None:
                await deliverer.store.holds.let_go([item.id])
            raise

    async def _enqueue(self, envelope: Envelope, outgoing: Outgoing) -> None:
        """Into the queue. Where its commit failed and may have been kept all the same, the queue is asked: the client
        hears that it is to try again only if the message is not there."""
        try:
            await self._spool.enqueue(outgoing, *self._bounds.hourly, envelope.charges)
        except (TooMuch, StorageFull):
            raise
        except (MailError, OSError):
            if not await self._spool.has(outgoing.item.id):
                raise
            log.event("queue.kept", "warning", id=outgoing.item.number)

    def charges_of(self, network: Network, recipients: int) -> Sequence[Charge]:
        """What one message to so many counts in the limits of a network that sends without a login."""
        return self._bounds.of_network(network, recipients)

    def stopped(self, network: Network) -> str:
        """Why such a network may send nothing; empty where it may."""
        found = stopped.find(self._spool, network)
        return found.why if found is not None else ""

    def over(self, charges: Sequence[Charge]) -> str:
        """Why a login may not send so much more now, in words for it; empty where it may."""
        return self._spool.over(charges)

    async def charge(self, envelope: Envelope) -> Outcome | None:
        """Count a message for mailboxes here alone in the limits of its login; why it may not be sent. It is counted
        once: not again where the queue goes on with it."""
        charges, envelope.charges = envelope.charges, ()
        if not charges:
            return None
        try:
            await self._spool.charge(charges)
        except TooMuch as error:
            return self._over(envelope, error)
        except (MailError, OSError) as error:
            log.event("queue.refused", "error", login=envelope.login, error=repr(error))
            return Outcome(451, "4.3.0", "cannot take it now, try again later")
        return None

    def _over(self, envelope: Envelope, error: TooMuch) -> Outcome:
        count("queue.rate")
        log.event("queue.rate", "warning", login=envelope.login, peer=envelope.peer, why=error)
        return Outcome(450, "4.7.1", str(error))

    async def tell_delivered(self, envelope: Envelope, content: Octets, done: list[bool]) -> None:
        """Tell the sender of a message that was delivered here at once, where it asked for that (Reports)."""
        await self._reports.tell_delivered(envelope, content, done)
