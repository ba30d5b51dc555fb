"""New names for accounts, domains, aliases and mailing lists. An account keeps its number, so its mail, app passwords
and groups are its own as before; its Maildir stays where it is, and the row says so (``Account.placed``). What names it
in the directory (aliases, forwards, sender identities, postmasters, mailing lists) changes in the same transaction.
What names it in the mail store (lists of rights, subscriptions of others) follows: a row of the table ``renames`` says
that this is still to be done, until app.renames has done it, also after a crash.

Nobody gets a Maildir that is another one's: the table ``homes`` has each name whose directory belongs to an account of
another name, and a new account of that name has its Maildir elsewhere. Until the store has followed, nobody gets the
old name.

Fails with DirectoryError; then nothing was changed.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

from fastmail.directory import checks, list_names, lookup, membership, taken
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.groups import Groups
from fastmail.directory.lookup import at_home
from fastmail.directory.membership import GROUP_TABLE
from fastmail.directory.reading import _beginning, _pair
from fastmail.directory.records import Account, Alias, Domain, List, Renamed
from fastmail.directory.rows import (
    ACCOUNTS,
    ALIASES,
    DOMAINS,
    GROUPS,
    LISTS,
    NUL,
    RENAMES,
    U64,
    address_key,
    domain_key,
)
from fastmail.directory.tables import Txn
from fastmail.directory.writing import _no_account, _no_alias, _no_domain, replace
from fastmail.model import domain as names
from fastmail.model.address import comparable, refuse_unseen, without_detail
from fastmail.model.errors import CorruptData

KEPT_ELSEWHERE = "its program keeps it: rename it there"
Moved = Callable[[str], str]  # an address, or @domain, as it is called from now on


def moved_by(one: Renamed, separators: str = "", home: Moved = comparable) -> Moved:
    """What becomes of an address, or ``@domain``, with a change of name. ``separators``: those that begin a detail;
    ``home``: an address in the form for comparing, perhaps by the first name of its domain."""
    if one.old.startswith("@"):
        old, new = names.comparable(one.old[1:]), one.new[1:]

        def of_domain(address: str) -> str:
            local, at, name = address.rpartition("@")
            return f"{local}@{new}" if at and names.comparable(name) == old else address

        return of_domain
    old, (new_local, _, new_domain) = comparable(one.old), one.new.rpartition("@")
    old_local, _, old_domain = old.rpartition("@")

    def of_account(address: str) -> str:
        local, _, name = home(address).rpartition("@")
        if name != old_domain or old_local not in (local, without_detail(local, separators)):
            return address
        return f"{new_local}{local[len(old_local) :]}@{new_domain}"

    return of_account


def _with_parts(one: Renamed, whole: Moved, parts: Collection[str], home: Moved) -> Moved:
    """The same, for a mailing list and the addresses of its parts, such as ``team-owner@d.test``."""
    old_local, _, old_domain = comparable(one.old).rpartition("@")
    new_local, _, new_domain = one.new.rpartition("@")

    def of_list(address: str) -> str:
        local, _, name = home(address).rpartition("@")
        base, _, part = local.rpartition("-")
        if name == old_domain and base == old_local and part in parts:
            return f"{new_local}-{part}@{new_domain}"
        return whole(address)

    return of_list


class Renames(Groups):
    """See interface.Administration."""

    def rename_account(self, old: str, new: str, keep: bool = True) -> Account:
        """Give an account another address. ``keep``: the old one stays, as an alias of it."""
        with self._write() as txn:
            found = self._there(txn, "accounts", old)
            if found is None:
                raise _no_account(old)
            key, row = found
            record = ACCOUNTS.unpack(key, row)
            if record.home or record.maildir:
                raise DirectoryError(f"{record.address}: {KEPT_ELSEWHERE}")
            for one in (record.address, new):
                checks.kept_here(self._named(txn, one)[0], "rename it there")
            domain, address, new_key = self._named(txn, new)
            self._refuse(txn, record, domain, address, new_key, key)
            self._move_account(txn, key, record, new_key, address)
            there = Renamed(record.address, address)
            before = self._domain_row(txn, record.address.rpartition("@")[2])
            separators = before.separators if before is not None else ""
            self._refer(txn, moved_by(there, separators, lambda one: at_home(self, one)))
            if keep:
                txn.put("aliases", key, ALIASES.pack(key, Alias(record.address, (address,))))
                self._count(txn, key, 0, 1)
            self._end(txn, "account rename", there)
            return replace(record, address=address)

    # ---------------------------------------------------------------- aliases and mailing lists

    def rename_alias(self, old: str, new: str, keep: bool = True) -> Alias:
        """Give an alias another address; what leads to it follows. ``keep``: the old one stays, as an alias of it."""
        with self._write() as txn:
            found = self._there(txn, "aliases", old)
            if found is None:
                raise _no_alias(old)
            key, row = found
            alias = ALIASES.unpack(key, row)
            if alias.address.startswith("@") or new.startswith("@"):
                raise DirectoryError("a catch-all belongs to its domain: set it there")
            domain, address, new_key = self._free(txn, new)
            renamed = checks.alias(self, replace(alias, address=address, source=False))
            here = key.partition(NUL)[0] == new_key.partition(NUL)[0]
            most = domain.most_aliases + (here and not keep)
            if domain.most_aliases and _pair(txn.get("counts", new_key.partition(NUL)[0]))[1] >= most:
                raise checks.full(domain, "aliases", domain.most_aliases)
            txn.delete("aliases", key)
            self._count(txn, key, 0, -1)
            txn.put("aliases", new_key, ALIASES.pack(new_key, renamed))
            self._count(txn, new_key, 0, 1)
            self._lead(txn, "alias rename", Renamed(alias.address, address), key, keep)
            return renamed

    def rename_list(self, old: str, new: str, keep: bool = True) -> List:
        """Give a mailing list, with its members, another address; tokens that it gave out go on to count. ``keep``: the
        old address stays, as an alias of it; those of its parts (``-request`` and so on) do not."""
        with self._write() as txn:
            found = self._there(txn, "lists", old)
            if found is None:
                raise NoSuchUser(f"there is no list {old}; `fastmail list list` shows them")
            key, row = found
            known = LISTS.unpack(key, row)
            domain, address, new_key = self._free(txn, new)
            here = key.partition(NUL)[0] == new_key.partition(NUL)[0]
            most = domain.most_lists if not here else 0
            if most and sum(1 for _ in self.each_list(domain.name)) >= most:
                raise checks.full(domain, "lists", most)
            checks.room_for_parts(address)
            renamed = list_names.move(txn, key, known, address)
            self._lead(txn, "list rename", Renamed(known.address, address), key, keep, lookup.PARTS)
            return renamed

    def _free(self, txn: Txn, new: str) -> tuple[Domain, str, bytes]:
        """(the domain, the address as it is kept, its key) of a new name that nobody has. DirectoryError."""
        domain, address, key = self._named(txn, new)
        name = address.rpartition("@")[2]
        if domain is None:
            raise DirectoryError(f"{address}: {name} is not a domain of this server; `fastmail domain add {name}`")
        if domain.alias_of:
            raise DirectoryError(f"{address}: {domain.name} is another name of {domain.alias_of}; name that one")
        taken.refuse_while_renaming(txn, address)
        refuse_unseen(address)
        for table, what in (("accounts", "an account"), ("aliases", "an alias"), ("lists", "a mailing list")):
            if txn.get(table, key) is not None:
                raise DirectoryError(f"{address} is already {what}")
        return domain, address, key

    def _lead(self, txn: Txn, what: str, there: Renamed, key: bytes, keep: bool, parts: Collection[str] = ()) -> None:
        """Let everything that names an old address name the new one. No lists of rights in the mail store do."""
        before = self._domain_row(txn, there.old.rpartition("@")[2])
        separators = before.separators if before is not None else ""
        whole = moved_by(there, separators, lambda one: at_home(self, one))
        self._refer(txn, _with_parts(there, whole, parts, lambda one: at_home(self, one)) if parts else whole)
        if keep:
            txn.put("aliases", key, ALIASES.pack(key, Alias(there.old, (there.new,))))
            self._count(txn, key, 0, 1)
        self._note(txn, what, there.new, f"{there.old} -> {there.new[:200]}")

    # ---------------------------------------------------------------- accounts

    def _refuse(
        self, txn: Txn, record: Account, domain: Domain | None, address: str, key: bytes, old_key: bytes
    ) -> None:
        """DirectoryError where the account cannot have that address; an alias that leads to it alone makes room."""
        name = address.rpartition("@")[2]
        if domain is None:
            raise DirectoryError(f"{address}: {name} is not a domain of this server; `fastmail domain add {name}`")
        if domain.alias_of:
            raise DirectoryError(f"{address}: {domain.name} is another name of {domain.alias_of}; name that one")
        if key == old_key or txn.get("accounts", key) is not None:
            raise DirectoryError(f"{address} is already an account")
        if txn.get("lists", key) is not None:
            raise DirectoryError(f"{address} is already a mailing list")
        taken.refuse_while_renaming(txn, address)
        row = txn.get("aliases", key)
        if row is not None:
            if ALIASES.unpack(key, row).targets != (record.address,):
                raise DirectoryError(f"{address} is already an alias")
            txn.delete("aliases", key)
            self._count(txn, key, 0, -1)
        there, here = key.partition(NUL)[0], old_key.partition(NUL)[0]
        if domain.most_accounts and there != here and _pair(txn.get("counts", there))[0] >= domain.most_accounts:
            raise checks.full(domain, "accounts", domain.most_accounts)

    def _move_account(self, txn: Txn, key: bytes, record: Account, new_key: bytes, address: str) -> None:
        """The account's row under its new name; its Maildir stays."""
        home = record.placed or record.address
        renamed = replace(record, address=address, placed="" if home == address else home)
        if renamed.placed:
            taken.keep_home(txn, renamed)
        else:
            taken.free_home(txn, home)
        txn.delete("accounts", key)
        txn.put("accounts", new_key, ACCOUNTS.pack(new_key, renamed))
        txn.put("numbers", U64.pack(record.id), new_key)
        self._count(txn, key, -1, 0)
        self._count(txn, new_key, 1, 0)

    def _refer(self, txn: Txn, moved: Moved) -> None:
        """Let everything that names the old addresses name the new ones. Rows that cannot be read stay."""
        for key, row in list(txn.items("aliases")):
            with suppress(CorruptData):
                alias = ALIASES.unpack(key, row)
                targets = tuple(map(moved, alias.targets))
                if targets != alias.targets:
                    txn.put("aliases", key, ALIASES.pack(key, replace(alias, targets=targets)))
        for key, row in list(txn.items("accounts")):
            with suppress(CorruptData):
                old = ACCOUNTS.unpack(key, row)
                if not (old.forward or old.senders or old.administers):
                    continue
                forward, senders = tuple(map(moved, old.forward)), tuple(map(moved, old.senders))
                administers = tuple(moved("@" + one)[1:] for one in old.administers)
                new = replace(old, forward=forward, senders=senders, administers=administers)
                if new != old:
                    txn.put("accounts", key, ACCOUNTS.pack(key, new))
        for key, row in list(txn.items("domains")):
            with suppress(CorruptData):
                domain = DOMAINS.unpack(key, row)
                postmaster = tuple(map(moved, domain.postmaster))
                other = moved("@" + domain.alias_of)[1:] if domain.alias_of else ""
                if (postmaster, other) != (domain.postmaster, domain.alias_of):
                    changed = replace(domain, postmaster=postmaster, alias_of=other)
                    txn.put("domains", key, DOMAINS.pack(key, changed))
        list_names.refer(txn, moved)

    def _end(self, txn: Txn, what: str, there: Renamed) -> None:
        last = txn.last("renames")
        number = int(U64.unpack(last)[0]) + 1 if len(last) == U64.size else 0
        key = U64.pack(number)
        txn.put("renames", key, RENAMES.pack(key, there))
        self._revoke(txn, ())  # sessions of the old name end
        self._note(txn, what, there.new.removeprefix("@"), f"{there.old.removeprefix('@')} -> {there.new[:200]}")

    # ---------------------------------------------------------------- domains

    def rename_domain(self, old: str, new: str, keep: bool = True) -> Domain:
        """Give a domain, with all its addresses and groups, another name. ``keep``: the old one stays, as another name
        of it, and keeps its DKIM keys. The new one may be another name of it already; then it keeps its own."""
        with self._write() as txn:
            row = self._domain_row(txn, old)
            if row is None:
                raise _no_domain(old)
            if row.alias_of:
                raise DirectoryError(f"{row.name} is another name of {row.alias_of}: rename that one, or remove this")
            checks.kept_here(row, "rename it there, or set source=local first")
            key, new_key = domain_key(row.name), domain_key(new)
            there = self._domain_row(txn, new)
            if key == new_key or (there is not None and domain_key(there.alias_of) != key):
                raise DirectoryError(f"domain {new} is already there")
            taken.refuse_while_renaming(txn, f"@{new}")
            # Keys stay with the name in whose zone their public halves are: mail of the new name that was signed with
            # them would fail everywhere. policy.rotation makes keys for the new name.
            own = there.dkim if there is not None else ()
            renamed, counts = replace(row, name=new, dkim=own), txn.get("counts", key)
            self._move_accounts(txn, key, new)
            self._move_rest(txn, key, new)
            txn.delete("domains", key)
            txn.delete("counts", key)
            txn.put("domains", new_key, DOMAINS.pack(new_key, renamed))
            if counts is not None:
                txn.put("counts", new_key, counts)
            change = Renamed(f"@{row.name}", f"@{new}")
            self._refer(txn, moved_by(change))
            if keep:
                txn.put("domains", key, DOMAINS.pack(key, Domain(row.name, alias_of=new, dkim=row.dkim)))
            self._others = None  # they have followed
            self._end(txn, "domain rename", change)
            return renamed

    def _move_accounts(self, txn: Txn, key: bytes, new: str) -> None:
        for one, row in list(_beginning(txn, "accounts", key + NUL)):
            record = ACCOUNTS.unpack(one, row)
            if record.home or record.maildir:
                raise DirectoryError(f"{record.address}: {KEPT_ELSEWHERE}")
            address = f"{record.address.rpartition('@')[0]}@{new}"
            self._move_account(txn, one, record, address_key(address), address)

    def _move_rest(self, txn: Txn, key: bytes, new: str) -> None:
        """Aliases, the catch-all, groups and mailing lists."""
        for one, row in list(_beginning(txn, "aliases", key + NUL)):
            alias = ALIASES.unpack(one, row)
            address = f"{alias.address.rpartition('@')[0]}@{new}"
            new_key = address_key(address)
            txn.delete("aliases", one)
            txn.put("aliases", new_key, ALIASES.pack(new_key, replace(alias, address=address)))
        for one, row in list(_beginning(txn, GROUP_TABLE, key + NUL)):
            group = GROUPS.unpack(one, row)
            name = f"{group.name.rpartition('@')[0]}@{new}"
            membership.put(txn, one, group, None)
            membership.put(txn, address_key(name), None, replace(group, name=name))
        list_names.move_all(txn, key, new)

    # ---------------------------------------------------------------- what is still to follow

    def renames(self) -> Iterator[tuple[int, Renamed]]:
        """(number, change) of those that the mail store has still to follow, the oldest first."""
        for key, row in self._each("renames"):
            with suppress(CorruptData):
                yield int(U64.unpack(key)[0]), RENAMES.unpack(key, row)

    def followed(self, number: int) -> None:
        """The mail store has followed it."""
        with self._write() as txn:
            txn.delete("renames", U64.pack(number))

    def free_home(self, placed: str) -> None:
        """The Maildir that an account of another name had at that name was deleted."""
        with self._write() as txn:
            taken.free_home(txn, placed)
