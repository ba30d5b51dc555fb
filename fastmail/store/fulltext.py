"""The folded text of messages, kept for each account, so that SEARCH TEXT and BODY need not read and decode mail.

Texts lie one behind the other in chunks of a SQLite database, and a search looks through them: for substrings, exactly
as a scan of the messages would. (A trigram index was measured too: it answers a little faster, and costs twenty times
as much to fill and four times the disk.) It is filled by searches: what is not in it yet is scanned, and put in on the
way. It is only an accelerator: it can be removed at any time, an answer is never taken from it for a message it does
not know, and a damaged one is thrown away and begun anew.

    seen   mailbox, uidvalidity, UIDs that are here as a set
    chunk  mailbox; ends: (UID, end of the header's text, end) as u32, ascending; data: UTF-8, NUL behind each message
"""

import asyncio
import os
import sqlite3
import threading
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastmail._core import texts
from fastmail._core.uidset import UidSet
from fastmail.message import summary, text
from fastmail.store.interface import Account, Store
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LONGEST = 2 << 20  # a message with more text is not put in
BETWEEN = "\n\x01\n"  # parts of a message; no search goes over it
FILL = 2 << 20  # octets of messages that go in at once
AT_ONCE = 2  # batches on their way to the disk
LAYOUT = 2  # 2: text is folded by message.collate; one of an older layout is begun anew
BUSY = 5.0  # s to wait for another process


@dataclass(slots=True)
class Text:
    """One message's folded text."""

    uid: int
    head: str
    body: str

    def has(self, needle: str, with_header: bool) -> bool:
        return needle in self.body or (with_header and needle in self.head)


def folded(uid: int, content: bytes) -> Text:
    """What is searched of a message."""
    head, *rest = text.body_text(content, summary.of(content), True)
    return Text(uid, head.replace("\0", "\1"), BETWEEN.join(rest).replace("\0", "\1"))


class FullText:
    """One in each worker, over the same files. All methods wait for the disk: call them from helper threads."""

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, "fulltext")
        self._locks = [threading.Lock() for _ in range(16)]

    def _path(self, account: int) -> str:
        return os.path.join(self._directory, f"{account & 255:02x}", f"{account}.sqlite")

    def _open(self, account: int) -> sqlite3.Connection:
        path = self._path(account)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        base = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
        base.execute("PRAGMA page_size=65536")  # for a new database: a chunk is few pages
        base.execute("PRAGMA temp_store=MEMORY")  # nothing of anybody's mail in other directories
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        version = base.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            base.execute("BEGIN IMMEDIATE")
            base.execute("CREATE TABLE IF NOT EXISTS seen (mailbox INTEGER PRIMARY KEY, validity INTEGER, uids TEXT)")
            base.execute("CREATE TABLE IF NOT EXISTS chunk (mailbox INTEGER, ends BLOB, data BLOB)")
            base.execute("CREATE INDEX IF NOT EXISTS of_mailbox ON chunk (mailbox)")
            base.execute(f"PRAGMA user_version={LAYOUT}")
            base.execute("COMMIT")
        elif version != LAYOUT:
            base.close()
            raise sqlite3.DatabaseError("another layout")
        return base

    def find(self, key: bytes, validity: int, needle: str, with_header: bool) -> tuple[UidSet, UidSet]:
        """(UIDs with the folded needle in their text, UIDs that are known here)."""
        nothing = UidSet(), UidSet()
        account, mailbox = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
        if not needle or not os.path.exists(self._path(account)):
            return nothing
        try:
            base = self._open(account)
            try:
                known = _known(base, mailbox, validity)
                if not known:
                    return nothing
                found: list[int] = []
                wanted = needle.encode("utf-8", "surrogatepass")
                for ends, data in base.execute("SELECT ends, data FROM chunk WHERE mailbox = ?", (mailbox,)):
                    found += texts.find(array("I", ends), data, wanted, with_header)
                return UidSet.of(sorted(found)), known
            finally:
                base.close()
        except (sqlite3.Error, ValueError) as error:
            self._broken(account, error)
            return nothing

    def known(self, key: bytes, validity: int) -> UidSet:
        """UIDs that the index knows."""
        account, mailbox = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
        if not os.path.exists(self._path(account)):
            return UidSet()
        try:
            base = self._open(account)
            try:
                return _known(base, mailbox, validity)
            finally:
                base.close()
        except sqlite3.Error as error:
            self._broken(account, error)
            return UidSet()

    def add(self, key: bytes, validity: int, messages: Sequence[Text]) -> None:
        """Put messages in; those that are there already are left alone."""
        account, mailbox = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
        with self._locks[account % len(self._locks)]:
            try:
                base = self._open(account)
                try:
                    base.execute("BEGIN IMMEDIATE")
                    if _stale(base, mailbox, validity):
                        base.execute("ROLLBACK")
                        raise sqlite3.DatabaseError("the mailbox has new UIDs")
                    known = _known(base, mailbox, validity)
                    fresh = [t for t in messages if t.uid not in known and len(t.head) + len(t.body) <= LONGEST]
                    if fresh:
                        base.execute("INSERT INTO chunk VALUES (?, ?, ?)", (mailbox, *_packed(fresh)))
                    known = known.plus(UidSet.of(sorted(t.uid for t in fresh)))
                    base.execute(
                        "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (mailbox, validity, known.octets().decode())
                    )
                    base.execute("COMMIT")
                    count("fulltext.messages", len(fresh))
                finally:
                    if base.in_transaction:  # what failed must not keep others out
                        base.execute("ROLLBACK")
                    base.close()
            except sqlite3.Error as error:
                self._broken(account, error)

    def forget(self, account: int) -> None:
        """Remove an account's index."""
        for end in ("", "-wal", "-shm"):
            try:
                os.unlink(self._path(account) + end)
            except FileNotFoundError:
                continue

    def _broken(self, account: int, error: Exception) -> None:
        """Busy or full: later. Anything else: throw it away, the next search begins anew."""
        log.event("fulltext.failed", "warning", account=account, error=error)
        if not isinstance(error, sqlite3.OperationalError):
            self.forget(account)


class Filler:
    """Puts in what searches read, behind their answers, or all of a mailbox for a command."""

    def __init__(self, index: FullText, store: Store) -> None:
        self.index = index
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, key: bytes, validity: int, batch: list[Text]) -> None:
        """Put a batch in; it is waited for only when several are on their way."""
        while len(self._tasks) >= AT_ONCE:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.get_running_loop().create_task(self._add(key, validity, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self, key: bytes, validity: int, batch: list[Text]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.index.add, key, validity, batch)

    async def close(self) -> None:
        """Finish what is on its way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def fill(self, account: Account, key: bytes) -> int:
        """Put in every message of a mailbox that the index lacks; how many."""
        with self._store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            if box is None:
                return 0
            uids = UidSet().plus_pages(snapshot.presence(key), 0)
        loop = asyncio.get_running_loop()
        known = await loop.run_in_executor(None, self.index.known, key, box.uidvalidity)
        batch: list[tuple[int, bytes]] = []
        size = done = 0
        for uid in uids.minus(known):
            content = await self._store.content(account, key, uid)
            if content is not None:
                batch.append((uid, content))
                size += len(content)
            if size > FILL:
                done += await loop.run_in_executor(None, self._put, key, box.uidvalidity, batch)
                batch, size = [], 0
        if batch:
            done += await loop.run_in_executor(None, self._put, key, box.uidvalidity, batch)
        return done

    def _put(self, key: bytes, validity: int, batch: list[tuple[int, bytes]]) -> int:
        self.index.add(key, validity, [folded(uid, content) for uid, content in batch])
        return len(batch)


def _packed(messages: Sequence[Text]) -> tuple[bytes, bytes]:
    """(ends, data) of a chunk."""
    ends, data = array("I"), bytearray()
    for one in messages:
        data += one.head.encode("utf-8", "surrogatepass") + b"\1"
        middle = len(data)
        data += one.body.encode("utf-8", "surrogatepass")
        ends.extend((one.uid, middle, len(data)))
        data += b"\0"
    return ends.tobytes(), bytes(data)


def _row(base: sqlite3.Connection, mailbox: int) -> tuple[int, str] | None:
    found: tuple[int, str] | None = base.execute(
        "SELECT validity, uids FROM seen WHERE mailbox = ?", (mailbox,)
    ).fetchone()
    return found


def _stale(base: sqlite3.Connection, mailbox: int, validity: int) -> bool:
    found = _row(base, mailbox)
    return found is not None and found[0] != validity


def _known(base: sqlite3.Connection, mailbox: int, validity: int) -> UidSet:
    found = _row(base, mailbox)
    if found is None or found[0] != validity or not found[1]:
        return UidSet()
    return UidSet.of_ranges(tuple(_numbers(found[1].split(","))))


def _numbers(parts: Iterable[str]) -> Iterable[int]:
    for part in parts:
        low, _, high = part.partition(":")
        yield int(low)
        yield int(high or low)
