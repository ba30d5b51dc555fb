"""The account log: the totals of an account, and what changed in it.

    acct    account(8)                     ROW, below
    alog    account(8) modseq(8) part(2)   HEAD, then entries: ENTRY and its items (see Kind)

Every operation that changes an account begins a Change, which takes the account's next MODSEQ; the changed mailboxes
get the same one, so a MODSEQ is used once in an account. ``end`` writes the account's row and log row in the
transaction of the change. So totals are exact, and no operation can forget one of the two.

Promise: for MODSEQs above the row's ``low`` the log has everything that happened. It is trimmed by age (``trim``), and
by ``end`` if it is longer than MOST. An account that an earlier version wrote has no row; its first write counts the
totals from the rows of its mailboxes. A damaged row is treated as missing.
"""

import struct
import time
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from msgspec import Struct

from fastmail._core import idents
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Reading, Txn
from fastmail.message.identity import ident
from fastmail.store.interface import AccountChange, Kind
from fastmail.store.local.index import layout, object_ids, walk, weight
from fastmail.store.local.index.layout import ACCOUNT, mailbox_of
from fastmail.store.local.index.tables import Tables

# version, are all messages in the tables of object_ids.py, mailboxes, MODSEQ, octets of messages, messages, octets of
# long summaries and of annotations (weight.py), low-water mark of the log, octets of the log, recovered
# (Tables.recovered when the MODSEQ was last put above what can have been seen). A reader of this version ignores octets
# after them.
ROW = struct.Struct("<BBxxIQQQQQQQI")
VERSION = 1
MODSEQS_ABOVE = 1 << 20  # by how much MODSEQs are raised after a recovery: more than were ever unsynced at once
HEAD = struct.Struct("<BxxxI")  # version, seconds since 1970
ENTRY = struct.Struct("<BxxxII")  # kind, mailbox, items
CREATED = struct.Struct("<I8sQ")  # UID, EMAILID, MODSEQ
CHANGED = struct.Struct("<II")  # first and last UID
REMOVED = struct.Struct("<I8s")  # UID, EMAILID
PART = struct.Struct(">H")
KEY = ACCOUNT + layout.U64.size + PART.size
PART_OCTETS = 1 << 16  # octets of entries in one row; more continue in another
PART_ITEMS = 1 << 12  # items entered at once
MOST = 4 << 20  # octets of the log of one account
ITEMS = {Kind.CREATED: CREATED, Kind.CHANGED: CHANGED, Kind.REMOVED: REMOVED}


class Row(Struct):
    """The totals of an account. ``low``: changes up to this MODSEQ are not in the log. ``logged``: octets of the
    log."""

    modseq: int = 0
    octets: int = 0
    messages: int = 0
    mailboxes: int = 0
    summaries: int = 0
    notes: int = 0
    low: int = 0
    logged: int = 0
    whole: bool = False  # are all messages in the tables of object_ids.py?
    recovered: int = 0


# the fields of ROW, in their order
# fmt: off
ROW_FIELDS = (
    "version", "whole", "mailboxes", "modseq", "octets", "messages", "summaries", "notes", "low", "logged", "recovered",
)
# fmt: on
_stored = attrgetter(*ROW_FIELDS[1:])
_logged = itemgetter(ROW_FIELDS.index("logged"))
_row_fields = itemgetter(*map(ROW_FIELDS.index, Row.__struct_fields__))


def pack(row: Row) -> bytes:
    try:
        return ROW.pack(VERSION, *_stored(row))
    except struct.error:  # a number is negative, because rows of mailboxes are damaged
        return ROW.pack(VERSION, *(max(0, count) for count in _stored(row)))


def unpack(found: bytes | memoryview | None) -> Row | None:
    """Return the row, None if it is missing or damaged."""
    if found is None or len(found) < ROW.size or found[0] != VERSION:
        return None
    return Row(*_row_fields(ROW.unpack_from(found)))


def read(txn: Reading, t: Tables, account: bytes) -> Row:
    """Return the row of the account with this key as the next change will have it. It is counted if missing, and not
    written."""
    row = unpack(txn.get(account, db=t.acct)) or count(txn, t, account)
    if row.recovered != t.recovered:
        _go_above(row, t.recovered)
    return row


def _go_above(row: Row, recovered: int) -> None:
    """Raise the account's MODSEQ after a recovery.

    Clients may have heard of changes that were not durable and are lost. Their MODSEQs are not used again, and a client
    that asks for changes since then is told that the log does not reach back."""
    row.low = row.modseq = row.modseq + MODSEQS_ABOVE
    row.recovered = recovered


def count(txn: Reading, t: Tables, account: bytes, everything: bool = False) -> Row:
    """Count the totals from the rows of the account's mailboxes.

    The octets of summaries and annotations are taken from version 2's row, unless ``everything`` is to be counted."""
    boxes = walk.boxes(txn, t, account)
    row = Row(max((box.modseq for box in boxes), default=0), mailboxes=len(boxes))
    row.octets = sum(box.octets for box in boxes)
    row.messages = sum(box.exists for box in boxes)
    row.summaries, row.notes = weight.recount(txn, t, account) if everything else weight.read(txn, t, account)
    row.low = row.modseq = max(row.modseq, _last_logged(txn, t, account))
    row.whole = not row.messages
    return row


def _modseq_of(at: bytes | memoryview) -> int:
    """Return the MODSEQ in a key of alog."""
    return int.from_bytes(at[ACCOUNT : KEY - PART.size], "big")


def _last_logged(txn: Reading, t: Tables, account: bytes) -> int:
    """Return the highest MODSEQ in the account's log."""
    cursor = txn.cursor(db=t.alog)
    after = (int.from_bytes(account, "big") + 1).to_bytes(9, "big")[1:]
    found = cursor.set_range(after) if any(after) else False
    if (cursor.prev() if found else cursor.last()) and cursor.key()[:ACCOUNT] == account and len(cursor.key()) == KEY:
        return _modseq_of(cursor.key())
    return 0


def write(txn: Txn, t: Tables, account: bytes, row: Row) -> None:
    txn.put(account, pack(row), db=t.acct)
    if txn.get(weight.NAME + account, db=t.meta) is not None:  # of version 2; it is in the row now
        txn.delete(weight.NAME + account, db=t.meta)


def save(txn: Txn, t: Tables, account: bytes, packed: bytes) -> None:
    """Put the row of an account after its log has grown, and shorten the log if it is longer than MOST."""
    if _logged(ROW.unpack_from(packed)) > MOST:
        row = unpack(packed)
        assert row is not None
        _cut(txn, t, account, row, lambda value: row.logged > MOST)
        packed = pack(row)
    txn.put(account, packed, db=t.acct)


def load(txn: Txn, t: Tables, account: bytes) -> Row:
    """Return the row, to be changed. It is written first if it is missing, or if its MODSEQ has to be raised after a
    recovery."""
    found = unpack(txn.get(account, db=t.acct))
    row = found or count(txn, t, account)
    if row.recovered != t.recovered:
        _go_above(row, t.recovered)
    elif found is not None:
        return row
    write(txn, t, account, row)
    return row


def again(txn: Txn, t: Tables, account: bytes) -> None:
    """Count all totals of an account again and enter its messages in the tables of object_ids.py, after a repair.

    The log starts again: what it has is right, but it may lack changes."""
    before = unpack(txn.get(account, db=t.acct))
    row = count(txn, t, account, everything=True)
    row.low = row.modseq = max(row.modseq, before.modseq if before is not None else 0) + 1
    row.recovered = before.recovered if before is not None else 0  # the next change goes above
    walk.clear(txn, t.alog, account)
    object_ids.again(txn, t, account)
    row.whole = True
    write(txn, t, account, row)


def problems(txn: Reading, t: Tables, account: bytes) -> list[str]:
    """Return what is wrong with the account's totals and with the tables of object_ids.py, one line for each fault."""
    row = unpack(txn.get(account, db=t.acct))
    if row is None:
        return []  # no totals yet: the first write counts them
    out = []
    right = count(txn, t, account, everything=True)
    for name in ("octets", "messages", "mailboxes", "summaries", "notes"):
        if getattr(row, name) != getattr(right, name):
            out.append(f"{getattr(row, name)} {name} counted in all, but there are {getattr(right, name)}")
    if row.modseq < max((box.modseq for box in walk.boxes(txn, t, account)), default=0):
        out.append("the MODSEQ of a mailbox is above the account's")
    if row.whole:
        out += object_ids.problems(txn, t, account)
    return out


def forget(txn: Txn, t: Tables, account: bytes, returns: bool) -> None:
    """Remove an account whose mailboxes are removed. ``returns``: the account is created again with other mail."""
    modseq = load(txn, t, account).modseq + 1
    for table in (t.acct, t.alog, t.place, t.member, t.thread):
        walk.clear(txn, table, account)
    if returns:
        write(txn, t, account, Row(modseq, low=modseq, whole=True, recovered=t.recovered))


def weigh(txn: Txn, t: Tables, account: bytes, summaries: int = 0, notes: int = 0) -> None:
    """Change the octets of long summaries and annotations by so much. Called before annotations are changed."""
    if summaries or notes:
        row = load(txn, t, account)
        row.summaries = max(0, row.summaries + summaries)
        row.notes = max(0, row.notes + notes)
        txn.put(account, pack(row), db=t.acct)


class Change:
    """What one operation changes in one account. Nothing is written before ``end``."""

    __slots__ = ("_account", "_entries", "_last", "_part", "_t", "_txn", "modseq", "row")

    def __init__(self, txn: Txn, t: Tables, account: bytes) -> None:
        self._txn = txn
        self._t = t
        self._account = account
        self._entries = bytearray()
        self._part = 0
        self._last: tuple[int, int, int] = (0, 0, 0)  # kind, mailbox and offset of the last entry
        self.row = load(txn, t, account)
        self.modseq = self.row.modseq + 1

    def had(self, modseq: int) -> None:
        """Use this MODSEQ: the change was made with it earlier, but was not logged. Other changes may have the same
        one."""
        self.modseq = modseq
        while self._txn.get(self._at(), db=self._t.alog) is not None:
            self._part += 1

    def created(self, key: bytes, items: list[object_ids.Item], octets: int) -> None:
        """Record messages that came into a mailbox; ``octets`` in all."""
        if items:
            self.came(key, idents.entered(key, items, True, ident))
        self.row.octets += octets

    def came(self, key: bytes, created: object_ids.Created) -> None:
        """Record messages that came into a mailbox, from their rows; the caller counts their octets."""
        entered = object_ids.add(self._txn, self._t, created)
        self._enter(Kind.CREATED, key, entered, CREATED.size)
        self.row.messages += len(entered) // CREATED.size

    def changed(self, key: bytes, uids: UidSet) -> None:
        """Record that flags or keywords of messages changed."""
        ranges = b"".join([CHANGED.pack(first, last) for first, last in uids.ranges()])
        self._enter(Kind.CHANGED, key, ranges, CHANGED.size)

    def removed(self, key: bytes, items: list[object_ids.Item], octets: int) -> None:
        """Record messages that were removed from a mailbox; ``octets`` in all."""
        if items:
            self.went(key, idents.entered(key, items, False, ident))
        self.row.octets -= octets

    def went(self, key: bytes, removed: object_ids.Removed) -> None:
        """Record messages that were removed from a mailbox, from their rows; the caller counts their octets."""
        entered = object_ids.drop(self._txn, self._t, removed)
        self._enter(Kind.REMOVED, key, entered, REMOVED.size)
        self.row.messages -= len(entered) // REMOVED.size

    def mailbox(self, kind: Kind, key: bytes) -> None:
        """Record that a mailbox was created, changed or removed."""
        self._enter(kind, key, b"", 1)
        self.row.mailboxes += {Kind.MAILBOX_CREATED: 1, Kind.MAILBOX_REMOVED: -1}.get(kind, 0)

    def _enter(self, kind: Kind, key: bytes, items: bytes, size: int) -> None:
        """Add an entry with items of ``size`` octets each; an entry about a mailbox has no items."""
        mailbox = mailbox_of(key)
        start, step = 0, PART_ITEMS * size
        while True:
            some = items[start : start + step] if len(items) > step else items
            if len(self._entries) >= PART_OCTETS:
                self._put()
            before = 0
            if self._last[0] == kind and self._last[1] == mailbox and self._entries:  # extend the last entry
                before = ENTRY.unpack_from(self._entries, self._last[2])[2]
                ENTRY.pack_into(self._entries, self._last[2], kind, mailbox, before + len(some) // size)
            else:
                self._last = kind, mailbox, len(self._entries)
                self._entries += ENTRY.pack(kind, mailbox, len(some) // size)
            self._entries += some
            start += step
            if start >= len(items):
                return

    def _at(self) -> bytes:
        return self._account + layout.U64.pack(self.modseq) + PART.pack(self._part)

    def _put(self) -> None:
        at = self._at()
        value = HEAD.pack(VERSION, int(time.time())) + self._entries
        self._txn.put(at, value, db=self._t.alog)
        self.row.logged += len(at) + len(value)
        self._part += 1
        self._entries = bytearray()

    def end(self) -> None:
        """Write the row and the entries. The MODSEQ is used up even if there are none."""
        if self._entries:
            self._put()
        self.row.modseq = max(self.row.modseq, self.modseq)
        save(self._txn, self._t, self._account, pack(self.row))


def _cut(txn: Txn, t: Tables, account: bytes, row: Row, more: Callable[[bytes], bool]) -> int:
    """Delete the oldest rows of the log while ``more(value)`` is true; return how many. The caller writes the account's
    row."""
    cursor = txn.cursor(db=t.alog)
    found = cursor.set_range(account)
    removed = 0
    while found and cursor.key()[:ACCOUNT] == account and more(cursor.value()):
        row.low = max(row.low, _modseq_of(cursor.key()))
        row.logged = max(0, row.logged - len(cursor.key()) - len(cursor.value()))
        cursor.delete()
        removed += 1
        found = cursor.key() != b""
    return removed


def oldest(txn: Reading, t: Tables, account: bytes) -> int:
    """Return when the first row of an account's log was written (s since 1970); far in the future if there is none."""
    cursor = txn.cursor(db=t.alog)
    if not cursor.set_range(account) or cursor.key()[:ACCOUNT] != account:
        return 1 << 40
    value = cursor.value()
    return int(HEAD.unpack_from(value)[1]) if len(value) >= HEAD.size else 0


def trim(txn: Txn, t: Tables, keys: Iterable[bytes], before: int) -> int:
    """Delete log rows of these accounts that are older than ``before`` (s since 1970); return how many."""
    removed = 0
    for account in keys:
        row = load(txn, t, account)
        some = _cut(txn, t, account, row, lambda value: len(value) < HEAD.size or HEAD.unpack_from(value)[1] < before)
        if some:
            txn.put(account, pack(row), db=t.acct)
        removed += some
    return removed


class Entry(NamedTuple):
    """One entry of the log.

    ``items``: (UID, EMAILID's octets, MODSEQ) of messages that came, (UID, EMAILID's octets) of messages that were
    removed; ``uids``: messages whose flags changed."""

    modseq: int
    kind: Kind
    key: bytes
    items: list[tuple[Any, ...]]
    uids: UidSet


def entries(txn: Reading, t: Tables, account: bytes, since: int) -> Iterator[Entry]:
    """Yield the entries with MODSEQs above ``since``, in order."""
    cursor = txn.cursor(db=t.alog)
    if not cursor.set_range(account + layout.U64.pack(since + 1)):
        return
    for at, value in cursor.iternext():
        if at[:ACCOUNT] != account:
            return
        yield from _parsed(account, _modseq_of(at), bytes(value))


def _parsed(account: bytes, modseq: int, value: bytes) -> Iterator[Entry]:
    at = HEAD.size
    while at + ENTRY.size <= len(value):
        number, mailbox, count = ENTRY.unpack_from(value, at)
        at += ENTRY.size
        key, kind = account + layout.U32.pack(mailbox), Kind(number)
        shape = ITEMS.get(kind)
        items = list(shape.iter_unpack(value[at : at + count * shape.size])) if shape is not None else []
        at += count * shape.size if shape is not None else 0
        if kind is Kind.CHANGED:
            yield Entry(modseq, kind, key, [], UidSet.of_ranges([uid for pair in items for uid in pair]))
        else:
            yield Entry(modseq, kind, key, items, UidSet())


def told(account_entries: Iterable[Entry], since: int) -> list[AccountChange]:
    """Return the entries as single changes above ``since``.

    A message whose flags changed several times appears once, at its last change and without its EMAILID; so there are
    never more of these than messages."""
    out: list[AccountChange] = []
    flags: list[Entry] = []
    for entry in account_entries:
        modseq, kind, key, items, _ = entry
        if kind is Kind.CREATED:
            out += [AccountChange(own, kind, key, uid, email) for uid, email, own in items if own > since]
        elif kind is Kind.REMOVED:
            out += [AccountChange(modseq, kind, key, uid, email) for uid, email in items]
        elif kind is Kind.CHANGED:
            flags.append(entry)
        else:
            out.append(AccountChange(modseq, kind, key))
    seen: dict[bytes, UidSet] = {}
    last: list[list[AccountChange]] = []
    for modseq, kind, key, _, uids in reversed(flags):
        before = seen.get(key)
        fresh = uids.minus(before) if before is not None else uids
        seen[key] = before.plus(fresh) if before is not None else uids
        last.append([AccountChange(modseq, kind, key, uid) for uid in fresh])
    for some in reversed(last):
        out += some
    out.sort(key=lambda one: one.modseq)
    return out
