"""Counts by day and domain, on disk: what reports are made of, and what others' reports said.

    seen        what this server saw of a domain's mail, until that was reported (feedback.sending)
    told        what others saw of mail from our domains (feedback.taking)
    complaints  what the users of others complained about (feedback.taking)
    known       day(4) digest(16), empty: reports that were counted already

The first three have the same rows:

    day(4) domain NUL             Head (MessagePack): what holds for all rows of a domain and a day
    day(4) domain NUL digest(16)  version(1) count(8) and the row (MessagePack), which ``digest`` is the SHA-256 of

``day`` counts from 1970, in UTC. A row of a later version is passed over.

An environment of its own, without a journal: whoever writes waits for the disk, on a helper thread. All processes write
to it, and a count is added to the one that is there, so all workers' counts are summed. Promise: it is bounded. A
domain has PER_DOMAIN rows a day, a table ROWS; what is beyond that is counted in the head as left out, and a table of
what others say lets go of its oldest day.
"""

import hashlib
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from fastmail.durable.env import Environment
from fastmail.durable.transaction import Reading, ReadingCursor, Table, Txn
from fastmail.feedback.model import DAY
from fastmail.telemetry.counters import count

LAYOUT = 1
SEEN, TOLD, COMPLAINTS, KNOWN = "seen", "told", "complaints", "known"
TABLES = [SEEN, TOLD, COMPLAINTS, KNOWN]
VERSION = 1  # of rows and heads
PER_DOMAIN = 1000  # rows of a domain and a day
ROWS = 100_000  # of a table
KEPT = 180  # days for which it is kept what others say
PRUNED = 2000  # rows that go in one transaction
MAP = 1 << 30  # octets
DIGEST = 16
_DAY = struct.Struct(">I")
_COUNT = struct.Struct(">BQ")


class Head(msgspec.Struct, array_like=True):
    """How many ``rows`` a domain and a day have, and messages without a row (``left_out``). ``about``: the Policy that
    held last, packed. ``begin``: what was reported earlier on that day ends before it, 0 for nothing. ``until``: nobody
    else may report these rows before that time; ``tries``: how often that failed. New fields go to the end; an older
    server takes no notice of them."""

    version: int = VERSION
    rows: int = 0
    left_out: int = 0
    about: bytes = b""
    begin: int = 0
    until: int = 0
    tries: int = 0


@dataclass(slots=True)
class More:
    """What is added to a domain and a day: rows, packed, with their counts. ``about``: as in Head; empty for no
    change."""

    rows: dict[bytes, int] = field(default_factory=dict)
    left_out: int = 0
    about: bytes = b""


Key = tuple[int, str]  # day, domain
_decode_head = msgspec.msgpack.Decoder(Head).decode
pack = msgspec.msgpack.Encoder().encode


def _head(raw: bytes) -> Head:
    """A head as it is stored; an empty one for what is damaged: its rows are counted anew from there."""
    try:
        return _decode_head(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Head()


def day_of(moment: float) -> int:
    """The day of a time, in UTC."""
    return int(moment // DAY)


def _prefix(day: int, domain: str) -> bytes:
    return _DAY.pack(day) + domain.encode("ascii", "replace")[:255] + b"\0"


class Days:
    """One in each process. Opened when it is first used. Every method may wait for the disk: call it on a helper
    thread."""

    def __init__(self, data_dir: str, per_domain: int = PER_DOMAIN, rows: int = ROWS) -> None:
        self._path = os.path.join(data_dir, "feedback")
        self._per_domain = per_domain
        self._rows = rows
        self._env: Environment | None = None
        self._using = threading.Lock()  # no thread may be in it when it is closed

    @property
    def env(self) -> Environment:
        if self._env is None:
            os.makedirs(self._path, mode=0o700, exist_ok=True)
            self._env = Environment(self._path, TABLES, LAYOUT, MAP)
        return self._env

    def close(self) -> None:
        """Waits for what is under way."""
        with self._using:
            if self._env is not None:
                self._env.close()
                self._env = None

    @contextmanager
    def _read(self) -> Iterator[tuple[Reading, dict[str, Table]]]:
        with self._using:
            env = self.env
            with env.read() as txn:
                yield txn, env.db

    @contextmanager
    def _write(self) -> Iterator[tuple[Txn, dict[str, Table]]]:
        with self._using:
            env = self.env
            with env.write() as txn:
                yield txn, env.db

    # ---------------------------------------------------------------- in

    def add(self, table: str, more: Mapping[Key, More]) -> None:
        """Add counts to those that are there; durable when it returns."""
        with self._write() as (txn, db):
            for (day, domain), one in more.items():
                self._add(txn, db[table], day, domain, one)

    def add_once(self, name: bytes, table: str, more: Mapping[Key, More], now: float) -> bool:
        """The same, unless something of that name and of the first of these days was added before: then False. What is
        older than KEPT days goes."""
        day = min((day for day, _ in more), default=day_of(now))
        mark = _DAY.pack(day) + hashlib.sha256(name).digest()[:DIGEST]
        with self._write() as (txn, db):
            if txn.get(mark, db=db[KNOWN]) is not None:
                return False
            for name_of_table in (TOLD, COMPLAINTS, KNOWN):
                _drop_oldest(txn, db[name_of_table], day_of(now) - KEPT)
            if txn.stat(db[KNOWN])["entries"] >= self._rows:
                _drop_oldest(txn, db[KNOWN])
            txn.put(mark, b"", db=db[KNOWN])
            for (day, domain), one in more.items():
                if txn.stat(db[table])["entries"] + len(one.rows) >= self._rows:
                    _drop_oldest(txn, db[table])
                self._add(txn, db[table], day, domain, one)
        return True

    def _add(self, txn: Txn, db: Table, day: int, domain: str, more: More) -> None:
        prefix = _prefix(day, domain)
        found = txn.get(prefix, db=db)
        room = self._rows - int(txn.stat(db)["entries"])
        if found is None and room <= 0:
            count("feedback.left_out", sum(more.rows.values()) + more.left_out)
            return
        head = _head(found) if found is not None else Head()
        head.left_out += more.left_out
        head.about = more.about or head.about
        for row, messages in more.rows.items():
            key = prefix + hashlib.sha256(row).digest()[:DIGEST]
            there = txn.get(key, db=db)
            if there is None and (head.rows >= self._per_domain or room <= 1):
                head.left_out += messages
                count("feedback.left_out", messages)
                continue
            if there is None:
                head.rows += 1
                room -= 1
            txn.put(key, _COUNT.pack(VERSION, _count(there) + messages) + row, db=db)
        txn.put(prefix, pack(head), db=db)

    # ---------------------------------------------------------------- looking

    def keys(self, table: str, first: int = 0, last: int = (1 << 32) - 1) -> list[Key]:
        """Which domains have rows on which days, from ``first`` to ``last``."""
        out: list[Key] = []
        with self._read() as (txn, db):
            cursor = txn.cursor(db=db[table])
            more = cursor.set_range(_DAY.pack(first))
            while more:
                day, domain = _key(cursor)
                if day > last:
                    break
                out.append((day, domain))
                more = cursor.set_range(_prefix(day, domain)[:-1] + b"\1")
        return out

    def rows(self, table: str, day: int, domain: str) -> tuple[Head, list[tuple[bytes, int]]]:
        """What holds for a domain and a day, and its rows, packed, with their counts."""
        prefix = _prefix(day, domain)
        with self._read() as (txn, db):
            found = txn.get(prefix, db=db[table])
            head = _head(bytes(found)) if found is not None else Head()
            return head, list(_below(txn.cursor(db=db[table]), prefix))

    def of(self, table: str, domain: str, first: int, last: int) -> Iterator[tuple[int, Head, list[tuple[bytes, int]]]]:
        """The days of one domain: (day, head, rows)."""
        for day in self._days(table, first, last):
            head, rows = self.rows(table, day, domain)
            if rows or head.left_out:
                yield day, head, rows

    def _days(self, table: str, first: int, last: int) -> list[int]:
        """Days of which there is anything."""
        out = []
        with self._read() as (txn, db):
            cursor = txn.cursor(db=db[table])
            more = cursor.set_range(_DAY.pack(first))
            while more and (day := int(_DAY.unpack_from(cursor.key())[0])) <= last:
                out.append(day)
                more = day < last and cursor.set_range(_DAY.pack(day + 1))
        return out

    # ---------------------------------------------------------------- out

    def claim(self, day: int, domain: str, now: float, seconds: float) -> tuple[Head, list[tuple[bytes, int]]] | None:
        """Take what was seen of a domain on a day, to report it: nobody else gets it for so many seconds. None where
        somebody has it, or there is nothing."""
        prefix = _prefix(day, domain)
        with self._write() as (txn, db):
            found = txn.get(prefix, db=db[SEEN])
            head = _head(found) if found is not None else Head()
            if not head.rows or head.until > now:
                return None
            rows = list(_below(txn.cursor(db=db[SEEN]), prefix))
            head.until = int(now + seconds)
            txn.put(prefix, pack(head), db=db[SEEN])
        return head, rows

    def reported(self, day: int, domain: str, rows: list[tuple[bytes, int]], end: int = 0) -> None:
        """These rows were reported, or nobody wants them: let go of them. What was counted meanwhile stays. ``end``:
        where the day goes on, what comes is of a report that begins after it."""
        prefix = _prefix(day, domain)
        with self._write() as (txn, tables):
            db = tables[SEEN]
            found = txn.get(prefix, db=db)
            head = _head(found) if found is not None else Head()
            for row, messages in rows:
                key = prefix + hashlib.sha256(row).digest()[:DIGEST]
                there = txn.get(key, db=db)
                left = _count(there) - messages
                if left > 0:
                    txn.put(key, _COUNT.pack(VERSION, left) + row, db=db)
                elif txn.delete(key, db=db):
                    head.rows = max(0, head.rows - 1)
            head.begin, head.until, head.tries, head.left_out = end + 1 if end else 0, 0, 0, 0
            if head.rows or end:
                txn.put(prefix, pack(head), db=db)
            else:
                txn.delete(prefix, db=db)

    def failed(self, day: int, domain: str, until: float) -> int:
        """They could not be reported: nobody tries before ``until``. How often that happened."""
        prefix = _prefix(day, domain)
        with self._write() as (txn, db):
            found = txn.get(prefix, db=db[SEEN])
            if found is None:
                return 0
            head = _head(found)
            head.tries += 1
            head.until = int(until)
            txn.put(prefix, pack(head), db=db[SEEN])
            return head.tries

    def forget(self, before: int) -> None:
        """Let go of heads without rows, and of all that was seen on days before ``before``: a bounded piece of it."""
        with self._read() as (txn, db):
            cursor = txn.cursor(db=db[SEEN])
            if not cursor.first() or _DAY.unpack_from(cursor.key())[0] >= before:
                return
        with self._write() as (txn, db):
            _drop_oldest(txn, db[SEEN], before)


def _drop_oldest(txn: Txn, table: Table, before: int = 1 << 32) -> None:
    """Let go of what is of days before ``before``, the oldest first: a bounded piece of it. A head goes before its
    rows; those that stay are shown."""
    cursor = txn.cursor(db=table)
    for _ in range(PRUNED):
        if not cursor.first() or _DAY.unpack_from(cursor.key())[0] >= before:
            return
        cursor.delete()


def _key(cursor: ReadingCursor) -> Key:
    """Day and domain of the row that it stands at."""
    raw = bytes(cursor.key())
    return _DAY.unpack_from(raw)[0], raw[_DAY.size :].partition(b"\0")[0].decode("ascii", "replace")


def _count(stored: bytes | None) -> int:
    """Of a row; 0 for none, and for one that is damaged or of a later version."""
    version, messages = _COUNT.unpack_from(stored) if stored and len(stored) > _COUNT.size else (0, 0)
    return messages if version == VERSION else 0


def _below(cursor: ReadingCursor, prefix: bytes) -> Iterator[tuple[bytes, int]]:
    """(row, count) of all rows of a domain and a day, without its head."""
    if cursor.set_range(prefix + b"\0"):
        for key, value in cursor.iternext():
            if key[: len(prefix)] != prefix:
                return
            stored = bytes(value)
            messages = _count(stored)
            if messages:
                yield stored[_COUNT.size :], messages


def shown_day(day: int) -> str:
    """A day for people, as 2026-11-29."""
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY))
