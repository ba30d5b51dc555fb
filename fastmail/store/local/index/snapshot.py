"""Implements the store interface's Snapshot with one read transaction."""

from collections.abc import Iterator
from typing import Any, Protocol

from fastmail._core import leaves, mime, rows
from fastmail._core import pages as page_format
from fastmail._core.uidset import UidSet
from fastmail.durable.errors import ERRORS, translate
from fastmail.durable.transaction import Reading
from fastmail.message.identity import ident
from fastmail.model.errors import CorruptData, NoSuchMailbox
from fastmail.store.interface import Account, AccountChange, Holding, Kind, Octets, Summaries, Unsure
from fastmail.store.local.index import account_log, box_rows, kept, layout, mailboxes, object_ids, walk
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, RECORD, MailboxRow, uid_of
from fastmail.store.local.index.references import in_segment, locate, reference_in
from fastmail.store.local.index.tables import Tables

FEW, PAGES = 4, 64  # pages looked up at once: the first time, and at most


class Folder(Protocol):
    """The directory of a mailbox, while files of it are read."""

    def read_now(self, marked: bytes, removed: bool) -> bytes | None:
        """Return the content of a mark and name if that needs no waiting; OSError if it cannot be read. ``removed``:
        its message was removed, so its file may have been put aside."""
        ...

    def close(self) -> None: ...


class Files(Protocol):
    """Finds contents that are in files; implemented by maildir.account_paths."""

    def opened(self, account: Account, name: str) -> Folder:
        """Return the directory of the mailbox of that name. Close it soon."""
        ...


class Singly:
    """Summaries read one by one through LMDB: of recalled messages, and where a table cannot be read as a whole."""

    def __init__(self, snapshot: "LocalSnapshot", key: bytes, uids: UidSet) -> None:
        self._snapshot = snapshot
        self._key = key
        self._uids = uids

    def get(self, uid: int, /) -> Octets | None:
        found = self._snapshot._value(self._key, uid) if uid in self._uids else None
        return layout.summary_of(found) if found is not None and len(found) >= 2 else None

    def items(self) -> Iterator[tuple[int, Octets]]:
        return ((uid, found) for uid in self._uids if (found := self.get(uid)) is not None)


class LocalSnapshot:
    """See interface.Snapshot. Use it in a ``with`` statement, which ends its transaction."""

    __slots__ = ("_account", "_files", "_folder", "_recalled", "_t", "_txn")

    def __init__(
        self, txn: Reading, tables: Tables, account: Account | None = None, files: Files | None = None
    ) -> None:
        """``account`` and ``files``: for content in files; without them only content in segments can be read."""
        self._account = account
        self._files = files
        self._folder: tuple[bytes, Folder] | None = None  # key and directory of the mailbox read last
        self._recalled: tuple[bytes, UidSet] | None = None  # mailbox and removed messages that are shown (recall)
        self._txn = txn
        self._t = tables

    def __enter__(self) -> "LocalSnapshot":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._txn.abort()
        if self._folder is not None:
            self._folder[1].close()
        if isinstance(error, ERRORS):
            raise translate(error) from error

    def mailbox(self, key: bytes) -> MailboxRow | None:
        row = self._txn.get(layout.row_key(key), db=self._t.page)
        return layout.unpack_row(key, row) if row is not None else None

    def modseq(self, key: bytes) -> int:
        row = self._txn.get(layout.row_key(key), db=self._t.page)
        return layout.modseq_of(row) if row is not None else 0

    def recall(self, key: bytes, uids: UidSet) -> None:
        self._recalled = key, uids

    def _again(self, key: bytes, uids: UidSet | None) -> UidSet:
        """Return those of ``uids`` that were removed and are shown."""
        if self._recalled is None or self._recalled[0] != key:
            return UidSet()
        return self._recalled[1] if uids is None else self._recalled[1].both(uids)

    def boxes(self, account: int) -> list[MailboxRow]:
        """Return all mailboxes of an account, by id."""
        return mailboxes.boxes(self._txn, self._t, account)

    def holding(self, account: int) -> Holding:
        row = account_log.read(self._txn, self._t, layout.account_key(account))
        return Holding(row.modseq, row.octets, row.messages, row.mailboxes, row.summaries + row.notes, row.low)

    def changes(self, account: int, since: int) -> list[AccountChange] | None:
        key = layout.account_key(account)
        row = account_log.read(self._txn, self._t, key)
        if since < row.low:
            return None
        return self._named(account_log.told(account_log.entries(self._txn, self._t, key, since), since))

    def _named(self, found: list[AccountChange]) -> list[AccountChange]:
        """Add the EMAILIDs of messages that changed: from the later removal in the log, or from the message if it still
        exists."""
        out = []
        gone: dict[tuple[bytes, int], bytes] = {}
        for one in reversed(found):
            if one.kind is Kind.REMOVED:
                gone[one.key, one.uid] = one.email
            elif one.kind is Kind.CHANGED:
                email = gone.get((one.key, one.uid))
                if email is None:
                    value = self._value(one.key, one.uid)
                    email = ident(layout.summary_of(value)).email if value is not None else b""
                    gone[one.key, one.uid] = email
                one = AccountChange(one.modseq, one.kind, one.key, one.uid, email)
            out.append(one)
        return out[::-1]

    def places(self, account: int, email: bytes) -> list[tuple[bytes, int]] | None:
        return self._where(self._t.place, account, email)

    def members(self, account: int, thread: bytes) -> list[tuple[bytes, int]] | None:
        return self._where(self._t.member, account, thread)

    def _where(self, table: Any, account: int, name: bytes) -> list[tuple[bytes, int]] | None:
        key = layout.account_key(account)
        if not account_log.read(self._txn, self._t, key).whole:
            return None
        return object_ids.places(self._txn, table, key, name)

    def notes(self, key: bytes) -> dict[bytes, bytes]:
        return mailboxes.notes(self._txn, self._t, key)

    def note(self, key: bytes, name: bytes) -> bytes | None:
        found = self._txn.get(key + name, db=self._t.note)
        return bytes(found) if found is not None else None

    def pages(self, key: bytes, uids: UidSet | None = None) -> Iterator[Octets]:
        again = self._again(key, uids)
        there = self._pages(key, uids)
        return kept.merged(there, kept.records(self._txn, self._t, key, again)) if again else there

    def _pages(self, key: bytes, uids: UidSet | None) -> Iterator[Octets]:
        last, source, most = -1, None, FEW
        for lo, hi in [(1, layout.MAX_UID)] if uids is None else uids.ranges():
            first, more = max(layout.page_of(lo), last + 1), True
            while more and first <= hi:
                if source is None:
                    source = self._source(b"page", layout.uid_key(key, first))
                found, end, more = rows.up_to(source, layout.uid_key(key, first), hi, most)
                most = min(2 * most, PAGES)
                if found:
                    last = end
                    yield from found
                first = last + 1

    def presence(self, key: bytes, above: int = 0) -> Iterator[tuple[int, int]]:
        cursor = self._txn.cursor(db=self._t.page)
        if cursor.set_range(layout.page_key(key, above)):
            for at, page in cursor.iternext():
                if at[:MAILBOX] != key or at[MAILBOX:] == layout.TOP:
                    break
                yield uid_of(at), page_format.presence(page)

    def _value(self, key: bytes, uid: int) -> memoryview | None:
        found: memoryview | None = self._txn.get(layout.uid_key(key, uid), db=self._t.msg)
        if found is None and self._recalled is not None and uid in self._again(key, None):
            # UIDs are never given twice, so this is the message that was removed
            row = kept.row(self._txn, self._t, key, uid)
            found = row[RECORD:] if row is not None else None
        return found

    def _late(self, key: bytes, uids: UidSet) -> dict[int, memoryview]:
        """Return the rows of recalled messages, by UID; msg does not have them."""
        late = {uid: self._value(key, uid) for uid in self._again(key, uids)}
        return {uid: value for uid, value in late.items() if value is not None}

    def summaries(self, key: bytes, uids: UidSet) -> Summaries:
        source = self._rows(key, uids)
        if not isinstance(source, leaves.Table):
            return Singly(self, key, uids)
        late = self._again(key, uids)
        return leaves.Summaries(source, key, uids, Singly(self, key, late) if late else None)

    def long(self, key: bytes, uids: UidSet) -> dict[int, int]:
        """Return {UID: octets} of the summaries that count in quotas. For an account without any, one row tells."""
        if not account_log.read(self._txn, self._t, key[:ACCOUNT]).summaries:
            return {}
        return {uid: len(one) for uid, one in self.summaries(key, uids).items() if len(one) > mime.LIGHT}

    def search_field(self, key: bytes, uids: UidSet, name: bytes, needle: bytes) -> tuple[list[int], Unsure]:
        hits, unsure = rows.search_field(self._rows(key, uids), key, uids, name, needle)
        return hits, unsure + [(uid, None) for uid in self._again(key, uids)]

    def search_addresses(self, key: bytes, uids: UidSet, which: int, needle: bytes) -> tuple[list[int], Unsure]:
        hits, unsure = rows.search_addresses(self._rows(key, uids), key, uids, which, needle)
        late = [(layout.uid_key(key, uid), value) for uid, value in self._late(key, uids).items()]
        more, unsure_too = rows.search_addresses(late, key, uids, which, needle)
        return hits + more, unsure + unsure_too

    def fields(self, key: bytes, uids: UidSet, names: tuple[bytes, ...]) -> dict[int, tuple[bytes | None, ...]]:
        out = rows.values(self._rows(key, uids), key, uids, names)
        late = [(layout.uid_key(key, uid), value) for uid, value in self._late(key, uids).items()]
        out.update(rows.values(late, key, uids, names))
        return out

    def _rows(self, key: bytes, uids: UidSet) -> leaves.Source:
        """Return rows of msg, from the first of ``uids`` on."""
        return self._source(b"msg", layout.uid_key(key, uids.first if uids else 0))

    def _source(self, table: bytes, start: bytes) -> leaves.Source:
        """Return rows of a table from a key on: read from LMDB's pages directly if possible, else with LMDB's
        cursor."""
        whole = self._t.whole(self._txn, table) if self._t.whole is not None else None
        if whole is not None:
            return whole
        cursor = self._txn.cursor(db=getattr(self._t, table.decode()))
        return leaves.Pairs(cursor.iternext() if cursor.set_range(start) else ())

    def content(self, key: bytes, uid: int) -> Octets | None:
        marked = self.file(key, uid)
        again = self._recalled is not None and uid in self._recalled[1]
        return self.read(key, marked, again) if marked is not None else None

    def read(self, key: bytes, marked: bytes, again: bool = False) -> bytes | None:
        """Return the content of a mark and name if that needs no waiting. ``again``: its message was removed, so its
        file may have been put aside."""
        try:
            if in_segment(marked):
                return self.record(marked, nowait=True)
            folder = self._folder
            if folder is None or folder[0] != key:
                folder = self._open(key)
            return folder[1].read_now(marked, again) if folder is not None else None
        except (OSError, CorruptData, NoSuchMailbox):
            return None  # renamed, removed or damaged: Store.content, which may wait, finds out

    def _open(self, key: bytes) -> tuple[bytes, Folder] | None:
        """Open the directory of a mailbox in place of the last one."""
        row = self._txn.get(layout.row_key(key), db=self._t.page)
        if row is None or self._account is None or self._files is None:
            return None
        opened = key, self._files.opened(self._account, layout.unpack_row(key, row).name)
        if self._folder is not None:
            self._folder[1].close()
        self._folder = opened
        return opened

    def expunged(self, key: bytes, since: int) -> UidSet:
        cursor = self._txn.cursor(db=self._t.gone)
        flat: list[int] = []
        if cursor.set_range(key + layout.U64.pack(since + 1)):
            for at, pairs in cursor.iternext():
                if at[:MAILBOX] != key:
                    break
                for pair in layout.PAIR.iter_unpack(pairs):
                    flat += pair
        return UidSet.of_ranges(flat)

    def keywords(self, key: bytes) -> list[bytes]:
        return box_rows.keyword_names(self._txn, self._t, key)

    def pop3(self, key: bytes) -> dict[int, tuple[int, bytes]]:
        return {uid_of(at): layout.unpack_pop3(value) for at, value in walk.rows(self._txn, self._t.pop, key)}

    def record(self, marked: bytes, nowait: bool = False) -> bytes | None:
        """Return the content of a record in a segment."""
        _, ident, skip, length = reference_in(marked)
        return self._t.reader.read(locate(self._txn, self._t, ident), skip, length, nowait)

    def file(self, key: bytes, uid: int) -> bytes | None:
        """Return mark and name of a message's content."""
        value = self._value(key, uid)
        return layout.marked_of(value) if value is not None else None

    def kept_file(self, key: bytes, uid: int) -> bytes | None:
        """Return mark and name of a message that was removed and is kept for views."""
        row = kept.row(self._txn, self._t, key, uid)
        return layout.marked_of(row[RECORD:]) if row is not None else None

    def marks(self, key: bytes, uids: UidSet) -> dict[int, bytes]:
        """Return {UID: mark and name} of existing and recalled messages, in UID order."""
        found = rows.marks(self._rows(key, uids), key, uids)
        for uid, value in self._late(key, uids).items():
            found.setdefault(uid, layout.marked_of(value))
        return found

    def files(self, key: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (UID, mark and name) of all messages."""
        cursor = self._txn.cursor(db=self._t.msg)
        if cursor.set_range(key):
            for at, value in cursor.iternext():
                if at[:MAILBOX] != key:
                    break
                yield uid_of(at), layout.marked_of(value)
