"""Converts messages that versions 1 to 3 had not put into their mailboxes' pages yet.

    new     number(8)   mailbox key(12), record(40, as in a page), value as in msg

Those versions put each message into this table first, and about a second later into page and msg. A row counted if its
number was above the one in its mailbox's row (MERGED). After a clean stop the table may have rows that do not count
any more; after any other stop and the replay of the journal, also rows that do.

Promise: afterwards each message exists once, with its UID and MODSEQ, and is in its account's totals and log, as that
version would have done next. A transaction takes some rows and deletes them, so an interruption does no harm.
Unreadable rows are skipped: `fastmail check` finds their content.
"""

import struct
from collections.abc import Mapping
from typing import Any

from fastmail._core import pages
from fastmail.durable.layouts import Part
from fastmail.durable.segments import SegmentReader
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CorruptData
from fastmail.store.local.index import account_log, box_rows, layout, object_ids
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, MARK_AT, RECORD, ROW_HEAD, TAIL, MailboxRow
from fastmail.store.local.index.tables import Tables
from fastmail.telemetry import log

TABLE = "new"
VALUE = MAILBOX + RECORD  # octets before the value for msg
# of the mailbox row: up to this number its messages are in its pages; 0 since version 4
MERGED = struct.Struct("<52xQ")
BATCH = 256  # rows in one transaction
OCTETS = 4 << 20  # octets of rows in one transaction


def named(row: bytes | memoryview) -> tuple[bytes, bytes]:
    """Return (key in msg, mark and name) of the message in a row."""
    uid, _, _ = TAIL.unpack_from(row, MAILBOX)
    return layout.uid_key(bytes(row[:MAILBOX]), uid), layout.marked_of(row[VALUE:])


def convert(txn: Txn, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Convert some of the messages; True if none are left. The caller drops the table."""
    tables = Tables(**new, reader=SegmentReader(""))
    boxes: dict[bytes, list[tuple[int, bytes]]] = {}
    for number, row in Part(BATCH, OCTETS).take(txn, old[TABLE]):
        if len(row) >= VALUE + MARK_AT:
            boxes.setdefault(row[:MAILBOX], []).append((int.from_bytes(number, "big"), row))
    for key, some in boxes.items():
        _put(txn, tables, key, some)
    done: bool = not txn.stat(old[TABLE])["entries"]
    return done


def _put(txn: Txn, t: Tables, key: bytes, rows: list[tuple[int, bytes]]) -> None:
    """Convert the rows of one mailbox, given by number."""
    found = txn.get(layout.row_key(key), db=t.page)
    if found is None:
        return  # the mailbox was removed with all its messages
    box = merged = None
    try:
        box = layout.unpack_row(key, found)
        merged = MERGED.unpack_from(found)[0] if ROW_HEAD.unpack_from(found)[1] >= MERGED.size else 0
    except CorruptData as error:  # `fastmail check --repair` rebuilds the row from the other tables
        log.event("mailbox.damaged", "error", why=error, then="fastmail check --repair")
    came: list[object_ids.Item] = []
    records: dict[int, bytes] = {}  # packed, by the first UID of their page
    for number, row in rows:
        uid, _, modseq = TAIL.unpack_from(row, MAILBOX)
        at, value = layout.uid_key(key, uid), row[VALUE:]
        if number > (merged or 0) and txn.put(at, value, db=t.msg, overwrite=False):
            came.append((uid, layout.summary_of(value), modseq))
            first = layout.page_of(uid)
            records[first] = records.get(first, b"") + row[MAILBOX:VALUE]
    _extend(txn, t, key, records)
    if box is not None and came:
        _count(txn, t, box, came, b"".join(records.values()))


def _extend(txn: Txn, t: Tables, key: bytes, records: Mapping[int, bytes]) -> None:
    """Append records to the mailbox's pages. A damaged page is replaced, as a repair would do."""
    for first, packed in records.items():
        at = layout.page_key(key, first)
        try:
            page = pages.extend(txn.get(at, db=t.page), packed)
        except ValueError:
            page = pages.extend(None, packed)
        txn.put(at, page, db=t.page)


def _count(txn: Txn, t: Tables, box: MailboxRow, came: list[object_ids.Item], packed: bytes) -> None:
    """Add these messages to the totals of their mailbox and account. This is no new change, so nothing is raised above
    what can have been seen; the next change of either does that if need be."""
    account = box.key[:ACCOUNT]
    row = account_log.unpack(txn.get(account, db=t.acct))
    change = Change(txn, t._replace(recovered=row.recovered if row is not None else 0), account)
    change.had(came[-1][2])
    before, uidnext, modseq = box.octets, box.uidnext, box.modseq
    box_rows.count_in(box, packed)
    box.uidnext, box.modseq = max(box.uidnext, uidnext), max(box.modseq, modseq)
    box_rows.save(txn, t, box)
    change.created(box.key, came, box.octets - before)
    change.end()
