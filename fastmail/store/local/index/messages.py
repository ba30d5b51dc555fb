"""Changes of messages inside a write transaction: plain functions over a transaction and its tables.

Each raises before its first write if it can. The commit queue runs an operation again, alone, if another one of its
batch failed, so every function derives everything from the transaction and its arguments. Each operation that changes
something takes the account's next MODSEQ (account_log.py), which the changed messages and mailboxes get.
"""

from collections.abc import Mapping, Sequence

from fastmail._core import idents, mime, pages
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Txn
from fastmail.message import identity
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
    box = box_rows.load(txn, t, key)
    change = Change(txn, t, key[:ACCOUNT])
    box.modseq = change.modseq
    words = [box_rows.keyword_bits(txn, t, key, message.keywords) for message in messages]
    new = [(m.flags, bits, m.date, m.size, saved) for m, bits in zip(messages, words, strict=True)]
    uids = box_rows.append_records(txn, t, box, new)
    came: list[object_ids.Item] = []
    octets = 0
    for uid, message, bits, name in zip(uids, messages, words, names, strict=True):
        said = idents.named(message.summary)
        if came and said[2]:  # it refers to other messages, perhaps to one of ``came``: enter those first
            change.created(key, came, octets)
            came, octets = [], 0
        at = layout.uid_key(key, uid)
        made = object_ids.finished(txn, t, key[:ACCOUNT], message.summary, change.modseq, said)
        value = layout.pack_message(name, made)
        change.row.summaries += weight.of_value(value)
        txn.put(at, value, db=t.msg)
        came.append((uid, made, change.modseq))
        octets += message.size
        if bits and not references.in_segment(name):
            txn.put(at, b"", db=t.todo)
    change.created(key, came, octets)
    box_rows.save(txn, t, box)
    change.end()
    recent = take_recent(txn, t, key) if takes_recent else (0, 0)
    return Changed(Appended(key, box.uidvalidity, uids, box.modseq, recent), (key,))


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
