"""The life of every message, for `fastmail trace`: accepted from whom, queued, each attempt, stored as which UID.

Written off the hot path: what happens is noted in memory, and a helper thread commits it once a second; a crash loses
the last second of it, never a message. Kept for some days in an environment of its own, within a size; the oldest goes
first. Under a flood that it can not keep up with it leaves out and counts, and never slows mail down.

    event  time in ns(8) process(4)             MessagePack: [id, what, fields]
    word   word NUL id NUL time(8) process(4)   empty; a word is an id, an address or a Message-ID, in lower case
"""

import asyncio
import os
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from fastmail.durable.env import Environment
from fastmail.durable.transaction import Reading
from fastmail.model.errors import MailError
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LAYOUT = 1
TABLES = ["event", "word"]
PAUSE = 1.0
MOST = 50_000  # notes that wait for the disk
WORDS = 50  # of one note
REFUSALS = 120  # senders and recipients that were refused, a minute and process: anybody can cause them
PRUNED = 10_000  # notes that go at once where nothing is written
MORE = 64 << 20  # octets of the map beyond those that it may take on disk: what is dropped is copied at first
AT = struct.Struct(">QI")
_encode = msgspec.msgpack.Encoder().encode
_decoded = msgspec.msgpack.Decoder(tuple[str, str, dict[str, Any]]).decode


def _decode(raw: bytes) -> tuple[str, str, dict[str, Any]]:
    try:
        return _decoded(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", "damaged", {}


@dataclass(slots=True)
class Event:
    """One thing that happened to a message."""

    time: float
    id: str
    what: str
    fields: dict[str, Any]


class History:
    """One in each process; ``days`` 0 keeps nothing. ``size``: octets that the environment may have on disk."""

    _minute = _refusals = 0  # the minute of the latest refusal, and how many were noted in it

    def __init__(self, data_dir: str, days: float, size: int) -> None:
        self._path = os.path.join(data_dir, "trace")
        self._days = days
        self._size = size
        self._env: Environment | None = None
        self._notes: list[tuple[int, str, str, dict[str, Any], tuple[str, ...]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._flushing: asyncio.Future[None] | None = None
        self._pruning: asyncio.Future[None] | None = None
        self._last = 0

    def note(self, ident: str, what: str, words: Iterable[str] = (), /, **fields: Any) -> None:
        """Something happened to message ``ident``; ``words`` are what else it can be found by."""
        self.add(ident, what, words, fields)

    def add(self, ident: str, what: str, words: Iterable[str], fields: dict[str, Any]) -> None:
        """The same with its fields in a dict, which is kept."""
        if not self._days:
            return
        if len(self._notes) >= MOST:
            count("trace.left_out")
            return
        now = time.time_ns()
        self._last = now if now > self._last else self._last + 1
        self._notes.append((self._last, ident, what, fields, (ident, *words)))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_soon())

    def note_refusal(self, ident: str, words: Iterable[str], /, **fields: Any) -> None:
        """A sender or a recipient was refused, before there was a message. Beyond ``REFUSALS`` in a minute they are
        left out and counted, so that a flood of them pushes nothing else out."""
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute, self._refusals = minute, 0
        if self._refusals >= REFUSALS:
            count("trace.left_out")
            return
        self._refusals += 1
        self.note(ident, "refused", words, **fields)

    async def _write_soon(self) -> None:
        try:
            while self._notes:
                await asyncio.sleep(PAUSE)
                await self._flush()
        finally:
            self._writing = None

    async def _flush(self) -> None:
        notes, self._notes = self._notes, []
        try:
            self._flushing = asyncio.get_running_loop().run_in_executor(None, self._write, notes)
            await asyncio.shield(self._flushing)
        except (MailError, OSError) as error:
            count("trace.failed", len(notes))
            log.event("trace.failed", "warning", error=error)

    async def prune(self) -> None:
        """Drop what is too old, or too much, though nothing is noted: a bounded piece."""
        if not self._days or not os.path.isdir(self._path):
            return
        try:
            self._pruning = asyncio.get_running_loop().run_in_executor(None, self._forget, PRUNED)
            await asyncio.shield(self._pruning)
        except (MailError, OSError) as error:
            log.event("trace.failed", "warning", error=error)

    async def close(self) -> None:
        """Write what waits."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)  # its thread still writes
        if self._pruning is not None:
            await asyncio.gather(self._pruning, return_exceptions=True)
        if self._notes:
            await self._flush()
        if self._env is not None:
            self._env.close()
            self._env = None

    @property
    def env(self) -> Environment:
        if self._env is None:
            os.makedirs(self._path, mode=0o700, exist_ok=True)
            self._env = Environment(self._path, TABLES, LAYOUT, self._size + MORE)
        return self._env

    def _write(self, notes: list[tuple[int, str, str, dict[str, Any], tuple[str, ...]]]) -> None:
        env = self.env
        rows = []
        pid = os.getpid()
        events = env.db["event"]
        with env.write() as txn:
            put = txn.put
            for at, ident, what, fields, words in notes:
                mark = AT.pack(at, pid)
                put(mark, _encode((ident, what, fields)), db=events)
                end = _end(ident) + mark
                rows += [(_start(word) + end, b"") for word in {w.lower() for w in words[:WORDS] if w}]
            rows.sort()
            txn.cursor(db=env.db["word"]).putmulti(rows)
        self._forget(len(notes) * 2 + 100)

    def _forget(self, most: int) -> None:
        """Drop what is too old, or too much; a bounded piece at a time."""
        env = self.env
        cutoff = time.time_ns() - int(self._days * 86400e9)
        with env.read() as txn:
            full = sum(_octets(txn.stat(env.db[name])) for name in ("event", "word")) > self._size
            cursor = txn.cursor(db=env.db["event"])
            if not cursor.first():
                return
            if not full and AT.unpack(bytes(cursor.key()))[0] >= cutoff:
                return
        with env.write() as txn:
            cursor = txn.cursor(db=env.db["event"])
            for _ in range(most):
                if not cursor.first() or (not full and AT.unpack(cursor.key())[0] >= cutoff):
                    return
                mark, (ident, _, fields) = cursor.key(), _decode(cursor.value())
                for word in {ident.lower(), *_words(fields)}:
                    txn.delete(_start(word) + _end(ident) + mark, db=env.db["word"])
                cursor.delete()

    def find(self, word: str, most: int = 100) -> Iterator[list[Event]]:
        """The lives of messages that have this id, address or Message-ID, the newest first."""
        prefix = _start(word.lower()) + b"\0"
        with self.env.read() as txn:
            ids = {str(key[len(prefix) : -AT.size - 1], "utf-8"): key[-AT.size :] for key in self._marks(txn, prefix)}
        for ident in sorted(ids, key=lambda one: ids[one], reverse=True)[:most]:
            yield self.life(ident)

    def life(self, ident: str) -> list[Event]:
        """All of one message, in order."""
        out = []
        with self.env.read() as txn:
            for key in self._marks(txn, _start(ident.lower()) + _end(ident)):
                found = txn.get(key[-AT.size :], db=self.env.db["event"])
                if found is not None:
                    name, what, fields = _decode(found)
                    out.append(Event(AT.unpack(key[-AT.size :])[0] / 1e9, name, what, fields))
        return out

    def _marks(self, txn: Reading, prefix: bytes) -> Iterator[bytes]:
        """Keys of ``word`` that begin with the prefix."""
        cursor = txn.cursor(db=self.env.db["word"])
        if cursor.set_range(prefix):
            for key in cursor.iternext(values=False):
                if key[: len(prefix)] != prefix:
                    return
                yield bytes(key)


def _octets(stat: dict[str, int]) -> int:
    """What a table takes now; the file itself never shrinks."""
    return (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * stat["psize"]


def _start(word: str) -> bytes:
    """Return the first part of a key of ``word``."""
    return word.encode("utf-8", "replace")[:300]


def _end(ident: str) -> bytes:
    """Return the part after it."""
    return b"\0" + ident.encode("utf-8", "replace")[:60] + b"\0"


def _words(fields: dict[str, Any]) -> set[str]:
    """What a note could be found by, from its fields."""
    out = set()
    for name in ("sender", "recipient", "recipients", "message_id", "report"):
        value = fields.get(name)
        out |= {one.lower() for one in (value if isinstance(value, list) else [value]) if one}
    return out
