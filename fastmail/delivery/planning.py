"""Plans the delivery of a message: a summary, trace fields for each copy, and the mailbox of each account."""

import asyncio
import time

from msgspec import Struct

from fastmail._core import mime
from fastmail.delivery import uses
from fastmail.delivery.envelope import LEAVES_NOT, Envelope, Held, Named, Outcome
from fastmail.delivery.plan import Plan
from fastmail.delivery.recipients import Known, Recipients
from fastmail.delivery.storing import Storing, failure
from fastmail.directory.interface import AccountRecord
from fastmail.message import trace
from fastmail.message.header import Octets
from fastmail.message.preview import scanned
from fastmail.message.summary import fixed
from fastmail.model.errors import MailError, OverQuota
from fastmail.model.quota import NO_QUOTA
from fastmail.store.interface import Account, Delivery, NewMessage, Store
from fastmail.store.quota import check
from fastmail.store.room import Entry
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

MAX_HOPS = 50  # servers that a message may have passed (RFC 5321 6.3)
SCAN_ON_LOOP = 262144  # octets of content that are scanned on the event loop; more is a helper thread's work
SUMMARIES = 16 << 20  # octets of the summaries of one message, of all its recipients together: they are in one commit


class _Shared(Struct):
    """What the copies of a message share. ``back`` and ``common``: trace fields in front of all of them; ``date``: when
    it came; ``ident``: of its transaction; ``mailbox``: where it goes if the envelope says nothing else."""

    envelope: Envelope
    back: bytes
    common: bytes
    date: int
    ident: bytes
    there: Held | None
    mailbox: str


class Planner:
    """Makes the plan of each message."""

    def __init__(self, recipients: Recipients, storing: Storing, store: Store, hostname: str) -> None:
        self._recipients = recipients
        self._storing = storing
        self._store = store
        self._hostname = hostname

    async def plan(
        self,
        entry: Entry,
        envelope: Envelope,
        content: Octets,
        mailbox: str,
        named: Named,
        traced: bool = True,
    ) -> Plan:
        """Return who gets what; recipients that cannot have the message have their outcome already. ``named``: how the
        message is called, if it has a name already, and ``traced``: then it has our Received field and comes from the
        queue; ``entry``: what the summary is counted in."""
        traced = traced and bool(named.number)
        number = named.number or trace.new_id()
        copies = 0
        for _, records in envelope.recipients:
            copies += len(records)
        if len(content) > SCAN_ON_LOOP or copies * mime.MOST > SUMMARIES:
            summary = await self._summary(entry, content, copies)
        else:
            summary = scanned(content)
        entry.resize(len(summary) * copies)
        head = fixed(summary)
        outcomes = [Outcome(250, "2.0.0", f"{number} delivered")] * len(envelope.recipients)  # replaced, never changed
        plan = Plan(number, traced, content, summary, head.served, outcomes)
        if head.received > MAX_HOPS:
            count("delivery.loops")
            log.event("delivery.loop", "warning", id=number, sender=envelope.sender, hops=head.received)
            plan.outcomes = [Outcome(554, "5.4.6", "Too many hops: the message loops")] * len(envelope.recipients)
            return plan
        common = b"" if traced else self._received(envelope, number)
        back = trace.return_path(envelope.sender)
        shared = _Shared(envelope, back, common, int(time.time()), named.ident, named.there, mailbox)
        seen: dict[int, int | Outcome] = {}  # by account: its place in the plan, or why it has none
        for position, (address, records) in enumerate(envelope.recipients):
            known = self._recipients.known(address)
            if known is not None and known.there.accounts == records:
                still = records
            else:
                known, still = None, self._recipients.still(address, records)
            if records and not still:
                count("smtp.unknown")
                plan.refuse(position, Outcome(550, "5.1.1", "no such user here"))
            elif not records:  # it is another host's: nothing here may call it delivered
                plan.refuse(position, Outcome(550, "5.7.1", LEAVES_NOT))
            for record in still:
                found = seen.get(record.id)
                if found is None:
                    found = seen[record.id] = await self._copy(plan, shared, address, record, known)
                if isinstance(found, Outcome):
                    plan.refuse(position, found)
                else:
                    plan.owners[found].append(position)
        return plan

    def _received(self, envelope: Envelope, number: str) -> bytes:
        """Return our Received field. It names the recipient only where there is no other (RFC 5321 7.2)."""
        single = envelope.recipients[0][0] if len(envelope.recipients) == 1 else ""
        priority = envelope.options.priority
        return trace.received(envelope.helo, envelope.peer, self._hostname, envelope.protocol, number, single, priority)

    async def _summary(self, entry: Entry, content: Octets, copies: int) -> bytes:
        """Return the summary for each copy, of content or for recipients that may make it long: too long for the event
        loop, or for one commit."""
        loop = asyncio.get_running_loop()
        if len(content) > SCAN_ON_LOOP:
            entry.resize(mime.MOST)  # until it is known
            summary = await loop.run_in_executor(None, scanned, content)
        else:
            summary = scanned(content)
        if len(summary) * copies > SUMMARIES:  # a shorter one for each
            summary = await loop.run_in_executor(None, scanned, content, SUMMARIES // copies)
        return summary

    async def _copy(
        self, plan: Plan, shared: _Shared, address: str, record: AccountRecord, known: Known | None
    ) -> int | Outcome:
        """Add an account's copy to the plan and return its place there, or why there can be none. ``known``: what is
        known of the address, whose only account this is then."""
        prefix = b"".join(
            (shared.back, trace.delivered_to(record.address), shared.common, shared.envelope.fronts.get(address, b""))
        )
        message = NewMessage(
            (prefix, plan.content),
            mime.with_prefix(plan.summary, prefix),
            plan.size + len(prefix) + prefix.count(b"\n"),
            shared.date,
        )
        try:
            account, most = (known.account, known.most) if known is not None else self._recipients.limited(record)
            if 0 < most < plan.size:
                count("delivery.too_big")
                return Outcome(552, "5.3.4", "message is too big for this mailbox")
            await self._store.open(account)
            name = shared.envelope.places.get(record.id, shared.mailbox)
            if name == uses.JUNK:
                key, name = self._junk(account)
            else:
                key = self._store.find(account, name)
            plan.mailboxes[account.id] = name if key is not None else "INBOX"
            key = key or self._store.find(account, "INBOX")
            if key is None:
                return Outcome(451, "4.3.0", "mailbox is not available")
            item = Delivery(account, key, message, shared.ident, again=plan.traced)
            if account.quota != NO_QUOTA or account.pool is not None:
                await self._check(plan, item)
        except (MailError, OSError) as error:
            return failure(plan.number, error)
        there = shared.there
        if there is not None and there.address == record.address and there.skip == len(prefix):
            item.hold, message.date = there.hold, there.arrived
        plan.items.append(item)
        plan.owners.append([])
        return len(plan.items) - 1

    async def _check(self, plan: Plan, item: Delivery) -> None:
        """Raise OverQuota if the account, or its domain, has no room for a delivery; count it in the domain's."""
        account, octets = item.account, item.message.size + mime.counted(item.message.summary)
        try:
            if account.pool is not None:
                await account.pool.ready(octets)
            check(self._store, account, octets)
            if account.pool is not None:
                account.pool.took(octets)
        except OverQuota:  # perhaps by this very message: what the account has it need not have room for again
            if not plan.traced or (await self._storing.given(plan.number, [item]))[0] is None:
                raise

    def _junk(self, account: Account) -> tuple[bytes | None, str]:
        """Return key and name of the mailbox that the account uses for junk."""
        with self._store.snapshot(account) as snapshot:
            found = uses.mailbox(snapshot.boxes(account.id), uses.JUNK)
        return (found.key, found.name) if found is not None else (None, uses.JUNK)
