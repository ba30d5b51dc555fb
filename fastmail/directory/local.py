"""The built-in directory: an LMDB environment that the commands write and every worker reads.

Tables: ``domain`` name -> b""; ``account`` address -> AccountRow; ``id`` number -> address; ``alias`` address or
``@domain`` -> list of addresses; ``meta`` has the revisions of directory.standing, which an older reader leaves alone.
Rows are msgspec MessagePack arrays with a version first; a reader refuses a higher
one. Written only by commands and by password upgrades, each in its own synced transaction. What delivery asks is
remembered until the next commit.

A domain and its addresses are kept in the spelling (A-labels or U-labels) in which the domain was added, because an
address is the name of a Maildir; every look-up tries both spellings.
"""

import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import msgspec

from fastmail.directory.interface import AccountRecord, Line, belongs, lookup
from fastmail.durable.env import Environment
from fastmail.model import domain as names
from fastmail.model.address import comparable, spellings
from fastmail.model.errors import ClientError, CorruptData, DamagedAccount
from fastmail.model.quota import Quota

LAYOUT = 1
TABLES = ["domain", "account", "id", "alias"]
MAP = 8 << 30
NEXT = b"next-id"
REVISION = b"revision"  # in ``meta``: see directory.standing
REVOKED = b"revoked:"  # in ``meta``, with an account's number: the revision of the last change
REMEMBERED = 50_000


class AccountRow(msgspec.Struct, array_like=True):
    """version 1: number, ``{SCHEME}hash``, enabled, limits (octets, messages, mailboxes; 0 the default, -1 none),
    keys for SCRAM, home and Maildir where the source says so, a checksum of all that and the address (0 in rows from
    before there was one); from where the account may log in, and why it may not (directory.access). An older reader
    leaves out the last ones; a row that restricts logins is damaged for a reader that does not know these two."""

    version: int
    id: int
    password: str
    enabled: bool = True
    quota: tuple[int, int, int] = (0, 0, 0)
    scram: str = ""
    home: str = ""
    maildir: str = ""
    check: int = 0
    nets: str = ""
    nologin: str = ""


SUMMED = 9  # fields that the checksum of a row without restrictions is of


class DirectoryError(ClientError):
    """What a command asked for cannot be done; the text says why."""


class NoSuchUser(DirectoryError):
    """There is no such account, or no alias of that name."""


_encode = msgspec.msgpack.Encoder().encode
_account = msgspec.msgpack.Decoder(AccountRow).decode
_names = msgspec.msgpack.Decoder(list[str]).decode


class Asker(Protocol):
    """Who is asked for accounts before they are read here (directory.live)."""

    async def freshen(self, address: str) -> str: ...


class LocalDirectory:
    """See interface.Directory for what readers use; the rest is for the commands."""

    def __init__(self, data_dir: str) -> None:
        self._env = Environment(os.path.join(data_dir, "directory"), TABLES, LAYOUT, MAP)
        self._db = self._env.db
        self._commit = -1
        self._revised = -1, 0  # the commit that a revision was read at, and the revision
        self._uncertain: bool | None = None
        self._local: dict[str, bool] = {}
        self._resolved: dict[str, list[AccountRecord]] = {}
        self.live: Asker | None = None

    def close(self) -> None:
        self._env.close()

    # ---------------------------------------------------------------- reading

    def _get(self, table: str, key: str) -> bytes | None:
        raw = key.encode("utf-8", "replace")
        if not raw or len(raw) > 500:
            return None
        with self._env.read() as txn:
            found = txn.get(raw, db=self._db[table])
            return bytes(found) if found is not None else None

    def _find(self, table: str, address: str) -> tuple[str, bytes] | None:
        """The row of an address, and how the address is spelled there."""
        for one in spellings(address):
            found = self._get(table, one)
            if found is not None:
                return one, found
        return None

    def account(self, address: str) -> AccountRecord | None:
        found = self._find("account", address)
        return _record(*found) if found is not None else None

    def stand_in(self, address: str) -> AccountRecord | None:
        """For an account whose row is damaged: what leads to its mail, and nobody can log in by; None where its number
        is not known."""
        with self._env.read() as txn:
            stored = self._spelled(txn, "account", address)
            number = self._number(txn, stored)
        return AccountRecord(number, stored, "", False) if number is not None else None

    def _number(self, txn: Any, address: str) -> int | None:
        rows = txn.cursor(db=self._db["id"]).iternext()
        found = (bytes(key) for key, value in rows if value == address.encode())
        return next((int(key) for key in found if key.isdigit()), None)

    def account_by_id(self, number: int) -> AccountRecord | None:
        found = self._get("id", str(number))
        return self.account(found.decode()) if found is not None else None

    @property
    def revision(self) -> int:
        commit = self._env.last_commit()
        if commit != self._revised[0]:
            with self._env.read() as txn:
                self._revised = commit, _counted(txn.get(REVISION, db=self._db["meta"]))
        return self._revised[1]

    def revoked(self, number: int) -> int:
        with self._env.read() as txn:
            return _counted(txn.get(REVOKED + b"%d" % number, db=self._db["meta"]))

    def _revoke(self, txn: Any, numbers: Iterable[int]) -> None:
        """Logins of these accounts do not count any more."""
        meta = self._db["meta"]
        at = b"%d" % (_counted(txn.get(REVISION, db=meta)) + 1)
        txn.put(REVISION, at, db=meta)
        for number in numbers:
            txn.put(REVOKED + b"%d" % number, at, db=meta)

    def alias(self, address: str) -> list[str] | None:
        found = self._find("alias", address)
        return _targets(*found) if found is not None else None

    async def freshen(self, address: str) -> str:
        return await self.live.freshen(address) if self.live is not None else address

    def is_local(self, domain: str) -> bool:
        self._check_memory()
        known = self._local.get(domain)
        if known is None:
            known = self._local[domain] = any(self._get("domain", one) is not None for one in names.spellings(domain))
        return known

    def resolve(self, address: str) -> list[AccountRecord]:
        self._check_memory()
        known = self._resolved.get(address)
        if known is None:
            known = self._resolved[address] = lookup(self, address)
        return known

    def _check_memory(self) -> None:
        commit = self._env.last_commit()
        if commit != self._commit or len(self._local) + len(self._resolved) > REMEMBERED:
            self._local.clear()
            self._resolved.clear()
            self._uncertain = None
            self._commit = commit

    def may_send_as(self, account: AccountRecord, address: str) -> bool:
        return belongs(self, account, address)

    def _items(self, table: str) -> list[tuple[str, bytes]]:
        with self._env.read() as txn:
            return [(str(k, "utf-8", "replace"), bytes(v)) for k, v in txn.cursor(db=self._db[table]).iternext()]

    def domains(self) -> list[str]:
        return [name for name, _ in self._items("domain")]

    def accounts(self) -> list[AccountRecord]:
        """All whose rows can be read."""
        out = []
        for address, row in self._items("account"):
            with suppress(CorruptData):
                out.append(_record(address, row))
        return out

    def aliases(self) -> list[tuple[str, list[str]]]:
        out = []
        for address, row in self._items("alias"):
            with suppress(CorruptData):
                out.append((address, _targets(address, row)))
        return out

    def faults(self) -> list[tuple[str, str]]:
        """(address, what is wrong with it) of rows that are damaged."""
        out = []
        damaged = set()
        for table, read in (("account", _record), ("alias", _targets)):
            for address, row in self._items(table):
                try:
                    read(address, row)
                except CorruptData as error:
                    out.append((address, str(error)))
                    damaged.add(address)
        known = {str(record.id): record.address for record in self.accounts()}
        domains = {names.comparable(name) for name in self.domains()}
        out += [
            (address, "its domain is not one of this server's")
            for address in known.values()
            if names.comparable(address.rpartition("@")[2]) not in domains
        ]
        numbers = {number: str(address, "utf-8", "replace") for number, address in self._items("id")}
        out += [(known[number], f"number {number} does not lead to it") for number in known.keys() - numbers.keys()]
        out += [
            (address, f"number {number} leads to no such account")
            for number, address in numbers.items()
            if known.get(number) != address and address not in damaged
        ]
        return out

    # ---------------------------------------------------------------- writing, for commands

    def add_domain(self, name: str) -> None:
        if self.is_local(name):
            raise DirectoryError(f"domain {name} is already there")
        with self._env.write() as txn:
            txn.put(name.encode(), b"", db=self._db["domain"])

    def remove_domain(self, name: str) -> None:
        if not self.is_local(name):
            raise DirectoryError(f"there is no domain {name}; `fastmail domain list` shows them")
        addresses = [a.address for a in self.accounts()] + [a for a, _ in self.aliases()]
        gone = names.comparable(name)
        used = [one for one in addresses if names.comparable(one.rpartition("@")[2]) == gone]
        if used:
            raise DirectoryError(f"domain {name} still has {len(used)} addresses, such as {used[0]}: remove them first")
        with self._env.write() as txn:
            for one in names.spellings(name):
                txn.delete(one.encode(), db=self._db["domain"])

    def _spelled(self, txn: Any, table: str, address: str) -> str:
        """How an address is spelled in a table; where it is not there, as its domain is spelled."""
        tried = spellings(address)
        for one in tried:
            if txn.get(one.encode(), db=self._db[table]) is not None:
                return one
        if len(tried) == 1:
            return tried[0]
        local, _, domain = tried[0].rpartition("@")
        known = (one for one in names.spellings(domain) if txn.get(one.encode(), db=self._db["domain"]) is not None)
        return f"{local}@{next(known, domain)}"

    def add_accounts(self, accounts: Iterable[tuple[str, ...]], replace: bool = False) -> int:
        """Add (address, ``{SCHEME}hash`` and perhaps SCRAM keys, nets, nologin) in one transaction: all or none. How
        many are new."""
        new = 0
        revoked: list[int] = []
        with self._env.write() as txn:
            counter = txn.get(NEXT, db=self._db["meta"])
            number = int(counter) if counter else 1
            for asked, password, *more in accounts:
                address = self._spelled(txn, "account", asked)
                scram, nets, nologin = [*more, "", "", ""][:3]
                if txn.get(address.rpartition("@")[2].encode(), db=self._db["domain"]) is None:
                    domain = address.rpartition("@")[2]
                    raise DirectoryError(
                        f"{address}: {domain} is not a domain of this server; `fastmail domain add {domain}`"
                    )
                if any(txn.get(one.encode(), db=self._db["alias"]) is not None for one in spellings(address)):
                    raise DirectoryError(f"{address} is already an alias")
                old = txn.get(address.encode(), db=self._db["account"])
                if old is not None and not replace:
                    raise DirectoryError(f"account {address} is already there; `fastmail account passwd` changes it")
                row = self._present(txn, address, old) if old is not None else None
                if row is None:
                    row = AccountRow(1, number, password)
                    txn.put(str(number).encode(), address.encode(), db=self._db["id"])
                    number += 1
                    new += 1
                if old is not None and (row.password, row.nets, row.nologin) != (password, nets, nologin):
                    revoked.append(row.id)
                row.password, row.scram = password, scram
                row.nets, row.nologin = nets, nologin
                txn.put(address.encode(), _packed(address, row), db=self._db["account"])
            if revoked:
                self._revoke(txn, revoked)
            txn.put(NEXT, str(number).encode(), db=self._db["meta"])
        return new

    def _present(self, txn: Any, address: str, packed: bytes) -> AccountRow | None:
        """A row; where it is damaged, a new one with the number that leads to it, so that its mail is its own again."""
        with suppress(CorruptData):
            return _row(address, packed)
        number = self._number(txn, address)
        return AccountRow(1, number, "") if number is not None else None

    def bring(self, lines: Iterable[Line], gone: Iterable[str]) -> None:
        """Accounts as another source has them, with their domains, and some that it has no more: these are disabled. In
        one transaction."""
        db = self._db
        revoked: list[int] = []
        with self._env.write() as txn:
            counter = txn.get(NEXT, db=db["meta"])
            number = int(counter) if counter else 1
            for line in lines:
                address = self._spelled(txn, "account", line.address)
                key = address.encode()
                old = txn.get(key, db=db["account"])
                row = self._present(txn, address, old) if old is not None else None
                if row is None:
                    txn.put(str(number).encode(), key, db=db["id"])
                    for one in spellings(address):
                        txn.delete(one.encode(), db=db["alias"])  # an account goes before an alias
                    row = AccountRow(1, number, line.password)
                    number += 1
                if (row.password, row.nets, row.nologin) != (line.password, line.nets, line.nologin):
                    revoked.append(row.id)
                if row.password != line.password:
                    row.password, row.scram = line.password, ""
                row.enabled, row.home, row.maildir = True, line.home, line.maildir
                row.nets, row.nologin = line.nets, line.nologin
                if line.quota is not None:
                    row.quota = (line.quota.octets, line.quota.messages, line.quota.mailboxes)
                self._have_domain(txn, address)
                txn.put(key, _packed(address, row), db=db["account"])
            for one in gone:
                address = self._spelled(txn, "account", one)
                old = txn.get(address.encode(), db=db["account"])
                row = self._present(txn, address, old) if old is not None else None
                if row is not None:
                    row.enabled = False
                    revoked.append(row.id)
                    txn.put(address.encode(), _packed(address, row), db=db["account"])
            if revoked:
                self._revoke(txn, revoked)
            txn.put(NEXT, str(number).encode(), db=db["meta"])

    def _have_domain(self, txn: Any, address: str) -> None:
        domain = address.rpartition("@")[2]
        if not any(txn.get(one.encode(), db=self._db["domain"]) is not None for one in names.spellings(domain)):
            txn.put(domain.encode(), b"", db=self._db["domain"])

    @contextmanager
    def _changed(self, address: str, revokes: bool = False) -> Iterator[AccountRow]:
        """An account's row, to be written back; ``revokes``: its logins do not count any more."""
        with self._env.write() as txn:
            address = self._spelled(txn, "account", address)
            old = txn.get(address.encode(), db=self._db["account"])
            if old is None:
                raise NoSuchUser(f"there is no account {address}; `fastmail account list` shows them")
            row = _row(address, old)
            yield row
            txn.put(address.encode(), _packed(address, row), db=self._db["account"])
            if revokes:
                self._revoke(txn, [row.id])

    def mend(self) -> None:
        """Behind damage: numbers lead to their accounts again, also to those whose rows are damaged, none is given out
        twice, and the domains of accounts are there."""
        accounts = self.accounts()
        damaged = {address for address, _ in self._items("account")} - {record.address for record in accounts}
        kept = 0
        db = self._db
        with self._env.write() as txn:
            for key, value in list(txn.cursor(db=db["id"]).iternext()):
                if key.isdigit() and str(value, "utf-8", "replace") in damaged:
                    kept = max(kept, int(key))
                else:
                    txn.delete(key, db=db["id"])
            for record in accounts:
                txn.put(str(record.id).encode(), record.address.encode(), db=db["id"])
                self._have_domain(txn, record.address)
            counter = txn.get(NEXT, db=db["meta"])
            known = int(counter) if counter and counter.isdigit() else 1
            number = max([known, kept + 1, *(record.id + 1 for record in accounts)])
            txn.put(NEXT, str(number).encode(), db=db["meta"])

    def set_password(self, address: str, password: str, scram: str = "") -> None:
        with self._changed(address, revokes=True) as row:
            row.password, row.scram = password, scram

    def enable(self, address: str, on: bool) -> None:
        """Let an account log in and get mail, or not."""
        with self._changed(address, revokes=not on) as row:
            row.enabled = on

    def upgrade_password(self, record: AccountRecord, password: str, scram: str) -> bool:
        with self._changed(record.address) as row:
            same = (row.id, row.password) == (record.id, record.password)
            if same:
                row.password, row.scram = password, scram
        return same

    @property
    def uncertain(self) -> bool:
        """Is the source of the accounts out of reach, so that an unknown address may be known there?"""
        self._check_memory()
        if self._uncertain is None:
            with self._env.read() as txn:
                self._uncertain = txn.get(b"uncertain", db=self._db["meta"]) is not None
        return self._uncertain

    def set_uncertain(self, on: bool) -> None:
        with self._env.write() as txn:
            if on:
                txn.put(b"uncertain", b"1", db=self._db["meta"])
            else:
                txn.delete(b"uncertain", db=self._db["meta"])

    def replace_aliases(self, wanted: dict[str, list[str]]) -> int:
        """Make these the aliases; how many changed. Targets are not looked up: they may come later."""
        known = dict(self.aliases())
        changed = {address: targets for address, targets in wanted.items() if known.get(address) != targets}
        gone = known.keys() - wanted.keys()
        if changed or gone:
            with self._env.write() as txn:
                for address in gone:
                    txn.delete(address.encode(), db=self._db["alias"])
                for address, targets in changed.items():
                    txn.put(address.encode(), _encode(targets), db=self._db["alias"])
        return len(changed) + len(gone)

    def set_quota(self, address: str, quota: Quota) -> None:
        with self._changed(address) as row:
            row.quota = (quota.octets, quota.messages, quota.mailboxes)

    def remove_account(self, address: str) -> AccountRecord:
        record = self.account(address)
        if record is None:
            raise NoSuchUser(f"there is no account {address}; `fastmail account list` shows them")
        with self._env.write() as txn:
            txn.delete(record.address.encode(), db=self._db["account"])
            txn.delete(str(record.id).encode(), db=self._db["id"])
            txn.delete(REVOKED + b"%d" % record.id, db=self._db["meta"])
            self._revoke(txn, ())
        return record

    def add_alias(self, address: str, targets: list[str]) -> None:
        domain = address.rpartition("@")[2]
        if not self.is_local(domain):
            raise DirectoryError(f"{domain} is not a domain of this server; `fastmail domain add {domain}`")
        if self.account(address) is not None:
            raise DirectoryError(f"{address} is already an account")
        if self.alias(address) is not None:
            raise DirectoryError(f"alias {address} is already there; remove it first")
        planned = _Planned(self, address, targets)
        for target in targets:
            if comparable(target) == comparable(address):
                raise DirectoryError(f"alias {address} would lead to itself")
            if not lookup(planned, target):
                if self.resolve(target):
                    raise DirectoryError(f"alias {address} would lead to itself, by way of {target}")
                raise NoSuchUser(f"nobody here gets mail for {target}: an alias leads to accounts of this server")
        if not lookup(planned, address):
            raise DirectoryError(f"alias {address} would be too many aliases away from an account")
        with self._env.write() as txn:
            address = self._spelled(txn, "alias", address)
            stored = [self._spelled(txn, "account", target) for target in targets]
            txn.put(address.encode(), _encode(stored), db=self._db["alias"])

    def remove_alias(self, address: str) -> None:
        if self.alias(address) is None:
            raise NoSuchUser(f"there is no alias {address}; `fastmail alias list` shows them")
        with self._env.write() as txn:
            address = self._spelled(txn, "alias", address)
            txn.delete(address.encode(), db=self._db["alias"])


class _Planned:
    """The directory as it would be with one alias more."""

    def __init__(self, place: LocalDirectory, address: str, targets: list[str]) -> None:
        self.account = place.account
        self._place, self._name, self._targets = place, comparable(address), targets

    def alias(self, address: str) -> list[str] | None:
        return self._targets if comparable(address) == self._name else self._place.alias(address)


def _counted(value: bytes | memoryview | None) -> int:
    """A counter in ``meta``; 0 where there is none, or it is damaged."""
    found = bytes(value) if value is not None else b""
    return int(found) if found.isdigit() and len(found) < 20 else 0


def _targets(address: str, row: bytes) -> list[str]:
    try:
        return _names(row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedAccount(f"alias {address}: {error}") from None


def _sum(address: str, row: AccountRow) -> int:
    bare = msgspec.structs.astuple(msgspec.structs.replace(row, check=0))
    found = zlib.crc32(_encode(bare[:SUMMED]), zlib.crc32(address.encode()))
    if any(bare[SUMMED:]):
        found = zlib.crc32(_encode(bare[SUMMED:]), found)
    return found or 1


def _packed(address: str, row: AccountRow) -> bytes:
    return _encode(msgspec.structs.replace(row, check=_sum(address, row)))


def _row(address: str, packed: bytes) -> AccountRow:
    """DamagedAccount when it is not what was written: a changed limit would send mail back, a changed number lead to
    another one's."""
    try:
        if "\ufffd" in address:
            raise DamagedAccount(f"account {address}: its address is damaged")
        found = _account(packed)
        if found.version != 1:
            raise DamagedAccount(f"account {address} has layout {found.version}")
        if found.check and found.check != _sum(address, found):
            raise DamagedAccount(
                f"account {address}: its row is damaged; `fastmail account import --replace` makes it anew"
            )
    except (msgspec.DecodeError, UnicodeError) as error:
        raise DamagedAccount(f"account {address}: {error}") from None
    return found


def _record(address: str, packed: bytes) -> AccountRecord:
    found = _row(address, packed)
    return AccountRecord(found.id, address, found.password, found.enabled, Quota(*found.quota), found.scram,
                         found.home, found.maildir, found.nets, found.nologin)  # fmt: skip
