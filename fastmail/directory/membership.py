"""Groups of accounts, for lists of rights (RFC 4314 2: ``$team``): their rows, and which groups an account is in.

A group names its members by their numbers, so a member that is renamed stays one. Beside each group lies a row for
each member, ``number(8) group``, so that the groups of an account are found in one step. Both change in one
transaction; ``rebuild`` makes the second from the first after damage.
"""

from contextlib import suppress

import msgspec

from fastmail.directory.records import Group
from fastmail.directory.rows import GROUPS, U64
from fastmail.directory.tables import Txn
from fastmail.model.errors import CorruptData

MARK = "$"  # that a group's name begins with among the identifiers of a list of rights
MOST = 10_000  # members of a group
GROUP_TABLE, MEMBER_TABLE = "groups", "group_members"


def keys_of(txn: Txn, number: int) -> list[bytes]:
    """The keys of the groups that an account is in."""
    mine = U64.pack(number)
    out = []
    for key, _ in txn.items(MEMBER_TABLE, mine):
        if not key.startswith(mine):
            break
        out.append(key[U64.size :])
    return out


def put(txn: Txn, key: bytes, old: Group | None, new: Group | None) -> None:
    """Write a group, or remove it, with its members' rows."""
    before, now = set(old.members if old is not None else ()), set(new.members if new is not None else ())
    for number in before - now:
        txn.delete(MEMBER_TABLE, U64.pack(number) + key)
    for number in now - before:
        txn.put(MEMBER_TABLE, U64.pack(number) + key, b"")
    if new is not None:
        txn.put(GROUP_TABLE, key, GROUPS.pack(key, new))
    else:
        txn.delete(GROUP_TABLE, key)


def remove_damaged(txn: Txn, key: bytes) -> None:
    """Remove a group whose members nobody can read, with their rows."""
    for one in [one for one, _ in txn.items(MEMBER_TABLE) if one[U64.size :] == key]:
        txn.delete(MEMBER_TABLE, one)
    txn.delete(GROUP_TABLE, key)


def leave_all(txn: Txn, number: int) -> None:
    """An account is removed: it is in no group any more."""
    for key in keys_of(txn, number):
        row = txn.get(GROUP_TABLE, key)
        txn.delete(MEMBER_TABLE, U64.pack(number) + key)
        with suppress(CorruptData):
            if row is not None:
                old = GROUPS.unpack(key, row)
                members = tuple(one for one in old.members if one != number)
                put(txn, key, old, msgspec.structs.replace(old, members=members))


def rebuild(txn: Txn) -> None:
    """The rows of members, from the groups that can be read."""
    for key in [key for key, _ in txn.items(MEMBER_TABLE)]:
        txn.delete(MEMBER_TABLE, key)
    for key, row in list(txn.items(GROUP_TABLE)):
        with suppress(CorruptData):
            put(txn, key, None, GROUPS.unpack(key, row))
