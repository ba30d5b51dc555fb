"""What an account takes in the index beside its messages' own octets, for quotas: summaries, as far as they are long
(``mime.counted``), and annotations that users set (RFC 5464).

Promise: the two numbers are changed in the commit that changes what they are of, so they are exact. An index that an
earlier version wrote has no row of them: its summaries count nothing, and its annotations are counted when they are
first asked for. What repairs an index counts again.
"""

import struct
from typing import TYPE_CHECKING, Any

from fastmail._core import mime
from fastmail.store.interface import counts
from fastmail.store.local import layout
from fastmail.store.local.arrivals import HEAD

if TYPE_CHECKING:
    from fastmail.store.local.layout import Tables

ROW = struct.Struct("<QQ")  # octets of summaries, of annotations
NAME = b"kept"


def of_value(value: bytes | memoryview) -> int:
    """Octets of a row of ``msg`` that count: those of nearly all messages do not."""
    return mime.counted(layout.summary_of(memoryview(value))) if len(value) > mime.LIGHT else 0


def of_note(name: bytes, value: bytes | None) -> int:
    """Octets of an annotation that count; 0 where there is none."""
    return len(name) + len(value) if value is not None and counts(name) else 0


def read(txn: Any, t: "Tables", account: bytes) -> tuple[int, int]:
    """(octets of summaries, of annotations) of the account with this key."""
    found = txn.get(NAME + account, db=t.meta)
    if found is not None and len(found) == ROW.size:
        summaries, notes = ROW.unpack(found)
        return summaries, notes
    return 0, _notes(txn, t, account)


def add(txn: Any, t: "Tables", account: bytes, summaries: int = 0, notes: int = 0) -> None:
    """So much more, or less; called before annotations are changed."""
    if summaries or notes:
        before, told = read(txn, t, account)
        row = ROW.pack(max(0, before + summaries), max(0, told + notes))
        txn.put(NAME + account, row, db=t.meta)


def recount(txn: Any, t: "Tables", account: bytes) -> None:
    """Count all of it again."""
    summaries = sum(of_value(value) for _, value in _rows(txn, t.msg, account))
    for number, value in txn.cursor(db=t.new).iternext():
        row = txn.get(layout.row_key(value[:12]), db=t.page) if value[:8] == account else None
        if row is not None and layout.unpack_row(value[:12], row).settled < int.from_bytes(number, "big"):
            summaries += of_value(value[HEAD:])
    txn.put(NAME + account, ROW.pack(summaries, _notes(txn, t, account)), db=t.meta)


def _notes(txn: Any, t: "Tables", account: bytes) -> int:
    return sum(of_note(bytes(at[12:]), value) for at, value in _rows(txn, t.note, account))


def _rows(txn: Any, table: Any, prefix: bytes) -> Any:
    cursor = txn.cursor(db=table)
    if cursor.set_range(prefix):
        for at, value in cursor.iternext():
            if at[: len(prefix)] != prefix:
                return
            yield at, value
