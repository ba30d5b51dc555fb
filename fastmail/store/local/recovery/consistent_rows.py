"""Makes the rows of an index consistent with each other: of one account, or of all, after damage.

Unreadable rows are deleted; every mailbox gets its row, and its name leads to it; numbers are raised above those in
use. What the rows say of files and of records in segments is not checked here: see rebuild_account.py and
after_salvage.py. Everything happens inside one write transaction; ``prefix`` is the key of an account, or empty.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail.durable.transaction import Reading, Txn
from fastmail.model.errors import MailError
from fastmail.store.local.index import account_log, box_rows, given, kept, layout, object_ids, references, walk, weight
from fastmail.store.local.index.layout import (
    ACCOUNT,
    CUR,
    HOLDER,
    MAILBOX,
    MARK_AT,
    MESSAGE,
    NEW,
    RECORD,
    SEGMENT,
    MailboxRow,
    mailbox_of,
    page_of,
    record_uid,
    uid_of,
)
from fastmail.store.local.index.tables import Tables

_NUMBER = (layout.U64.size, layout.U64.size)
_MESSAGE = (MESSAGE, MESSAGE)
_OF_A_NAME = (ACCOUNT + 1, layout.MOST_OF_A_KEY)
_IN_A_MAILBOX = (MAILBOX + 1, layout.MOST_OF_A_KEY)
KEYS = {  # fewest and most octets of a key
    "page": _MESSAGE,
    "msg": _MESSAGE,
    "name": _OF_A_NAME,
    "subs": _OF_A_NAME,
    "pop": _MESSAGE,
    "note": _IN_A_MAILBOX,
    "kw": (MAILBOX, MAILBOX),
    "gone": (MAILBOX + layout.U64.size, MAILBOX + layout.U64.size),
    "todo": _MESSAGE,
    "trash": _IN_A_MAILBOX,
    "ref": _NUMBER,
    "dead": _NUMBER,
    "moved": _NUMBER,
    "seg": _NUMBER,
    "held": (HOLDER + 1, layout.MOST_OF_A_KEY),
    "kept": (MESSAGE, kept.LONGEST_KEY),
    "given": (given.KEY, given.KEY),
    "acct": (ACCOUNT, ACCOUNT),
    "alog": (account_log.KEY, account_log.KEY),
    "place": (object_ids.KEY, object_ids.KEY),
    "member": (object_ids.KEY, object_ids.KEY),
    "thread": (object_ids.NAMED, object_ids.NAMED),
}
VALUES = {  # octets of a value
    "name": MAILBOX - ACCOUNT,
    "todo": 0,
    "ref": references.COUNT.size,
    "dead": references.COUNT.size,
    "moved": layout.U64.size,
    "seg": len(references.OPEN),
    "place": 0,
    "member": 0,
    "thread": object_ids.THREAD.size,
}
OF_A_MAILBOX = ("page", "msg", "pop", "note", "kw", "gone", "todo", "trash", "kept")
OF_AN_ACCOUNT = (*OF_A_MAILBOX, "name", "subs", "acct", "alog", "place", "member", "thread")


def drop_where(txn: Txn, table: Any, bad: Callable[[bytes, bytes], bool], prefix: bytes = b"") -> None:
    """Delete the rows for which ``bad(key, value)`` is true."""
    for key in [key for key, value in walk.rows(txn, table, prefix) if bad(key, value)]:
        txn.delete(key, db=table)


def make_consistent(txn: Txn, t: Tables, prefix: bytes = b"") -> dict[bytes, MailboxRow]:
    """Make all rows consistent, and return the mailboxes.

    Their totals are not counted here, nor are those of accounts: ``account_log.again`` comes after it."""
    for name in OF_AN_ACCOUNT if prefix else KEYS:
        bad = partial(_bad_row, name)
        drop_where(txn, getattr(t, name), bad, prefix)
    if not prefix:
        drop_where(
            txn,
            t.meta,
            lambda key, value: key.startswith(layout.COUNTER) and len(value) not in (layout.NEXT.size, layout.NEXT_V2),
        )
        drop_where(txn, t.meta, lambda key, value: key.startswith(weight.NAME) and len(value) != weight.ROW.size)
    boxes = _boxes(txn, t, prefix)
    for name in OF_A_MAILBOX:
        drop_where(
            txn,
            getattr(t, name),
            lambda key, value: key[:MAILBOX] not in boxes and mailbox_of(key) != layout.OF_ACCOUNT,
            prefix,
        )
    kept.announce_again(txn, t, boxes)
    return boxes


def _bad_row(table: str, key: bytes, value: bytes) -> bool:
    least, most = KEYS[table]
    if not least <= len(key) <= most or len(value) != VALUES.get(table, len(value)):
        return True
    if table == "page":
        return bad_page(key, value)
    if table in ("name", "subs"):
        return not _is_text(key[ACCOUNT:]) or (table == "subs" and value != b"" and not _is_text(value))
    if table == "trash":
        return kept.plain(value)[:1] not in (NEW, CUR) or b"/" in value
    if table == "kept":
        whole = len(key) == layout.MESSAGE and len(value) >= RECORD + MARK_AT and record_uid(value) == uid_of(key)
        return not whole or _bad_message(value[RECORD:])
    return (
        (table == "msg" and _bad_message(value))
        or (table == "acct" and account_log.unpack(value) is None)
        or (table == "gone" and bool(len(value) % layout.PAIR.size))
        or (table == "pop" and len(value) < layout.ORDER.size)
        or (table == "given" and len(value) < layout.GIVEN.size)
    )


def _is_text(raw: bytes) -> bool:
    try:
        return bool(raw.decode())
    except UnicodeDecodeError:
        return False


def bad_page(key: bytes, value: bytes) -> bool:
    """True if a row of ``page`` does not match its key."""
    try:
        if key[MAILBOX:] == layout.TOP:
            name = layout.unpack_row(key[:MAILBOX], value).name
            return not name or any(c < " " or c == "\x7f" for c in name)
        first = uid_of(key)
        uids = [record[Field.UID] for record in pages.records(value)]
        return first != page_of(first) or sorted(set(uids)) != uids or any(page_of(uid) != first for uid in uids)
    except (MailError, ValueError):
        return True


def _bad_message(value: bytes) -> bool:
    size = layout.U16.unpack_from(value)[0] if len(value) >= MARK_AT else 0
    marked = value[MARK_AT : MARK_AT + size]
    if len(marked) != size or marked[:1] not in (NEW, CUR, SEGMENT):
        return True
    if references.in_segment(marked):
        return len(marked) != references.REFERENCE.size
    return size < 2 or b"/" in marked or b"\0" in marked


def _in_use(txn: Reading, t: Tables, prefix: bytes) -> dict[bytes, int]:
    """Return {mailbox key: highest UID} of all mailboxes that have any rows."""
    out: dict[bytes, int] = {}
    for table in (t.page, t.msg):
        for key, _ in walk.rows(txn, table, prefix):
            uid = uid_of(key)
            out[key[:MAILBOX]] = max(
                out.get(key[:MAILBOX], 0), uid if key[MAILBOX:] != layout.TOP and table is t.msg else 0
            )
    for key, _ in walk.rows(txn, t.kept, prefix):
        if len(key) == layout.MESSAGE:  # an expunged message: its UID must not be used again
            out[key[:MAILBOX]] = max(out.get(key[:MAILBOX], 0), uid_of(key))
    for key, page in walk.rows(txn, t.page, prefix):
        if key[MAILBOX:] != layout.TOP:
            out[key[:MAILBOX]] = max(out[key[:MAILBOX]], pages.span(page)[1])
    return out


def _boxes(txn: Txn, t: Tables, prefix: bytes) -> dict[bytes, MailboxRow]:
    """Give every mailbox a row and a name that leads to it. A key with neither is no mailbox."""
    boxes = {
        k[:MAILBOX]: layout.unpack_row(k[:MAILBOX], v)
        for k, v in walk.rows(txn, t.page, prefix)
        if k[MAILBOX:] == layout.TOP
    }
    names = {bytes(key): key[:ACCOUNT] + bytes(value) for key, value in walk.rows(txn, t.name, prefix)}
    used = _in_use(txn, t, prefix)
    now = int(time.time())
    for at, key in names.items():
        box = boxes.get(key)
        if box is None and key in used:
            box = boxes[key] = MailboxRow(
                key, at[ACCOUNT:].decode(), now, uidnext=used[key] + 1, created=now, generation=1
            )
        elif box is None or layout.name_key(at[:ACCOUNT], box.name) != at:
            txn.delete(at, db=t.name)
    for key, box in list(boxes.items()):
        at = layout.name_key(key[:ACCOUNT], box.name)
        other = txn.get(at, db=t.name)
        if other is None:
            txn.put(at, key[ACCOUNT:], db=t.name)
        elif key[ACCOUNT:] != other:
            del boxes[key]
            txn.delete(layout.row_key(key), db=t.page)
            continue
        if box.uidnext <= used[key] or box.uidnext > layout.MAX_UID:
            box.uidnext = used[key] + 1
        box_rows.save(txn, t, box)
    highest: dict[bytes, tuple[int, int]] = {}
    for key, box in boxes.items():
        number, validity = highest.get(key[:ACCOUNT], (0, 0))
        highest[key[:ACCOUNT]] = max(number, mailbox_of(key)), max(validity, box.uidvalidity)
    for account, (number, validity) in highest.items():
        found = txn.get(layout.counter_key(account), db=t.meta)
        next_, last, recovered = layout.unpack_next(found)
        row = layout.NEXT.pack(max(next_, number + 1), max(last, validity), recovered)
        txn.put(layout.counter_key(account), row, db=t.meta)
    return boxes
