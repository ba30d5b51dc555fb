"""What happens to the index inside the writer's transaction. Plain functions over a transaction and its tables.

Each raises before its first write where it can; the commit queue runs an operation again, alone, when another one of
its batch failed, so every function derives all from the transaction and its arguments. The account's MODSEQ grows by
one with every operation that changes something (accounts.py), and what is changed in a mailbox has that one.
"""

import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fastmail._core import idents, mime, pages
from fastmail._core.uidset import UidSet
from fastmail.message import identity
from fastmail.model.errors import CannotDo, MailboxExists, NoSuchMailbox, StorageFailed, TooMuch
from fastmail.model.flags import MAX_KEYWORDS
from fastmail.store.interface import ALL_MODSEQ, Appended, Copied, Expunged, Kind, Mailbox, NewMessage, Stored
from fastmail.store.local import accounts, content, emails, kept, layout, weight
from fastmail.store.local.accounts import Change
from fastmail.store.local.arrivals import HEAD, NUMBER
from fastmail.store.local.layout import PAIR, Tables, rows
from fastmail.store.local.names import FileName, base_of
from fastmail.store.room import LONG

TAIL = struct.Struct("<IIQ")  # how a record begins: UID, flags, MODSEQ
New = tuple[int, int, int, int, int]  # a record to be: flags, keywords, date, size, saved
# by how much numbers go on above what can have been seen: more than changes can be under way at one moment
UIDS_ABOVE = 1 << 18
MAILBOXES_ABOVE = 1 << 10  # the same for their ids and UIDVALIDITYs
FEW = 8  # messages that one operation may leave as arrivals
BATCH = 256  # rows that are read before they are written
OCTETS = 1 << 20  # of these rows
WRITTEN = 4 << 20  # octets of rows that one commit writes anew: LMDB has them in memory until then
TOLD = 64  # pages that are handed back with a change


class SourceMoved(StorageFailed):
    """Content was renamed, removed or kept in another way between looking and copying: by housekeeping, a conversion,
    or another program."""


def load(txn: Any, t: Tables, key: bytes) -> Mailbox:
    """The mailbox row, for changing it: arrivals are settled, and what it gives out is above all that can have been
    seen. NoSuchMailbox when it was deleted meanwhile."""
    box = row(txn, t, key)
    numbers, records = t.arrivals.unsettled(key, box.settled)
    if numbers:
        _settle(txn, t, box, numbers, records)
    if box.recovered != t.recovered:
        _go_above(txn, t, box)
    return box


def _go_above(txn: Any, t: Tables, box: Mailbox) -> None:
    """The server came up from its journal, and sessions may have been told of messages and changes that were not
    durable yet and are gone: their UIDs and MODSEQs are not given again, and clients that ask hear of it. The account's
    MODSEQ went above them first (accounts.py). Where Dovecot's lists say which UID comes next, they go on to say so."""
    change = Change(txn, t, box.key[:8])
    first = box.uidnext
    box.uidnext = min(first + (0 if t.shared else UIDS_ABOVE), layout.MAX_UID)
    box.modseq = change.modseq
    box.recovered = t.recovered
    change.end()
    if box.uidnext > first:
        gone = PAIR.pack(first, box.uidnext - 1)
        txn.put(box.key + layout.U64.pack(box.modseq), gone, db=t.gone)
    save(txn, t, box)


def row(txn: Any, t: Tables, key: bytes) -> Mailbox:
    """The mailbox row as it lies there, without arrivals."""
    found = txn.get(layout.row_key(key), db=t.page)
    if found is None:
        raise NoSuchMailbox("mailbox is gone")
    return layout.unpack_row(key, found)


def save(txn: Any, t: Tables, box: Mailbox) -> None:
    txn.put(layout.row_key(box.key), layout.pack_row(box), db=t.page)


# ---------------------------------------------------------------- arrivals


def by_page(records: Sequence[bytes]) -> dict[int, bytes]:
    """{first UID of a page: packed records that belong to it}, in UID order."""
    out: dict[int, bytes] = {}
    for record in records:
        first = int.from_bytes(record[:4], "little") & ~31
        out[first] = out.get(first, b"") + record
    return out


def count_in(box: Mailbox, records: Sequence[bytes]) -> None:
    """Bring a mailbox's row up to date with arrivals."""
    packed = b"".join(records)
    unseen, deleted, octets = pages.tally(packed)
    uid, _, modseq = TAIL.unpack_from(records[-1])
    box.exists += len(records)
    box.unseen += unseen
    box.deleted += deleted
    box.octets += octets
    box.uidnext = uid + 1
    box.modseq = modseq


def _put_records(txn: Any, t: Tables, box: Mailbox, records: Sequence[bytes]) -> None:
    """Records to the end of the mailbox's pages; the caller saves the box."""
    for first, packed in by_page(records).items():
        at = layout.page_key(box.key, first)
        txn.put(at, pages.extend(txn.get(at, db=t.page), packed), db=t.page)
    count_in(box, records)


def _settle(txn: Any, t: Tables, box: Mailbox, numbers: Sequence[int], records: Sequence[bytes]) -> None:
    change = Change(txn, t, box.key[:8], TAIL.unpack_from(records[-1])[2])
    came: list[emails.Item] = []
    for number, record in zip(numbers, records, strict=True):
        uid, _, modseq = TAIL.unpack_from(record)
        value = txn.get(NUMBER.pack(number), db=t.new)[HEAD:]
        txn.put(layout.uid_key(box.key, uid), value, db=t.msg)
        came.append((uid, layout.summary_of(value), modseq))
    before = box.octets
    _put_records(txn, t, box, records)
    box.settled = numbers[-1]
    save(txn, t, box)
    change.created(box.key, came, box.octets - before)
    change.end()


def settle(txn: Any, t: Tables, keys: Iterable[bytes]) -> None:
    """Move the arrivals of these mailboxes to their pages, and drop what is settled."""
    for key in keys:
        if txn.get(layout.row_key(key), db=t.page) is not None:
            load(txn, t, key)
    done: list[int] = []
    marks: dict[bytes, int] = {}
    for number, key in t.arrivals.oldest(txn):
        if key not in marks:
            row = txn.get(layout.row_key(key), db=t.page)
            marks[key] = layout.unpack_row(key, row).settled if row is not None else 1 << 64
        if number > marks[key]:
            break
        done.append(number)
    t.arrivals.trim(txn, done)


# ---------------------------------------------------------------- keywords


def keyword_names(txn: Any, t: Tables, key: bytes) -> list[bytes]:
    row = txn.get(key, db=t.kw)
    return bytes(row).split(b"\0") if row else []


def keyword_bits(txn: Any, t: Tables, key: bytes, words: Sequence[bytes], create: bool = True) -> int:
    """Bits of the keywords, in any case; new ones get the next free bit, TooMuch when there is none."""
    if not words:
        return 0
    names = keyword_names(txn, t, key)
    bits = 0
    fresh = False
    for word in words:
        at = _position(names, word)
        if at < 0:
            if not create:
                continue
            if len(names) >= MAX_KEYWORDS:
                raise TooMuch(f"a mailbox can have {MAX_KEYWORDS} keywords")
            at = len(names)
            names.append(word)
            fresh = True
        bits |= 1 << at
    if fresh:
        txn.put(key, b"\0".join(names), db=t.kw)
    return bits


def _position(names: list[bytes], word: bytes) -> int:
    """Where a keyword stands, in any case; -1 when it is new. Most come spelt as they were the first time."""
    if word in names:
        return names.index(word)
    lower = word.lower()
    return next((i for i, name in enumerate(names) if name.lower() == lower), -1)


# ---------------------------------------------------------------- messages


def append_records(txn: Any, t: Tables, box: Mailbox, every: Sequence[New]) -> list[int]:
    """More records in the pages with the next UIDs and the box's MODSEQ; the caller saves the box."""
    if not every:
        return []
    uids = list(range(box.uidnext, box.uidnext + len(every)))
    if uids[-1] >= layout.MAX_UID:
        raise CannotDo("the mailbox has used up its UIDs")
    packed = [
        pages.pack(uid, flags, box.modseq, keywords, date, size, saved)
        for uid, (flags, keywords, date, size, saved) in zip(uids, every, strict=True)
    ]
    _put_records(txn, t, box, packed)
    return uids


def append(
    txn: Any,
    t: Tables,
    key: bytes,
    messages: Sequence[NewMessage],
    names: Sequence[bytes],
    saved: int,
    claim: bool = False,
) -> Appended:
    """Records for messages whose files (``n`` or ``c``, then the name) are in place; ``claim``: \\Recent is taken with
    them."""
    few = len(messages) <= FEW and not t.arrivals.closed
    if few and not claim and not any(message.keywords or len(message.summary) > LONG for message in messages):
        # settling copies an arrival once more, hundreds of them in one commit: none is long
        return _arrive(txn, t, key, messages, names, saved)
    said = [idents.named(message.summary) for message in messages]
    for one in said:
        _make_sure(txn, t, key[:8], one)
    box = load(txn, t, key)
    change = Change(txn, t, key[:8])
    box.modseq = change.modseq
    bits = [keyword_bits(txn, t, key, message.keywords) for message in messages]
    new = [(m.flags, words, m.date, m.size, saved) for m, words in zip(messages, bits, strict=True)]
    uids = append_records(txn, t, box, new)
    came: list[emails.Item] = []
    some_name = any(names_of[2] for names_of in said)
    for uid, message, words, name, names_of in zip(uids, messages, bits, names, said, strict=True):
        at = layout.uid_key(key, uid)
        made = emails.finished(txn, t, key[:8], message.summary, change.modseq, names_of)
        value = layout.pack_message(name, made)
        change.row.summaries += weight.of_value(value)
        txn.put(at, value, db=t.msg)
        came.append((uid, made, box.modseq))
        if some_name:  # those behind it may name it
            change.created(key, came, message.size)
            came = []
        if words and not content.in_segment(name):
            txn.put(at, b"", db=t.todo)
    if came:
        change.created(key, came, sum(message.size for message in messages))
    save(txn, t, box)
    change.end()
    recent = claim_recent(txn, t, key) if claim else (0, 0)
    return Appended(key, box.uidvalidity, uids, box.modseq, recent)


def _make_sure(txn: Any, t: Tables, account: bytes, said: emails.Said) -> None:
    """Before a new message gets its thread: one that it names may be an arrival, which the tables do not know yet. Then
    that is settled."""
    if len(said[2]) > 1 and emails.unsure(txn, t, account, said):
        for key in t.arrivals.pending(account):
            if txn.get(layout.row_key(key), db=t.page) is not None:
                load(txn, t, key)


def _arrive(
    txn: Any, t: Tables, key: bytes, messages: Sequence[NewMessage], names: Sequence[bytes], saved: int
) -> Appended:
    """The same as arrivals: pages follow later, and with them the account's row and log."""
    box = row(txn, t, key)
    if box.recovered != t.recovered:
        box = load(txn, t, key)
    newest = t.arrivals.newest(key, box.settled)
    uid = TAIL.unpack_from(newest)[0] + 1 if newest is not None else box.uidnext
    modseq = accounts.next_modseq(txn, t, key[:8])
    uids = list(range(uid, uid + len(messages)))
    if uids[-1] >= layout.MAX_UID:
        raise CannotDo("the mailbox has used up its UIDs")
    heavy = 0
    for uid, message, name in zip(uids, messages, names, strict=True):
        said = idents.named(message.summary)
        _make_sure(txn, t, key[:8], said)
        record = pages.pack(uid, message.flags, modseq, 0, message.date, message.size, saved)
        made = emails.finished(txn, t, key[:8], message.summary, modseq, said)
        emails.announce(txn, t, key[:8], made)
        value = layout.pack_message(name, made)
        heavy += weight.of_value(value)
        t.arrivals.add(txn, key, record, value)
    accounts.weigh(txn, t, key[:8], heavy)
    return Appended(key, box.uidvalidity, uids, modseq)


def pages_of(txn: Any, t: Tables, key: bytes, uids: UidSet | None) -> Iterable[tuple[bytes, bytes]]:
    """(key, page) of the pages that may hold ``uids``, in order; a list, as the caller will write to the table."""
    out = []
    cursor = txn.cursor(db=t.page)
    ranges = [(1, layout.MAX_UID)] if uids is None else uids.ranges()
    last = b""
    for lo, hi in ranges:
        start = layout.page_key(key, lo)
        stop = layout.uid_key(key, hi)
        if start <= last:
            start = last + b"\0"
        if not cursor.set_range(start):
            continue
        for at, page in cursor.iternext():
            at = bytes(at)
            if at > stop or at[:12] != key or at[12:] == layout.TOP:
                break
            out.append((at, bytes(page)))
            last = at
    return out


def store(
    txn: Any,
    t: Tables,
    key: bytes,
    uids: UidSet,
    mode: int,
    flags: int,
    words: Sequence[bytes],
    unchanged_since: int = ALL_MODSEQ,
) -> Stored:
    """STORE: flags of several messages, one MODSEQ for all that changed."""
    box = load(txn, t, key)
    before = box.modseq
    change = Change(txn, t, key[:8])
    bits = keyword_bits(txn, t, key, words, create=mode >= 0)
    changed: list[int] = []
    same: list[int] = []
    refused: list[int] = []
    left: list[bytes] = []
    for at, page in pages_of(txn, t, key, uids):
        new, c, s, r, unseen, deleted = pages.update(page, uids, mode, flags, bits, change.modseq, unchanged_since)
        if len(left) <= TOLD:
            left.append(page if new is None else new)
        if new is not None:
            txn.put(at, new, db=t.page)
            box.unseen += unseen
            box.deleted += deleted
        changed += c
        same += s
        refused += r
    if changed:
        box.modseq = box.changed = change.modseq
        save(txn, t, box)
        change.changed(key, UidSet.of(changed))
        change.end()
        for uid in changed:
            at = layout.uid_key(key, uid)
            if not t.segments or not content.in_segment((txn.get(at, db=t.msg) or b"")[2:3]):
                txn.put(at, b"", db=t.todo)
    told = left if len(left) <= TOLD else ()
    return Stored(key, UidSet.of(changed), UidSet.of(same), UidSet.of(refused), box.modseq, before, box, told)


def expunge(
    txn: Any,
    t: Tables,
    key: bytes,
    uids: UidSet | None,
    required: int,
    unlink: bool = True,
    moved: Collection[bytes] = (),
    due: int = 0,
    change: Change | None = None,
) -> Expunged:
    """Remove records; files go to the trash table and are unlinked after the commit, unless ``unlink`` is False: then
    they are another program's, or gone. ``moved``: content in segments that another mailbox refers to instead.
    ``due``: until when the messages stay readable for views that have them (kept.py); 0: they do not. ``change``: what
    the operation that this is a part of changes in the account."""
    box = load(txn, t, key)
    before, was = box.modseq, box.octets
    had: dict[int, bytes] | None = {} if due and not t.arrivals.closed else None  # pages with what is kept
    everything = UidSet.of_ranges((1, layout.MAX_UID))
    gone: list[int] = []
    for at, page in pages_of(txn, t, key, uids):
        new, g, unseen, deleted, octets = pages.remove(page, everything if uids is None else uids, required)
        if not g:
            continue
        if pages.head(new)[0]:
            txn.put(at, new, db=t.page)
        else:
            txn.delete(at, db=t.page)
        gone += g
        if had is not None:
            had[int.from_bytes(at[12:], "big")] = page
        box.unseen -= unseen
        box.deleted -= deleted
        box.octets -= octets
        box.exists -= len(g)
    out = UidSet.of(gone)
    if gone:
        whole = change or Change(txn, t, key[:8])
        box.modseq = whole.modseq
        save(txn, t, box)
        txn.put(key + layout.U64.pack(box.modseq), b"".join(PAIR.pack(lo, hi) for lo, hi in out.ranges()), db=t.gone)
        whole.row.octets -= was - box.octets
        for start in range(0, len(gone), BATCH):
            values = _forget_rows(txn, t, key, gone[start : start + BATCH], unlink, moved, had is not None, whole)
            if had is not None:
                kept.put(txn, t, key, values, had, due)
        if change is None:
            whole.end()
    return Expunged(key, out, box.modseq, before)


def rows_of(txn: Any, t: Tables, keys: Sequence[bytes]) -> Iterator[list[tuple[bytes, bytes]]]:
    """(key, value) of these rows of ``msg``, without those that are not there: BATCH rows at a time, or fewer that
    have OCTETS. They are copies, so that many long summaries at once would fill the memory."""
    some: list[tuple[bytes, bytes]] = []
    octets = 0
    cursor = txn.cursor(db=t.msg)
    for at in keys:
        if cursor.set_key(at):
            value = cursor.value()
            some.append((at, value))
            octets += len(value)
        if len(some) == BATCH or octets > OCTETS:
            yield some
            some, octets = [], 0
    if some:
        yield some


def _forget_rows(
    txn: Any,
    t: Tables,
    key: bytes,
    uids: Sequence[int],
    unlink: bool,
    moved: Collection[bytes],
    keeps: bool,
    change: Change,
) -> dict[bytes, bytes]:
    """What ``msg`` has of these messages, and their content, unless that is kept: then what msg had is returned, with
    nothing but the names of long summaries, which are made again where somebody asks."""
    keys = [layout.uid_key(key, uid) for uid in uids]
    names: dict[bytes, bytes] = {}
    values: dict[bytes, bytes] = {}
    for some in rows_of(txn, t, keys):
        lost: list[emails.Item] = []
        for at, value in some:
            names[at] = layout.marked_of(value)
            lost.append((int.from_bytes(at[12:], "big"), layout.summary_of(value), 0))
            change.row.summaries -= weight.of_value(value)
            if keeps:
                short = layout.pack_message(names[at], emails.only_names(lost[-1][1])) if len(value) > LONG else value
                values[at] = short
        change.removed(key, lost, 0)
    damaged = [int.from_bytes(at[12:], "big") for at in keys if at not in names]  # records in a page, and no rows
    change.removed(key, [(uid, b"", 0) for uid in damaged], 0)
    for at in keys:
        name = names.get(at, b"")
        if at in names:
            txn.delete(at, db=t.msg)
        if content.in_segment(name):
            continue
        txn.delete(at, db=t.todo)
        if name and unlink:
            txn.put(key + base_of(name[1:])[:480], kept.aside(name) if keeps else name, db=t.trash)
    if not keeps:
        content.release(txn, t, [name for name in names.values() if content.in_segment(name) and name not in moved])
    return values


def copy(
    txn: Any,
    t: Tables,
    key: bytes,
    target: bytes,
    names: Sequence[tuple[int, bytes]],
    saved: int,
    move: bool,
    due: int = 0,
) -> Copied:
    """COPY or MOVE of UIDs whose files are already linked in the target as ``names``; those gone meanwhile are
    left out, and their links left to the sweeper. SourceMoved when a record in a segment is not the message's any
    more. ``due``: see ``expunge``."""
    due = due if move and not t.arrivals.closed else 0
    load(txn, t, key)
    records: dict[int, tuple[int, int, int, int, int, int, int]] = {}
    wanted = UidSet.of(uid for uid, _ in names)
    for _, page in pages_of(txn, t, key, wanted):
        records.update({record[0]: record for record in pages.records(page)})
    old_words = keyword_names(txn, t, key)
    box = load(txn, t, target)
    change = Change(txn, t, target[:8])
    box.modseq, before = change.modseq, box.octets
    there = [(uid, name) for uid, name in names if uid in records]
    for uid, name in names:
        if uid not in records and not content.in_segment(name):
            txn.put(target + base_of(name[1:])[:480], name, db=t.trash)
    used = {records[uid][3] for uid, _ in there}
    bits = {
        mask: keyword_bits(txn, t, target, [word for i, word in enumerate(old_words) if mask >> i & 1])
        for mask in sorted(used)
    }
    source = [uid for uid, _ in there]
    new = [(flags, bits[words], date, size, saved) for _, flags, _, words, date, size, _ in map(records.pop, source)]
    uids = append_records(txn, t, box, new)
    _copy_rows(txn, t, key, target, there, uids, change)
    change.row.octets += box.octets - before
    for uid, (_, name), (flags, words, *_) in zip(uids, there, new, strict=True):
        if not content.in_segment(name) and (words or FileName.parse(name[1:]).flags != flags):
            txn.put(layout.uid_key(target, uid), b"", db=t.todo)
    shared = [name for _, name in there if content.in_segment(name)]
    if move and not due:
        content.keep(txn, t, [content.place_of(name)[0] for name in shared])
    else:
        content.share(txn, t, shared)
    save(txn, t, box)
    removed = None
    if move and source:
        gone = UidSet.of(source)
        removed = expunge(txn, t, key, gone, 0, moved=set(shared), due=due, change=change)
    change.end()
    return Copied(Appended(target, box.uidvalidity, uids, box.modseq), source, removed)


def _copy_rows(
    txn: Any,
    t: Tables,
    key: bytes,
    target: bytes,
    there: Sequence[tuple[int, bytes]],
    uids: Sequence[int],
    change: Change,
) -> None:
    """What ``msg`` has of messages, under their new names and UIDs."""
    become = {layout.uid_key(key, uid): (new, name) for new, (uid, name) in zip(uids, there, strict=True)}
    cursor = txn.cursor(db=t.msg)
    for some in rows_of(txn, t, list(become)):
        copies: list[tuple[bytes, bytes]] = []
        came: list[emails.Item] = []
        for at, value in some:
            new, name = become.pop(at)
            if content.in_segment(name) and layout.marked_of(value) != name:
                raise SourceMoved("the content was moved")
            summary = bytes(layout.summary_of(value))
            copies.append((layout.uid_key(target, new), layout.pack_message(name, summary)))
            came.append((new, summary, change.modseq))
        cursor.putmulti(copies)
        change.row.summaries += sum(weight.of_value(value) for _, value in copies)
        change.created(target, came, 0)
    for new, name in become.values():  # a record in a page, and no row
        if content.in_segment(name):
            raise SourceMoved("the content was moved")
        txn.put(layout.uid_key(target, new), layout.pack_message(name, b""), db=t.msg)
        change.created(target, [(new, b"", change.modseq)], 0)


def learn_previews(txn: Any, t: Tables, key: bytes, found: Mapping[int, bytes]) -> dict[int, bytes]:
    """Keep the first words of messages whose summaries lack them, by UID: an earlier version stored these, or it took
    long to find them. Returns what is left after WRITTEN octets of rows."""
    load(txn, t, key)
    left = dict(found)
    heavier = written = 0
    for uid, words in found.items():
        if written > WRITTEN:
            break
        del left[uid]
        at = layout.uid_key(key, uid)
        value = txn.get(at, db=t.msg)
        made = bytes(layout.summary_of(value)) if value is not None else b""
        if not made or idents.preview(made) is not None or mime.lost(made):
            continue
        new = layout.pack_message(layout.marked_of(value), identity.kept(idents.with_preview(made, words), made))
        heavier += weight.of_value(new) - weight.of_value(value)
        written += len(new)
        txn.put(at, new, db=t.msg)
    accounts.weigh(txn, t, key[:8], heavier)
    return left


def claim_recent(txn: Any, t: Tables, key: bytes) -> tuple[int, int]:
    """Take \\Recent for one session; messages still in new/ will move to cur/."""
    box = load(txn, t, key)
    first, end = box.recent_from, box.uidnext
    if first < end:
        box.recent_from = end
        save(txn, t, box)
        cursor = txn.cursor(db=t.msg)
        todo = []
        if cursor.set_range(layout.uid_key(key, first)):
            for at, value in cursor.iternext():
                if at[:12] != key:
                    break
                if value[2:3] == b"n":
                    todo.append(bytes(at))
        for at in todo:
            txn.put(at, b"", db=t.todo)
    return first, end


# ---------------------------------------------------------------- mailboxes


def find(txn: Any, t: Tables, account: int, name: str) -> bytes | None:
    """Key of the mailbox of that name."""
    row = txn.get(layout.name_key(layout.account_key(account), name), db=t.name)
    return layout.account_key(account) + bytes(row) if row is not None else None


def boxes(txn: Any, t: Tables, account: int) -> list[Mailbox]:
    """All mailboxes of an account, by id."""
    return layout.boxes(txn, t, layout.account_key(account))


def _counter(txn: Any, t: Tables, account: int) -> tuple[bytes, int, int]:
    """Its key, the number of the next mailbox, and the highest UIDVALIDITY that one ever had."""
    at = b"next" + layout.account_key(account)
    found = txn.get(at, db=t.meta)
    number, last, recovered = layout.unpack_next(found)
    if recovered != t.recovered:  # mailboxes may have been seen that are gone (see _go_above)
        number += MAILBOXES_ABOVE if found else 0
        last = max(last, int(time.time())) + MAILBOXES_ABOVE
    return at, number, last


def last_uidvalidity(txn: Any, t: Tables, account: int) -> int:
    """The highest that a mailbox of the account ever had."""
    return _counter(txn, t, account)[2]


def note_uidvalidity(txn: Any, t: Tables, account: int, given: int) -> None:
    """One that another server gave: later ones are above it."""
    at, number, last = _counter(txn, t, account)
    if given > last:
        txn.put(at, layout.NEXT.pack(number, given, t.recovered), db=t.meta)


def create(txn: Any, t: Tables, account: int, name: str, special: int, change: Change | None = None) -> Mailbox:
    """A new mailbox; its UIDVALIDITY is above every one that the account has used. ``change``: what the operation that
    this is a part of changes in the account."""
    if find(txn, t, account, name) is not None:
        raise MailboxExists("mailbox already exists")
    whole = change or Change(txn, t, layout.account_key(account))
    counter, number, last = _counter(txn, t, account)
    now = int(time.time())
    validity = max(now, last + 1)
    txn.put(counter, layout.NEXT.pack(number + 1, max(last, validity), t.recovered), db=t.meta)
    key = layout.mailbox_key(account, number)
    box = Mailbox(key, name, validity, special=special, modseq=whole.modseq, created=now, recovered=t.recovered)
    save(txn, t, box)
    txn.put(layout.name_key(layout.account_key(account), name), key[8:], db=t.name)
    whole.mailbox(Kind.MAILBOX_CREATED, key)
    if change is None:
        whole.end()
    return box


def drop(txn: Any, t: Tables, box: Mailbox) -> None:
    """Forget a mailbox and everything in it; its directory is the caller's."""
    with suppress(ValueError):  # damaged arrivals go with it all the same
        box = load(txn, t, box.key)
    change = Change(txn, t, box.key[:8])
    content.release(txn, t, [layout.marked_of(value) for _, value in rows(txn, t.msg, box.key) if value[2:3] == b"s"])
    change.row.notes -= sum(weight.of_note(name, value) for name, value in notes(txn, t, box.key).items())
    _remove_all(txn, t, box, change)
    change.mailbox(Kind.MAILBOX_REMOVED, box.key)
    change.end()
    kept.drop(txn, t, box.key)
    txn.delete(layout.name_key(box.key[:8], box.name), db=t.name)
    txn.delete(box.key, db=t.kw)
    for table in (t.page, t.msg, t.gone, t.todo, t.trash, t.note, t.pop):
        layout.clear(txn, table, box.key)


def forget_messages(txn: Any, t: Tables, box: Mailbox) -> None:
    """Forget the messages of a mailbox, whose files stay, as if it had never been looked at; the caller saves it."""
    change = Change(txn, t, box.key[:8])
    _remove_all(txn, t, box, change)
    change.end()
    kept.drop(txn, t, box.key)
    box.modseq = change.modseq
    for table in (t.page, t.msg, t.gone, t.todo, t.pop):
        layout.clear(txn, table, box.key)
    box.exists = box.unseen = box.deleted = box.octets = 0


def _remove_all(txn: Any, t: Tables, box: Mailbox, change: Change) -> None:
    """A mailbox is to have no messages any more: what that is to its account."""
    count = 0
    lost: list[emails.Item] = []
    for at, value in rows(txn, t.msg, box.key):
        lost.append((int.from_bytes(at[12:], "big"), emails.only_names(layout.summary_of(value)), 0))
        change.row.summaries -= weight.of_value(value)
        count += 1
        if len(lost) >= BATCH:
            change.removed(box.key, lost, 0)
            lost = []
    change.removed(box.key, lost, box.octets)
    change.row.messages -= box.exists - count  # where rows are damaged


def forget_account(txn: Any, t: Tables, account: int, returns: bool = False) -> None:
    """Forget all that the index holds of an account; its files stay. ``returns``: other mail comes in its place, and
    no number that it gave is given again."""
    for box in boxes(txn, t, account):
        drop(txn, t, box)
    for name in subscriptions(txn, t, account):
        subscribe(txn, t, account, name, False)
    own = layout.mailbox_key(account, 0)
    annotate(txn, t, own, dict.fromkeys(notes(txn, t, own)))
    if not returns:
        txn.delete(b"next" + layout.account_key(account), db=t.meta)
    accounts.forget(txn, t, layout.account_key(account), returns)


def rename(txn: Any, t: Tables, account: int, pairs: Sequence[tuple[bytes, str]]) -> None:
    """Give mailboxes new names; subscriptions stay with the old ones (RFC 3501 6.3.9 leaves them alone)."""
    prefix = layout.account_key(account)
    named = [load(txn, t, key) for key, _ in pairs]
    change = Change(txn, t, prefix)
    for box in named:
        txn.delete(layout.name_key(prefix, box.name), db=t.name)
    for box, (_, name) in zip(named, pairs, strict=True):
        if find(txn, t, account, name) is not None:
            raise MailboxExists("mailbox already exists")
        box.name = name
        save(txn, t, box)
        txn.put(layout.name_key(prefix, name), box.key[8:], db=t.name)
        change.mailbox(Kind.MAILBOX_CHANGED, box.key)
    change.end()


def subscriptions(txn: Any, t: Tables, account: int) -> set[str]:
    prefix = layout.account_key(account)
    out = set()
    cursor = txn.cursor(db=t.subs)
    if cursor.set_range(prefix):
        for key, value in cursor.iternext():
            if key[:8] != prefix:
                break
            out.add(str(value or key[8:], "utf-8", "replace"))
    return out


def notes(txn: Any, t: Tables, key: bytes) -> dict[bytes, bytes]:
    return {bytes(at[12:]): bytes(value) for at, value in rows(txn, t.note, key)}


def annotate(
    txn: Any,
    t: Tables,
    key: bytes,
    changes: Mapping[bytes, bytes | None],
    expected: Mapping[bytes, bytes | None] | None = None,
) -> bool:
    """Set annotations, and remove those whose value is None; False when what is there is not what was expected."""
    if expected is not None and any(txn.get(key + name, db=t.note) != value for name, value in expected.items()):
        return False
    counted = sum(
        weight.of_note(name, value) - weight.of_note(name, txn.get(key + name, db=t.note))
        for name, value in changes.items()
    )
    accounts.weigh(txn, t, key[:8], 0, counted)
    for name, value in changes.items():
        if value is None:
            txn.delete(key + name, db=t.note)
        else:
            txn.put(key + name, value, db=t.note)
    return True


def subscribe(txn: Any, t: Tables, account: int, name: str, on: bool) -> None:
    prefix = layout.account_key(account)
    key = layout.name_key(prefix, name)
    if on:
        txn.put(key, b"" if key == prefix + name.encode() else name.encode(), db=t.subs)
    else:
        txn.delete(key, db=t.subs)
