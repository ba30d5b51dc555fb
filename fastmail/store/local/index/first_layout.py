"""Converts the first layout of the index to the present one. Its version number was 1, like that of the next one, so it
is recognised by its tables.

    box     account(8) mailbox(4)            Mailbox row, then the name; now in ``page``, beside the last page
    page    mailbox key(12) first uid(4)     a page of 64 UIDs; now of 32
    summ    mailbox key(12) uid(4)           summary       } now one value in ``msg``
    file    mailbox key(12) uid(4)           mark and name }

All other tables were the same. Everything is done in one transaction, so an interrupted conversion has done nothing.
Rows that exist in the new form are not replaced: a version that did not know of the old one may have written them.
"""

import struct
from typing import Any

from fastmail.durable import progress
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CorruptData
from fastmail.store.local.index.layout import (
    MAILBOX,
    RECORD_UID,
    TOP,
    pack_message,
    record_uid,
    row_key,
    uid_key,
    uid_of,
)

TABLES = ("box", "summ", "file")
HEAD = struct.Struct("<BBHIQQQ")  # of a page (_core/pages.pxd)
SPAN = 64  # UIDs of a page then
HALF = SPAN // 2  # now
LOW = (1 << HALF) - 1


def convert(txn: Txn, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Copy all rows of the first layout into the present tables; the caller drops the old tables. Returns True:
    done."""
    for key, row in progress.each(txn.cursor(db=old["box"]).iternext()):
        txn.put(row_key(bytes(key)), bytes(row), db=new["page"], overwrite=False)
    for key, marked in progress.each(txn.cursor(db=old["file"]).iternext(), 2):  # with its summary
        summary = txn.get(key, db=old["summ"])
        packed = pack_message(bytes(marked), bytes(summary) if summary is not None else b"")
        txn.put(bytes(key), packed, db=new["msg"], overwrite=False)
    for box, _ in list(txn.cursor(db=old["box"]).iternext()):
        _pages(txn, bytes(box), new["page"])
    return True


def _pages(txn: Txn, box: bytes, table: Any) -> None:
    """Split the pages of a mailbox in two. A page that was written in the present layout has no record beyond its 32
    UIDs."""
    cursor = txn.cursor(db=table)
    found = []
    more = cursor.set_range(box)
    while more and cursor.key()[:MAILBOX] == box and cursor.key()[MAILBOX:] != TOP:
        found.append((bytes(cursor.key()), bytes(cursor.value())))
        more = cursor.next()
    for key, page in found:
        base = uid_of(key)
        halves = split(page, base)
        for at, half in zip((base, base + HALF), halves, strict=True):
            if half:
                txn.put(uid_key(box, at), half, db=table, overwrite=at == base)
        if not halves[0]:
            txn.delete(key, db=table)


def split(page: bytes, base: int) -> tuple[bytes, bytes]:
    """Split a page of 64 UIDs from ``base`` on into two of 32; empty for one without records. Raises CorruptData."""
    if len(page) < HEAD.size:
        raise CorruptData("a page of the first layout is too short")
    version, step, count, reserved, modseq, present, unseen = HEAD.unpack_from(page)
    if version != 1 or step < RECORD_UID.size or len(page) < HEAD.size + count * step:
        raise CorruptData("a page of the first layout is damaged")
    records = [page[at : at + step] for at in range(HEAD.size, HEAD.size + count * step, step)]
    out = []
    for first in (0, HALF):
        mine = [one for one in records if 0 <= record_uid(one) - base - first < HALF]
        bits = present >> first & LOW, unseen >> first & LOW
        head = HEAD.pack(version, step, len(mine), reserved, modseq, *bits)  # MODSEQ: never shrinks, so both have it
        out.append(head + b"".join(mine) if mine else b"")
    return out[0], out[1]
