"""What delivery and authentication ask of a directory, and what commands ask of it, whatever keeps it.

Answers are immediate and reflect the last commit, so that a command takes effect at once in every worker.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastmail.directory.lookup import Destinations
from fastmail.directory.records import Account, Alias, AppPassword, Change, Domain, Group, Renamed
from fastmail.model.address import without_detail
from fastmail.model.quota import Quota

AccountRecord = Account  # its name where store.interface.Account, the account of the mail store, is at hand too


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
    """Lookups by address, ``local@domain``. Case does not count, a domain is the same with A-labels and with U-labels,
    and an address of another name of a domain is that of the domain itself; an Account has the address that was
    stored. Whatever reads a row raises DamagedAccount where that is damaged."""

    def account(self, address: str) -> Account | None: ...
    def account_by_id(self, number: int) -> Account | None: ...
    def each_account(self, domain: str = "", after: str = "") -> Iterator[Account]:
        """All accounts that can be read, by domain and name: of one domain, and behind an address, if asked."""
        ...

    def domain(self, name: str) -> Domain | None: ...
    def groups_of(self, number: int) -> frozenset[str]:
        """The names (``local@domain``) of the groups that an account is in."""
        ...

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
        """Do we take mail for this domain? Also where it is switched off: then its addresses say so."""
        ...

    def destinations(self, address: str) -> Destinations:
        """Who gets mail for the address, here and at other hosts (directory.lookup)."""
        ...

    def resolve(self, address: str) -> list[Account]:
        """The accounts among them."""
        ...

    def quota(self, account: Account) -> Quota:
        """An account's limits, with those of its domain where it has none of its own."""
        ...

    def set_quota(self, address: str, quota: Quota) -> None:
        """Give an account limits of its own; it waits for the disk."""
        ...

    def app_password(self, number: int, digest: bytes) -> AppPassword | None:
        """The app password of an account by its SHA-256 (directory.apps)."""
        ...

    def note_used(self, logins: Iterable[tuple[int, bytes, str, int]]) -> None:
        """Write down (number, digest of an app password or nothing, protocol, s since 1970) of logins; it waits for
        the disk."""
        ...

    def note_acting(self, master: str, address: str, protocol: str, host: str) -> None:
        """Write into the audit log that a master user opened an account, by which protocol and from where; it waits for
        the disk."""
        ...

    def upgrade_password(self, record: Account, password: str, scram: str) -> bool:
        """Keep a password that was just shown to be right in a better form, unless it was changed meanwhile; it waits
        for the disk."""
        ...

    def may_send_as(self, account: Account, address: str) -> bool:
        """Does the sender address belong to the account: its own, with any detail, an alias to it, an identity?"""
        ...


class Administration(Directory, Protocol):
    """What commands and pages do. A change is read, checked and written in one transaction; DirectoryError says why it
    cannot be. Each waits for the disk."""

    actor: str

    def alias(self, address: str) -> Alias | None: ...
    def each_domain(self, after: str = "") -> Iterator[Domain]: ...
    def each_alias(self, domain: str = "", after: str = "") -> Iterator[Alias]: ...
    def counts(self, domain: str) -> tuple[int, int]: ...
    def audit(self, limit: int = 0, name: str = "") -> Iterator[Change]: ...
    def add_domain(self, domain: str | Domain) -> None: ...
    def change_domain(self, name: str, change: Callable[[Domain], Domain]) -> Domain: ...
    def remove_domain(self, name: str) -> None: ...
    def add_accounts(self, accounts: Iterable[tuple[str, ...]], replace: bool = False) -> int: ...
    def add_account(
        self, address: str, password: str, scram: str, change: Callable[[Account], Account] | None = None
    ) -> None: ...
    def change_account(self, address: str, change: Callable[[Account], Account]) -> Account: ...
    def remove_account(self, address: str) -> Account: ...
    def add_alias(self, address: str, targets: Sequence[str]) -> None: ...
    def put_alias(self, new: Alias) -> None: ...
    def change_alias(self, address: str, change: Callable[[Alias], Alias]) -> Alias: ...
    def remove_alias(self, address: str) -> None: ...
    def rename_account(self, old: str, new: str, keep: bool = True) -> Account: ...
    def rename_domain(self, old: str, new: str, keep: bool = True) -> Domain: ...
    def renames(self) -> Iterator[tuple[int, Renamed]]: ...
    def followed(self, number: int) -> None: ...
    def group(self, name: str) -> Group | None: ...
    def each_group(self, domain: str = "", after: str = "") -> Iterator[Group]: ...
    def members(self, group: Group) -> list[str]: ...
    def put_group(self, name: str, members: Sequence[str] = (), description: str = "") -> None: ...
    def change_group(
        self,
        name: str,
        members: Sequence[str] | None = None,
        description: str | None = None,
        join: Sequence[str] = (),
        leave: Sequence[str] = (),
    ) -> Group: ...
    def remove_group(self, name: str) -> None: ...
    def add_app_password(self, address: str, new: AppPassword) -> None: ...
    def remove_app_password(self, address: str, new: AppPassword) -> None: ...
    def app_passwords(self, number: int) -> list[AppPassword]: ...


async def fresh(directory: Directory, address: str) -> None:
    """Bring the accounts that an address may lead to up to date: its own, and the one in front of a detail."""
    local, _, domain = address.lower().rpartition("@")
    await directory.freshen(f"{local}@{domain}")
    base = without_detail(local)
    if base != local and not directory.resolve(address):
        await directory.freshen(f"{base}@{domain}")
