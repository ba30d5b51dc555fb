"""What an account uses in the index besides its messages' own octets, for quotas: long summaries (``mime.counted``) and
annotations that users set (RFC 5464). Both numbers are in the account's row (account_log.py), which changes in the same
commit.

An index that an earlier version wrote may have a row for them in ``meta``, or none. Without one, its summaries count
nothing, and its annotations are counted when they are first asked for. Repairing an index counts both again.
"""

import struct

from fastmail._core import mime
from fastmail.durable.transaction import Reading
from fastmail.store.interface import counts
from fastmail.store.local.index import layout, walk
from fastmail.store.local.index.layout import MAILBOX
from fastmail.store.local.index.tables import Tables

ROW = struct.Struct("<QQ")  # octets of summaries, of annotations
NAME = b"kept"


def of_value(value: bytes | memoryview) -> int:
    """Return the octets of a row of ``msg`` that count; 0 for nearly all messages."""
    return mime.counted(layout.summary_of(memoryview(value))) if len(value) > mime.LIGHT else 0


def of_note(name: bytes, value: bytes | None) -> int:
    """Return the octets of an annotation that count; 0 if there is none."""
    return len(name) + len(value) if value is not None and counts(name) else 0


def read(txn: Reading, t: Tables, account: bytes) -> tuple[int, int]:
    """Return (octets of summaries, of annotations) of the account with this key, from where version 2 of the index has
    them."""
    found = txn.get(NAME + account, db=t.meta)
    if found is not None and len(found) == ROW.size:
        summaries, notes = ROW.unpack(found)
        return summaries, notes
    return 0, _notes(txn, t, account)


def recount(txn: Reading, t: Tables, account: bytes) -> tuple[int, int]:
    """Return the same, counted from the rows."""
    summaries = sum(of_value(value) for _, value in walk.rows(txn, t.msg, account))
    return summaries, _notes(txn, t, account)


def _notes(txn: Reading, t: Tables, account: bytes) -> int:
    return sum(of_note(bytes(at[MAILBOX:]), value) for at, value in walk.rows(txn, t.note, account))
