"""Delivery: resolves recipients, adds trace fields, stores in one go, and says what became of each recipient.

Promise: a recipient is reported as done only after its message is durable. Recipients of one message are kept all or
none where the store can; when that fails each is tried alone, so that one full or broken mailbox does not stop the
others of an LMTP transaction (RFC 2033 4.2). Mail that has passed MAX_HOPS servers is refused (RFC 5321 6.3).
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
from fastmail.message import submitted, trace
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


@dataclass(slots=True)
class Envelope:
    """One mail transaction. ``recipients``: the address as given, and the accounts behind it (none: another host's);
    ``asked``: what the sender wants to hear of each (RFC 3461). ``login``: who sends, when somebody logged in.
    ``release``: when it may go out, 0 at once; ``by``, ``by_mode``, ``priority``: as in queue.model.Item."""

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
        login=envelope.login,
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
        root = record.maildir or root
        return Account(record.id, record.address, root, quota, control, self.layout, self.utf8, indexes)


class Deliverer:
    """One in each worker."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        hostname: str,
        mail: Mail,
        quota: Quota = NO_QUOTA,
    ) -> None:
        self.directory = directory
        self.store = store
        self.hostname = hostname
        self._quota = quota
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
        content: bytes | memoryview,
        mailbox: str = "INBOX",
        number: str = "",
        there: Held | None = None,
    ) -> list[Outcome]:
        """Deliver content (with LF) to each recipient; one Outcome for each, in order. ``number``: its id when it
        was in the queue, and has our Received field already; ``there``: the store may have it."""
        traced = bool(number)
        number = number or trace.new_id()
        if len(content) > SCAN_ON_LOOP:
            summary = await asyncio.get_running_loop().run_in_executor(None, mime.scan, content)
        else:
            summary = mime.scan(content)
        size, _, hops = struct.unpack_from("<IiI", summary, 20)
        if hops > MAX_HOPS:
            count("delivery.loops")
            log.event("delivery.loop", "warning", id=number, sender=envelope.sender, hops=hops)
            return [Outcome(554, "5.4.6", "Too many hops: the message loops")] * len(envelope.recipients)
        items: list[Delivery] = []
        owners: list[int] = []
        outcomes = [Outcome(250, "2.0.0", f"{number} delivered") for _ in envelope.recipients]
        single = envelope.recipients[0][0] if len(envelope.recipients) == 1 else ""
        common = trace.received(
            envelope.helo, envelope.peer, self.hostname, envelope.protocol, number, single, envelope.priority
        )
        if traced:
            common = b""
        back = trace.return_path(envelope.sender)
        date = int(time.time())
        seen: set[int] = set()
        for position, (_, records) in enumerate(envelope.recipients):
            for record in records:
                if record.id in seen:
                    continue
                seen.add(record.id)
                account = self.account(record)
                try:
                    await self.store.open(account)
                    key = self.store.find(account, mailbox) or self.store.find(account, "INBOX")
                except (MailError, OSError) as error:
                    outcomes[position] = self._failure(number, error)
                    continue
                if key is None:
                    outcomes[position] = Outcome(451, "4.3.0", "mailbox is not available")
                    continue
                prefix = back + trace.delivered_to(record.address) + common
                whole = size + len(prefix) + prefix.count(b"\n")
                try:
                    check(self.store, account, whole)
                except OverQuota as error:
                    outcomes[position] = self._failure(number, error)
                    continue
                message = NewMessage((prefix, content), mime.with_prefix(summary, prefix), whole, date)
                item = Delivery(account, key, message, trace.undigits(number) if traced else 0)
                if there is not None and there.address == record.address and there.skip == len(prefix):
                    item.hold, message.date = there.hold, there.arrived
                items.append(item)
                owners.append(position)
        if items:
            places = await self._store(number, items, owners, outcomes)
            if self.history is not None:
                self._remember(envelope, number, traced, content, summary, size, outcomes, items, places)
        done = sum(1 for outcome in outcomes if outcome.ok)
        count("delivery.messages", done)
        log.event(
            "delivery",
            id=number,
            sender=envelope.sender,
            size=size,
            recipients=len(outcomes),
            delivered=done,
            peer=envelope.peer,
            protocol=envelope.protocol,
        )
        return outcomes

    async def hold(
        self, envelope: Envelope, content: Sequence[bytes | memoryview], size: int, ident: int, now: int
    ) -> Held | None:
        """Keep the content of a message that goes into the queue in the form in which the first of its recipients here
        will have it, so that queue and mailbox share it. None where there is no such recipient."""
        record = next((records[0] for _, records in envelope.recipients if records), None)
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
        content: bytes | memoryview,
        summary: bytes,
        size: int,
        outcomes: list[Outcome],
        items: list[Delivery],
        places: list[Appended | None],
    ) -> None:
        """Write its life down."""
        assert self.history is not None
        recipients = [address for address, _ in envelope.recipients]
        stored = [
            f"{item.account.address} as UID {place.uids[0]}"
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

    async def _store(
        self, number: str, items: Sequence[Delivery], owners: Sequence[int], outcomes: list[Outcome]
    ) -> list[Appended | None]:
        try:
            return list(await self.store.deliver(items))
        except (MailError, OSError) as error:
            if len(items) == 1:
                outcomes[owners[0]] = self._failure(number, error)
                return [None]
        places: list[Appended | None] = []
        for item, position in zip(items, owners, strict=True):
            try:
                places += await self.store.deliver([item])
            except (MailError, OSError) as error:
                outcomes[position] = self._failure(number, error)
                places.append(None)
        return places

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
