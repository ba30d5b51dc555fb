"""What is read of the built-in directory, whatever its tables lie in.

Answers reflect the last commit. What delivery asks again and again (domains, where addresses lead) is remembered until
the directory is changed: a commit that only notes logins changes nothing that is remembered, so it leaves the memory as
it is. Lists come a page at a time, each from its own short transaction, so memory does not grow with the accounts and a
slow reader keeps no old commit alive.
"""

import heapq
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Protocol

from fastmail.directory import apps, limits, lookup, membership, rows, taken
from fastmail.directory.audit import ACTED, CHANGED
from fastmail.directory.lookup import Destinations, belongs
from fastmail.directory.membership import GROUP_TABLE
from fastmail.directory.records import LEFT, Account, Alias, AppPassword, Change, Domain, List, Member, Used
from fastmail.directory.rows import (
    ACCOUNTS,
    ALIASES,
    APPS,
    AUDIT,
    DOMAINS,
    GROUPS,
    LISTS,
    MEMBER_ROWS,
    NUL,
    PASSKEYS,
    SCRIPTS,
    TOTPS,
    U64,
    USED,
    address_key,
    domain_key,
)
from fastmail.directory.tables import META, Tables, Txn
from fastmail.model.address import comparable
from fastmail.model.errors import CorruptData, DamagedAccount
from fastmail.model.quota import Quota

NEXT = b"next-id"
REVISION = b"revision"  # see directory.standing
REVOKED = b"revoked:"  # with an account's number: the revision of the last change
CHANGES = b"changes"  # grows with each change of what is remembered here
SRS = b"srs:"  # with the time(8) when a key was made: the key
REMEMBERED = 50_000
NUMBERED = ("apps", "totp", "passkeys", "scripts")  # tables whose keys begin with the number of an account
UNASKED = Domain("")  # stands for a domain of which nothing is remembered
PAGE = 1000  # rows that are read in one transaction
SHAPES = (("domains", DOMAINS), ("accounts", ACCOUNTS), ("aliases", ALIASES), ("apps", APPS), ("lists", LISTS),
          ("list_members", MEMBER_ROWS), (GROUP_TABLE, GROUPS), ("totp", TOTPS), ("passkeys", PASSKEYS),
          ("scripts", SCRIPTS))  # fmt: skip


class Asker(Protocol):
    """Who is asked for accounts before they are read here (directory.live)."""

    async def freshen(self, address: str) -> str: ...


class _Rows:
    """Look-ups of one search (lookup.Lookup): the memory was checked when it began, and addresses come in the form for
    comparing, under the first name of their domain."""

    __slots__ = ("_get", "domain")

    def __init__(self, place: "Reading") -> None:
        self._get, self.domain = place._get, place._domain

    def account(self, address: str) -> Account | None:
        key = rows.compared_key(address)
        row = self._get("accounts", key)
        return ACCOUNTS.unpack(key, row) if row is not None else None

    def alias(self, address: str) -> Alias | None:
        key = rows.compared_key(address)
        row = self._get("aliases", key)
        return ALIASES.unpack(key, row) if row is not None else None

    def mailing_list(self, address: str) -> List | None:
        key = rows.compared_key(address)
        row = self._get("lists", key)
        return LISTS.unpack(key, row) if row is not None else None


class _Memory:
    """What is remembered of one state of the directory: is a name local, domains, destinations, groups, keys.

    It is never emptied but replaced, because other threads read as well: who began to read a row before a change keeps
    what it found in the memory of that time, which nobody asks any more."""

    __slots__ = ("domains", "found", "groups", "links", "local", "srs")

    def __init__(self) -> None:
        self.local: dict[str, bool] = {}
        self.domains: dict[str, Domain | None] = {}
        self.found: dict[str, Destinations] = {}
        self.groups: dict[int, frozenset[str]] = {}
        self.srs: list[tuple[int, bytes]] | None = None
        self.links: list[tuple[int, bytes]] | None = None

    def __len__(self) -> int:
        return len(self.local) + len(self.domains) + len(self.found) + len(self.groups)


class Reading:
    """See interface.Directory."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._last_commit = tables.last_commit
        self._rows = _Rows(self)
        self._batch: Txn | None = None  # the transaction of many changes, which sees what they have done so far
        self._commit = -1  # the last one that was looked at
        self._changes = -1  # what its CHANGES was
        self._revised = -1, 0  # the commit that a revision was read at, and the revision
        self._memory = _Memory()
        self._others: dict[bytes, set[str]] | None = None  # other names by the key of their domain, while in a batch
        self.live: Asker | None = None

    def close(self) -> None:
        self._tables.close()

    # ---------------------------------------------------------------- rows

    def _get(self, table: str, key: bytes) -> bytes | None:
        if self._batch is not None:
            return self._batch.get(table, key)
        return self._tables.get(table, key)

    @contextmanager
    def _batch_or_read(self) -> Iterator[Txn]:
        if self._batch is not None:
            yield self._batch
            return
        with self._tables.read() as txn:
            yield txn

    def _check_memory(self) -> _Memory:
        """What is remembered and still true. What is read after this call may be kept there."""
        if self._batch is not None:
            self._memory = _Memory()
        elif (commit := self._last_commit()) != self._commit:
            changes = _counted(self._tables.get(META, CHANGES))
            if changes != self._changes:
                self._memory = _Memory()
            self._commit, self._changes = commit, changes
        return self._memory

    def _with_room(self) -> _Memory:
        """The same, before something more is remembered; a search asks it again for each row that it reads."""
        if len(self._memory) > REMEMBERED:
            self._memory = _Memory()
        return self._memory

    def _forget(self) -> None:
        self._memory = _Memory()

    def domain(self, name: str) -> Domain | None:
        """The row of a domain, by either spelling. DamagedAccount."""
        found = self._check_memory().domains.get(name, UNASKED)
        return found if found is not UNASKED else self._domain(name)

    def _domain(self, name: str) -> Domain | None:
        """The same, where memory was checked already."""
        found = self._memory.domains.get(name, UNASKED)
        if found is UNASKED:
            memory = self._with_room()
            key = domain_key(name)
            row = self._get("domains", key)
            found = memory.domains[name] = DOMAINS.unpack(key, row) if row is not None else None
        return found

    def _main_key(self, address: str) -> bytes:
        """The key of an address under the first name of its domain; empty where its domain has no other name."""
        local, _, name = address.rpartition("@")
        found = self.domain(name)
        return address_key(f"{local}@{found.alias_of}") if found is not None and found.alias_of else b""

    def account(self, address: str) -> Account | None:
        """DamagedAccount."""
        key = address_key(address)
        row = self._get("accounts", key)
        if row is None and (key := self._main_key(address)):
            row = self._get("accounts", key)
        return ACCOUNTS.unpack(key, row) if row is not None else None

    def alias(self, address: str) -> Alias | None:
        """DamagedAccount."""
        key = address_key(address)
        row = self._get("aliases", key)
        if row is None and (key := self._main_key(address)):
            row = self._get("aliases", key)
        return ALIASES.unpack(key, row) if row is not None else None

    def mailing_list(self, address: str) -> List | None:
        """DamagedAccount."""
        key = address_key(address)
        row = self._get("lists", key)
        if row is None and (key := self._main_key(address)):
            row = self._get("lists", key)
        return LISTS.unpack(key, row) if row is not None else None

    def account_by_id(self, number: int) -> Account | None:
        """DamagedAccount, also where the number leads to another account."""
        key = self._get("numbers", U64.pack(number))
        row = self._get("accounts", key) if key is not None else None
        if key is None or row is None:
            return None
        found = ACCOUNTS.unpack(key, row)
        if found.id != number:
            raise DamagedAccount(f"number {number} leads to {found.address}, which has another one")
        return found

    def stand_in(self, address: str) -> Account | None:
        """For an account whose row is damaged: what leads to its mail, and nobody can log in by; None where its number
        is not known."""
        key = address_key(address)
        with self._tables.read() as txn:
            number = _number(txn, key)
            placed = taken.home_of(txn, number) if number is not None else ""
        return Account(number, rows.shown(key), "", False, placed=placed) if number is not None else None

    # ---------------------------------------------------------------- what delivery and logins ask

    def is_local(self, domain: str) -> bool:
        """True as well where the domain's row is damaged."""
        known = self._check_memory().local.get(domain)
        if known is None:
            memory = self._with_room()
            known = memory.local[domain] = self._get("domains", domain_key(domain)) is not None
        return known

    def destinations(self, address: str) -> Destinations:
        """Who gets mail for an address; remembered until something changes."""
        known = self._check_memory().found.get(address)
        if known is None or (known.until < math.inf and known.until <= time.time()):
            memory = self._with_room()
            known = memory.found[address] = lookup.find(self._rows, address)
        return known

    def resolve(self, address: str) -> list[Account]:
        """The accounts among them."""
        return self.destinations(address).accounts

    def may_send_as(self, account: Account, address: str) -> bool:
        return belongs(self, account, address)

    def quota(self, account: Account) -> Quota:
        """The account's limits with those of its domain (directory.limits)."""
        return limits.quota(account, self.domain(account.address.rpartition("@")[2]))

    async def freshen(self, address: str) -> str:
        return await self.live.freshen(address) if self.live is not None else address

    @property
    def revision(self) -> int:
        commit = self._last_commit()
        if commit != self._revised[0]:
            self._revised = commit, _counted(self._tables.get(META, REVISION))
        return self._revised[1]

    def revoked(self, number: int) -> int:
        return _counted(self._tables.get(META, REVOKED + b"%d" % number))

    @property
    def changes(self) -> int:
        """A number that grows with every change but notes of logins."""
        return _counted(self._tables.get(META, CHANGES))

    def srs_keys(self) -> list[tuple[int, bytes]]:
        """(when it was made, key) of directory.srs, the newest first."""
        memory = self._check_memory()
        if memory.srs is None:
            with self._tables.read() as txn:
                found = [(key, row) for key, row in _beginning(txn, META, SRS) if len(key) == len(SRS) + U64.size]
            memory.srs = [(int(U64.unpack(key[len(SRS) :])[0]), row) for key, row in reversed(found)]
        return memory.srs

    def groups_of(self, number: int) -> frozenset[str]:
        """The names of the groups that an account is in; remembered until something changes."""
        known = self._check_memory().groups.get(number)
        if known is None:
            memory = self._with_room()
            with self._batch_or_read() as txn:
                known = frozenset(map(rows.shown, membership.keys_of(txn, number)))
            memory.groups[number] = known
        return known

    # ---------------------------------------------------------------- app passwords

    def app_password(self, number: int, digest: bytes) -> AppPassword | None:
        """The app password of an account with this SHA-256; None where it has none. DamagedAccount."""
        key = rows.app_key(number, digest)
        row = self._get("apps", key)
        found = APPS.unpack(key, row) if row is not None else None
        return found if found is not None and apps.same(found.digest, digest) else None

    def app_passwords(self, number: int) -> list[AppPassword]:
        """Those that can be read."""
        out = []
        for key, row in self._each("apps", rows.app_key(number), rows.app_key(number)):
            with suppress(CorruptData):
                out.append(APPS.unpack(key, row))
        return out

    def used(self, number: int, digest: bytes = b"") -> dict[str, int]:
        """The last logins of an account, or with an app password: s since 1970, by protocol."""
        key = rows.app_key(number, digest)
        row = self._get("used", key)
        with suppress(CorruptData):
            found: Used = USED.unpack(key, row) if row is not None else Used()
            return found.last
        return {}

    # ---------------------------------------------------------------- lists

    def _each(self, table: str, start: bytes = b"", prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows whose keys begin with ``prefix``, from ``start`` on."""
        while True:
            if self._batch is not None:
                page = list(islice(self._batch.items(table, start), PAGE))
            else:
                with self._tables.read() as txn:
                    page = list(islice(txn.items(table, start), PAGE))
            for key, row in page:
                if not key.startswith(prefix):
                    return
                yield key, row
            if len(page) < PAGE:
                return
            start = page[-1][0] + NUL

    def _addresses(self, table: str, domain: str, after: str) -> Iterator[tuple[bytes, bytes]]:
        prefix = domain_key(domain) + NUL if domain else b""
        return self._each(table, max(prefix, address_key(after) + NUL if after else b""), prefix)

    def each_domain(self, after: str = "") -> Iterator[Domain]:
        """All domains whose rows can be read, by name; behind ``after``."""
        for key, row in self._each("domains", domain_key(after) + NUL if after else b""):
            with suppress(CorruptData):
                yield DOMAINS.unpack(key, row)

    def other_name(self, of: str) -> str:
        """One of the other names of a domain; empty where it has none. It goes over all domains, in a batch once."""
        others = self._others
        if others is None:
            others = {}
            for one in self.each_domain():
                if one.alias_of:
                    others.setdefault(domain_key(one.alias_of), set()).add(one.name)
            self._others = others if self._batch is not None else None
        return min(others.get(domain_key(of), ()), default="")

    def each_account(self, domain: str = "", after: str = "") -> Iterator[Account]:
        """All accounts whose rows can be read, by domain and name: of one domain, and behind an address, if asked."""
        for key, row in self._addresses("accounts", domain, after):
            with suppress(CorruptData):
                yield ACCOUNTS.unpack(key, row)

    def each_alias(self, domain: str = "", after: str = "") -> Iterator[Alias]:
        """The same for aliases."""
        for key, row in self._addresses("aliases", domain, after):
            with suppress(CorruptData):
                yield ALIASES.unpack(key, row)

    def each_list(self, domain: str = "", after: str = "") -> Iterator[List]:
        """The same for mailing lists."""
        for key, row in self._addresses("lists", domain, after):
            with suppress(CorruptData):
                yield LISTS.unpack(key, row)

    def _list_key(self, address: str) -> bytes:
        """The key of a list that is perhaps not there."""
        key = address_key(address)
        return key if self._get("lists", key) is not None else self._main_key(address) or key

    def each_member(self, of: str, after: str = "", left: bool = False) -> Iterator[Member]:
        """The members of a list by address, behind ``after``; each page from a short transaction of its own. ``left``:
        also those who left and whom a source still names (records.LEFT), for a backup."""
        prefix = rows.member_key(self._list_key(of))
        start = rows.member_key(self._list_key(of), after) + NUL if after else prefix
        for key, row in self._each("list_members", start, prefix):
            with suppress(CorruptData):
                found = MEMBER_ROWS.unpack(key, row)
                if left or found.state != LEFT:
                    yield found

    def has_lists(self, domain: str) -> bool:
        """Has it any mailing list, damaged or not?"""
        return next(self._addresses("lists", domain, ""), None) is not None

    def domains(self) -> list[Domain]:
        return list(self.each_domain())

    def accounts(self) -> list[Account]:
        return list(self.each_account())

    def aliases(self) -> list[Alias]:
        return list(self.each_alias())

    def counts(self, domain: str) -> tuple[int, int]:
        """(accounts, aliases) of a domain."""
        found = self._get("counts", domain_key(domain))
        return _pair(found)

    def audit(self, limit: int = 0, name: str = "", logins: bool = False) -> Iterator[Change]:
        """The last changes, and logins of master users, the oldest of them first: of one thing or of whoever changed
        things, if asked, or of ``logins`` alone."""
        tables = (ACTED,) if logins else (CHANGED, ACTED)
        rows = heapq.merge(*(self._noted(table, limit, name) for table in tables), key=lambda one: one.at)
        yield from deque(rows, limit) if limit else rows

    def _noted(self, table: str, limit: int, name: str) -> Iterator[Change]:
        start = max(0, self._tables_last(table) + 1 - limit) if limit and not name else 0
        wanted = comparable(name)
        for key, row in self._each(table, U64.pack(start)):
            with suppress(CorruptData):
                found = AUDIT.unpack(key, row)
                if not name or name == found.who or wanted == comparable(found.name):
                    yield found

    def _tables_last(self, table: str) -> int:
        with self._tables.read() as txn:
            key = txn.last(table)
        return int(U64.unpack(key)[0]) if len(key) == U64.size else -1

    def faults(self) -> list[tuple[str, str]]:
        """(address, what is wrong with it) of rows that are damaged."""
        out: list[tuple[str, str]] = []
        damaged: set[bytes] = set()
        known: dict[bytes, int] = {}
        for table, shape in SHAPES:
            for key, row in self._each(table):
                try:
                    found = shape.unpack(key, row)
                except CorruptData as error:
                    out.append((rows.shown(key) if NUL in key and table not in NUMBERED else _text(key), str(error)))
                    damaged.add(key)
                    continue
                if isinstance(found, Account):
                    known[key] = found.id
        out += self._strays(known, damaged)
        return out

    def _strays(self, known: dict[bytes, int], damaged: set[bytes]) -> list[tuple[str, str]]:
        """Accounts without their domain, and numbers that do not lead where they should."""
        domains = {key for key, _ in self._each("domains")}
        numbers = {U64.unpack(key)[0]: value for key, value in self._each("numbers") if len(key) == U64.size}
        out = []
        for key, number in known.items():
            if key.partition(NUL)[0] not in domains:
                out.append((rows.shown(key), "its domain is not one of this server's"))
            if number not in numbers:
                out.append((rows.shown(key), f"number {number} does not lead to it"))
            if key.count(NUL) > 1:
                out.append((rows.shown(key), "another account has this address; remove one of them"))
        out += [
            (rows.shown(key), f"number {number} leads to no such account")
            for number, key in numbers.items()
            if known.get(key) != number and key not in damaged
        ]
        return out


def _text(key: bytes) -> str:
    return key.decode("utf-8", "replace") if key.isascii() and key.decode().isprintable() else key.hex()


def _number(txn: Txn, key: bytes) -> int | None:
    """The number that leads to an account whose row cannot say it."""
    found = (number for number, there in txn.items("numbers") if there == key and len(number) == U64.size)
    return next((int(U64.unpack(number)[0]) for number in found), None)


def _beginning(txn: Txn, table: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    for key, row in txn.items(table, prefix):
        if not key.startswith(prefix):
            return
        yield key, row


def _counted(value: bytes | None) -> int:
    """A counter in ``meta``; 0 where there is none, or it is damaged."""
    found = value or b""
    return int(found) if found.isdigit() and len(found) < 20 else 0


def _pair(value: bytes | None) -> tuple[int, int]:
    """The counts of a domain; 0 where there are none."""
    if value is None or len(value) != rows.COUNTS.size:
        return 0, 0
    accounts, aliases = rows.COUNTS.unpack(value)
    return accounts, aliases
