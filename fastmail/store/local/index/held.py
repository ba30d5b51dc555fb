"""Rows of ``held``: content that a message in the queue holds, and where such a message was delivered.

    holder(8) mark                  a hold: content that no mailbox need have yet
    holder(8) b"d" mailbox key(12)  UIDVALIDITY(4) UID(4): what was delivered there, of files with a number in their
                                    names that were taken in as somebody's mail, and of deliveries before there were
                                    ids; all others are in ``given``

The holder is the number of a message in the queue. A hold is called by the number of its shard, the holder, and the
mark by which a message's row names its content, with ``h`` for a held file (store.local.holds).
"""

import struct
from collections.abc import Sequence

from fastmail.durable.transaction import Reading, Txn
from fastmail.store.interface import Appended
from fastmail.store.local.index import references
from fastmail.store.local.index.layout import DELIVERED, HELD, HOLDER, U64
from fastmail.store.local.index.tables import Tables

PLACE = struct.Struct(">II")  # UIDVALIDITY, UID


def _done_key(number: int, key: bytes) -> bytes:
    return U64.pack(number) + DELIVERED + key


def done(txn: Reading, t: Tables, number: int, key: bytes) -> Appended | None:
    """Where a message with this number in the queue went, when the mailbox had it before; see the module."""
    found = txn.get(_done_key(number, key), db=t.held)
    if found is None:
        return None
    uidvalidity, uid = PLACE.unpack(found)
    return Appended(key, uidvalidity, [uid], repeated=True)


def note_done(txn: Txn, t: Tables, number: int, placed: Appended) -> None:
    """A file with this number in its name was taken in."""
    txn.put(_done_key(number, placed.key), PLACE.pack(placed.uidvalidity, placed.uids[0]), db=t.held)


def name_of(at: bytes | memoryview) -> bytes:
    """The file that a row's key names; empty where it names none."""
    return bytes(at[HOLDER + 1 :]) if at[HOLDER : HOLDER + 1] == HELD else b""


def holders(txn: Reading, t: Tables) -> set[int]:
    """Who holds anything."""
    out = set()
    cursor = txn.cursor(db=t.held)
    more = cursor.first()
    while more:
        holder = U64.unpack(cursor.key()[:HOLDER])[0]
        out.add(holder)
        more = cursor.set_range(U64.pack(holder + 1))
    return out


def let_go(txn: Txn, t: Tables, prefixes: Sequence[bytes]) -> list[bytes]:
    """Drop the rows of these holders; names of files that nobody holds any more."""
    gone = []
    cursor = txn.cursor(db=t.held)
    for prefix in prefixes:
        while cursor.set_range(prefix) and cursor.key()[:HOLDER] == prefix:
            key = bytes(cursor.key())
            cursor.delete()
            if references.in_segment(key[HOLDER:]):
                references.release(txn, t, [key[HOLDER:]])
            elif name_of(key):
                gone.append(name_of(key))
    return gone
