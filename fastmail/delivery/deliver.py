"""Delivery: resolves recipients, adds trace fields, stores in one go, and says what became of each recipient.

Promise: a recipient is reported as done only after its message is durable. By SMTP all recipients of a message get it
or none does, since one reply answers for all (RFC 5321 4.1.1.4). By LMTP and from the queue each recipient has a reply
of its own (RFC 2033 4.2): one full or broken mailbox does not stop the others, and an address that leads to several
accounts counts as one. Mail that has passed MAX_HOPS servers is refused (RFC 5321 6.3).
"""

import asyncio
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fastmail._core import mime
from fastmail.delivery.history import History
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.durable import beneath
from fastmail.message import submitted, trace
from fastmail.message.header import Octets
from fastmail.message.preview import scanned
from fastmail.message.summary import message_id
from fastmail.model.errors import ClientError, DamagedAccount, MailError, OverQuota, StorageFull, TemporaryError
from fastmail.model.quota import NO_QUOTA, Quota
from fastmail.queue.model import Rcpt
from fastmail.store.interface import Account, Appended, Delivery, NewMessage, Store
from fastmail.store.quota import check
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

MAX_HOPS = 50
REMEMBERED = 50_000
SCAN_ON_LOOP = 262144
SUMMARIES = 64 << 20  # octets of the summaries of one message, of all its recipients together
FIRST = 100  # account numbers grow from 1: so many are looked at for one who is still there


@dataclass(slots=True)
class Envelope:
    """One mail transaction. ``recipients``: the address as given, and the accounts behind it (none: another host's);
    ``asked``: what the sender wants to hear of each (RFC 3461). ``login``: who sends, when somebody logged in.
    ``release``: when it may go out, 0 at once; ``by``, ``by_mode``, ``priority``: as in queue.model.Item. ``tls``:
    version and cipher of the connection, empty without TLS; ``filters``: what the filters made of the message."""

    sender: str = ""
    recipients: list[tuple[str, list[AccountRecord]]] = field(default_factory=list)
    asked: list[Rcpt] = field(default_factory=list)
    utf8: bool = False
    ret: str = ""
    envid: str = ""
    release: int = 0
    require_tls: bool = False
    by: int = 0
    by_mode: str = ""
    priority: int = 0
    login: str = ""
    helo: str = ""
    peer: str = ""
    protocol: str = "SMTP"
    tls: str = ""
    filters: str = ""


@dataclass(slots=True)
class Held:
    """Content that the store has already, behind the ``skip`` octets that are put in front of it for ``address``.
    ``arrived``: when it came."""

    hold: bytes
    address: str
    skip: int
    arrived: int


@dataclass(slots=True)
class Outcome:
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


@dataclass(frozen=True, slots=True)
class Mail:
    """Where accounts keep mail: the Maildir path with {domain}, {user} and {home}, the same for the control files and
    the indexes of the server before, and how folders lie there (store.interface.Account)."""

    maildir: str
    control: str = ""
    layout: str = "maildir++"
    utf8: bool = False
    indexes: str = ""

    def account(self, record: AccountRecord, quota: Quota) -> Account:
        user, _, domain = record.address.rpartition("@")
        if "{home}" in self.maildir and not record.home and not record.maildir:
            raise TemporaryError(f"{record.address}: whoever keeps the account does not say where its home is")
        names = {"domain": domain, "user": user, "home": record.home}
        root, control, indexes = (text.format(**names) for text in (self.maildir, self.control, self.indexes))
        root, control, indexes = map(beneath.plain, (record.maildir or root, control, indexes))
        return Account(record.id, record.address, root, quota, control, self.layout, self.utf8, indexes)


def is_postmaster(address: str) -> bool:
    """Of any domain, or with none."""
    return address.partition("@")[0].lower() == "postmaster"


class NotAll(TemporaryError):
    """A message for all or nobody: nobody has it. ``some``: some accounts can have it; ``worst``: the reply for the
    client, if that is to try again with all of them."""

    def __init__(self, outcomes: Sequence[Outcome], some: bool) -> None:
        self.some = some
        self.worst = worst(outcomes)
        super().__init__(self.worst.text)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The one reply for several recipients: a temporary failure before a permanent one, so that nothing is given up."""
    return max(outcomes, key=lambda outcome: (outcome.code // 100 == 4, outcome.code))


@dataclass(slots=True)
class _Plan:
    """A message and its deliveries; ``owners``: for each of ``items``, the positions of its recipients; ``mailboxes``:
    where it goes in each account, by the account's number."""

    number: str
    traced: bool
    content: Octets
    summary: bytes
    size: int
    outcomes: list[Outcome]
    items: list[Delivery] = field(default_factory=list)
    owners: list[list[int]] = field(default_factory=list)
    mailboxes: dict[int, str] = field(default_factory=dict)


def _leave_whole(plan: _Plan) -> None:
    """A recipient that will be tried again gets nothing now, or those behind its address who can have the message would
    have it twice."""
    again = {position for position, outcome in enumerate(plan.outcomes) if outcome.code // 100 == 4}
    kept = [at for at, owners in enumerate(plan.owners) if not again.issuperset(owners)]
    if len(kept) < len(plan.items):
        plan.items, plan.owners = [plan.items[at] for at in kept], [plan.owners[at] for at in kept]


class Deliverer:
    """One in each worker."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        hostname: str,
        mail: Mail,
        quota: Quota = NO_QUOTA,
        postmasters: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.store = store
        self.hostname = hostname
        self._quota = quota
        self.postmasters = postmasters
        self.history: History | None = None
        self._mail = mail
        self._accounts: dict[str, tuple[AccountRecord, Account]] = {}

    def account(self, record: AccountRecord) -> Account:
        """Where the account's mail lies."""
        known = self._accounts.get(record.address)
        if known is not None and (known[0] is record or known[0] == record):
            return known[1]
        if len(self._accounts) > REMEMBERED:
            self._accounts.clear()
        account = self._mail.account(record, record.quota.over(self._quota))
        self._accounts[record.address] = record, account
        return account

    def account_by_id(self, number: int) -> Account | None:
        """None where there is none, or its row is damaged."""
        with suppress(DamagedAccount):
            record = self.directory.account_by_id(number)
            return self.account(record) if record is not None else None
        return None

    def resolve(self, address: str) -> list[AccountRecord]:
        """Who gets mail for an address of this server. Mail for the postmaster of any domain here always has somebody
        who gets it (RFC 5321 4.5.1): where no account, alias or catch-all does, the accounts that the configuration
        names, and without them the first account that there is."""
        address = address.lower()
        records = self.directory.resolve(address)
        if records or not is_postmaster(address):
            return records
        for name in self.postmasters:
            records = self.directory.resolve(name.lower())
            if records:
                return records
        for number in range(1, FIRST):
            record = self.directory.account_by_id(number)
            if record is not None and record.enabled:
                return [record]
        return []

    def full(self, records: Sequence[AccountRecord], octets: int) -> bool:
        """Has the only account behind an address no room for so much? Asked at RCPT, so that nothing has to be sent
        back; of several accounts each is asked at delivery."""
        if len(records) != 1:
            return False
        try:
            check(self.store, self.account(records[0]), octets or 1)
        except OverQuota:
            return True
        return False

    async def deliver(
        self,
        envelope: Envelope,
        content: Octets,
        mailbox: str = "INBOX",
        number: str = "",
        there: Held | None = None,
    ) -> list[Outcome]:
        """Deliver content (with LF) to each recipient; one Outcome for each, in order. ``number``: its id when it
        was in the queue, and has our Received field already; ``there``: the store may have it."""
        plan = await self._plan(envelope, content, mailbox, number, trace.undigits(number) if number else 0, there)
        if not number:
            _leave_whole(plan)
        places: list[Appended | None] = []
        if plan.items:
            places = await self._store(plan)
        return self._told(envelope, plan, places)

    async def deliver_to_all(
        self, envelope: Envelope, content: Octets, mailbox: str = "INBOX", ident: int = 0
    ) -> list[Outcome]:
        """Deliver to all recipients or to nobody, as one reply for all of them asks (RFC 5321 4.1.1.4); NotAll when
        nobody has it. ``ident``: a number that the queue can go on with; without one, a store that keeps accounts apart
        may have given the message to some of them all the same."""
        plan = await self._plan(envelope, content, mailbox, trace.digits(ident) if ident else "", 0, None, False)
        if any(not outcome.ok for outcome in plan.outcomes):
            raise NotAll(plan.outcomes, bool(plan.items))
        apart = bool(ident) and not self.store.one_commit([item.account for item in plan.items])
        if apart:
            for item in plan.items:
                item.number = ident
        places: list[Appended | None] = []
        if plan.items:
            try:
                places += await self.store.deliver(plan.items)
            except (MailError, OSError) as error:
                failure = self._failure(plan.number, error)
                raise NotAll([failure] * len(plan.outcomes), len(plan.items) > 1) from None
        if apart:
            try:
                await self.store.let_go([ident])  # nobody repeats it any more
            except (MailError, OSError) as error:
                log.event("delivery.let_go", "warning", id=plan.number, error=repr(error))
        return self._told(envelope, plan, places)

    async def _plan(
        self,
        envelope: Envelope,
        content: Octets,
        mailbox: str,
        number: str,
        repeated: int,
        there: Held | None,
        traced: bool = True,
    ) -> "_Plan":
        """Who gets what; accounts that cannot have it have their outcome already. ``number``: the id of the message, if
        it has one, and ``traced``: then it has our Received field; ``repeated``: the number that the store knows the
        delivery by."""
        traced = traced and bool(number)
        number = number or trace.new_id()
        if len(content) > SCAN_ON_LOOP:
            summary = await asyncio.get_running_loop().run_in_executor(None, scanned, content)
        else:
            summary = scanned(content)
        copies = sum(len(records) for _, records in envelope.recipients)
        if len(summary) * copies > SUMMARIES:  # a shorter one for each
            loop = asyncio.get_running_loop()
            summary = await loop.run_in_executor(None, scanned, content, SUMMARIES // copies)
        size, _, hops = struct.unpack_from("<IiI", summary, 20)
        outcomes = [Outcome(250, "2.0.0", f"{number} delivered") for _ in envelope.recipients]
        plan = _Plan(number, traced, content, summary, size, outcomes)
        if hops > MAX_HOPS:
            count("delivery.loops")
            log.event("delivery.loop", "warning", id=number, sender=envelope.sender, hops=hops)
            plan.outcomes = [Outcome(554, "5.4.6", "Too many hops: the message loops")] * len(envelope.recipients)
            return plan
        single = envelope.recipients[0][0] if len(envelope.recipients) == 1 else ""
        common = trace.received(
            envelope.helo, envelope.peer, self.hostname, envelope.protocol, number, single, envelope.priority
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
            for record in still:
                found = seen.get(record.id)
                if found is None:
                    prefix = back + trace.delivered_to(record.address) + common
                    message = NewMessage(
                        (prefix, content),
                        mime.with_prefix(summary, prefix),
                        size + len(prefix) + prefix.count(b"\n"),
                        date,
                    )
                    item = await self._item(plan, record, mailbox, message, repeated)
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
        return [record for record in records if record.id in numbers]

    async def _item(
        self, plan: "_Plan", record: AccountRecord, mailbox: str, message: NewMessage, repeated: int
    ) -> Delivery | Outcome:
        """The delivery to an account, or why there can be none."""
        try:
            account = self.account(record)
            await self.store.open(account)
            key = self.store.find(account, mailbox)
            plan.mailboxes[account.id] = mailbox if key is not None else "INBOX"
            key = key or self.store.find(account, "INBOX")
            if key is None:
                return Outcome(451, "4.3.0", "mailbox is not available")
            check(self.store, account, message.size + mime.counted(message.summary))
        except (MailError, OSError) as error:
            return self._failure(plan.number, error)
        return Delivery(account, key, message, repeated)

    def _told(self, envelope: Envelope, plan: "_Plan", places: list[Appended | None]) -> list[Outcome]:
        """Write down what became of it; the outcomes."""
        if plan.items and self.history is not None:
            self._remember(
                envelope,
                plan.number,
                plan.traced,
                plan.content,
                plan.summary,
                plan.size,
                plan.outcomes,
                plan.items,
                places,
                plan.mailboxes,
            )
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
        return plan.outcomes

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
        hold = await self.store.hold(account, NewMessage((prefix, *content), b"", whole, now), ident)
        return Held(hold, record.address, len(prefix), now)

    def _remember(
        self,
        envelope: Envelope,
        number: str,
        traced: bool,
        content: Octets,
        summary: bytes,
        size: int,
        outcomes: list[Outcome],
        items: list[Delivery],
        places: list[Appended | None],
        mailboxes: dict[int, str],
    ) -> None:
        """Write its life down."""
        assert self.history is not None
        recipients = [address for address, _ in envelope.recipients]
        stored = [
            f"{item.account.address} as UID {place.uids[0]} in {mailboxes[item.account.id]}"
            for item, place in zip(items, places, strict=True)
            if place is not None
        ]
        if traced:
            self.history.note(number, "stored", stored=stored)
        else:
            found = message_id(summary)
            text = submitted.message_id(bytes(content[:8192])) if found is None else found[1:-1].decode("latin-1")[:250]
            note_accepted(self.history, number, envelope, text, size, stored=stored)
        for address, outcome in zip(recipients, outcomes, strict=True):
            if not outcome.ok:
                reply = f"{outcome.code} {outcome.enhanced} {outcome.text}"
                self.history.note(number, "refused", (address,), recipient=address, reply=reply)

    async def _store(self, plan: "_Plan") -> list[Appended | None]:
        """Store all at once, or what can be stored. A delivery with a number is repeated alone, as the store keeps it
        once; without one, all accounts behind a recipient have it or none has, since the client will try again."""
        try:
            return list(await self.store.deliver(plan.items))
        except (MailError, OSError) as error:
            if len(plan.items) == 1:
                self._refuse(plan, 0, error)
                return [None]
        units: dict[int, list[int]] = {}
        for at, owners in enumerate(plan.owners):
            units.setdefault(at if plan.items[at].number else -1 - owners[0], []).append(at)
        places: list[Appended | None] = [None] * len(plan.items)
        for unit in units.values():
            try:
                stored = await self.store.deliver([plan.items[at] for at in unit])
            except (MailError, OSError) as error:
                for at in unit:
                    self._refuse(plan, at, error)
                continue
            for at, place in zip(unit, stored, strict=True):
                places[at] = place
        return places

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
