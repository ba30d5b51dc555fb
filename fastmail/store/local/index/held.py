"""Rows of ``held``: content that a queued message holds, and where such a message was delivered.

    holder(8) mark and name         a hold: content that no mailbox may have yet
    holder(8) b"d" mailbox key(12)  UIDVALIDITY(4) UID(4): where the message was delivered. Only for files with a queue
                                    number in their names that were taken in as other programs' mail, and for
                                    deliveries of versions before delivery ids; all others are in ``given``

The holder is the number of a message in the queue. The name of a hold consists of the number of its shard, the holder,
and the content's mark and name, where the mark is ``h`` for a held file (store.local.holds).
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
    """Return where a message with this queue number was delivered, if the mailbox had it already; see the module."""
    found = txn.get(_done_key(number, key), db=t.held)
    if found is None:
        return None
    uidvalidity, uid = PLACE.unpack(found)
    return Appended(key, uidvalidity, [uid], repeated=True)


def note_done(txn: Txn, t: Tables, number: int, placed: Appended) -> None:
    """Record that a file with this number in its name was taken in."""
    txn.put(_done_key(number, placed.key), PLACE.pack(placed.uidvalidity, placed.uids[0]), db=t.held)


def name_of(at: bytes | memoryview) -> bytes:
    """Return the file that a row's key names; empty if it names none."""
    return bytes(at[HOLDER + 1 :]) if at[HOLDER : HOLDER + 1] == HELD else b""


def holders(txn: Reading, t: Tables) -> set[int]:
    """Return all holders."""
    out = set()
    cursor = txn.cursor(db=t.held)
    more = cursor.first()
    while more:
        holder = U64.unpack(cursor.key()[:HOLDER])[0]
        out.add(holder)
        more = cursor.set_range(U64.pack(holder + 1))
    return out


def let_go(txn: Txn, t: Tables, prefixes: Sequence[bytes]) -> list[bytes]:
    """Delete the rows of these holders; return the names of files that are not held any more."""
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
