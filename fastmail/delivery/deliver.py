"""Delivery: resolves recipients, adds trace fields, stores in one go, and says what became of each recipient.

Promise: a recipient is reported as done only after its message is durable. By SMTP all recipients of a message get it
or none does, since one reply answers for all (RFC 5321 4.1.1.4): what only some got is taken from them again, or the
queue goes on with it. By LMTP and from the queue each recipient has a reply of its own (RFC 2033 4.2): one full or
broken mailbox does not stop the others, and an address that leads to several accounts counts as one. Every delivery has
the id of its transaction, and by it the store is asked what a call that failed has kept, before anything is tried again
or refused. Mail that has passed MAX_HOPS servers is refused (RFC 5321 6.3).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.delivery import uses
from fastmail.delivery.history import History
from fastmail.delivery.pools import Pools
from fastmail.directory import limits
from fastmail.directory.batv import Batv
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.directory.lookup import NOT_FOUND, ROLES, Destinations
from fastmail.directory.records import Domain
from fastmail.directory.srs import Srs
from fastmail.message import submitted, trace, transaction
from fastmail.message.header import Octets
from fastmail.message.preview import scanned
from fastmail.message.summary import fixed, message_id
from fastmail.model.errors import ClientError, DamagedAccount, MailError, OverQuota, StorageFull, TemporaryError
from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions, Rcpt
from fastmail.model.quota import NO_QUOTA, Quota
from fastmail.queue.rates import Charge
from fastmail.store.interface import Account, Appended, Delivery, NewMessage, Store
from fastmail.store.quota import check
from fastmail.store.room import Entry, Room
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

MAX_HOPS = 50
REMEMBERED = 50_000
SCAN_ON_LOOP = 262144
TRIES = 2  # of a delivery that some accounts have and others not
SUMMARIES = 16 << 20  # octets of the summaries of one message, of all its recipients together: they are in one commit
LEAVES_NOT = "mail for this address leaves this server, which is switched off"
FIRST = 100  # account numbers grow from 1: so many are looked at for one who is still there


class Envelope(Struct):
    """One mail transaction. ``recipients``: the address as given, and the accounts behind it (none: another host's);
    ``asked``: what the sender wants to hear of each (RFC 3461). ``options``: the parameters of MAIL. ``login``: who
    sends, when somebody logged in. ``forwards``: recipients of this server whose mail goes by way of the queue: to
    other hosts, too, or only, and to mailing lists (directory.lookup). ``doubted``: the domain of the author that
    the message names does not vouch for it (DMARC). ``tls``: version and cipher of the connection, empty without
    TLS; ``filters``: what the filters made of the message; ``charges``: what it counts in the limits of its login.
    ``signs``: its author is one of ours, and shown to be, so it is signed; ``signed``: the domain of that author,
    once it was; ``checked``: it came from others, and the results on it are ours; ``places``: the mailboxes of
    accounts, by their numbers, that get it elsewhere than the others; ``junk``: those of ``forwards`` that call it
    junk, where others may not; ``feedback``: the value of its Feedback-ID, empty for none; ``fronts``: fields (LF) that
    some recipients' copies have in front."""

    sender: str = ""
    recipients: list[tuple[str, list[AccountRecord]]] = []  # msgspec gives each its own
    asked: list[Rcpt] = []
    options: EsmtpOptions = NO_OPTIONS
    login: str = ""
    helo: str = ""
    peer: str = ""
    protocol: str = "SMTP"
    tls: str = ""
    filters: str = ""
    forwards: set[str] = set()
    charges: Sequence[Charge] = ()
    signs: bool = False
    signed: str = ""
    checked: bool = False
    doubted: bool = False
    places: dict[int, str] = {}
    junk: set[str] = set()
    feedback: str = ""
    fronts: dict[str, bytes] = {}


class Held(Struct):
    """Content that the store has already, behind the ``skip`` octets that are put in front of it for ``address``.
    ``arrived``: when it came."""

    hold: bytes
    address: str
    skip: int
    arrived: int


Kept = tuple[Delivery, Appended]


class Named(Struct, frozen=True):
    """A message that has a name already: ``number`` for people, ``ident`` of its transaction. ``there``: the store may
    have its content."""

    number: str
    ident: bytes
    there: Held | None = None


class Outcome(Struct):
    """What became of one recipient: an SMTP reply."""

    code: int
    enhanced: str
    text: str

    @property
    def ok(self) -> bool:
        return self.code < 300


def note_accepted(
    history: History, number: str, envelope: Envelope, message_id: str, size: int, **more: object
) -> None:
    """The first event of a message's life."""
    recipients = [address for address, _ in envelope.recipients]
    history.note(
        number,
        "accepted",
        (envelope.sender, message_id, *recipients),
        sender=envelope.sender,
        recipients=recipients,
        message_id=message_id,
        helo=envelope.helo,
        peer=envelope.peer,
        protocol=envelope.protocol,
        tls=envelope.tls,
        login=envelope.login,
        filters=envelope.filters,
        size=size,
        **more,
    )


def is_postmaster(address: str) -> bool:
    """Of any domain, or with none."""
    return address.partition("@")[0].lower() == "postmaster"


class NotAll(TemporaryError):
    """A message for all or nobody, that not everybody has. ``some``: some accounts can have it; ``worst``: the reply
    for the client, if that is to try again with all of them; ``kept``: what some accounts have all the same. The queue
    can go on with these, by the transaction's id; otherwise ``Deliverer.take_back`` comes before the reply."""

    def __init__(self, outcomes: Sequence[Outcome], some: bool, kept: "Sequence[Kept]" = ()) -> None:
        self.some = some
        self.kept = kept
        self.worst = worst(outcomes)
        super().__init__(self.worst.text)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The one reply for several recipients: a temporary failure before a permanent one, so that nothing is given up."""
    return max(outcomes, key=lambda outcome: (outcome.code // 100 == 4, outcome.code))


class _Plan(Struct):
    """A message and its deliveries; ``owners``: for each of ``items``, the positions of its recipients; ``mailboxes``:
    where it goes in each account, by the account's number."""

    number: str
    traced: bool
    content: Octets
    summary: bytes
    size: int
    outcomes: list[Outcome]
    items: list[Delivery] = []
    owners: list[list[int]] = []
    mailboxes: dict[int, str] = {}


def _again(plan: _Plan) -> set[int]:
    """Positions of the recipients that will be tried again."""
    return {position for position, outcome in enumerate(plan.outcomes) if outcome.code // 100 == 4}


def _leave_whole(plan: _Plan) -> None:
    """A recipient that will be tried again gets nothing now, or those behind its address who can have the message would
    have it twice."""
    again = _again(plan)
    kept = [at for at, owners in enumerate(plan.owners) if not again.issuperset(owners)]
    if len(kept) < len(plan.items):
        plan.items, plan.owners = [plan.items[at] for at in kept], [plan.owners[at] for at in kept]


class Deliverer:
    """One in each worker. ``noted`` hears of each account as the directory has it now, before its mail is asked for."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        hostname: str,
        quota: Quota = NO_QUOTA,
        postmasters: Sequence[str] = (),
        noted: Callable[[AccountRecord], object] = lambda record: None,
    ) -> None:
        self.directory = directory
        self.store = store
        self.hostname = hostname
        self._quota = quota
        self.postmasters = postmasters
        self.batv: Batv | None = None  # who knows addresses with a tag
        self.srs: Srs | None = None  # whose reverse-paths are undone, where mail is forwarded
        self.history: History | None = None
        self.forwards_junk = False  # also what is junk, and has a mailbox here
        self._noted = noted
        self._pools = Pools(directory, store)
        self._accounts: dict[str, tuple[AccountRecord, Domain | None, Account]] = {}
        self._room = Room()  # of the messages whose sessions wait for the store

    def account(self, record: AccountRecord) -> Account:
        """The account, for the store."""
        return self._account(record, self._domain(record))

    def _account(self, record: AccountRecord, domain: Domain | None) -> Account:
        """The same with the row of its domain at hand, which several questions about a delivery need."""
        known = self._accounts.get(record.address)
        if known is not None and known[0] is record and known[1] is domain and known[2].pool is None:
            return known[2]  # nothing has changed since the last message, as nearly always
        quota = limits.quota(record, domain).over(self._quota)
        pool = self._pools.of(domain)
        if known is not None and known[0] == record and known[2].quota == quota and known[2].pool is pool:
            account = known[2]
        else:
            if len(self._accounts) > REMEMBERED:
                self._accounts.clear()
            self._noted(record)
            account = Account(record.id, record.address, quota, pool)
        self._accounts[record.address] = record, domain, account
        return account

    def _domain(self, record: AccountRecord) -> Domain | None:
        return self.directory.domain(record.address.rpartition("@")[2])

    def account_by_id(self, number: int) -> Account | None:
        """None where there is none, or its row is damaged."""
        with suppress(DamagedAccount):
            record = self.directory.account_by_id(number)
            return self.account(record) if record is not None else None
        return None

    def resolve(self, address: str) -> list[AccountRecord]:
        """The accounts that get mail for an address of this server."""
        return self.destinations(address).accounts

    def destinations(self, address: str) -> Destinations:
        """Who gets mail for an address of this server. Mail for the postmaster of any domain here, and for abuse (RFC
        2142 2), always has somebody who gets it (RFC 5321 4.5.1): where no account, alias or catch-all does, the
        accounts that the configuration names, and without them the first account that there is. A bounce for a sender
        whose mail was forwarded goes to that sender."""
        address = address.lower() if address.isascii() else address
        if self.batv is not None and self.batv.looks_like_one(address):
            address = self.batv.untagged(address)
            if not address:
                return Destinations(refusal=NOT_FOUND)
        if self.srs is not None and self.srs.looks_like_one(address):
            return self.srs.destinations(address)
        found = self.directory.destinations(address)
        if found or found.refusal != NOT_FOUND or address.partition("@")[0].lower() not in ROLES:
            return found
        return Destinations(self.postmaster_accounts())

    def postmaster_accounts(self) -> list[AccountRecord]:
        """Who gets what nobody else does; empty where there is no account at all."""
        for name in self.postmasters:
            records = self.directory.resolve(name.lower())
            if records:
                return records
        for number in range(1, FIRST):
            record = self.directory.account_by_id(number)
            if record is not None and record.enabled:
                return [record]
        return []

    def refusal(self, records: Sequence[AccountRecord], octets: int) -> str:
        """The reply to RCPT where the only account behind an address has no room for so much, or takes no message that
        is so big; empty where it may be delivered. Asked then, so that nothing has to be sent back; of several accounts
        each is asked at delivery."""
        if len(records) != 1:
            return ""
        domain = self._domain(records[0])
        try:
            check(self.store, self._account(records[0], domain), octets or 1)
        except OverQuota:
            return "552 5.2.2 mailbox is full"
        most = limits.message_size(records[0], domain)
        return "552 5.3.4 message is too big for this mailbox" if 0 < most < octets else ""

    async def deliver(
        self,
        envelope: Envelope,
        content: Octets,
        mailbox: str = "INBOX",
        queued: Named | None = None,
    ) -> list[Outcome]:
        """Deliver content (with LF) to each recipient; one Outcome for each, in order. ``queued``: it comes from the
        queue, and has our Received field already."""
        async with self._room.entry() as entry:
            plan = await self._plan(entry, envelope, content, mailbox, queued or Named("", transaction.new_id()))
            if queued is None:
                _leave_whole(plan)
            places: list[Appended | None] = []
            if plan.items:
                places = await self._store(plan, queued is not None)
            return self._told(envelope, plan, places)

    async def deliver_to_all(
        self, envelope: Envelope, content: Octets, mailbox: str = "INBOX", ident: int = 0
    ) -> list[Outcome]:
        """Deliver to all recipients or to nobody, as one reply for all of them asks (RFC 5321 4.1.1.4); otherwise
        NotAll. ``ident``: a number of this process that the queue can go on with."""
        async with self._room.entry() as entry:
            number = trace.digits(ident) if ident else ""
            known = transaction.make(ident, transaction.salt()) if ident else transaction.new_id()
            plan = await self._plan(entry, envelope, content, mailbox, Named(number, known), False)
            return await self._deliver_to_all(envelope, plan)

    async def _deliver_to_all(self, envelope: Envelope, plan: "_Plan") -> list[Outcome]:
        if any(not outcome.ok for outcome in plan.outcomes):
            raise NotAll(plan.outcomes, bool(plan.items))
        places: list[Appended | None] = []
        if plan.items:
            places, error = await self._try(plan, plan.items)
            if error is not None:
                failure = self._failure(plan.number, error)
                kept = [(item, place) for item, place in zip(plan.items, places, strict=True) if place is not None]
                raise NotAll([failure] * len(plan.outcomes), len(plan.items) > 1, kept) from None
        return self._told(envelope, plan, places)

    async def _summary(self, entry: Entry, envelope: Envelope, content: Octets) -> bytes:
        """The summary for each recipient, which the entry makes room for."""
        loop = asyncio.get_running_loop()
        if len(content) > SCAN_ON_LOOP:
            entry.resize(mime.MOST)  # until it is known
            summary = await loop.run_in_executor(None, scanned, content)
        else:
            summary = scanned(content)
        copies = sum(len(records) for _, records in envelope.recipients)
        if len(summary) * copies > SUMMARIES:  # a shorter one for each
            summary = await loop.run_in_executor(None, scanned, content, SUMMARIES // copies)
        entry.resize(len(summary) * copies)
        return summary

    async def _try(
        self, plan: "_Plan", items: Sequence[Delivery]
    ) -> tuple[list[Appended | None], MailError | OSError | None]:
        """Deliver to all of these: (what each got; why not all did). The store is asked what a call that failed has
        kept. Where some have the message, the rest is tried once more, as that is what ends best."""
        for attempt in range(1, TRIES + 1):
            try:
                return list(await self.store.deliver(items)), None
            except (MailError, OSError) as error:
                places, why = await self._given(plan, items), error
            missing = places.count(None)
            if not missing:
                return places, None
            if missing == len(items) or attempt == TRIES:
                break
        return places, why

    async def _given(self, plan: "_Plan", items: Sequence[Delivery]) -> list[Appended | None]:
        """What these deliveries have kept; None too where that cannot be said."""
        try:
            return await self.store.given(items)
        except (MailError, OSError) as error:
            if len(items) == 1:
                log.event("delivery.unknown", "error", id=plan.number, error=repr(error))
                return [None]
        return [(await self._given(plan, [item]))[0] for item in items]  # a shard that cannot say hides no other

    async def take_back(self, kept: Sequence[Kept]) -> None:
        """The client will hear that nobody has the message, and try again with all: take it from those who have it."""
        for item, place in kept:
            try:
                await self.store.expunge(item.account, place.key, UidSet.of(place.uids), 0, mine=0)
                log.event("delivery.taken_back", "warning", account=item.account.address, uid=place.uids[0])
            except (MailError, OSError) as error:
                log.event("delivery.half", "error", account=item.account.address, uid=place.uids[0], error=repr(error))

    async def _plan(
        self,
        entry: Entry,
        envelope: Envelope,
        content: Octets,
        mailbox: str,
        named: Named,
        traced: bool = True,
    ) -> "_Plan":
        """Who gets what; accounts that cannot have it have their outcome already. ``named``: how the message is called,
        if it has a name already, and ``traced``: then it has our Received field and comes from the queue; ``entry``:
        what the summary is counted in."""
        traced = traced and bool(named.number)
        number, there = named.number or trace.new_id(), named.there
        summary = await self._summary(entry, envelope, content)
        head = fixed(summary)
        size, hops = head.served, head.received
        outcomes = [Outcome(250, "2.0.0", f"{number} delivered") for _ in envelope.recipients]
        plan = _Plan(number, traced, content, summary, size, outcomes)
        if hops > MAX_HOPS:
            count("delivery.loops")
            log.event("delivery.loop", "warning", id=number, sender=envelope.sender, hops=hops)
            plan.outcomes = [Outcome(554, "5.4.6", "Too many hops: the message loops")] * len(envelope.recipients)
            return plan
        single = envelope.recipients[0][0] if len(envelope.recipients) == 1 else ""
        common = trace.received(
            envelope.helo, envelope.peer, self.hostname, envelope.protocol, number, single, envelope.options.priority
        )
        if traced:
            common = b""
        back = trace.return_path(envelope.sender)
        date = int(time.time())
        seen: dict[int, int | Outcome] = {}  # by account: its place in the plan, or why it has none
        for position, (address, records) in enumerate(envelope.recipients):
            still = self._still(address, records)
            if records and not still:
                count("smtp.unknown")
                plan.outcomes[position] = Outcome(550, "5.1.1", "no such user here")
            elif not records:  # it is another host's: nothing here may call it delivered
                plan.outcomes[position] = Outcome(550, "5.7.1", LEAVES_NOT)
            for record in still:
                found = seen.get(record.id)
                if found is None:
                    front = envelope.fronts.get(address, b"")
                    prefix = b"".join((back, trace.delivered_to(record.address), common, front))
                    message = NewMessage(
                        (prefix, content),
                        mime.with_prefix(summary, prefix),
                        size + len(prefix) + prefix.count(b"\n"),
                        date,
                    )
                    where = envelope.places.get(record.id, mailbox)
                    item = await self._item(plan, record, where, message, named.ident)
                    found = len(plan.items)
                    if isinstance(item, Outcome):
                        found = item
                    else:
                        if there is not None and there.address == record.address and there.skip == len(prefix):
                            item.hold, message.date = there.hold, there.arrived
                        plan.items.append(item)
                        plan.owners.append([])
                    seen[record.id] = found
                if isinstance(found, Outcome):
                    plan.outcomes[position] = found
                else:
                    plan.owners[found].append(position)
        return plan

    def _still(self, address: str, records: list[AccountRecord]) -> list[AccountRecord]:
        """Of the accounts that a recipient led to when it was named, those to which it leads now: one that was removed
        or switched off meanwhile gets nothing, and above all no Maildir."""
        now = self.resolve(address)
        if now is records or now == records:
            return records
        numbers = {record.id for record in now}
        own = self.directory.account(address)  # which hears of its own forward, whether or not it keeps mail
        if own is not None and own.enabled:
            numbers.add(own.id)
        return [record for record in records if record.id in numbers]

    async def _item(
        self, plan: "_Plan", record: AccountRecord, mailbox: str, message: NewMessage, ident: bytes
    ) -> Delivery | Outcome:
        """The delivery to an account, or why there can be none."""
        try:
            domain = self._domain(record)
            account = self._account(record, domain)
            if 0 < limits.message_size(record, domain) < plan.size:
                count("delivery.too_big")
                return Outcome(552, "5.3.4", "message is too big for this mailbox")
            await self.store.open(account)
            key, name = self._mailbox(account, mailbox)
            plan.mailboxes[account.id] = name if key is not None else "INBOX"
            key = key or self.store.find(account, "INBOX")
            if key is None:
                return Outcome(451, "4.3.0", "mailbox is not available")
            item = Delivery(account, key, message, ident, again=plan.traced)
            octets = message.size + mime.counted(message.summary)
            try:
                if account.pool is not None:
                    await account.pool.ready(octets)
                check(self.store, account, octets)
                if account.pool is not None:
                    account.pool.took(octets)
            except OverQuota:  # perhaps by this very message: what the account has it need not have room for again
                if not plan.traced or (await self._given(plan, [item]))[0] is None:
                    raise
        except (MailError, OSError) as error:
            return self._failure(plan.number, error)
        return item

    def _mailbox(self, account: Account, name: str) -> tuple[bytes | None, str]:
        """Key and name of the mailbox of that name; for Junk, of the one that the account uses for it."""
        if name == uses.JUNK:
            with self.store.snapshot(account) as snapshot:
                found = uses.mailbox(snapshot.boxes(account.id), name)
            return (found.key, found.name) if found is not None else (None, name)
        return self.store.find(account, name), name

    def _told(self, envelope: Envelope, plan: "_Plan", places: list[Appended | None]) -> list[Outcome]:
        """Write down what became of it; the outcomes. They are what the client hears, whatever happens to the log."""
        try:
            self._write_down(envelope, plan, places)
        except Exception as error:
            count("bugs")
            log.event("bug", "error", error=repr(error), where="delivery", id=plan.number)
        return plan.outcomes

    def _write_down(self, envelope: Envelope, plan: "_Plan", places: list[Appended | None]) -> None:
        if plan.items and self.history is not None:
            self._remember(self.history, envelope, plan, places)
        done = sum(1 for outcome in plan.outcomes if outcome.ok)
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

    async def hold(
        self, envelope: Envelope, content: Sequence[bytes | memoryview], size: int, ident: int, now: int
    ) -> Held | None:
        """Keep the content of a message that goes into the queue in the form in which the first of its recipients here
        will have it, so that queue and mailbox share it. None where there is no such recipient."""
        there = (self._still(address, records) for address, records in envelope.recipients if records)
        record = next((still[0] for still in there if still), None)
        if record is None:
            return None
        account = self.account(record)
        await self.store.open(account)
        prefix = trace.return_path(envelope.sender) + trace.delivered_to(record.address)
        whole = size + len(prefix) + prefix.count(b"\n")
        hold = await self.store.holds.keep(account, NewMessage((prefix, *content), b"", whole, now), ident)
        return Held(hold, record.address, len(prefix), now)

    def _remember(self, history: History, envelope: Envelope, plan: "_Plan", places: Sequence[Appended | None]) -> None:
        """Write its life down."""
        stored = [
            f"{item.account.address} as UID {place.uids[0]} in {plan.mailboxes[item.account.id]}"
            for item, place in zip(plan.items, places, strict=True)
            if place is not None
        ]
        if plan.traced:
            history.note(plan.number, "stored", stored=stored)
        else:
            found = message_id(plan.summary)
            if found is None:
                text = submitted.message_id(bytes(plan.content[:8192]))
            else:
                text = found[1:-1].decode("latin-1")[:250]
            note_accepted(history, plan.number, envelope, text, plan.size, stored=stored)
        for (address, _), outcome in zip(envelope.recipients, plan.outcomes, strict=True):
            if not outcome.ok:
                reply = f"{outcome.code} {outcome.enhanced} {outcome.text}"
                history.note(plan.number, "refused", (address,), recipient=address, reply=reply)

    async def _store(self, plan: "_Plan", queued: bool) -> list[Appended | None]:
        """Store all at once, or what can be stored. What comes from the queue is tried again from there, and kept once;
        otherwise all accounts behind a recipient have it or none has, since the client will try again."""
        try:
            return list(await self.store.deliver(plan.items))
        except (MailError, OSError) as error:
            why = error
        places = await self._given(plan, plan.items)
        if len(plan.items) == 1:
            if places[0] is None:
                self._refuse(plan, 0, why)
            return places
        units: dict[int, list[int]] = {}
        for at, owners in enumerate(plan.owners):
            units.setdefault(at if queued else -1 - owners[0], []).append(at)
        for unit in units.values():
            if all(places[at] is not None for at in unit):
                continue
            stored, trouble = await self._try(plan, [plan.items[at] for at in unit])
            for at, place in zip(unit, stored, strict=True):
                places[at] = place
                if place is None:
                    self._refuse(plan, at, trouble or why)
        if not queued:
            await self._leave_whole_of(plan, places)
        return places

    async def _leave_whole_of(self, plan: "_Plan", places: list[Appended | None]) -> None:
        """See _leave_whole, of what has been stored. A recipient that shares an account with one who is to be tried
        again is tried again too."""
        again: set[int] = set()
        while len(again) < len(again := _again(plan)):
            for owners in plan.owners:
                known = again.intersection(owners)
                for position in owners if known else ():
                    plan.outcomes[position] = plan.outcomes[min(known)]
        for at, place in enumerate(places):
            if place is not None and not again.isdisjoint(plan.owners[at]):
                await self.take_back([(plan.items[at], place)])
                places[at] = None

    def _refuse(self, plan: "_Plan", at: int, error: BaseException) -> None:
        """An item could not be stored."""
        failure = self._failure(plan.number, error)
        for position in plan.owners[at]:
            plan.outcomes[position] = failure

    def _failure(self, number: str, error: BaseException) -> Outcome:
        log.event("delivery.failed", "warning", id=number, error=repr(error))
        if isinstance(error, StorageFull):
            count("delivery.full")
            return Outcome(452, "4.3.1", "not enough storage, try again later")
        if isinstance(error, OverQuota):
            count("delivery.quota")
            return Outcome(552, "5.2.2", "mailbox is full")
        count("delivery.failed")
        if isinstance(error, ClientError):
            return Outcome(451, "4.2.0", "mailbox is not available")
        return Outcome(451, "4.3.0", "local error, try again later")
