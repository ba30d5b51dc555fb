"""Who gets mail for an address of this server, and whether an account has room for it."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct

from fastmail.delivery.pools import Pools
from fastmail.directory import limits
from fastmail.directory.batv import Batv
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.directory.lookup import NOT_FOUND, ROLES, Destinations
from fastmail.directory.records import Domain
from fastmail.directory.srs import Srs
from fastmail.model.errors import DamagedAccount, MailError, OverQuota
from fastmail.model.quota import NO_QUOTA, Quota
from fastmail.store.interface import Account, Store
from fastmail.store.quota import check

REMEMBERED = 50_000  # accounts and addresses whose last answer is kept; bounds each cache
FIRST = 100  # account numbers grow from 1: so many are looked at for one who is still there


class Known(Struct, frozen=True):
    """What was worked out about an address with one account behind it. It is true for as long as the directory answers
    ``name``, which is the address in lower case, with ``there``: the same object, so nothing has changed since.
    ``most``: octets that a message to the account may have; 0 for no limit."""

    name: str
    there: Destinations
    account: Account
    most: int


class Recipients:
    """``noted`` hears of each account as the directory has it now, before its mail is asked for."""

    def __init__(
        self,
        directory: Directory,
        store: Store,
        quota: Quota = NO_QUOTA,
        postmasters: Sequence[str] = (),
        noted: Callable[[AccountRecord], object] = lambda record: None,
    ) -> None:
        self.directory = directory
        self.store = store
        self._quota = quota
        self.postmasters = postmasters
        self.batv: Batv | None = None  # who knows addresses with a tag
        self.srs: Srs | None = None  # whose reverse-paths are undone, where mail is forwarded
        self._noted = noted
        self._pools = Pools(directory, store)
        self._accounts: dict[str, tuple[AccountRecord, Domain | None, Account]] = {}
        self._known: dict[str, Known] = {}  # by the address as a client wrote it

    def account(self, record: AccountRecord) -> Account:
        """The account, for the store."""
        return self.account_in(record, self.domain_of(record))

    def account_in(self, record: AccountRecord, domain: Domain | None) -> Account:
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

    def domain_of(self, record: AccountRecord) -> Domain | None:
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
        address = _lowered(address)
        if self.batv is not None and self.batv.looks_like_one(address):
            address = self.batv.untagged(address)
            if not address:
                return Destinations(refusal=NOT_FOUND)
        if self.srs is not None and self.srs.looks_like_one(address):
            return self.srs.destinations(address)
        found = self.directory.destinations(address)
        if found.accounts or found or found.refusal != NOT_FOUND or address.partition("@")[0].lower() not in ROLES:
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

    def known(self, address: str) -> Known | None:
        """What is known of the address and still true; None where it has no account, or several, or was not asked about
        before, or cannot be said. Quicker than ``destinations`` and the questions that follow it, and asks the
        directory once."""
        known = self._known.get(address)
        try:
            return known if known is not None and self.directory.destinations(known.name) is known.there else None
        except MailError:  # ``destinations`` raises it again, for those who have an answer to it
            return None

    def refusal(self, address: str, there: Destinations, octets: int) -> str:
        """The reply to RCPT where the only account behind an address has no room for so much, or takes no message that
        is so big; empty where it may be delivered. Asked then, so that nothing has to be sent back; of several accounts
        each is asked at delivery."""
        if len(there.accounts) != 1:
            return ""
        account, most = self.limited(there.accounts[0])
        name = _lowered(address)
        # A Pool is asked for anew each time (Pools.of). What BATV, SRS or the postmaster's rule makes of an address is
        # no answer of the directory's, and not remembered.
        if account.pool is None and self.directory.destinations(name) is there:
            if len(self._known) > REMEMBERED:
                self._known.clear()
            self._known[address] = Known(name, there, account, most)
        return self.refused(account, most, octets)

    def limited(self, record: AccountRecord) -> tuple[Account, int]:
        """The account, for the store, and the octets that a message to it may have; 0 for no limit."""
        domain = self.domain_of(record)
        return self.account_in(record, domain), limits.message_size(record, domain)

    def refused(self, account: Account, most: int, octets: int) -> str:
        """``refusal``, of an account whose messages may have ``most`` octets."""
        try:
            check(self.store, account, octets or 1)
        except OverQuota:
            return "552 5.2.2 mailbox is full"
        return "552 5.3.4 message is too big for this mailbox" if 0 < most < octets else ""

    def still(self, address: str, records: list[AccountRecord]) -> list[AccountRecord]:
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


def _lowered(address: str) -> str:
    """Return the address in the form in which the directory is asked."""
    return address.lower() if address.isascii() else address
