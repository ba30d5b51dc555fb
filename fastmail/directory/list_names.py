"""What becomes of mailing lists and their members when an account or a domain gets another name (directory.renaming).

Rows that cannot be read stay as they are.
"""

from collections.abc import Callable
from contextlib import suppress

import msgspec

from fastmail.directory.reading import _beginning
from fastmail.directory.records import List
from fastmail.directory.rows import LISTS, MEMBER_ROWS, NUL, address_key, member_key
from fastmail.directory.tables import Txn
from fastmail.model.errors import CorruptData

replace = msgspec.structs.replace
FORMERLY = 5  # names that a list had before and that still count in tokens


def move_all(txn: Txn, key: bytes, new: str) -> None:
    """Give all lists of the domain with that key, with their members and what they sent lately, the name of the domain
    ``new``."""
    for one, row in list(_beginning(txn, "lists", key + NUL)):
        mailing_list = LISTS.unpack(one, row)
        move(txn, one, mailing_list, f"{mailing_list.address.rpartition('@')[0]}@{new}")


def move(txn: Txn, key: bytes, mailing_list: List, address: str) -> List:
    """Give a list, with its members and what it sent lately, another address; the list as it is now."""
    there = address_key(address)
    for member, member_row in list(_beginning(txn, "list_members", member_key(key))):
        with suppress(CorruptData):
            found = MEMBER_ROWS.unpack(member, member_row)
            at = member_key(there, found.address)
            txn.put("list_members", at, MEMBER_ROWS.pack(at, found))
        txn.delete("list_members", member)
    posts = txn.get("posts", key)
    if posts is not None:
        txn.put("posts", there, posts)
        txn.delete("posts", key)
    txn.delete("lists", key)
    formerly = (mailing_list.address, *mailing_list.formerly)[:FORMERLY]
    renamed = replace(mailing_list, address=address, formerly=formerly)
    txn.put("lists", there, LISTS.pack(there, renamed))
    return renamed


def refer(txn: Txn, moved: Callable[[str], str]) -> None:
    """Let owners, announcers and members that have a new address be known by it. A member whose new address is a member
    already stays once."""
    for key, row in list(txn.items("lists")):
        with suppress(CorruptData):
            old = LISTS.unpack(key, row)
            new = replace(old, owners=tuple(map(moved, old.owners)), announcers=tuple(map(moved, old.announcers)))
            if new != old:
                txn.put("lists", key, LISTS.pack(key, new))
        renamed = []
        for member, member_row in _beginning(txn, "list_members", member_key(key)):
            with suppress(CorruptData):
                found = MEMBER_ROWS.unpack(member, member_row)
                if (address := moved(found.address)) != found.address:
                    renamed.append((member, replace(found, address=address)))
        for member, found in renamed:
            txn.delete("list_members", member)
            at = member_key(key, found.address)
            if at and txn.get("list_members", at) is None:
                txn.put("list_members", at, MEMBER_ROWS.pack(at, found))
