"""Who gets mail for an address of this server, and whether an account has room for it."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from fastmail.delivery.pools import Pools
from fastmail.directory import limits
from fastmail.directory.batv import Batv
from fastmail.directory.interface import AccountRecord, Directory
from fastmail.directory.lookup import NOT_FOUND, ROLES, Destinations
from fastmail.directory.records import Domain
from fastmail.directory.srs import Srs
from fastmail.model.errors import DamagedAccount, OverQuota
from fastmail.model.quota import NO_QUOTA, Quota
from fastmail.store.interface import Account, Store
from fastmail.store.quota import check

REMEMBERED = 50_000  # accounts whose last answer is kept; bounds the cache
FIRST = 100  # account numbers grow from 1: so many are looked at for one who is still there


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
        address = address.lower() if address.isascii() else address
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

    def refusal(self, records: Sequence[AccountRecord], octets: int) -> str:
        """The reply to RCPT where the only account behind an address has no room for so much, or takes no message that
        is so big; empty where it may be delivered. Asked then, so that nothing has to be sent back; of several accounts
        each is asked at delivery."""
        if len(records) != 1:
            return ""
        domain = self.domain_of(records[0])
        try:
            check(self.store, self.account_in(records[0], domain), octets or 1)
        except OverQuota:
            return "552 5.2.2 mailbox is full"
        most = limits.message_size(records[0], domain)
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
