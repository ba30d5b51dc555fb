"""A mailbox's row, index pages and keywords inside a write transaction: the building blocks of all operations on it.

Every function derives everything from the transaction and its arguments, so an operation can be run again. Promise:
UIDs and MODSEQs that a row gives out are above all that can have been seen.
"""

from collections.abc import Iterable, Iterator, Sequence

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Reading, Row, Txn
from fastmail.model.errors import CannotDo, NoSuchMailbox, TooMuch
from fastmail.model.flags import MAX_KEYWORDS
from fastmail.store.local.index import layout
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, PAIR, RECORD, SPAN, TAIL, MailboxRow
from fastmail.store.local.index.tables import Tables

New = tuple[int, int, int, int, int]  # a record to be added: flags, keywords, date, size, saved
# by how much UIDs are raised after a recovery: more than were ever given out but unsynced at one moment
UIDS_ABOVE = 1 << 18
BATCH = 256  # rows read at a time
OCTETS = 1 << 20  # octets of rows read at a time
WRITTEN = 4 << 20  # octets of rows written in one commit: LMDB keeps them in memory until then


def load(txn: Txn, t: Tables, key: bytes) -> MailboxRow:
    """Return the mailbox row, to be changed, after raising it above all that can have been seen. NoSuchMailbox if the
    mailbox was deleted."""
    box = row(txn, t, key)
    if box.recovered != t.recovered:
        _go_above(txn, t, box)
    return box


def _go_above(txn: Txn, t: Tables, box: MailboxRow) -> None:
    """Raise UIDNEXT and MODSEQ after a recovery.

    Sessions may have been told of messages and changes that were not durable and are lost. Their UIDs and MODSEQs are
    not used again, and the UIDs in between are entered as expunged, so that clients hear of it. The account's MODSEQ
    was raised first (account_log.py). Where Dovecot's lists determine the next UID, UIDNEXT is not raised."""
    change = Change(txn, t, box.key[:ACCOUNT])
    first = box.uidnext
    box.uidnext = min(first + (0 if t.shared else UIDS_ABOVE), layout.MAX_UID)
    box.modseq = change.modseq
    box.recovered = t.recovered
    change.end()
    if box.uidnext > first:
        gone = PAIR.pack(first, box.uidnext - 1)
        txn.put(box.key + layout.U64.pack(box.modseq), gone, db=t.gone)
    save(txn, t, box)


def stored(txn: Reading, t: Tables, key: bytes) -> Row:
    """Return the octets of the mailbox row. NoSuchMailbox if the mailbox was deleted."""
    found = txn.get(layout.row_key(key), db=t.page)
    if found is None:
        raise NoSuchMailbox("mailbox is gone")
    return found


def row(txn: Reading, t: Tables, key: bytes) -> MailboxRow:
    """Return the mailbox row exactly as it is stored."""
    return layout.unpack_row(key, stored(txn, t, key))


def save(txn: Txn, t: Tables, box: MailboxRow) -> None:
    txn.put(layout.row_key(box.key), layout.pack_row(box), db=t.page)


def count_in(box: MailboxRow, packed: bytes) -> None:
    """Add records that follow the present ones to the totals of a mailbox's row."""
    unseen, deleted, octets = pages.tally(packed)
    uid, _, modseq = TAIL.unpack_from(packed, len(packed) - RECORD)
    box.exists += len(packed) // RECORD
    box.unseen += unseen
    box.deleted += deleted
    box.octets += octets
    box.uidnext = uid + 1
    box.modseq = modseq


def keyword_names(txn: Reading, t: Tables, key: bytes) -> list[bytes]:
    row = txn.get(key, db=t.kw)
    return bytes(row).split(b"\0") if row else []


def keyword_bits(txn: Txn, t: Tables, key: bytes, words: Sequence[bytes], create: bool = True) -> int:
    """Return the bits of keywords, which are compared without case. A new one gets the next free bit; TooMuch if none
    is free."""
    if not words:
        return 0
    names = keyword_names(txn, t, key)
    bits = 0
    fresh = False
    for word in words:
        at = _position(names, word)
        if at < 0:
            if not create:
                continue
            if len(names) >= MAX_KEYWORDS:
                raise TooMuch(f"a mailbox can have {MAX_KEYWORDS} keywords")
            at = len(names)
            names.append(word)
            fresh = True
        bits |= 1 << at
    if fresh:
        txn.put(key, b"\0".join(names), db=t.kw)
    return bits


def _position(names: list[bytes], word: bytes) -> int:
    """Return the position of a keyword, -1 if it is new. Most are spelt as they were the first time, so that is tried
    first."""
    if word in names:
        return names.index(word)
    lower = word.lower()
    return next((i for i, name in enumerate(names) if name.lower() == lower), -1)


def append_records(txn: Txn, t: Tables, box: MailboxRow, every: Sequence[New]) -> list[int]:
    """Append records to the pages with the next UIDs and the box's MODSEQ; return the UIDs. The caller saves the
    box."""
    uids = next_uids(box, len(every))
    modseq = box.modseq
    packed = b"".join(
        [
            pages.pack(uid, flags, modseq, keywords, date, size, saved)
            for uid, (flags, keywords, date, size, saved) in zip(uids, every, strict=True)
        ]
    )
    append_packed(txn, t, box, uids, packed)
    return list(uids)


def next_uids(box: MailboxRow, count: int) -> range:
    """Return the UIDs that the next messages get. CannotDo if there are not as many."""
    if box.uidnext + count > layout.MAX_UID:
        raise CannotDo("the mailbox has used up its UIDs")
    return range(box.uidnext, box.uidnext + count)


def append_packed(txn: Txn, t: Tables, box: MailboxRow, uids: range, packed: bytes) -> None:
    """Append packed records, which have these UIDs (``next_uids``) and the box's MODSEQ, to the pages."""
    if not uids:
        return
    start, end = 0, (SPAN - uids[0] % SPAN) * RECORD  # octets of ``packed`` that belong to one page
    for first in range(uids[0] - uids[0] % SPAN, uids[-1] + 1, SPAN):
        at = layout.page_key(box.key, first)
        txn.put(at, pages.extend(txn.get(at, db=t.page), packed[start:end]), db=t.page)
        start, end = end, end + SPAN * RECORD
    count_in(box, packed)


def pages_of(txn: Reading, t: Tables, key: bytes, uids: UidSet | None) -> Iterable[tuple[bytes, bytes]]:
    """Return (key, page) of the pages that may have ``uids``, in order: a list, because the caller will write to the
    table."""
    out = []
    cursor = txn.cursor(db=t.page)
    ranges = [(1, layout.MAX_UID)] if uids is None else uids.ranges()
    last = b""
    for lo, hi in ranges:
        start = layout.page_key(key, lo)
        stop = layout.uid_key(key, hi)
        if start <= last:
            start = last + b"\0"
        if not cursor.set_range(start):
            continue
        for at, page in cursor.iternext():
            at = bytes(at)
            if at > stop or at[:MAILBOX] != key or at[MAILBOX:] == layout.TOP:
                break
            out.append((at, bytes(page)))
            last = at
    return out


def rows_of(txn: Reading, t: Tables, keys: Sequence[bytes]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield lists of (key, value) of these rows of ``msg``, without missing ones: BATCH rows at a time, or fewer with
    OCTETS. The values are copies, so many long summaries at once would fill the memory."""
    some: list[tuple[bytes, bytes]] = []
    octets = n = 0
    cursor = txn.cursor(db=t.msg)
    while n < len(keys):
        first = n
        if cursor.set_range(keys[n]):
            for at, value in cursor.iternext():  # rows of messages side by side are found without a search for each
                if at != keys[n]:
                    break
                some.append((at, value))
                octets += len(value)
                n += 1
                if n == len(keys) or len(some) == BATCH or octets > OCTETS:
                    break
        if n == first:
            n += 1  # this key has no row
        if len(some) == BATCH or octets > OCTETS:
            yield some
            some, octets = [], 0
    if some:
        yield some
