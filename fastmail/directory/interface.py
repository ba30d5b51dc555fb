"""What delivery and authentication ask of a directory, whatever keeps it.

Answers are immediate and reflect the last commit, so that a command takes effect at once in every worker.
"""

from dataclasses import dataclass
from typing import Protocol

from fastmail.model.address import comparable, without_detail
from fastmail.model.quota import NO_QUOTA, Quota

MAX_ALIAS_DEPTH = 10
MAX_ALIAS_TARGETS = 1000


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """One account. ``password`` is ``{SCHEME}hash``; ``id`` is never given twice. ``scram``: keys as auth.schemes makes
    them, empty when there are none. ``home``, ``maildir``: where the source of the account says that its home and its
    mail are. ``nets``: from where it may log in, empty for everywhere; ``nologin``: why it may not at all, empty where
    it may (directory.access)."""

    id: int
    address: str
    password: str
    enabled: bool = True
    quota: Quota = NO_QUOTA
    scram: str = ""
    home: str = ""
    maildir: str = ""
    nets: str = ""
    nologin: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One account as a source beside the built-in directory has it; ``quota`` None where it says nothing of that."""

    address: str
    password: str
    quota: Quota | None = None
    home: str = ""
    maildir: str = ""
    nets: str = ""
    nologin: str = ""


class Directory(Protocol):
    """Lookups by address, ``local@domain``. Case does not count, and a domain is the same with A-labels and with
    U-labels; an AccountRecord has the address that was stored."""

    def account(self, address: str) -> AccountRecord | None: ...
    def account_by_id(self, number: int) -> AccountRecord | None: ...
    @property
    def revision(self) -> int:
        """A number that grows with every change that takes logins back (directory.standing)."""
        ...

    def revoked(self, number: int) -> int:
        """The revision at which the logins of an account were last taken back; 0 for never."""
        ...

    @property
    def uncertain(self) -> bool:
        """Is the source of the accounts out of reach? Then an address that is not known is no "no such user"."""
        ...

    @property
    def live(self) -> object | None:
        """Whoever is asked by ``freshen``; None where accounts are kept here."""
        ...

    async def freshen(self, address: str) -> str:
        """Ask whoever keeps the account, where that is somebody else; the address that it has there.
        TemporaryError when nobody can say whether there is one."""
        ...

    def is_local(self, domain: str) -> bool:
        """Do we take mail for this domain?"""
        ...

    def resolve(self, address: str) -> list[AccountRecord]:
        """Who gets mail for the address: the account itself, those behind an alias, the account in front of a
        ``+detail``, or the domain's catch-all. Empty when nobody does."""
        ...

    def set_quota(self, address: str, quota: Quota) -> None:
        """Give an account limits of its own; it waits for the disk."""
        ...

    def upgrade_password(self, record: AccountRecord, password: str, scram: str) -> bool:
        """Keep a password that was just shown to be right in a better form, unless it was changed meanwhile; it waits
        for the disk."""
        ...

    def may_send_as(self, account: AccountRecord, address: str) -> bool:
        """Does the sender address belong to the account: its own, with any ``+detail``, or an alias to it?"""
        ...


async def fresh(directory: Directory, address: str) -> None:
    """Bring the accounts that an address may lead to up to date: its own, and the one in front of a ``+detail``."""
    local, _, domain = address.lower().rpartition("@")
    await directory.freshen(f"{local}@{domain}")
    base = without_detail(local)
    if base != local and not directory.resolve(address):
        await directory.freshen(f"{base}@{domain}")


def lookup(directory: "Lookup", address: str) -> list[AccountRecord]:
    """``resolve`` in terms of exact lookups; alias loops end, and each account comes once."""
    out: dict[int, AccountRecord] = {}
    seen: set[str] = set()

    def walk(one: str, depth: int) -> bool:
        if one in seen or depth > MAX_ALIAS_DEPTH or len(out) > MAX_ALIAS_TARGETS:
            return one in seen
        seen.add(one)
        record = directory.account(one)
        if record is not None:
            if record.enabled:
                out[record.id] = record
            return True
        targets = directory.alias(one)
        if targets is None:
            return False
        for target in map(comparable, targets):
            reach(target, depth + 1)
        return True

    def reach(one: str, depth: int) -> None:
        local, _, domain = one.rpartition("@")
        base = without_detail(local)
        if not walk(one, depth) and not (base != local and walk(f"{base}@{domain}", depth)):
            walk(f"@{domain}", depth)

    reach(comparable(address), 0)
    return list(out.values())


def belongs(directory: "Resolver", account: AccountRecord, address: str) -> bool:
    """``may_send_as`` in terms of the others; a catch-all makes no address somebody's."""
    whole = comparable(address)
    local, _, domain = whole.rpartition("@")
    base = f"{without_detail(local)}@{domain}"
    if comparable(account.address) in (whole, base):
        return True
    return any(
        directory.alias(name) is not None and account.id in {one.id for one in directory.resolve(name)}
        for name in (whole, base)
    )


class Lookup(Protocol):
    """Exact lookups that ``lookup`` is built on."""

    def account(self, address: str) -> AccountRecord | None: ...
    def alias(self, address: str) -> list[str] | None: ...


class Resolver(Lookup, Protocol):
    """The same with ``resolve``."""

    def resolve(self, address: str) -> list[AccountRecord]: ...
