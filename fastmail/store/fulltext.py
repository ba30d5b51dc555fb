"""The folded text of messages, kept for each account, so that SEARCH TEXT and BODY need not read and decode mail.

Texts lie one after the other in chunks of a SQLite database, and a search looks through them for substrings, exactly as
a scan of the messages would. (A trigram index was measured too: it answers a little faster, costs twenty times as much
to fill, and needs four times the disk.) The first search of a mailbox fills it; store.filler keeps it up to date. It is
only an accelerator: it can be deleted at any time, it never answers for a message it does not have, and a damaged one
or one of another layout is deleted and filled again.

    seen   mailbox, uidvalidity, set of the UIDs whose texts are here
    chunk  mailbox; ends: (UID, end of the header's text, end) as u32; data: UTF-8, NUL after each message

Octets of removed texts are overwritten (``secure_delete``), and the log that still has them is emptied.
"""

import os
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from fastmail._core import texts
from fastmail._core.uidset import UidSet
from fastmail.message import summary, text
from fastmail.model.keys import account_of, mailbox_key, mailbox_of
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LONGEST = 2 << 20  # characters of text; a longer message is not added, and searches read it
BETWEEN = "\n\x01\n"  # between the parts of a message; no search text contains it, so none matches across parts
FILL = 2 << 20  # octets of messages in one batch
LAYOUT = 2  # an index of layout 1 lacks text around parts and file names, and is filled again
SMALL = 65536  # octets below which later texts are added to a chunk
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
    """Return what is searched of a message."""
    head, *rest = text.body_text(content, summary.of(content), True)
    return Text(uid, head.replace("\0", "\1"), BETWEEN.join(rest).replace("\0", "\1"))


class FullText:
    """One in each worker, over the same files. All methods wait for the disk: call them on helper threads."""

    def __init__(self, directory: str) -> None:
        self._directory = os.path.join(directory, "fulltext")
        self._locks = [threading.Lock() for _ in range(16)]

    def _path(self, account: int) -> str:
        return os.path.join(self._directory, f"{account & 255:02x}", f"{account}.sqlite")

    def _open(self, account: int, creates: bool = False) -> sqlite3.Connection:
        """Open an account's index. Only who adds to it creates it: it may be removed at any moment (``forget``), and
        whoever brought it back then would leave it there for good. sqlite3.OperationalError where there is none."""
        path = self._path(account)
        if creates:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        place = f"file:{quote(os.path.abspath(path))}?mode={'rwc' if creates else 'rw'}"
        base = sqlite3.connect(place, timeout=BUSY, isolation_level=None, uri=True)
        base.execute("PRAGMA page_size=65536")  # for a new database: a chunk is few pages
        base.execute("PRAGMA temp_store=MEMORY")  # no text of mail in the system's temporary directory
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute("PRAGMA secure_delete=ON")  # the text of removed mail is overwritten
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

    def find(
        self, key: bytes, validity: int, needle: str, with_header: bool, is_over: Callable[[], bool] = lambda: False
    ) -> tuple[UidSet, UidSet]:
        """Return (UIDs whose text contains the folded ``needle``, UIDs that the index has). Stops early when
        ``is_over``."""
        nothing = UidSet(), UidSet()
        account, mailbox = account_of(key), mailbox_of(key)
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
                    if is_over():
                        break
                return UidSet.of(sorted(found)), known
            finally:
                base.close()
        except (sqlite3.Error, ValueError) as error:
            self._broken(account, error)
            return nothing

    def known(self, key: bytes, validity: int) -> UidSet:
        """Return the UIDs that the index has."""
        account, mailbox = account_of(key), mailbox_of(key)
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
        """Add messages; those that it has already stay as they are."""
        account, mailbox = account_of(key), mailbox_of(key)
        with self._locks[account % len(self._locks)]:
            try:
                base = self._open(account, creates=True)
                try:
                    base.execute("BEGIN IMMEDIATE")
                    if _stale(base, mailbox, validity):
                        base.execute("ROLLBACK")
                        raise sqlite3.DatabaseError("the mailbox has new UIDs")
                    known = _known(base, mailbox, validity)
                    fresh = [t for t in messages if t.uid not in known and len(t.head) + len(t.body) <= LONGEST]
                    if fresh:
                        _append(base, mailbox, *_packed(fresh))
                    known = known.plus(UidSet.of(sorted(t.uid for t in fresh)))
                    base.execute(
                        "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (mailbox, validity, known.octets().decode())
                    )
                    base.execute("COMMIT")
                    count("fulltext.messages", len(fresh))
                finally:
                    if base.in_transaction:  # a failed transaction must not keep the database locked
                        base.execute("ROLLBACK")
                    base.close()
            except sqlite3.Error as error:
                self._broken(account, error, creates=True)

    def keep(self, key: bytes, validity: int, present: UidSet) -> UidSet | None:
        """Remove the texts of messages that are not ``present``.

        Remove all of them for validity 0 (the mailbox does not exist) and if the mailbox has another UIDVALIDITY than
        the one known here. Returns the UIDs that stay; None for a mailbox that was never searched."""
        account, mailbox = account_of(key), mailbox_of(key)
        if not os.path.exists(self._path(account)):
            return None
        with self._locks[account % len(self._locks)]:
            try:
                base = self._open(account)
                try:
                    return self._keep(base, mailbox, validity, present)
                finally:
                    if base.in_transaction:
                        base.execute("ROLLBACK")
                    base.close()
            except (sqlite3.Error, ValueError) as error:
                self._broken(account, error)
                return None

    def _keep(self, base: sqlite3.Connection, mailbox: int, validity: int, present: UidSet) -> UidSet | None:
        row = _row(base, mailbox)
        if row is None:
            return None
        known = _known(base, mailbox, validity)
        if row[0] == validity and not known.minus(present):
            return known
        base.execute("BEGIN IMMEDIATE")
        known = _known(base, mailbox, validity)  # read again under the lock: others may have added to it
        stays = known.both(present)
        _take_out(base, mailbox, stays)
        if row[0] == validity:
            base.execute("UPDATE seen SET uids = ? WHERE mailbox = ?", (stays.octets().decode(), mailbox))
        else:
            base.execute("DELETE FROM seen WHERE mailbox = ?", (mailbox,))
        base.execute("COMMIT")
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        count("fulltext.removed", len(known.minus(stays)))
        return stays if row[0] == validity else None

    def accounts(self) -> list[int]:
        """Return the numbers of accounts that have an index."""
        found: list[int] = []
        for _, _, names in os.walk(self._directory):
            stems = [name.removesuffix(".sqlite") for name in names if name.endswith(".sqlite")]
            found += [int(stem) for stem in stems if stem.isdigit()]
        return found

    def mailboxes(self, account: int) -> list[bytes]:
        """Return the keys of the account's mailboxes that have texts."""
        if not os.path.exists(self._path(account)):
            return []
        try:
            base = self._open(account)
            try:
                rows = base.execute("SELECT mailbox FROM seen").fetchall()
                return [mailbox_key(account, int(row[0])) for row in rows]
            finally:
                base.close()
        except (sqlite3.Error, ValueError, OverflowError) as error:
            self._broken(account, error)
            return []

    def has(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of these mailboxes whose accounts have an index."""
        return [key for key in keys if os.path.exists(self._path(account_of(key)))]

    def forget(self, account: int) -> None:
        """Remove an account's index, when no other thread writes to it any more."""
        with self._locks[account % len(self._locks)]:
            self._remove(account)

    def _remove(self, account: int) -> None:
        for end in ("", "-wal", "-shm"):
            try:
                os.unlink(self._path(account) + end)
            except FileNotFoundError:
                continue

    def _broken(self, account: int, error: Exception, creates: bool = False) -> None:
        """Log an error, unless the index has just been removed. A busy or full database is tried again later; after any
        other error it is deleted, to be filled again."""
        if not creates and not os.path.exists(self._path(account)):
            return
        log.event("fulltext.failed", "warning", account=account, error=error)
        if not isinstance(error, sqlite3.OperationalError):
            self._remove(account)


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


def _append(base: sqlite3.Connection, mailbox: int, ends: bytes, data: bytes) -> None:
    """Add a chunk, or extend the last one if that is small, so that single messages do not make a chunk each."""
    last = base.execute(
        "SELECT rowid, ends, data FROM chunk WHERE mailbox = ? ORDER BY rowid DESC LIMIT 1", (mailbox,)
    ).fetchone()
    if last is None or len(last[2]) >= SMALL:
        base.execute("INSERT INTO chunk VALUES (?, ?, ?)", (mailbox, ends, data))
        return
    more = array("I", ends)
    for at in range(0, len(more), 3):
        more[at + 1] += len(last[2])
        more[at + 2] += len(last[2])
    base.execute(
        "UPDATE chunk SET ends = ?, data = ? WHERE rowid = ?", (last[1] + more.tobytes(), last[2] + data, last[0])
    )


def _take_out(base: sqlite3.Connection, mailbox: int, stays: UidSet) -> None:
    """Remove all texts of a mailbox but those of ``stays``, and rewrite the chunks that had others."""
    for row, packed in base.execute("SELECT rowid, ends FROM chunk WHERE mailbox = ?", (mailbox,)).fetchall():
        ends = array("I", packed)
        if all(uid in stays for uid in ends[::3]):
            continue
        (data,) = base.execute("SELECT data FROM chunk WHERE rowid = ?", (row,)).fetchone()
        kept, out, start = array("I"), bytearray(), 0
        for at in range(0, len(ends), 3):
            uid, middle, end = ends[at : at + 3]
            if uid in stays:
                kept.extend((uid, len(out) + middle - start, len(out) + end - start))
                out += data[start : end + 1]
            start = end + 1
        if kept:
            base.execute("UPDATE chunk SET ends = ?, data = ? WHERE rowid = ?", (kept.tobytes(), bytes(out), row))
        else:
            base.execute("DELETE FROM chunk WHERE rowid = ?", (row,))


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
