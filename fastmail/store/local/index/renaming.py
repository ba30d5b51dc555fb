"""Renames of mailboxes that are under way: their directories are renamed first, their rows after that.

    meta    b"renaming" account(8) number(8)    NOTE: instance of the server, seconds since 1970

Whoever looks at an account's folders in between would see a mailbox without a folder and a folder without a mailbox,
drop the one and add the other. So nobody takes folders in while there is such a row. It is dropped by the commit of the
rename. One that a crash left counts no more once another instance runs, or after MOST seconds. A reader of an earlier
version leaves the rows alone.
"""

import os
import struct
import time

from fastmail.durable.transaction import Reading, Txn
from fastmail.store.local.index import layout, walk
from fastmail.store.local.index.tables import Tables

RENAMING = b"renaming"
NOTE = struct.Struct("<8sQ")
NUMBER = 8  # octets
MOST = 60.0  # s


def begin(txn: Txn, t: Tables, account: int, instance: bytes) -> bytes:
    """Note that a rename begins; return the key of the row, for ``end``."""
    at = RENAMING + layout.account_key(account) + os.urandom(NUMBER)
    txn.put(at, NOTE.pack(instance, int(time.time())), db=t.meta)
    return at


def end(txn: Txn, t: Tables, at: bytes) -> None:
    """Note that it has ended."""
    txn.delete(at, db=t.meta)


def is_under_way(txn: Reading, t: Tables, account: int, instance: bytes) -> bool:
    """True if a mailbox of the account is being renamed."""
    return any(_counts(row, instance) for _, row in walk.rows(txn, t.meta, RENAMING + layout.account_key(account)))


def forget(txn: Txn, t: Tables, instance: bytes) -> None:
    """Drop the rows that a crash left."""
    for at in [at for at, row in walk.rows(txn, t.meta, RENAMING) if not _counts(row, instance)]:
        txn.delete(at, db=t.meta)


def _counts(row: bytes | memoryview, instance: bytes) -> bool:
    whose, begun = NOTE.unpack_from(row)
    return bool(whose == instance) and 0 <= time.time() - begun <= MOST
