"""Groups (directory.membership): what is read of them, and changes, each checked and written in one transaction, as in
directory.writing. Fails with DirectoryError, and then nothing was changed."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from fastmail.directory import membership, rows
from fastmail.directory.app_passwords import AppPasswords
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.membership import GROUP_TABLE, MARK, MOST
from fastmail.directory.records import Group
from fastmail.directory.rows import GROUPS, address_key
from fastmail.directory.tables import Txn
from fastmail.directory.writing import replace
from fastmail.model.address import Address, refuse_unseen
from fastmail.model.errors import CorruptData

SHOWN = 3  # members that the audit log names


def group_name(text: str) -> str:
    """A group's name as it is kept: ``team@example.org``. People may write ``$team@example.org``. BadAddress."""
    return Address.parse(text.removeprefix(MARK)).key


class Groups(AppPasswords):
    """See interface.Administration."""

    def group(self, name: str) -> Group | None:
        """DamagedAccount."""
        key = address_key(name)
        row = self._get(GROUP_TABLE, key)
        if row is None and (key := self._main_key(name)):
            row = self._get(GROUP_TABLE, key)
        return GROUPS.unpack(key, row) if row is not None else None

    def members(self, group: Group) -> list[str]:
        """Their addresses, of those who are there and can be read."""
        out = []
        for number in group.members:
            with suppress(CorruptData):
                found = self.account_by_id(number)
                if found is not None:
                    out.append(found.address)
        return out

    def each_group(self, domain: str = "", after: str = "") -> Iterator[Group]:
        """All groups that can be read, by domain and name: of one domain, and behind a name, if asked."""
        for key, row in self._addresses(GROUP_TABLE, domain, after):
            with suppress(CorruptData):
                yield GROUPS.unpack(key, row)

    def put_group(self, name: str, members: Sequence[str] = (), description: str = "", source: bool = False) -> None:
        """Add a group of accounts. ``source``: a source keeps it, as a restored one, and changes or removes it."""
        with self._write() as txn:
            domain, name, key = self._named(txn, name.lower())
            if domain is None:
                there = name.rpartition("@")[2]
                raise DirectoryError(f"{there} is not a domain of this server; `fastmail domain add {there}`")
            if domain.alias_of:
                raise DirectoryError(f"{name}: {domain.name} is another name of {domain.alias_of}; add it there")
            refuse_unseen(name)
            if txn.get(GROUP_TABLE, key) is not None:
                raise DirectoryError(f"group {name} is already there; `fastmail group set` changes it")
            new = Group(name, self._numbers(txn, members), description, source)
            membership.put(txn, key, None, new)
            self._note(txn, "group add", name, _words(members))

    def change_group(
        self,
        name: str,
        members: Sequence[str] | None = None,
        description: str | None = None,
        join: Sequence[str] = (),
        leave: Sequence[str] = (),
    ) -> Group:
        """Change what is given; ``join`` and ``leave`` are members more and less."""
        with self._write() as txn:
            key, old = self._group_row(txn, name)
            numbers = old.members if members is None else self._numbers(txn, members)
            gone = self._numbers(txn, leave)
            kept = (*numbers, *self._numbers(txn, join))
            now = tuple(dict.fromkeys(one for one in kept if one not in set(gone)))
            if len(now) > MOST:
                raise DirectoryError(f"a group has at most {MOST} members")
            new = replace(old, members=now, description=old.description if description is None else description)
            if new == old:
                return old
            membership.put(txn, key, old, new)
            if set(old.members) - set(now):
                self._revoke(txn, ())  # sessions look at their rights again
            self._note(txn, "group set", old.name, f"members: {len(old.members)} -> {len(now)}")
            return new

    def remove_group(self, name: str) -> None:
        """Remove a group; rights that it was given are nobody's then."""
        with self._write() as txn:
            key = address_key(name)
            row = txn.get(GROUP_TABLE, key)
            if row is None:
                raise _no_group(name)
            try:
                membership.put(txn, key, GROUPS.unpack(key, row), None)
            except CorruptData:
                membership.remove_damaged(txn, key)
            self._revoke(txn, ())
            self._note(txn, "group remove", rows.shown(key), "")

    def _group_row(self, txn: Txn, name: str) -> tuple[bytes, Group]:
        found = self._there(txn, GROUP_TABLE, name)
        if found is None:
            raise _no_group(name)
        return found[0], GROUPS.unpack(*found)

    def _numbers(self, txn: Txn, members: Sequence[str]) -> tuple[int, ...]:
        if len(members) > MOST:
            raise DirectoryError(f"a group has at most {MOST} members")
        return tuple(dict.fromkeys(self._account_row(txn, one).id for one in members))


def _words(members: Sequence[str]) -> str:
    more = len(members) - SHOWN
    return ", ".join(members[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _no_group(name: str) -> NoSuchUser:
    return NoSuchUser(f"there is no group {name}; `fastmail group list` shows them")
