"""Arrivals: new messages wait here, in the order of their commits, until they are settled into their mailboxes' pages.

A commit of ten deliveries into ten mailboxes would write some forty pages all over the index; as arrivals it writes a
handful, one behind the other. Within about a second they are settled, many of a mailbox at once. Until then readers
add them to what the pages say, so a message is there for every session as soon as its commit is.

Promise: an arrival counts for a mailbox when its number is above the row's ``settled``; settling moves it and raises
that in one commit, so it is seen exactly once in every snapshot. Each process keeps what the table holds in memory,
brought up to date by whoever opens a transaction. Entries stay there for KEEP seconds after they were seen to be
settled, longer than any snapshot lives.
"""

import struct
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Any

from fastmail.durable.transaction import Reading, Txn
from fastmail.store.local.index.layout import ACCOUNT, ARRIVAL, MAILBOX, U64

MODSEQ = struct.Struct("<Q")  # in a record, at 8
KEEP = 10.0
SOME = 256  # entries in memory are nothing to tidy up
NOTHING: tuple[list[int], list[bytes]] = ([], [])


class Arrivals:
    """What is in the table ``new`` of one environment; used by readers and by the writer's thread."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._lock = threading.Lock()
        self._known = 0  # highest number in memory
        self._boxes: dict[bytes, tuple[list[int], list[bytes]]] = {}
        self._accounts: dict[bytes, dict[bytes, None]] = {}  # the mailboxes of these, by account
        self._written: dict[bytes, tuple[list[int], list[bytes]]] = {}  # by the writer's open transaction
        self._modseqs: dict[bytes, int] = {}  # the highest of what it wrote, by account
        self._last = 0  # highest number in the writer's open transaction
        self.closed = False  # are new messages to be put into their pages at once?
        self._order: deque[tuple[int, bytes]] = deque()
        self._trimmed: deque[tuple[float, int]] = deque()

    # ---------------------------------------------------------------- readers

    def catch_up(self, txn: Reading) -> int:
        """Learn what the transaction sees; returns the highest number in it."""
        cursor = txn.cursor(db=self._table)
        if not cursor.last():
            return 0
        last: int = U64.unpack(cursor.key())[0]
        if last > self._known:
            with self._lock:
                if cursor.set_range(U64.pack(self._known + 1)):
                    for number, value in cursor.iternext():
                        self._learn(U64.unpack(number)[0], bytes(value[:MAILBOX]), bytes(value[MAILBOX:ARRIVAL]))
                if self._order and self._order[0][0] < last - SOME:
                    cursor.first()  # what other processes settled
                    self._expire(U64.unpack(cursor.key())[0] - 1)
        return last

    def _learn(self, number: int, key: bytes, record: bytes) -> None:
        entry = self._boxes.get(key)
        if entry is None:
            entry = self._boxes[key] = ([], [])
            self._accounts.setdefault(key[:ACCOUNT], {})[key] = None
        entry[0].append(number)
        entry[1].append(record)
        self._order.append((number, key))
        self._known = number

    def any(self, key: bytes) -> bool:
        """May a mailbox have something unsettled?"""
        return key in self._boxes

    def between(self, key: bytes, settled: int, last: int) -> tuple[list[int], list[bytes]]:
        """(numbers, records) of a mailbox with settled < number <= last."""
        entry = self._boxes.get(key)
        if entry is None or entry[0][-1] <= settled:
            return NOTHING
        with self._lock:
            numbers, records = entry
            a, b = bisect_right(numbers, settled), bisect_right(numbers, last)
            return numbers[a:b], records[a:b]

    def of_account(self, account: bytes) -> list[bytes]:
        """Mailboxes of the account with this key that may have something unsettled."""
        if account not in self._accounts:
            return []
        with self._lock:
            return list(self._accounts.get(account, ()))

    def keys(self) -> list[bytes]:
        """Mailboxes that may have something unsettled."""
        with self._lock:
            return list(self._boxes)

    # ---------------------------------------------------------------- the writer

    def begun(self, txn: Reading, closed: bool = False) -> None:
        """The writer's transaction was opened. ``closed``: it may add no arrivals."""
        self.closed = closed
        self._last = self.catch_up(txn)
        self._written.clear()
        self._modseqs.clear()

    def add(self, txn: Txn, key: bytes, record: bytes, value: bytes) -> None:
        """Write one more; seen by this process once the transaction is committed."""
        self._last += 1
        txn.put(U64.pack(self._last), key + record + value, db=self._table, append=True)
        numbers, records = self._written.setdefault(key, ([], []))
        numbers.append(self._last)
        records.append(record)
        self._modseqs[key[:ACCOUNT]] = MODSEQ.unpack_from(record, 8)[0]

    def pending(self, account: bytes) -> list[bytes]:
        """The same as ``of_account`` for the writer's transaction."""
        written = [key for key in self._written if key[:ACCOUNT] == account] if account in self._modseqs else []
        return list(dict.fromkeys(self.of_account(account) + written))

    def modseq(self, account: bytes) -> int:
        """The highest MODSEQ that arrivals of an account were given, as the writer's transaction sees it; settled ones
        count or not."""
        top = self._modseqs.get(account, 0)
        for key in self.of_account(account):
            entry = self._boxes.get(key)  # settled long ago, if a reader dropped it meanwhile
            if entry is not None:
                top = max(top, MODSEQ.unpack_from(entry[1][-1], 8)[0])
        return top

    def newest(self, key: bytes, settled: int) -> bytes | None:
        """The last unsettled record of a mailbox, as the writer's transaction sees it."""
        entry = self._written.get(key) or self._boxes.get(key)
        return entry[1][-1] if entry is not None and entry[0][-1] > settled else None

    def unsettled(self, key: bytes, settled: int) -> tuple[list[int], list[bytes]]:
        """All that ``settle`` has to move, as the writer's transaction sees it."""
        numbers, records = self.between(key, settled, self._last)
        more = self._written.get(key)
        if more is not None and more[0][-1] > settled:
            at = bisect_right(more[0], settled)
            return numbers + more[0][at:], records + more[1][at:]
        return numbers, records

    def oldest(self, txn: Reading) -> Iterator[tuple[int, bytes]]:
        """(number, mailbox) from the oldest on, without the newest one: its number is never given again."""
        cursor = txn.cursor(db=self._table)
        found = cursor.first()
        while found:
            number = U64.unpack(cursor.key())[0]
            if number >= self._last:
                return
            yield number, bytes(cursor.value()[:MAILBOX])
            found = cursor.set_range(U64.pack(number + 1))

    def trim(self, txn: Txn, numbers: list[int]) -> None:
        """Remove settled entries from the table, and from memory what was removed a while ago."""
        for number in numbers:
            txn.delete(U64.pack(number), db=self._table)
        with self._lock:
            self._expire(numbers[-1] if numbers else 0)

    def _expire(self, upto: int) -> None:
        """Entries up to this number are settled: forget them when KEEP is over, and now those of a while ago."""
        now = time.monotonic()
        if not self._trimmed or self._trimmed[-1][1] < upto:
            self._trimmed.append((now + KEEP, upto))
        while self._trimmed and self._trimmed[0][0] < now:
            self._forget(self._trimmed.popleft()[1])

    def _forget(self, upto: int) -> None:
        while self._order and self._order[0][0] <= upto:
            _, key = self._order.popleft()
            entry = self._boxes.get(key)
            if entry is None:
                continue
            at = bisect_right(entry[0], upto)
            if at == len(entry[0]):
                del self._boxes[key]
                boxes = self._accounts[key[:ACCOUNT]]
                del boxes[key]
                if not boxes:
                    del self._accounts[key[:ACCOUNT]]
            elif at:
                self._boxes[key] = (entry[0][at:], entry[1][at:])
