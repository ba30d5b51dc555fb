"""Mailing lists and their members: what commands change, and what delivery asks and notes.

A list is a row like an account's or an alias's, and its address is neither of these. Each member is a row of its own,
so adding one writes one row, and a list may have as many as the disk holds: they are read a page at a time, in the
order of their addresses. Changes of members are in the audit log, a line for each call; they change nothing that
delivery remembers of addresses.

Fails with DirectoryError, or NoSuchUser; then nothing was changed. A member whose row is damaged is left out of what
``each_member`` gives, and gets no mail until it is added again.
"""

import os
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from fastmail.directory import audit, checks, list_links, rows
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.lookup import Planned, Roads
from fastmail.directory.reading import _beginning
from fastmail.directory.records import ACTIVE, LEFT, SUSPENDED, List, Member
from fastmail.directory.rows import LISTS, MEMBER_ROWS, NUL, U64, member_key
from fastmail.directory.scripts import Scripts
from fastmail.directory.tables import META, Txn
from fastmail.model.errors import CorruptData

POST = struct.Struct(">8sI")  # what a list sent: the first octets of a hash of its Message-ID, s since 1970
POSTS = b"\1"  # the layout of a row of them, its first octet; one of another layout counts as empty
MOST_POSTS = 500
POST_DAYS = 7
LINK = b"list-link:"  # with the time(8) when a key was made: the key
DAY = 86400
FORGIVEN = 14 * DAY  # s without a bounce after which counting begins anew
replace = msgspec.structs.replace


class Mailing(Scripts):
    """See interface.Administration."""

    # ---------------------------------------------------------------- lists

    def put_list(self, new: List, members: Iterable[Member] = ()) -> None:
        """Add a mailing list with its members."""
        with self._write() as txn:
            domain, address, key = self._named(txn, new.address)
            if domain is None:
                name = address.rpartition("@")[2]
                raise DirectoryError(f"{name} is not a domain of this server; `fastmail domain add {name}`")
            if domain.alias_of:
                raise DirectoryError(f"{address}: {domain.name} is another name of {domain.alias_of}; add it there")
            for table, what in (("accounts", "an account"), ("aliases", "an alias")):
                if txn.get(table, key) is not None:
                    raise DirectoryError(f"{address} is already {what}")
            row = txn.get("lists", key)
            if row is not None and _is_sound(key, row):
                raise DirectoryError(f"list {address} is already there; `fastmail list set` changes it")
            most = domain.most_lists
            if most and row is None and sum(1 for _ in self._addresses("lists", domain.name, "")) >= most:
                raise checks.full(domain, "lists", most)
            new = replace(new, address=address, created=new.created or int(time.time()))
            checks.mailing_list(self, new)
            joining = self._checked(txn, key, members, Planned(self, address, mailing_list=new))
            txn.put("lists", key, LISTS.pack(key, new))
            self._note(txn, "list add", address, audit.difference(None, new))
            self._join(txn, address, joining)

    def change_list(
        self, address: str, change: Callable[[List], List], members: Iterable[Member] | None = None
    ) -> List:
        """Replace a list's row by what ``change`` makes of it; its address stays. ``members``: all that it is to have
        from now on; those that are there keep their state. None lets them stay."""
        with self._write() as txn:
            key, row = self._list_row(txn, address)
            old = LISTS.unpack(key, row)
            new = replace(change(old), address=old.address)
            self._refuse_said(old, new, old.address)
            if new.enabled:
                new = replace(new, gone=False)  # whoever switches it on keeps it here
            if new.owners != old.owners:
                checks.mailing_list(self, new)
            if members is not None:
                wanted = list(members)
                joining = self._checked(txn, key, wanted, self)
                self._leave_all_but(txn, key, old.address, wanted)
                self._join(txn, old.address, joining)
            if new != old:
                txn.put("lists", key, LISTS.pack(key, new))
                self._note(txn, "list set", new.address, audit.difference(old, new))
            return new

    def remove_list(self, address: str) -> int:
        """Remove a list with its members; how many these were."""
        with self._write() as txn:
            key, row = self._list_row(txn, address)
            with suppress(CorruptData):
                if LISTS.unpack(key, row).said and self.is_followed(address.rpartition("@")[2]):
                    raise DirectoryError(f"list {address} is kept by a source: remove it there")
            members = [one for one, _ in _beginning(txn, "list_members", member_key(key))]
            for one in members:
                txn.delete("list_members", one)
            txn.delete("posts", key)
            txn.delete("lists", key)
            self._note(txn, "list remove", address, f"{len(members)} members")
            return len(members)

    def _list_row(self, txn: Txn, address: str) -> tuple[bytes, bytes]:
        """(key, row)."""
        found = self._there(txn, "lists", address)
        if found is None:
            raise NoSuchUser(f"there is no list {address}; `fastmail list list` shows them")
        return found

    # ---------------------------------------------------------------- members

    def member(self, of: str, address: str) -> Member | None:
        """A member of the list ``of``. DamagedAccount."""
        key = member_key(self._list_key(of), address)
        row = self._get("list_members", key) if key else None
        found = MEMBER_ROWS.unpack(key, row) if row is not None else None
        return found if found is not None and found.state != LEFT else None

    def count_members(self, of: str) -> int:
        prefix = member_key(self._list_key(of))
        return sum(1 for key, row in self._each("list_members", prefix, prefix) if not _has_left(key, row))

    def put_members(self, of: str, members: Iterable[Member], again: bool = False) -> int:
        """Add members in one transaction; how many are new. One that is there stays as it is, or ``again``: becomes
        what is given."""
        with self._write() as txn:
            key, _ = self._list_row(txn, of)
            joining = self._checked(txn, key, members, self, again)
            new = sum(not _is_member(txn, at) for at in joining)
            self._join(txn, of, joining)
            return new

    def _checked(
        self, txn: Txn, key: bytes, members: Iterable[Member], roads: Roads, again: bool = False
    ) -> dict[bytes, Member]:
        """Those who are to join the list with that key, by their keys; nothing is written. ``again``: members too."""
        of, now = rows.shown(key), int(time.time())
        out: dict[bytes, Member] = {}
        for one in members:
            at = member_key(key, one.address)
            if not at:
                raise DirectoryError(f"{one.address} is too long for a member of {of}")
            if again or (at not in out and not _is_member(txn, at)):
                checks.member(roads, of, one.address)
                kept = one.source or _is_kept(at, txn.get("list_members", at))
                out[at] = replace(one, joined=one.joined or now, source=kept)
        return out

    def _join(self, txn: Txn, of: str, joining: dict[bytes, Member]) -> None:
        for at, one in joining.items():
            txn.put("list_members", at, MEMBER_ROWS.pack(at, one))
        self._note_many(txn, "list member add", of, [one.address for one in joining.values()])

    def _leave_all_but(self, txn: Txn, key: bytes, of: str, wanted: Iterable[Member]) -> None:
        kept = {member_key(key, one.address) for one in wanted}
        rows = list(_beginning(txn, "list_members", member_key(key)))
        gone = [at for at, row in rows if at not in kept and not _has_left(at, row)]
        for at in gone:
            self._leave_row(txn, at)
        self._note_many(txn, "list member remove", of, [_address(at) for at in gone])

    @staticmethod
    def _leave_row(txn: Txn, at: bytes) -> None:
        """Remove a member; of one that a source names a row stays, or the source would bring it back."""
        row = txn.get("list_members", at)
        if row is not None and _is_kept(at, row):
            txn.put("list_members", at, MEMBER_ROWS.pack(at, replace(MEMBER_ROWS.unpack(at, row), state=LEFT)))
        else:
            txn.delete("list_members", at)

    def _note_many(self, txn: Txn, what: str, of: str, addresses: list[str]) -> None:
        if addresses:
            self._note_members(txn, what, of, addresses[0] if len(addresses) == 1 else f"{len(addresses)} members")

    def change_member(self, of: str, address: str, change: Callable[[Member], Member]) -> Member:
        """Replace a member's row by what ``change`` makes of it; its address stays."""
        with self._write() as txn:
            key, row = self._member_row(txn, of, address)
            old = MEMBER_ROWS.unpack(key, row)
            new = replace(change(old), address=old.address)
            if new != old:
                txn.put("list_members", key, MEMBER_ROWS.pack(key, new))
                self._note_members(txn, "list member set", of, f"{old.address}: {audit.difference(old, new)}")
            return new

    def remove_member(self, of: str, address: str) -> None:
        with self._write() as txn:
            key, _ = self._member_row(txn, of, address)
            self._leave_row(txn, key)
            self._note_members(txn, "list member remove", of, address)

    def _member_row(self, txn: Txn, of: str, address: str) -> tuple[bytes, bytes]:
        key = member_key(self._list_row(txn, of)[0], address)
        row = txn.get("list_members", key) if key else None
        if row is None or _has_left(key, row):
            raise NoSuchUser(f"{address} is no member of {of}; `fastmail list members {of}` shows them")
        return key, row

    def _note_members(self, txn: Txn, what: str, name: str, text: str) -> None:
        """In the audit log. What is remembered of addresses stays true."""
        audit.note(txn, self.actor, what, name, text)

    # ---------------------------------------------------------------- what delivery notes

    def note_bounce(self, of: str, address: str, now: int) -> tuple[Member, bool] | None:
        """Mail to a member came back for good: (the member, was it suspended by this?); None for who is no member, or
        gets no mail anyway, and where a row is damaged. All that comes back on one day (UTC) counts once; after two
        weeks without anything, counting begins anew."""
        with self._write() as txn:
            found = self._there(txn, "lists", of)
            key = member_key(found[0], address) if found is not None else b""
            row = txn.get("list_members", key) if key else None
            if found is None or row is None:
                return None
            try:
                old, most = MEMBER_ROWS.unpack(key, row), LISTS.unpack(*found).bounce_days
            except CorruptData:
                return None
            if old.state != ACTIVE:
                return None
            if old.bounces and old.bounced // DAY == now // DAY:
                return old, False
            bounces = old.bounces + 1 if old.bounced > now - FORGIVEN else 1
            ends = 0 < most <= bounces
            new = replace(old, bounces=bounces, bounced=now, state=SUSPENDED if ends else ACTIVE)
            txn.put("list_members", key, MEMBER_ROWS.pack(key, new))
            if ends:
                self._note_members(txn, "list member set", of, f"{old.address}: mail came back on {bounces} days")
            return new, ends

    def was_posted(self, of: str, digest: bytes, now: int) -> bool:
        """Did the list send a message with this hash of its Message-ID lately?"""
        row = self._get("posts", self._list_key(of))
        return digest[:8] in {one for one, _ in _posts(row, now)}

    def note_post(self, of: str, digest: bytes, now: int) -> None:
        """The list sent such a message. The last MOST_POSTS of POST_DAYS are kept."""
        with self._write() as txn:
            found = self._there(txn, "lists", of)
            if found is not None:
                kept = [*_posts(txn.get("posts", found[0]), now), (digest[:8], now)][-MOST_POSTS:]
                txn.put("posts", found[0], POSTS + b"".join(POST.pack(*one) for one in kept))

    # ---------------------------------------------------------------- links by which members leave

    def link_keys(self) -> list[tuple[int, bytes]]:
        """(when it was made, key) of directory.list_links, the newest first."""
        memory = self._check_memory()
        if memory.links is None:
            with self._tables.read() as txn:
                found = [pair for pair in _beginning(txn, META, LINK) if len(pair[0]) == len(LINK) + U64.size]
            memory.links = [(int(U64.unpack(key[len(LINK) :])[0]), row) for key, row in reversed(found)]
        return memory.links

    def renew_link_keys(self, now: int) -> None:
        """Make a new key where the newest is too old, and remove the oldest where there are too many."""
        with self._write() as txn:
            made = [key for key, _ in _beginning(txn, META, LINK)]
            if made and U64.unpack(made[-1][len(LINK) :])[0] > now - list_links.KEY_DAYS * DAY:
                return  # another process did it
            for key in made[: 1 - list_links.KEPT]:
                txn.delete(META, key)
            txn.put(META, LINK + U64.pack(now), os.urandom(list_links.KEY))
            self._note(txn, "list links", "key", "renewed")

    def put_link_keys(self, keys: Iterable[tuple[int, bytes]]) -> None:
        """Add keys of another server, whose members' links are to count here too."""
        with self._write() as txn:
            for made, key in keys:
                if txn.get(META, LINK + U64.pack(made)) is None:
                    txn.put(META, LINK + U64.pack(made), key)
            self._note(txn, "list links", "key", "added")


def _is_sound(key: bytes, row: bytes) -> bool:
    try:
        return bool(LISTS.unpack(key, row))
    except CorruptData:
        return False


def _is_kept(key: bytes, row: bytes | None) -> bool:
    """Does a source name this member?"""
    with suppress(CorruptData):
        return row is not None and MEMBER_ROWS.unpack(key, row).source
    return False


def _has_left(key: bytes, row: bytes) -> bool:
    """Is it the row of somebody who left, kept for the source's sake? A damaged one is not."""
    with suppress(CorruptData):
        return MEMBER_ROWS.unpack(key, row).state == LEFT
    return False


def _is_member(txn: Txn, key: bytes) -> bool:
    row = txn.get("list_members", key)
    return row is not None and not _has_left(key, row)


def _address(key: bytes) -> str:
    """Of a member, from its key."""
    return key.rpartition(NUL)[2].decode("utf-8", "replace")


def _posts(row: bytes | None, now: int) -> list[tuple[bytes, int]]:
    if row is None or row[:1] != POSTS or (len(row) - 1) % POST.size:
        return []
    return [one for one in POST.iter_unpack(row[1:]) if one[1] > now - POST_DAYS * DAY]
