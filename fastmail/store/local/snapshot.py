"""One read transaction as the store interface's Snapshot: index pages, and arrivals that are not in them yet."""

from collections.abc import Iterator
from typing import Any

import lmdb

from fastmail._core import pages as page_format
from fastmail._core import rows
from fastmail._core.uidset import UidSet
from fastmail.durable import files
from fastmail.durable.env import translate
from fastmail.model.errors import CorruptData
from fastmail.store.interface import Account, Mailbox, Octets, Unsure
from fastmail.store.local import arrivals, layout, ops
from fastmail.store.local.content import MARK, in_segment, locate
from fastmail.store.local.folders import folder
from fastmail.store.local.layout import Tables
from fastmail.store.local.names import path_of

PAGES = 64  # that are looked up at once


class LocalSnapshot:
    """See interface.Snapshot. Used with ``with``, it ends its transaction."""

    __slots__ = ("_account", "_folder", "_last", "_t", "_txn")

    def __init__(self, txn: Any, tables: Tables, account: Account | None = None) -> None:
        self._account = account
        self._folder: tuple[bytes, str] | None = None  # of the mailbox whose contents were read last
        self._txn = txn
        self._t = tables
        self._last = tables.arrivals.catch_up(txn)

    def __enter__(self) -> "LocalSnapshot":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._txn.abort()
        if isinstance(error, lmdb.Error):
            raise translate(error) from error

    def mailbox(self, key: bytes) -> Mailbox | None:
        row = self._txn.get(layout.row_key(key), db=self._t.page)
        return self._whole(layout.unpack_row(key, row)) if row is not None else None

    def boxes(self, account: int) -> list[Mailbox]:
        """All mailboxes of an account, by id."""
        return [self._whole(box) for box in ops.boxes(self._txn, self._t, account)]

    def notes(self, key: bytes) -> dict[bytes, bytes]:
        return ops.notes(self._txn, self._t, key)

    def note(self, key: bytes, name: bytes) -> bytes | None:
        found = self._txn.get(key + name, db=self._t.note)
        return bytes(found) if found is not None else None

    def _whole(self, box: Mailbox) -> Mailbox:
        _, records = self._t.arrivals.between(box.key, box.settled, self._last)
        if records:
            ops.count_in(box, records)
        return box

    def _unsettled(self, key: bytes) -> tuple[list[int], list[bytes]]:
        found = self._t.arrivals.between(key, 0, self._last)
        if not found[0]:
            return found
        row = self._txn.get(layout.row_key(key), db=self._t.page)
        if row is None:
            return arrivals.NOTHING
        return self._t.arrivals.between(key, layout.unpack_row(key, row).settled, self._last)

    def _arrived(self, key: bytes) -> dict[int, bytes]:
        """First UID and packed records of the pages that arrivals belong to, in UID order."""
        return ops.by_page(self._unsettled(key)[1])

    def pages(self, key: bytes, uids: UidSet | None = None) -> Iterator[Octets]:
        arrived = self._arrived(key)
        cursor = self._txn.cursor(db=self._t.page)
        last = b""
        for lo, hi in [(1, layout.MAX_UID)] if uids is None else uids.ranges():
            start = layout.page_key(key, lo)
            if start <= last:
                start = last + b"\0"
            stop = layout.uid_key(key, hi)
            if start > stop or not cursor.set_range(start):
                continue
            if not arrived:
                walk, more = cursor.iternext(), True
                while more:
                    found, end, more = rows.up_to(walk, key, hi, PAGES)
                    if found:
                        last = layout.uid_key(key, end)
                    yield from found
                continue
            for at, page in cursor.iternext():
                at = bytes(at)
                if at > stop or at[:12] != key or at[12:] == layout.TOP:
                    break
                last = at
                new = arrived.pop(int.from_bytes(at[12:], "big"), None)
                yield page if new is None else page_format.extend(page, new)
        for first, packed in arrived.items():
            if uids is None or uids.meets(first, first + 31):
                page = self._txn.get(layout.page_key(key, first), db=self._t.page)
                yield page_format.extend(page, packed)

    def presence(self, key: bytes, above: int = 0) -> Iterator[tuple[int, int]]:
        arrived = self._arrived(key)
        cursor = self._txn.cursor(db=self._t.page)
        presence = page_format.presence
        if cursor.set_range(layout.page_key(key, above)):
            for at, page in cursor.iternext():
                if at[:12] != key or at[12:] == layout.TOP:
                    break
                first = int.from_bytes(at[12:], "big")
                more = arrived.pop(first, None) if arrived else None
                yield first, presence(page) | (presence(page_format.extend(None, more)) if more is not None else 0)
        for first, packed in arrived.items():
            if first + 31 > above:
                yield first, presence(page_format.extend(None, packed))

    def _value(self, key: bytes, uid: int, waiting: dict[int, int]) -> memoryview | None:
        found: memoryview | None = self._txn.get(layout.uid_key(key, uid), db=self._t.msg)
        if found is None and uid in waiting:
            arrival = self._txn.get(arrivals.NUMBER.pack(waiting[uid]), db=self._t.new)
            found = arrival[arrivals.HEAD :] if arrival is not None else None
        return found

    def _waiting(self, key: bytes) -> dict[int, int]:
        """{UID: number} of arrivals that are not settled."""
        numbers, records = self._unsettled(key)
        return {int.from_bytes(r[:4], "little"): n for n, r in zip(numbers, records, strict=True)}

    def summaries(self, key: bytes, uids: UidSet) -> dict[int, Octets]:
        out: dict[int, Octets] = rows.summaries(self._rows(key, uids), key, uids)
        waiting = self._waiting(key)
        for uid in waiting:
            if uid in uids and uid not in out:
                found = self._value(key, uid, waiting)
                if found is not None:
                    out[uid] = layout.summary_of(found)
        return out

    def search_field(self, key: bytes, uids: UidSet, name: bytes, needle: bytes) -> tuple[list[int], Unsure]:
        hits, unsure = rows.search_field(self._rows(key, uids), key, uids, name, needle)
        return hits, unsure + [(uid, None) for uid in self._waiting(key) if uid in uids]

    def fields(self, key: bytes, uids: UidSet, names: tuple[bytes, ...]) -> dict[int, tuple[bytes | None, ...]]:
        out = rows.values(self._rows(key, uids), key, uids, names)
        waiting = self._waiting(key)
        late = [(layout.uid_key(key, uid), self._value(key, uid, waiting)) for uid in sorted(waiting) if uid in uids]
        out.update(rows.values([(at, value) for at, value in late if value is not None], key, uids, names))
        return out

    def _rows(self, key: bytes, uids: UidSet) -> Iterator[tuple[memoryview, memoryview]]:
        """Rows of msg: all from the first to the last of ``uids``, or one by one where these lie far apart."""
        if len(uids) * 8 < uids.last - uids.first:
            return self._far_apart(key, uids)
        cursor = self._txn.cursor(db=self._t.msg)
        found = uids and cursor.set_range(layout.uid_key(key, uids.first))
        return cursor.iternext() if found else iter(())

    def _far_apart(self, key: bytes, uids: UidSet) -> Iterator[tuple[memoryview, memoryview]]:
        get, table = self._txn.get, self._t.msg
        for uid in uids:
            at = layout.uid_key(key, uid)
            value = get(at, db=table)
            if value is not None:
                yield memoryview(at), value

    def content(self, key: bytes, uid: int) -> Octets | None:
        marked = self.file(key, uid)
        if marked is None:
            return None
        try:
            if in_segment(marked):
                return self.record(marked, nowait=True)
            if self._folder is None or self._folder[0] != key:
                row = self._txn.get(layout.row_key(key), db=self._t.page)
                if row is None or self._account is None:
                    return None
                self._folder = key, folder(self._account, layout.unpack_row(key, row).name)
            return files.read_file(path_of(self._folder[1], marked), True)
        except (OSError, CorruptData):
            return None  # renamed, gone or damaged: the store's own ``content`` finds out

    def expunged(self, key: bytes, since: int) -> UidSet:
        cursor = self._txn.cursor(db=self._t.gone)
        flat: list[int] = []
        if cursor.set_range(key + layout.U64.pack(since + 1)):
            for at, pairs in cursor.iternext():
                if at[:12] != key:
                    break
                for pair in ops.PAIR.iter_unpack(pairs):
                    flat += pair
        return UidSet.of_ranges(flat)

    def keywords(self, key: bytes) -> list[bytes]:
        return ops.keyword_names(self._txn, self._t, key)

    def pop3(self, key: bytes) -> dict[int, tuple[int, bytes]]:
        return {
            int.from_bytes(at[12:], "big"): (int.from_bytes(value[:4], "little"), bytes(value[4:]))
            for at, value in ops.rows(self._txn, self._t.pop, key)
        }

    def record(self, marked: bytes, nowait: bool = False) -> bytes | None:
        """The content of a record in a segment."""
        _, ident, skip, length = MARK.unpack(marked)
        return self._t.reader.read(locate(self._txn, self._t, ident), skip, length, nowait)

    def file(self, key: bytes, uid: int) -> bytes | None:
        """Mark and name of a message's file."""
        value = self._txn.get(layout.uid_key(key, uid), db=self._t.msg)
        if value is None:
            value = self._value(key, uid, self._waiting(key))
        return layout.marked_of(value) if value is not None else None

    def files(self, key: bytes) -> Iterator[tuple[int, bytes]]:
        """(UID, mark and name) of all messages."""
        cursor = self._txn.cursor(db=self._t.msg)
        if cursor.set_range(key):
            for at, value in cursor.iternext():
                if at[:12] != key:
                    break
                yield int.from_bytes(at[12:], "big"), layout.marked_of(value)
        waiting = self._waiting(key)
        for uid in waiting:
            value = self._value(key, uid, waiting)
            if value is not None:
                yield uid, layout.marked_of(value)
