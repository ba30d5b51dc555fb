"""Messages that were expunged and are kept for a while, for sessions whose view still has them (RFC 2180 4.1, RFC 9051
7.5.1).

The table ``kept``, which earlier versions do not know:

    mailbox key(12) uid(4)                          record(40, as in a page), value as in msg
    0xFF x 8, due(8), mailbox key(12), uid(4)       expunged UIDs as u32 pairs first, last, at most BATCH of them, the
                                                    lowest one in the key. Due: ms since 1970, when to delete them

Content in a segment stays referred to by the first kind of row. A file is renamed after the commit to ``tmp`` of its
mailbox, where no reader of Maildirs takes it for a message (``aside_path``); until then it is found by its old name.

Promise: the rows belong to the same commit as the removal, so every worker finds kept messages, and after a crash they
are still deleted when their time comes. UIDs are never used twice, so a row never belongs to another message. Kept
messages do not count in quotas. If the index is nearly full, nothing is kept.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Reading, Txn
from fastmail.store.local.index import layout, references
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, PAIR, RECORD, U32, U64, trash_key, uid_of
from fastmail.store.local.index.tables import Tables

SLACK = 60.0  # s after its due time after which a row counts as left by a worker that ended
BATCH = 256  # messages in one row of the second kind
DUE = b"\xff" * ACCOUNT  # prefix of the second kind of key: no account has this number
# parts of a key that begins with DUE: due time, mailbox key
TIME = slice(len(DUE), len(DUE) + U64.size)
OF = slice(TIME.stop, TIME.stop + MAILBOX)
LONGEST_KEY = OF.stop + U32.size


def until(grace: float) -> int:
    """Return the time (ms since 1970) until which a message that is removed now is kept."""
    return int((time.time() + grace) * 1000)


# ---------------------------------------------------------------- in the writer's transaction


def put(txn: Txn, t: Tables, key: bytes, values: Mapping[bytes, bytes], before: Mapping[int, bytes], due: int) -> None:
    """Keep messages of a mailbox. ``values``: their rows of msg by key, in order; ``before``: the pages that had them,
    by first UID."""
    rows = []
    uids = []
    first, records = -1, {}
    for at, value in values.items():
        uid = uid_of(at)
        if layout.page_of(uid) != first:
            first = layout.page_of(uid)
            records = {record[Field.UID]: record for record in pages.records(before[first])}
        rows.append((at, pages.pack(*records[uid]) + value))
        uids.append(uid)
    txn.cursor(db=t.kept).putmulti(rows)
    announce(txn, t, key, uids, due)


def announce(txn: Txn, t: Tables, key: bytes, uids: Sequence[int], due: int) -> None:
    """Record when to delete kept messages; ``uids`` in order."""
    for start in range(0, len(uids), BATCH):
        some = uids[start : start + BATCH]
        pairs = b"".join(PAIR.pack(low, high) for low, high in UidSet.of(some).ranges())
        txn.put(DUE + U64.pack(due) + key + U32.pack(some[0]), pairs, db=t.kept)


def forget(txn: Txn, t: Tables, dues: Sequence[bytes], most: int = BATCH) -> set[bytes]:
    """Delete the messages that these rows name, at most ``most`` of each row; another worker may have done so before.

    Returns the mailboxes with files that were not put aside yet: they have to be removed where they are."""
    late: set[bytes] = set()
    for due in dues:
        pairs = txn.get(due, db=t.kept)
        if pairs is None:
            continue
        key = due[OF]
        rows = _named(txn, t, key, pairs)
        for at, _ in rows[:most]:
            txn.delete(at, db=t.kept)
        marks = [layout.marked_of(value[RECORD:]) for _, value in rows[:most]]
        references.release(txn, t, [one for one in marks if references.in_segment(one)])
        for at in (trash_key(key, one) for one in marks if not references.in_segment(one)):
            name = txn.get(at, db=t.trash)
            if name is not None and is_aside(name):
                txn.put(at, plain(name), db=t.trash)
                late.add(key)
        if len(rows) <= most:
            txn.delete(due, db=t.kept)
    return late


def drop(txn: Txn, t: Tables, key: bytes) -> None:
    """Delete all kept messages of a mailbox that is removed, or whose UIDs begin again. The sweeper removes their
    files."""
    rows = [(bytes(at), layout.marked_of(value[RECORD:])) for at, value in _rows(txn, t, key, 0, layout.MAX_UID)]
    for at, _ in rows:
        txn.delete(at, db=t.kept)
    references.release(txn, t, [marked for _, marked in rows if references.in_segment(marked)])


def marks_of(txn: Reading, t: Tables, key: bytes) -> Iterator[bytes]:
    """Yield mark and name of everything that is kept of a mailbox."""
    return (layout.marked_of(value[RECORD:]) for _, value in _rows(txn, t, key, 0, layout.MAX_UID))


def announce_again(txn: Txn, t: Tables, keys: Iterable[bytes]) -> None:
    """Make everything that these mailboxes keep due now: its due time is not known or not reliable."""
    for key in keys:
        announce(txn, t, key, [uid_of(at) for at, _ in _rows(txn, t, key, 0, layout.MAX_UID)], 0)


def _rows(txn: Reading, t: Tables, key: bytes, low: int, high: int) -> Iterator[tuple[bytes, Any]]:
    cursor = txn.cursor(db=t.kept)
    last = layout.uid_key(key, high)
    if cursor.set_range(layout.uid_key(key, low)):
        for at, value in cursor.iternext():
            if bytes(at) > last:
                return
            yield bytes(at), value


def _named(txn: Reading, t: Tables, key: bytes, pairs: bytes) -> list[tuple[bytes, bytes]]:
    """Return the rows of the messages that a row of the second kind names."""
    return [(at, bytes(value)) for low, high in PAIR.iter_unpack(pairs) for at, value in _rows(txn, t, key, low, high)]


# ---------------------------------------------------------------- readers


def row(txn: Reading, t: Tables, key: bytes, uid: int) -> Any:
    """Return the row of a kept message: ``RECORD`` octets, then its value of msg; None if it is not kept."""
    return txn.get(layout.uid_key(key, uid), db=t.kept)


def marks(txn: Reading, t: Tables) -> Iterator[tuple[bytes, bytes]]:
    """Yield (mailbox key and UID, mark and name) of everything that is kept in segments."""
    for at, value in txn.cursor(db=t.kept).iternext():
        if len(at) == layout.MESSAGE and layout.mark_of(value[RECORD:]) == layout.SEGMENT:
            yield bytes(at), layout.marked_of(value[RECORD:])


def records(txn: Reading, t: Tables, key: bytes, uids: UidSet) -> Iterator[tuple[int, bytes]]:
    """Yield (first UID of a page, packed kept records of that page), in UID order."""
    first, packed = -1, b""
    for low, high in uids.ranges():
        for at, value in _rows(txn, t, key, low, high):
            page = layout.page_of(uid_of(at))
            if page != first:
                if packed:
                    yield first, packed
                first, packed = page, b""
            packed += bytes(value[:RECORD])
    if packed:
        yield first, packed


def merged(there: Iterator[Any], kept: Iterator[tuple[int, bytes]]) -> Iterator[Any]:
    """Merge pages with kept records, in UID order."""
    waiting = next(kept, None)
    for page in there:
        first = layout.page_of(pages.span(page)[0])
        while waiting is not None and waiting[0] < first:
            yield pages.extend(None, waiting[1])
            waiting = next(kept, None)
        if waiting is None or waiting[0] > first:
            yield page
            continue
        every = {
            record[Field.UID]: record for record in pages.records(pages.extend(None, waiting[1])) + pages.records(page)
        }
        yield pages.extend(None, b"".join(pages.pack(*every[uid]) for uid in sorted(every)))
        waiting = next(kept, None)
    while waiting is not None:
        yield pages.extend(None, waiting[1])
        waiting = next(kept, None)


@dataclass(slots=True)
class Due:
    """Something to delete: the row that says so, and the files that are kept of its messages."""

    at: bytes
    key: bytes
    names: list[bytes] = field(default_factory=list)  # mark and name


def due(txn: Reading, t: Tables, most: int, all_of_it: bool, grace: float, late: float = 0.0) -> list[Due]:
    """Return what is due, at most ``most`` rows.

    ``all_of_it``: ignore the due times. ``late``: only what has been due for so many seconds. A due time further away
    than any was ever given comes from a wrong clock, and counts as due."""
    now = time.time()
    come, wrong = U64.pack(int(max(0, now - late) * 1000)), U64.pack(int((now + grace + SLACK) * 1000))
    out: list[Due] = []
    cursor = txn.cursor(db=t.kept)
    found = cursor.set_range(DUE)
    while found and len(out) < most:
        at = bytes(cursor.key())
        if not all_of_it and come < at[TIME] < wrong:
            found = cursor.set_range(DUE + wrong)
            continue
        one = Due(at, at[OF])
        marks = (layout.marked_of(value[RECORD:]) for _, value in _named(txn, t, one.key, bytes(cursor.value())))
        one.names = [marked for marked in marks if not references.in_segment(marked)]
        out.append(one)
        found = cursor.next()
    return out


# ---------------------------------------------------------------- files


def aside(marked: bytes) -> bytes:
    """Return how the trash table names a file that is to be put aside. An earlier version removes such a file."""
    return marked[:1].upper() + marked[1:]


def is_aside(marked: bytes) -> bool:
    """True if a file in the trash table is to be put aside, not removed."""
    return marked[:1] in (b"N", b"C")


def plain(marked: bytes) -> bytes:
    """Return mark and name as in msg."""
    return marked[:1].lower() + marked[1:]
