"""Mailing lists and their members as a source names them (directory.external).

A list that the source names is switched on and has the fields that it says; all others are kept here. Its members are
those that the source names, and those that were added here; the state of each (suspended, how often mail came back) is
kept here, and who left stays away although the source still names them. A list that the source names no more is
switched off with its members, never removed. One that was made here stays as it is.

Members are compared side by side in the order of their rows and written BATCH at a time, each batch in a transaction of
its own: nobody who writes to the directory waits for long. A new list gets its own row last, so nobody's mail goes to
half of its members.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress

from fastmail.directory import audit, checks
from fastmail.directory.errors import DirectoryError
from fastmail.directory.following import brought, left_out, switched_off
from fastmail.directory.incoming import Incoming
from fastmail.directory.lookup import Planned
from fastmail.directory.mailing import Mailing, replace
from fastmail.directory.records import List, Member
from fastmail.directory.rows import LISTS, MEMBER_ROWS, address_key, member_key
from fastmail.directory.told import Told
from fastmail.directory.writing import SOURCE
from fastmail.model.errors import CorruptData, DamagedAccount

BATCH = 5000  # members that one transaction writes


class FollowedLists(Mailing):
    """See directory.external for who calls."""

    def bring_lists(self, wanted: Mapping[str, Told], members: Incoming, source: str = "") -> int:
        """Make the lists of a source what it says; how many lists and members changed."""
        count = 0
        named = {address_key(address) for address in wanted if self.is_from(source, address)}
        for address, told in wanted.items():
            if address_key(address) not in named:
                continue
            try:
                count += self._bring_list(address, told, members.of(address), named)
            except (DirectoryError, DamagedAccount) as error:
                left_out(address, str(error))
        for row in [one for one in self.each_list() if one.said]:
            if address_key(row.address) not in named and self.is_from(source, row.address):
                count += self._put_followed(row.address, switched_off)
        return count

    def _bring_list(
        self, address: str, told: Told, members: Iterator[tuple[bytes, Member]], named: Collection[bytes]
    ) -> int:
        local, _, name = address.rpartition("@")
        domain = self.domain(name)
        if domain is None or domain.alias_of:
            why = "no domain of this server" if domain is None else "another name of a domain"
            raise DirectoryError(f"{name} is {why}")
        fresh = List(f"{local}@{domain.name}", created=int(time.time()))
        old = self.mailing_list(address)
        new = brought(old or fresh, told)
        if new != old:
            self._may_be(new, old)
        # a list is no member of a list, also where it is to be there only in a moment
        people = ((at, one) for at, one in members if address_key(one.address) not in named)
        count = self._bring_members(new, people)
        return count + (new != old and self._put_followed(address, lambda there: brought(there or fresh, told)))

    def _may_be(self, new: List, old: List | None) -> None:
        """DirectoryError where somebody else has its address, or an owner is nobody. An owner is not needed: where
        nobody says one, it is the postmaster (directory.lookup)."""
        if old is not None and not old.said and not old.gone:
            raise DirectoryError("a list of this name was made here")
        self._refuse_taken(self._get, new.address)
        if new.owners and (old is None or new.owners != old.owners):
            checks.mailing_list(self, new)
        checks.room_for_parts(new.address)

    @staticmethod
    def _refuse_taken(get: Callable[[str, bytes], bytes | None], address: str) -> None:
        for table, what in (("accounts", "an account"), ("aliases", "an alias")):
            if get(table, address_key(address)) is not None:
                raise DirectoryError(f"{what} has that address")

    def _put_followed(self, address: str, change: Callable[[List | None], List | None]) -> bool:
        """Replace a list's row by what ``change`` makes of it; False if that is the same."""
        key = address_key(address)
        with self._write() as txn:
            row = txn.get("lists", key)
            old = LISTS.unpack(key, row) if row is not None else None
            new = change(old)
            if new is None or new == old:
                return False
            self._refuse_taken(txn.get, address)
            txn.put("lists", key, LISTS.pack(key, new))
            self._note(txn, "list set" if old else "list add", new.address, audit.difference(old, new), SOURCE)
            return True

    def _bring_members(self, row: List, wanted: Iterator[tuple[bytes, Member]]) -> int:
        prefix = member_key(address_key(row.address))
        roads = Planned(self, row.address, mailing_list=row)
        changes: dict[bytes, Member | None] = {}
        count = 0
        for at, there, new in side_by_side(self._each("list_members", prefix, prefix), wanted):
            if _is_changed(at, there, new) and (there or new is None or self._may_join(roads, row.address, new)):
                changes[at] = new
            if len(changes) >= BATCH:
                count += self._write_members(row.address, changes)
                changes = {}
        return count + self._write_members(row.address, changes)

    @staticmethod
    def _may_join(roads: Planned, of: str, new: Member) -> bool:
        try:
            checks.member(roads, of, new.address)
        except DirectoryError as error:
            left_out(new.address, str(error))
            return False
        return True

    def _write_members(self, of: str, wanted: Mapping[bytes, Member | None]) -> int:
        """Write members as the source wants them; None for who is to go. Each is looked at again: mail to one may have
        come back since, or it may have left."""
        if not wanted:
            return 0
        now = int(time.time())
        gone = changed = 0
        with self._write() as txn:
            for at, new in wanted.items():
                there = txn.get("list_members", at)
                if not _is_changed(at, there, new):
                    continue
                if new is None:
                    gone += txn.delete("list_members", at)
                    continue
                made = _made(_readable(at, there), replace(new, joined=now))
                txn.put("list_members", at, MEMBER_ROWS.pack(at, made))
                changed += 1
            audit.note(txn, SOURCE, "list member set", of, f"{changed} changed, {gone} removed")
        return changed + gone


def _made(old: Member | None, new: Member) -> Member:
    """A member that the source names: its state is kept here."""
    return new if old is None else replace(old, source=True, name=new.name or old.name)


def _is_changed(key: bytes, row: bytes | None, new: Member | None) -> bool:
    """Has a row to be written, or removed, where the source names ``new``, or nobody?"""
    old = _readable(key, row)
    if new is None:
        return old is not None and old.source
    return old is None or _made(old, new) != old


def side_by_side(
    there: Iterator[tuple[bytes, bytes]], wanted: Iterator[tuple[bytes, Member]]
) -> Iterator[tuple[bytes, bytes | None, Member | None]]:
    """Give (key, row, what is wanted) of two rows of keys, each in order; None where one of them has no such key."""
    row, new = next(there, None), next(wanted, None)
    while row is not None or new is not None:
        if new is None or (row is not None and row[0] < new[0]):
            assert row is not None
            yield row[0], row[1], None
            row = next(there, None)
        elif row is None or new[0] < row[0]:
            yield new[0], None, new[1]
            new = next(wanted, None)
        else:
            yield row[0], row[1], new[1]
            row, new = next(there, None), next(wanted, None)


def _readable(key: bytes, row: bytes | None) -> Member | None:
    """None for a damaged row too, which the source makes good if it names the member."""
    with suppress(CorruptData):
        return MEMBER_ROWS.unpack(key, row) if row is not None else None
    return None
