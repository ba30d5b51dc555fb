"""Mailboxes, subscriptions and annotations of an account, inside a write transaction.

Mailbox ids and UIDVALIDITYs are never used twice.
"""

import time
from collections.abc import Mapping, Sequence

from fastmail.durable.transaction import Reading, Txn
from fastmail.model.errors import MailboxExists
from fastmail.store.interface import Kind
from fastmail.store.local.index import account_log, box_rows, kept, layout, object_ids, references, walk, weight
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, SEGMENT, MailboxRow, mark_of, uid_of
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.walk import rows

MAILBOXES_ABOVE = 1 << 10  # by how much mailbox ids and UIDVALIDITYs are raised after a recovery


def find(txn: Reading, t: Tables, account: int, name: str) -> bytes | None:
    """Return the key of the mailbox of that name, None if there is none."""
    row = txn.get(layout.name_key(layout.account_key(account), name), db=t.name)
    return layout.account_key(account) + bytes(row) if row is not None else None


def boxes(txn: Reading, t: Tables, account: int) -> list[MailboxRow]:
    """Return all mailboxes of an account, by id."""
    return walk.boxes(txn, t, layout.account_key(account))


def _counter(txn: Reading, t: Tables, account: int) -> tuple[bytes, int, int]:
    """Return (key of the account's counter row, id of its next mailbox, highest UIDVALIDITY that it ever used)."""
    at = layout.counter_key(layout.account_key(account))
    found = txn.get(at, db=t.meta)
    number, last, recovered = layout.unpack_next(found)
    if recovered != t.recovered:  # mailboxes may have been seen that were then lost (see box_rows._go_above)
        number += MAILBOXES_ABOVE if found else 0
        last = max(last, int(time.time())) + MAILBOXES_ABOVE
    return at, number, last


def last_uidvalidity(txn: Reading, t: Tables, account: int) -> int:
    """Return the highest UIDVALIDITY that a mailbox of the account ever had."""
    return _counter(txn, t, account)[2]


def note_uidvalidity(txn: Txn, t: Tables, account: int, given: int) -> None:
    """Record a UIDVALIDITY that another server used, so that later ones are above it."""
    at, number, last = _counter(txn, t, account)
    if given > last:
        txn.put(at, layout.NEXT.pack(number, given, t.recovered), db=t.meta)


def create(txn: Txn, t: Tables, account: int, name: str, special: int, change: Change | None = None) -> MailboxRow:
    """Create a mailbox with a UIDVALIDITY above all that the account has used. ``change``: given if this is part of an
    operation that changes more in the account."""
    if find(txn, t, account, name) is not None:
        raise MailboxExists("mailbox already exists")
    whole = change or Change(txn, t, layout.account_key(account))
    counter, number, last = _counter(txn, t, account)
    now = int(time.time())
    validity = max(now, last + 1)
    txn.put(counter, layout.NEXT.pack(number + 1, max(last, validity), t.recovered), db=t.meta)
    key = layout.mailbox_key(account, number)
    box = MailboxRow(key, name, validity, special=special, modseq=whole.modseq, created=now, recovered=t.recovered)
    box_rows.save(txn, t, box)
    txn.put(layout.name_key(layout.account_key(account), name), key[ACCOUNT:], db=t.name)
    whole.mailbox(Kind.MAILBOX_CREATED, key)
    if change is None:
        whole.end()
    return box


def drop(txn: Txn, t: Tables, box: MailboxRow) -> None:
    """Remove a mailbox with everything in it. The caller removes its directory."""
    box = box_rows.load(txn, t, box.key)
    change = Change(txn, t, box.key[:ACCOUNT])
    references.release(
        txn, t, [layout.marked_of(value) for _, value in rows(txn, t.msg, box.key) if mark_of(value) == SEGMENT]
    )
    change.row.notes -= sum(weight.of_note(name, value) for name, value in notes(txn, t, box.key).items())
    _remove_all(txn, t, box, change)
    change.mailbox(Kind.MAILBOX_REMOVED, box.key)
    change.end()
    kept.drop(txn, t, box.key)
    txn.delete(layout.name_key(box.key[:ACCOUNT], box.name), db=t.name)
    txn.delete(box.key, db=t.kw)
    for table in (t.page, t.msg, t.gone, t.todo, t.trash, t.note, t.pop):
        walk.clear(txn, table, box.key)


def forget_messages(txn: Txn, t: Tables, box: MailboxRow) -> None:
    """Remove a mailbox's messages from the index, as if nobody had ever looked at it; their files stay. The caller
    saves the box."""
    change = Change(txn, t, box.key[:ACCOUNT])
    _remove_all(txn, t, box, change)
    change.end()
    kept.drop(txn, t, box.key)
    box.modseq = change.modseq
    for table in (t.page, t.msg, t.gone, t.todo, t.pop):
        walk.clear(txn, table, box.key)
    box.exists = box.unseen = box.deleted = box.octets = 0


def _remove_all(txn: Reading, t: Tables, box: MailboxRow, change: Change) -> None:
    """Record in the account's change that the mailbox loses all its messages."""
    count = 0
    lost: list[object_ids.Item] = []
    for at, value in rows(txn, t.msg, box.key):
        lost.append((uid_of(at), object_ids.only_names(layout.summary_of(value)), 0))
        change.row.summaries -= weight.of_value(value)
        count += 1
        if len(lost) >= box_rows.BATCH:
            change.removed(box.key, lost, 0)
            lost = []
    change.removed(box.key, lost, box.octets)
    change.row.messages -= box.exists - count  # these differ only if rows are damaged


def forget_account(txn: Txn, t: Tables, account: int, returns: bool = False) -> None:
    """Remove everything that the index has of an account; its files stay. ``returns``: the account is created again
    with other mail, and no number is used again."""
    for box in boxes(txn, t, account):
        drop(txn, t, box)
    for name in subscriptions(txn, t, account):
        subscribe(txn, t, account, name, False)
    own = layout.mailbox_key(account, layout.OF_ACCOUNT)
    annotate(txn, t, own, dict.fromkeys(notes(txn, t, own)))
    if not returns:
        txn.delete(layout.counter_key(layout.account_key(account)), db=t.meta)
    account_log.forget(txn, t, layout.account_key(account), returns)


def rename(txn: Txn, t: Tables, account: int, pairs: Sequence[tuple[bytes, str]]) -> None:
    """Rename mailboxes. Subscriptions keep the old names (RFC 3501 6.3.9 leaves them alone)."""
    prefix = layout.account_key(account)
    named = [box_rows.load(txn, t, key) for key, _ in pairs]
    change = Change(txn, t, prefix)
    for box in named:
        txn.delete(layout.name_key(prefix, box.name), db=t.name)
    for box, (_, name) in zip(named, pairs, strict=True):
        if find(txn, t, account, name) is not None:
            raise MailboxExists("mailbox already exists")
        box.name = name
        box_rows.save(txn, t, box)
        txn.put(layout.name_key(prefix, name), box.key[ACCOUNT:], db=t.name)
        change.mailbox(Kind.MAILBOX_CHANGED, box.key)
    change.end()


def subscriptions(txn: Reading, t: Tables, account: int) -> set[str]:
    prefix = layout.account_key(account)
    out = set()
    cursor = txn.cursor(db=t.subs)
    if cursor.set_range(prefix):
        for key, value in cursor.iternext():
            if key[:ACCOUNT] != prefix:
                break
            out.add(str(value or key[ACCOUNT:], "utf-8", "replace"))
    return out


def notes(txn: Reading, t: Tables, key: bytes) -> dict[bytes, bytes]:
    return {bytes(at[MAILBOX:]): bytes(value) for at, value in rows(txn, t.note, key)}


def annotate(
    txn: Txn,
    t: Tables,
    key: bytes,
    changes: Mapping[bytes, bytes | None],
    expected: Mapping[bytes, bytes | None] | None = None,
) -> bool:
    """Set annotations, and remove those whose value is None. False if the present ones are not as ``expected``."""
    if expected is not None and any(txn.get(key + name, db=t.note) != value for name, value in expected.items()):
        return False
    counted = sum(
        weight.of_note(name, value) - weight.of_note(name, txn.get(key + name, db=t.note))
        for name, value in changes.items()
    )
    account_log.weigh(txn, t, key[:ACCOUNT], 0, counted)
    for name, value in changes.items():
        if value is None:
            txn.delete(key + name, db=t.note)
        else:
            txn.put(key + name, value, db=t.note)
    return True


def subscribe(txn: Txn, t: Tables, account: int, name: str, on: bool) -> None:
    prefix = layout.account_key(account)
    key = layout.name_key(prefix, name)
    if on:
        txn.put(key, b"" if key == prefix + name.encode() else name.encode(), db=t.subs)
    else:
        txn.delete(key, db=t.subs)
