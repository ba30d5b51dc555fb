"""A full-text index for each account, in SQLite (FTS5 with trigrams), so that SEARCH TEXT and BODY need not read mail.

It holds the folded text that a search compares with, so a match is a match of substrings. It is filled by searches:
what is not in it yet is scanned, and put in behind the answer, a batch at a time, on helper threads. It is only an
accelerator: it can be removed at any time, an answer is never taken from it for a message it does not know,
terms shorter than three characters are not asked of it, and a damaged one is thrown away and begun anew.

    seen  mailbox, uidvalidity, UIDs that are in the index as a set
    text  FTS5 without content, rowid = mailbox id << 32 | UID: ``head`` the message's own header, ``body`` the rest
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastmail._core.uidset import UidSet
from fastmail.message import summary, text
from fastmail.model.errors import MailError
from fastmail.store.interface import Account, Store
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

SHORTEST = 3  # characters that a trigram index can answer for
LONGEST = 2 << 20  # a message with more text is not put in
BETWEEN = "\n\x01\n"  # parts of a message; no search goes over it
FILL = 2 << 20  # octets of messages that go in at once
WISHES = 1000
LAYOUT = 1
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
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        version = base.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            base.execute("BEGIN IMMEDIATE")
            base.execute("CREATE TABLE IF NOT EXISTS seen (mailbox INTEGER PRIMARY KEY, validity INTEGER, uids TEXT)")
            base.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS text USING fts5"
                "(head, body, tokenize='trigram case_sensitive 1', content='', columnsize=0)"
            )
            base.execute(f"PRAGMA user_version={LAYOUT}")
            base.execute("COMMIT")
        elif version != LAYOUT:
            base.close()
            raise sqlite3.DatabaseError("another layout")
        return base

    def find(self, key: bytes, validity: int, needle: str, with_header: bool) -> tuple[UidSet, UidSet]:
        """(UIDs with the folded needle in their text, UIDs that the index knows); nothing of a needle too short."""
        nothing = UidSet(), UidSet()
        account, mailbox = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")
        if len(needle) < SHORTEST or not os.path.exists(self._path(account)):
            return nothing
        try:
            base = self._open(account)
            try:
                known = _known(base, mailbox, validity)
                if not known:
                    return nothing
                phrase = '"' + needle.replace('"', '""') + '"'
                rows = base.execute(
                    "SELECT rowid FROM text WHERE text MATCH ? AND rowid BETWEEN ? AND ? ORDER BY rowid",
                    (phrase if with_header else "body : " + phrase, mailbox << 32, (mailbox << 32) + 0xFFFFFFFF),
                )
                return UidSet.of([row[0] & 0xFFFFFFFF for row in rows]), known
            finally:
                base.close()
        except sqlite3.Error as error:
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

    def add(self, key: bytes, validity: int, texts: Sequence[Text]) -> None:
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
                    fresh = [t for t in texts if t.uid not in known and len(t.head) + len(t.body) <= LONGEST]
                    base.executemany(
                        "INSERT INTO text (rowid, head, body) VALUES (?, ?, ?)",
                        ((mailbox << 32 | t.uid, t.head, t.body) for t in fresh),
                    )
                    known = known.plus(UidSet.of(sorted(t.uid for t in fresh)))
                    base.execute(
                        "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (mailbox, validity, known.octets().decode())
                    )
                    base.execute("COMMIT")
                    count("fulltext.messages", len(fresh))
                finally:
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

    def _broken(self, account: int, error: sqlite3.Error) -> None:
        """Busy or full: later. Anything else: throw it away, the next search begins anew."""
        log.event("fulltext.failed", "warning", account=account, error=error)
        if not isinstance(error, sqlite3.OperationalError):
            self.forget(account)


class Filler:
    """Fills the index in the background, one mailbox after the other."""

    def __init__(self, index: FullText, store: Store) -> None:
        self.index = index
        self._store = store
        self._wishes: dict[bytes, Account] = {}
        self._task: asyncio.Task[None] | None = None

    def wish(self, account: Account, key: bytes) -> None:
        """Put in what the index lacks of this mailbox, soon."""
        if len(self._wishes) < WISHES:
            self._wishes[key] = account
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """What is not in yet waits for another search."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._wishes:
                key, account = next(iter(self._wishes.items()))
                try:
                    await self.fill(account, key)
                except (MailError, OSError) as error:
                    log.event("fulltext.failed", "warning", account=account.address, error=error)
                self._wishes.pop(key, None)
        finally:
            self._task = None

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
