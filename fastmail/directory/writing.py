"""Changes of the directory: for commands, for sources of accounts that are followed, and for better password hashes.

Each change is a read, a look whether it may be, and a write in one transaction, so of two that come together none is
lost; its row of the audit log is of the same transaction. What cannot be done is DirectoryError, and nothing was
changed then. ``batch`` makes one transaction of many changes: all their rows become durable with it.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec

from fastmail.directory import audit, checks, membership, origins, rows, srs, taken
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.origins import Origins
from fastmail.directory.reading import (
    CHANGES,
    NEXT,
    REVISION,
    REVOKED,
    SRS,
    _beginning,
    _counted,
    _number,
    _pair,
)
from fastmail.directory.records import Account, Alias, Domain, List, Used
from fastmail.directory.rows import ACCOUNTS, ALIASES, COUNTS, DOMAINS, NUL, U64, address_key, domain_key
from fastmail.directory.tables import META, Txn
from fastmail.directory.told import said_anew
from fastmail.model.address import refuse_unseen
from fastmail.model.errors import CorruptData, DamagedAccount
from fastmail.model.quota import Quota

SOURCE = "source"  # who changed what a followed source says
AUTOMATIC = "automatic"  # who changed what the server decided by itself
replace = msgspec.structs.replace


class Writing(Origins):
    """See interface.Administration. ``actor``: who the audit log says it was."""

    actor = "server"

    # ---------------------------------------------------------------- transactions

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Make one transaction of all changes inside; reads inside see them. For commands: no other thread may use
        this object meanwhile."""
        with self._tables.write() as txn:
            self._batch = txn
            try:
                yield
            finally:
                self._batch = self._others = None
                self._forget()

    @contextmanager
    def _write(self) -> Iterator[Txn]:
        if self._batch is not None:
            yield self._batch
            return
        with self._tables.write() as txn:
            yield txn

    def _note(self, txn: Txn, what: str, name: str, text: str, who: str = "") -> None:
        """A change was made: what is remembered in any process is not true any more."""
        txn.put(META, CHANGES, b"%d" % (_counted(txn.get(META, CHANGES)) + 1))
        audit.note(txn, who or self.actor, what, name, text)

    def _revoke(self, txn: Txn, numbers: Iterable[int]) -> None:
        """Logins of these accounts do not count any more."""
        at = b"%d" % (_counted(txn.get(META, REVISION)) + 1)
        txn.put(META, REVISION, at)
        for number in numbers:
            txn.put(META, REVOKED + b"%d" % number, at)

    def _count(self, txn: Txn, key: bytes, accounts: int, aliases: int) -> None:
        """Of the domain of an address's key."""
        domain = key.partition(NUL)[0]
        mine, others = _pair(txn.get("counts", domain))
        txn.put("counts", domain, COUNTS.pack(max(0, mine + accounts), max(0, others + aliases)))

    def _note_other(self, old: Domain | None, new: Domain | None) -> None:
        """What a batch knows of other names of domains stays true."""
        if self._others is not None:
            if old is not None and old.alias_of:
                self._others.get(domain_key(old.alias_of), set()).discard(old.name)
            if new is not None and new.alias_of:
                self._others.setdefault(domain_key(new.alias_of), set()).add(new.name)

    def _domain_row(self, txn: Txn, name: str) -> Domain | None:
        key = domain_key(name)
        row = txn.get("domains", key)
        return DOMAINS.unpack(key, row) if row is not None else None

    def _named(self, txn: Txn, address: str) -> tuple[Domain | None, str, bytes]:
        """The domain of an address, the address as it is kept, with the domain's own spelling, and its key."""
        local, _, name = address.rpartition("@")
        domain = self._domain_row(txn, name)
        return domain, f"{local}@{domain.name if domain is not None else name}", address_key(address)

    def _there(self, txn: Txn, table: str, address: str) -> tuple[bytes, bytes] | None:
        """(key, row) of an account or alias, also by another name of its domain."""
        domain, _, key = self._named(txn, address)
        row = txn.get(table, key)
        if row is None and domain is not None and domain.alias_of:
            key = address_key(f"{address.rpartition('@')[0]}@{domain.alias_of}")
            row = txn.get(table, key)
        return (key, row) if row is not None else None

    # ---------------------------------------------------------------- domains

    def add_domain(self, domain: str | Domain) -> None:
        new = Domain(domain) if isinstance(domain, str) else domain
        with self._write() as txn:
            key = domain_key(new.name)
            row = txn.get("domains", key)
            if row is not None and _is_sound(key, row):
                raise DirectoryError(f"domain {new.name} is already there")
            checks.domain(self, new)
            checks.source(self, new)
            taken.refuse_while_renaming(txn, f"@{new.name}")
            self._put_domain(txn, key, None, new)

    def change_domain(self, name: str, change: Callable[[Domain], Domain]) -> Domain:
        """Replace a domain's row by what ``change`` makes of it."""
        with self._write() as txn:
            old = self._domain_row(txn, name)
            if old is None:
                raise _no_domain(name)
            new = replace(change(old), name=old.name)
            if new == old:
                return old
            self._refuse_said(old, new, new.name)
            checks.domain(self, new)
            if new.source != old.source:
                checks.source(self, new)
                new = replace(new, said=(), gone=False)  # what the other source said is this directory's now
            elif new.enabled:
                new = replace(new, gone=False)  # whoever switches it on keeps it here
            self._put_domain(txn, domain_key(name), old, new)
            return new

    def _put_domain(self, txn: Txn, key: bytes, old: Domain | None, new: Domain, who: str = "") -> None:
        """Write a row that was added or changed, and have sessions look at their logins again where it matters."""
        txn.put("domains", key, DOMAINS.pack(key, new))
        origins.mark_new(txn, old, new)
        self._note_other(old, new)
        if old is not None and (old.enabled, old.alias_of) != (new.enabled, new.alias_of):
            self._revoke(txn, ())
        what = "domain set" if old is not None else "domain add"
        self._note(txn, what, new.name, audit.difference(old, new), who)

    def _refuse_said(self, old: Domain | Account | List, new: Domain | Account | List, name: str) -> None:
        """A field that a source says is changed there: here, it would be back at the source's next change."""
        domain = name.rpartition("@")[2]
        if (field := said_anew(old, new)) and self.is_followed(domain):
            source = self.source_of(domain)
            raise DirectoryError(
                f"{field} of {name} is what {f'the source {source}' if source else '[directory]'} says: change it there"
            )

    def remove_domain(self, name: str) -> None:
        with self._write() as txn:
            key = domain_key(name)
            if txn.get("domains", key) is None:
                raise _no_domain(name)
            used = [
                rows.shown(one)
                for table in ("accounts", "aliases", "groups", "lists")
                for one, _ in _beginning(txn, table, key + NUL)
            ]
            if used:
                text = f"{len(used)} addresses, such as {used[0]}: remove them first"
                raise DirectoryError(f"domain {name} still has {text}")
            other = self.other_name(name)
            if other:
                raise DirectoryError(f"{other} is another name of {name}: remove that first")
            with suppress(CorruptData):
                self._note_other(self._domain_row(txn, name), None)
            for table in ("domains", "counts"):
                txn.delete(table, key)
            self._note(txn, "domain remove", name, "")

    def _have_domain(self, txn: Txn, address: str) -> Domain:
        """The domain of an address, which is made where it is not there."""
        name = address.rpartition("@")[2]
        found = self._domain_row(txn, name)
        if found is None:
            found, key = Domain(name), domain_key(name)
            txn.put("domains", key, DOMAINS.pack(key, found))
            self._note(txn, "domain add", name, "", SOURCE)
        return found

    # ---------------------------------------------------------------- accounts

    def add_accounts(self, accounts: Iterable[tuple[str, ...]], replace: bool = False) -> int:
        """Add (address, ``{SCHEME}hash`` and perhaps SCRAM keys, nets, nologin) in one transaction: all or none. How
        many are new."""
        with self._write() as txn:
            return sum([self._add_account(txn, replace, None, *one) for one in accounts])

    def add_account(
        self, address: str, password: str, scram: str, change: Callable[[Account], Account] | None = None
    ) -> None:
        """Add an account as ``change`` makes it, in one transaction."""
        with self._write() as txn:
            self._add_account(txn, False, change, address, password, scram)

    def _add_account(
        self,
        txn: Txn,
        again: bool,
        change: Callable[[Account], Account] | None,
        asked: str,
        password: str,
        scram: str = "",
        nets: str = "",
        nologin: str = "",
    ) -> bool:
        domain, address, key = self._named(txn, asked)
        if domain is None:
            name = address.rpartition("@")[2]
            raise DirectoryError(f"{address}: {name} is not a domain of this server; `fastmail domain add {name}`")
        if domain.alias_of:
            raise DirectoryError(f"{address}: {domain.name} is another name of {domain.alias_of}; add it there")
        checks.kept_here(domain, "add it there")
        checks.password(address, password)
        if txn.get("aliases", key) is not None:
            raise DirectoryError(f"{address} is already an alias")
        if txn.get("lists", key) is not None:
            raise DirectoryError(f"{address} is already a mailing list")
        row = txn.get("accounts", key)
        if row is not None and not again:
            raise DirectoryError(f"account {address} is already there; `fastmail account passwd` changes it")
        old = self._present(txn, key, address, row) if row is not None else None
        if row is None:
            most = domain.most_accounts
            if most and _pair(txn.get("counts", key.partition(NUL)[0]))[0] >= most:
                raise checks.full(domain, "accounts", most)
        if change is not None:  # before anything is written
            plain = Account(0, address, password)
            checks.account(self, plain, replace(change(plain), id=0, address=address))
        new = msgspec.structs.replace(
            old or self._new_account(txn, key, address, row is None),
            password=password,
            scram=scram,
            nets=nets,
            nologin=nologin,
        )
        if change is not None:
            new = replace(change(new), id=new.id, address=address)
        self._put_account(txn, key, old, new, revokes=row is not None)
        return row is None or old is None

    def _new_account(self, txn: Txn, key: bytes, address: str, counts: bool) -> Account:
        """A row with a number that no account had before."""
        taken.refuse_while_renaming(txn, address)
        found = txn.get(META, NEXT)
        number = int(found) if found else 1
        txn.put(META, NEXT, b"%d" % (number + 1))
        txn.put("numbers", U64.pack(number), key)
        if counts:
            self._count(txn, key, 1, 0)
        return Account(number, address, "", created=int(time.time()), placed=taken.home_for(txn, address, number))

    def _present(self, txn: Txn, key: bytes, address: str, row: bytes) -> Account | None:
        """A row; where it is damaged, a new one with the number that leads to it, so that its mail is its own again."""
        with suppress(CorruptData):
            return ACCOUNTS.unpack(key, row)
        number = _number(txn, key)
        return Account(number, address, "", placed=taken.home_of(txn, number)) if number is not None else None

    def _put_account(
        self, txn: Txn, key: bytes, old: Account | None, new: Account, revokes: bool, who: str = ""
    ) -> None:
        """Write a row that was added or changed, and end logins that do not count any more."""
        txn.put("accounts", key, ACCOUNTS.pack(key, new))
        if old is not None and revokes and takes_back(old, new):
            self._revoke(txn, [new.id])
        elif old is not None and _looked_at_again(old) != _looked_at_again(new):
            self._revoke(txn, ())  # sessions look at the account again before they send, or act for others
        text = audit.difference(old, new)
        if text or old is None or who != SOURCE:  # a source may only have begun to say what is so already
            self._note(txn, "account set" if old is not None else "account add", new.address, text, who)

    def change_account(self, address: str, change: Callable[[Account], Account]) -> Account:
        """Replace an account's row by what ``change`` makes of it; its address and number stay."""
        with self._write() as txn:
            found = self._there(txn, "accounts", address)
            if found is None:
                raise _no_account(address)
            key, row = found
            old = ACCOUNTS.unpack(key, row)
            new = replace(change(old), id=old.id, address=old.address)
            if new.sends and new.stopped:  # it was let send again
                new = replace(new, stopped="")
            if new == old:
                return old
            self._refuse_said(old, new, old.address)
            if new.password != old.password:
                checks.password(old.address, new.password)
            checks.account(self, old, new)
            self._put_account(txn, key, old, new, revokes=True)
            return new

    def set_password(self, address: str, password: str, scram: str = "") -> None:
        def change(old: Account) -> Account:
            return replace(old, password=password, scram=scram)

        self.change_account(address, change)

    def enable(self, address: str, on: bool) -> None:
        """Let an account log in and get mail, or not; on, it may also send again if the server had stopped that."""
        self.change_account(
            address, lambda old: replace(old, enabled=on, sends=old.sends or (on and bool(old.stopped)))
        )

    def stop_sending(self, address: str, why: str) -> Account | None:
        """Let an account send nothing, by the server's own decision. None, and nothing is changed, where there is no
        such account or it may not send anyway."""
        with self._write() as txn:
            found = self._there(txn, "accounts", address)
            if found is None:
                return None
            key, row = found
            old = ACCOUNTS.unpack(key, row)
            if not old.sends or old.suspended:
                return None
            new = replace(old, sends=False, stopped=why)
            self._put_account(txn, key, old, new, revokes=True, who=AUTOMATIC)
            return new

    def set_quota(self, address: str, quota: Quota) -> None:
        self.change_account(address, lambda old: replace(old, quota=quota))

    def upgrade_password(self, record: Account, password: str, scram: str) -> bool:
        """The same password in a better form: nothing ends, and nobody changed anything."""
        with self._write() as txn:
            found = self._there(txn, "accounts", record.address)
            if found is None:
                raise _no_account(record.address)
            key, row = found
            old = ACCOUNTS.unpack(key, row)
            same = (old.id, old.password) == (record.id, record.password)
            if same:
                txn.put("accounts", key, ACCOUNTS.pack(key, replace(old, password=password, scram=scram)))
                txn.put(META, CHANGES, b"%d" % (_counted(txn.get(META, CHANGES)) + 1))
            return same

    def remove_account(self, address: str) -> Account:
        with self._write() as txn:
            found = self._there(txn, "accounts", address)
            if found is None:
                raise _no_account(address)
            key, row = found
            record = ACCOUNTS.unpack(key, row)
            txn.delete("accounts", key)
            txn.delete("numbers", U64.pack(record.id))
            for table in ("apps", "used", "totp", "passkeys", "scripts"):
                mine = U64.pack(record.id)
                for one in [one for one, _ in _beginning(txn, table, mine)]:
                    txn.delete(table, one)
            txn.delete(META, REVOKED + b"%d" % record.id)
            membership.leave_all(txn, record.id)
            self._count(txn, key, -1, 0)
            self._revoke(txn, ())
            self._note(txn, "account remove", record.address, "")
            return record

    def _account_row(self, txn: Txn, address: str) -> Account:
        found = self._there(txn, "accounts", address)
        if found is None:
            raise _no_account(address)
        return ACCOUNTS.unpack(*found)

    def note_used(self, logins: Iterable[tuple[int, bytes, str, int]]) -> None:
        """Write down (number, digest of an app password or nothing, protocol, s since 1970) of logins. It changes
        nothing that anybody remembers."""
        with self._write() as txn:
            for number, digest, protocol, at in logins:
                key = rows.app_key(number, digest)
                row = txn.get("used", key)
                last: dict[str, int] = {}
                with suppress(CorruptData):
                    last = dict(rows.USED.unpack(key, row).last) if row is not None else {}
                if at > last.get(protocol, 0) and txn.get("numbers", U64.pack(number)) is not None:
                    txn.put("used", key, rows.USED.pack(key, Used(last | {protocol: at})))

    def note_acting(self, master: str, address: str, protocol: str, host: str) -> None:
        """Write down that a master user opened an account. It changes nothing that anybody remembers."""
        with self._write() as txn:
            audit.note(txn, master, "login as", address, f"by {protocol} from {host}", audit.ACTED)

    def renew_srs_keys(self, now: int) -> None:
        """Make a new key where the newest is too old, and remove those that no address can be of any more."""
        with self._write() as txn:
            made = [key for key, _ in _beginning(txn, META, SRS)]
            if made and U64.unpack(made[-1][len(SRS) :])[0] > now - srs.KEY_DAYS * srs.DAY:
                return  # another process did it
            for key in made[:-1]:  # the one before was used until now
                txn.delete(META, key)
            txn.put(META, SRS + U64.pack(now), os.urandom(32))
            self._note(txn, "srs", "key", "renewed")

    # ---------------------------------------------------------------- aliases

    def add_alias(self, address: str, targets: Sequence[str]) -> None:
        self.put_alias(Alias(address, tuple(targets)))

    def put_alias(self, new: Alias) -> None:
        """Add an alias."""
        with self._write() as txn:
            domain, address, key = self._named(txn, new.address)
            if domain is None:
                name = address.rpartition("@")[2]
                raise DirectoryError(f"{name} is not a domain of this server; `fastmail domain add {name}`")
            if domain.alias_of:
                raise DirectoryError(f"{address}: {domain.name} is another name of {domain.alias_of}; add it there")
            taken.refuse_while_renaming(txn, address)
            refuse_unseen(address)
            if txn.get("accounts", key) is not None:
                raise DirectoryError(f"{address} is already an account")
            if txn.get("lists", key) is not None:
                raise DirectoryError(f"{address} is already a mailing list")
            if txn.get("aliases", key) is not None:
                raise DirectoryError(f"alias {address} is already there; `fastmail alias set` changes it")
            most = domain.most_aliases
            if most and _pair(txn.get("counts", key.partition(NUL)[0]))[1] >= most:
                raise checks.full(domain, "aliases", most)
            new = checks.alias(self, replace(new, address=address))
            txn.put("aliases", key, ALIASES.pack(key, new))
            self._count(txn, key, 0, 1)
            self._note(txn, "alias add", address, audit.difference(None, new))

    def change_alias(self, address: str, change: Callable[[Alias], Alias]) -> Alias:
        """Replace an alias's row by what ``change`` makes of it, in one step: no mail is refused in between."""
        with self._write() as txn:
            found = self._there(txn, "aliases", address)
            if found is None:
                raise _no_alias(address)
            key, row = found
            old = ALIASES.unpack(key, row)
            new = replace(change(old), address=old.address)
            if new.targets != old.targets:
                new = checks.alias(self, new)
            if new != old:
                txn.put("aliases", key, ALIASES.pack(key, new))
                self._note(txn, "alias set", new.address, audit.difference(old, new))
            return new

    def remove_alias(self, address: str) -> None:
        with self._write() as txn:
            found = self._there(txn, "aliases", address)
            if found is None:
                raise _no_alias(address)
            key, _ = found
            txn.delete("aliases", key)
            self._count(txn, key, 0, -1)
            self._note(txn, "alias remove", rows.shown(key), "")


def takes_back(old: Account, new: Account) -> bool:
    """Do logins of before not count any more?"""
    fields = "password", "nets", "nologin"
    if any(getattr(old, name) != getattr(new, name) for name in fields):
        return True
    return (
        (old.enabled and not new.enabled)
        or (old.logs_in and not new.logs_in)
        or (bool(new.suspended) and not old.suspended)
    )


def _looked_at_again(account: Account) -> tuple[object, ...]:
    return account.sends, account.suspended, account.role, account.administers


def _is_sound(key: bytes, row: bytes) -> bool:
    try:
        return bool(DOMAINS.unpack(key, row))
    except DamagedAccount:
        return False


def _no_domain(name: str) -> DirectoryError:
    return DirectoryError(f"there is no domain {name}; `fastmail domain list` shows them")


def _no_account(address: str) -> NoSuchUser:
    return NoSuchUser(f"there is no account {address}; `fastmail account list` shows them")


def _no_alias(address: str) -> NoSuchUser:
    return NoSuchUser(f"there is no alias {address}; `fastmail alias list` shows them")
