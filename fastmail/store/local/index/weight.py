"""What an account takes in the index beside its messages' own octets, for quotas: summaries, as far as they are long
(``mime.counted``), and annotations that users set (RFC 5464). The two numbers are in the account's row
(account_log.py), which is changed in the commit that changes what they are of.

An index that an earlier version wrote may have a row of them in ``meta``, or none: then its summaries count nothing,
and its annotations are counted when they are first asked for. What repairs an index counts again.
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
    """Octets of a row of ``msg`` that count: those of nearly all messages do not."""
    return mime.counted(layout.summary_of(memoryview(value))) if len(value) > mime.LIGHT else 0


def of_note(name: bytes, value: bytes | None) -> int:
    """Octets of an annotation that count; 0 where there is none."""
    return len(name) + len(value) if value is not None and counts(name) else 0


def read(txn: Reading, t: Tables, account: bytes) -> tuple[int, int]:
    """(octets of summaries, of annotations) of the account with this key, as version 2 of the index has them."""
    found = txn.get(NAME + account, db=t.meta)
    if found is not None and len(found) == ROW.size:
        summaries, notes = ROW.unpack(found)
        return summaries, notes
    return 0, _notes(txn, t, account)


def recount(txn: Reading, t: Tables, account: bytes) -> tuple[int, int]:
    """The same, counted."""
    summaries = sum(of_value(value) for _, value in walk.rows(txn, t.msg, account))
    return summaries, _notes(txn, t, account)


def _notes(txn: Reading, t: Tables, account: bytes) -> int:
    return sum(of_note(bytes(at[MAILBOX:]), value) for at, value in walk.rows(txn, t.note, account))
