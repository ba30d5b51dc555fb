"""Converts the first layout of the index to the present one. Its version number was 1, like that of the next one, so it
is recognised by its tables.

    box     account(8) mailbox(4)            Mailbox row, then the name; now in ``page``, beside the last page
    page    mailbox key(12) first uid(4)     a page of 64 UIDs; now of 32
    summ    mailbox key(12) uid(4)           summary       } now one value in ``msg``
    file    mailbox key(12) uid(4)           mark and name }

All other tables were the same. Rows go over part by part, each in one transaction, and a mailbox's row after its pages.
Pages are split where they are, so ``meta`` has the one that was split last (SPLIT). Rows that exist in the new form are
not replaced: a version that did not know of the old one may have written them.
"""

import struct
from typing import Any

from fastmail.durable.layouts import Part
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
SPLIT = b"split"  # in meta, while it lasts: key of the page that was split last
HEAD = struct.Struct("<BBHIQQQ")  # of a page (_core/pages.pxd)
SPAN = 64  # UIDs of a page then
HALF = SPAN // 2  # now
LOW = (1 << HALF) - 1


def convert(txn: Txn, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Move some rows of the first layout into the present tables; True if none are left. The caller drops the old
    tables."""
    part = Part()
    for key, marked in part.take(txn, old["file"]):
        summary = txn.get(key, db=old["summ"])
        if summary is not None:
            txn.delete(key, db=old["summ"])
            part.count(len(summary))
        txn.put(key, pack_message(marked, summary or b""), db=new["msg"], overwrite=False)
    boxes = txn.cursor(db=old["box"])
    while not part.is_full and boxes.first() and _pages(txn, boxes.key(), new, part):
        box, row = boxes.item()
        txn.put(row_key(box), row, db=new["page"], overwrite=False)
        boxes.delete()
        part.count(len(row))
    return not part.is_full


def _pages(txn: Txn, box: bytes, new: dict[str, Any], part: Part) -> bool:
    """Split the pages of a mailbox in two; True if all are split. A page that was written in the present layout has no
    record beyond its 32 UIDs."""
    table, meta = new["page"], new["meta"]
    cursor = txn.cursor(db=table)
    last = txn.get(SPLIT, db=meta) or b""
    found = []
    more = cursor.set_range(last + b"\0" if last[:MAILBOX] == box else box)
    while more and cursor.key()[:MAILBOX] == box and cursor.key()[MAILBOX:] != TOP and not part.is_full:
        found.append((bytes(cursor.key()), bytes(cursor.value())))
        part.count(len(found[-1][1]))
        more = cursor.next()
    for key, page in found:
        base = uid_of(key)
        halves = split(page, base)
        for at, half in zip((base, base + HALF), halves, strict=True):
            if half:
                txn.put(uid_key(box, at), half, db=table, overwrite=at == base)
        if not halves[0]:
            txn.delete(key, db=table)
    if part.is_full:
        if found:
            txn.put(SPLIT, found[-1][0], db=meta)
        return False
    txn.delete(SPLIT, db=meta)
    return True


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
