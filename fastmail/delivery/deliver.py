"""Delivery: resolves recipients, adds trace fields, stores in one go, and says what became of each recipient.

Promise: a recipient is reported as done only after its message is durable. By SMTP all recipients of a message get it
or none does, since one reply answers for all (RFC 5321 4.1.1.4): what only some got is taken from them again, or the
queue goes on with it. By LMTP and from the queue each recipient has a reply of its own (RFC 2033 4.2): one full or
broken mailbox does not stop the others, and an address that leads to several accounts counts as one. Every delivery has
the id of its transaction, and by it the store is asked what a call that failed has kept, before anything is tried again
or refused. Mail that has passed MAX_HOPS servers is refused (RFC 5321 6.3).
"""

from collections.abc import Callable, Sequence

from fastmail._core.idents import message_id
from fastmail.delivery.envelope import FAILED, Envelope, Held, Kept, Named, NotAll, Outcome, note_accepted
from fastmail.delivery.history import History
from fastmail.delivery.plan import Plan, leave_whole
from fastmail.delivery.planning import Planner
from fastmail.delivery.recipients import Recipients
from fastmail.delivery.storing import Storing, failure
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.message import submitted, trace, transaction
from fastmail.message.header import Octets
from fastmail.model.errors import MailError
from fastmail.model.quota import NO_QUOTA, Quota
from fastmail.store.interface import Appended, NewMessage, Store
from fastmail.store.room import Room
from fastmail.telemetry import log
from fastmail.telemetry.counters import count


class Deliverer(Recipients):
    """One in each worker: recipients of this server, and the delivery of mail to them."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        hostname: str,
        quota: Quota = NO_QUOTA,
        postmasters: Sequence[str] = (),
        noted: Callable[[AccountRecord], object] = lambda record: None,
    ) -> None:
        super().__init__(directory, store, quota, postmasters, noted)
        self.hostname = hostname
        self.history: History | None = None
        self.forwards_junk = False  # also what is junk, and has a mailbox here
        self._storing = Storing(store)
        self._planner = Planner(self, self._storing, store, hostname)
        self._room = Room()  # of the messages whose sessions wait for the store

    async def deliver(
        self,
        envelope: Envelope,
        content: Octets,
        mailbox: str = "INBOX",
        queued: Named | None = None,
    ) -> list[Outcome]:
        """Deliver content (with LF) to each recipient; one Outcome for each, in order. ``queued``: it comes from the
        queue, and has our Received field already."""
        entry = self._room.entry()
        if self._room.full:
            await self._room.ready()
        try:
            named = queued or Named("", transaction.new_id())
            plan = await self._planner.plan(entry, envelope, content, mailbox, named)
            if queued is None and plan.refused:
                leave_whole(plan)
            places: Sequence[Appended | None] = ()
            if plan.items:
                try:
                    places = await self.store.deliver(plan.items)
                except (MailError, OSError) as error:
                    places = await self._storing.store_in_parts(plan, queued is not None, error)
            return self._told(envelope, plan, places)
        finally:
            if entry.counted:
                entry.resize(0)

    async def deliver_to_all(
        self, envelope: Envelope, content: Octets, mailbox: str = "INBOX", ident: int = 0
    ) -> list[Outcome]:
        """Deliver to all recipients or to nobody, as one reply for all of them asks (RFC 5321 4.1.1.4); otherwise
        NotAll. ``ident``: a number of this process that the queue can go on with."""
        entry = self._room.entry()
        if self._room.full:
            await self._room.ready()
        try:
            number = trace.digits(ident) if ident else ""
            known = transaction.make(ident, transaction.salt()) if ident else transaction.new_id()
            plan = await self._planner.plan(entry, envelope, content, mailbox, Named(number, known), False)
            if any(not outcome.ok for outcome in plan.outcomes):
                raise NotAll(plan.outcomes, bool(plan.items))
            places: list[Appended | None] = []
            if plan.items:
                places, error = await self._storing.attempt(plan, plan.items)
                if error is not None:
                    outcome = failure(plan.number, error)
                    kept = [(item, place) for item, place in zip(plan.items, places, strict=True) if place is not None]
                    raise NotAll([outcome] * len(plan.outcomes), len(plan.items) > 1, kept) from None
            return self._told(envelope, plan, places)
        finally:
            entry.resize(0)

    async def take_back(self, kept: Sequence[Kept]) -> None:
        """The client will hear that nobody has the message, and try again with all: take it from those who have it."""
        await self._storing.take_back(kept)

    async def hold(
        self, envelope: Envelope, content: Sequence[bytes | memoryview], size: int, ident: int, now: int
    ) -> Held | None:
        """Keep the content of a message that goes into the queue in the form in which the first of its recipients here
        will have it, so that queue and mailbox share it. None where there is no such recipient."""
        there = (self.still(address, records) for address, records in envelope.recipients if records)
        record = next((still[0] for still in there if still), None)
        if record is None:
            return None
        account = self.account(record)
        await self.store.open(account)
        prefix = trace.return_path(envelope.sender) + trace.delivered_to(record.address)
        whole = size + len(prefix) + prefix.count(b"\n")
        hold = await self.store.holds.keep(account, NewMessage((prefix, *content), b"", whole, now), ident)
        return Held(hold, record.address, len(prefix), now)

    def _told(self, envelope: Envelope, plan: Plan, places: Sequence[Appended | None]) -> list[Outcome]:
        """Write down what became of it; the outcomes. They are what the client hears, whatever happens to the log."""
        try:
            if plan.items and self.history is not None:
                self._remember(self.history, envelope, plan, places)
            _log(envelope, plan)
        except Exception as error:
            count("bugs")
            log.event("bug", "error", error=repr(error), where="delivery", id=plan.number)
        return plan.outcomes

    def _remember(self, history: History, envelope: Envelope, plan: Plan, places: Sequence[Appended | None]) -> None:
        """Write its life down."""
        stored = []
        for at, place in enumerate(places):
            if place is not None:
                account = plan.items[at].account
                stored.append(f"{account.address} as UID {place.uids[0]} in {plan.mailboxes[account.id]}")
        if plan.traced:
            history.note(plan.number, "stored", stored=stored)
        else:
            found = message_id(plan.summary)
            if found is None:
                text = submitted.message_id(bytes(plan.content[:8192]))
            else:
                text = found[1:-1].decode("latin-1")[:250]
            note_accepted(history, plan.number, envelope, text, plan.size, stored=stored)
        for at, outcome in enumerate(plan.outcomes):
            if outcome.code >= FAILED:
                address = envelope.recipients[at][0]
                reply = f"{outcome.code} {outcome.enhanced} {outcome.text}"
                history.note(plan.number, "refused", (address,), recipient=address, reply=reply)


def _log(envelope: Envelope, plan: Plan) -> None:
    """Count and log what was delivered."""
    done = 0
    for outcome in plan.outcomes:
        if outcome.code < FAILED:
            done += 1
    count("delivery.messages", done)
    log.event(
        "delivery",
        id=plan.number,
        sender=envelope.sender,
        size=plan.size,
        recipients=len(plan.outcomes),
        delivered=done,
        peer=envelope.peer,
        protocol=envelope.protocol,
    )
