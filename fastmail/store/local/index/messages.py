"""Changes of messages inside a write transaction: plain functions over a transaction and its tables.

Each raises before its first write if it can. The commit queue runs an operation again, alone, if another one of its
batch failed, so every function derives everything from the transaction and its arguments. Each operation that changes
something takes the account's next MODSEQ (account_log.py), which the changed messages and mailboxes get.
"""

import time
from collections.abc import Mapping, Sequence

from fastmail._core import arrivals, idents, mime, pages
from fastmail._core.arrivals import Arrivals
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Txn
from fastmail.message import identity
from fastmail.message.identity import NOBODY
from fastmail.model.errors import CannotDo
from fastmail.store.interface import ALL_MODSEQ, Appended, NewMessage, Stored
from fastmail.store.local.index import account_log, box_rows, layout, object_ids, references, weight
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, NEW, mark_of
from fastmail.store.local.index.tables import Tables

TOLD = 64  # pages returned with a change at most; beyond that the caller reads them itself


def append(
    txn: Txn,
    t: Tables,
    key: bytes,
    messages: Sequence[NewMessage],
    names: Sequence[bytes],
    saved: int,
    takes_recent: bool = False,
) -> Changed[Appended]:
    """Add records for messages whose content is placed under ``names`` (mark and name). ``takes_recent``: take \\Recent
    too."""
    account = key[:ACCOUNT]
    came = _begin(txn, t, key)
    first = came.uid
    if first + len(messages) > layout.MAX_UID:
        raise CannotDo("the mailbox has used up its UIDs")
    for message, name in zip(messages, names, strict=True):
        bits = box_rows.keyword_bits(txn, t, key, message.keywords) if message.keywords else 0
        email, thread, own = object_ids.names_of(txn, t, account, message.summary)
        page = came.page_key()
        new, at, value, place, member = came.add(
            txn.get(page, db=t.page),
            name,
            message.summary,
            email,
            thread,
            own,
            message.flags,
            bits,
            message.date,
            message.size,
            saved,
        )
        txn.put(page, new, db=t.page)
        txn.put(at, value, db=t.msg)
        # at once, because the next message may refer to this one
        txn.put(place, b"", db=t.place)
        txn.put(member, b"", db=t.member)
        if own != thread and own != NOBODY:
            object_ids.count_in(txn, t, account + own, thread)
        if bits and not references.in_segment(name):
            txn.put(at, b"", db=t.todo)
    for at, value in came.log(int(time.time())):
        txn.put(at, value, db=t.alog)
    row, totals = came.rows()
    txn.put(layout.row_key(key), row, db=t.page)
    account_log.save(txn, t, account, totals)
    done = Appended(key, came.uidvalidity, list(range(first, came.uid)), came.modseq)
    if takes_recent:
        done.recent = take_recent(txn, t, key)
    return Changed(done, (key,))


def _begin(txn: Txn, t: Tables, key: bytes) -> Arrivals:
    """Begin to add messages to a mailbox. Rows of earlier versions, and rows whose numbers have to be raised after a
    recovery, are written anew first. NoSuchMailbox if the mailbox was deleted."""
    account = key[:ACCOUNT]
    came = arrivals.begin(key, box_rows.stored(txn, t, key), txn.get(account, db=t.acct), t.recovered)
    if came is None:
        box_rows.save(txn, t, box_rows.load(txn, t, key))
        account_log.write(txn, t, account, account_log.load(txn, t, account))
        came = arrivals.begin(key, box_rows.stored(txn, t, key), txn.get(account, db=t.acct), t.recovered)
        assert came is not None
    return came


def store(
    txn: Txn,
    t: Tables,
    key: bytes,
    uids: UidSet,
    mode: int,
    flags: int,
    words: Sequence[bytes],
    unchanged_since: int = ALL_MODSEQ,
) -> Changed[Stored]:
    """STORE: change flags of messages; all that changed get one MODSEQ."""
    box = box_rows.load(txn, t, key)
    before = box.modseq
    change = Change(txn, t, key[:ACCOUNT])
    bits = box_rows.keyword_bits(txn, t, key, words, create=mode >= 0)
    changed: list[int] = []
    same: list[int] = []
    refused: list[int] = []
    left: list[bytes] = []
    for at, page in box_rows.pages_of(txn, t, key, uids):
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
        box_rows.save(txn, t, box)
        change.changed(key, UidSet.of(changed))
        change.end()
        for uid in changed:
            at = layout.uid_key(key, uid)
            if not t.segments or not references.in_segment(mark_of(txn.get(at, db=t.msg) or b"")):
                txn.put(at, b"", db=t.todo)
    told = left if len(left) <= TOLD else ()
    done = Stored(key, UidSet.of(changed), UidSet.of(same), UidSet.of(refused), box.modseq, before, box, told)
    return Changed(done, (key,))


def learn_previews(txn: Txn, t: Tables, key: bytes, found: Mapping[int, bytes]) -> dict[int, bytes]:
    """Add previews to summaries that lack them, by UID: an earlier version stored these, or computing them took long.

    Returns those that are left after WRITTEN octets of rows."""
    box_rows.load(txn, t, key)
    left = dict(found)
    heavier = written = 0
    for uid, words in found.items():
        if written > box_rows.WRITTEN:
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
    account_log.weigh(txn, t, key[:ACCOUNT], heavier)
    return left


def take_recent(txn: Txn, t: Tables, key: bytes) -> tuple[int, int]:
    """Take \\Recent for one session. Messages that are still in new/ are noted to be moved to cur/."""
    box = box_rows.load(txn, t, key)
    first, end = box.recent_from, box.uidnext
    if first < end:
        box.recent_from = end
        box_rows.save(txn, t, box)
        cursor = txn.cursor(db=t.msg)
        todo = []
        if cursor.set_range(layout.uid_key(key, first)):
            for at, value in cursor.iternext():
                if at[:MAILBOX] != key:
                    break
                if mark_of(value) == NEW:
                    todo.append(bytes(at))
        for at in todo:
            txn.put(at, b"", db=t.todo)
    return first, end


# ---------------------------------------------------------------- mailboxes
