"""Applies what a look at a Maildir found to the index, inside a write transaction (looking.py).

Files get UIDs, flags in file names become ordinary changes, and messages whose files are gone are expunged. If another
worker was first, each function says so, and the directories are compared again.
"""

from collections.abc import Sequence

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.durable.transaction import Txn
from fastmail.model.flags import SEEN
from fastmail.store.interface import Appended
from fastmail.store.local.index import box_rows, given, held, layout, mailboxes, object_ids, removal, weight
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.layout import ACCOUNT, CUR, account_of
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir import looking
from fastmail.store.local.maildir.control import Control
from fastmail.store.local.maildir.looking import Found
from fastmail.store.local.maildir.names import FileName, NameMaker

SEEN_NOTE = b"/seen"


def begin_adoption(txn: Txn, t: Tables, key: bytes, generation: int, known: Control) -> bool:
    """On the first look at a mailbox, take over UIDVALIDITY and keyword names. False if another worker was first."""
    box = box_rows.load(txn, t, key)
    if box.generation != generation:
        return False
    if box.generation == 0:
        box.generation = 1
        if known.uidvalidity and box.uidnext == 1:
            box.uidvalidity = known.uidvalidity
            mailboxes.note_uidvalidity(txn, t, account_of(key), known.uidvalidity)
        if known.words and not box_rows.keyword_names(txn, t, key):
            txn.put(key, b"\0".join(known.words), db=t.kw)
        box_rows.save(txn, t, box)
    return True


def adopt(txn: Txn, t: Tables, key: bytes, generation: int, found: Sequence[Found], floor: int) -> int | None:
    """Add records for files. Returns the new generation, None if another worker was first and the directories must be
    compared again.

    ``floor``: the next UID is at least this (from a control file)."""
    box = box_rows.load(txn, t, key)
    if box.generation != generation:
        return None
    change = Change(txn, t, key[:ACCOUNT])
    box.generation += 1
    box.modseq = change.modseq
    for item in found:
        number = NameMaker.number_in(item.marked[1:])
        if number and given.find_number(txn, t, number, key) is not None:
            continue  # delivered by this server since the directories were read
        none_recent = box.recent_from >= box.uidnext
        if item.uid >= box.uidnext:
            box.uidnext = item.uid
        elif item.uid == 0:
            box.uidnext = max(box.uidnext, floor)
        (uid,) = box_rows.append_records(txn, t, box, [(item.flags, item.keywords, item.date, item.size, item.saved)])
        if number:
            held.note_done(txn, t, number, Appended(key, box.uidvalidity, [uid]))
        at = layout.uid_key(key, uid)
        made = object_ids.finished(txn, t, key[:ACCOUNT], item.summary, box.modseq)
        value = layout.pack_message(item.marked, made)
        change.row.summaries += weight.of_value(value)
        txn.put(at, value, db=t.msg)
        change.created(key, [(uid, made, box.modseq)], item.size)
        if item.pop3 is not None:
            txn.put(at, layout.pack_pop3(*item.pop3), db=t.pop)
        if none_recent:
            box.recent_from = uid + 1 if item.marked[:1] == CUR else uid
    box_rows.save(txn, t, box)
    change.end()
    return box.generation


def end_adoption(txn: Txn, t: Tables, key: bytes, floor: int) -> None:
    """Raise UIDNEXT to ``floor``, so that UIDs of messages that were removed earlier are not used again."""
    box = box_rows.load(txn, t, key)
    if box.uidnext < floor:
        if box.recent_from >= box.uidnext:
            box.recent_from = floor
        box.uidnext = floor
        box_rows.save(txn, t, box)


def keep_seen(txn: Txn, t: Tables, rows: Sequence[tuple[bytes, bytes]], least: int) -> None:
    """Write the states of mailboxes with at least ``least`` messages; see follow.MaildirFollower.save."""
    for key, value in rows:
        row = txn.get(layout.row_key(key), db=t.page)
        if row is not None and layout.unpack_row(key, row).exists >= least:
            mailboxes.annotate(txn, t, key, {SEEN_NOTE: value})


def take_names(txn: Txn, t: Tables, key: bytes, items: Sequence[tuple[int, bytes, bytes]], first: int = 0) -> int:
    """Turn flags that other programs put into file names into ordinary changes.

    Begins at an index in ``items`` and returns the index of what is left after box_rows.WRITTEN octets of rows."""
    box = box_rows.load(txn, t, key)
    change = Change(txn, t, key[:ACCOUNT])
    changed: list[int] = []
    written = 0
    for place in range(first, len(items)):
        if written > box_rows.WRITTEN:
            break
        uid, mark, name = items[place]
        first = place + 1
        at = layout.uid_key(key, uid)
        value = txn.get(at, db=t.msg)
        if value is None or txn.get(at, db=t.todo) is not None:
            continue
        txn.put(at, layout.pack_message(mark + name, bytes(layout.summary_of(value))), db=t.msg)
        written += len(value)
        parsed = FileName.parse(name)
        page_at = layout.page_key(key, uid)
        page = txn.get(page_at, db=t.page)
        if page is None:
            continue
        one = UidSet.of([uid])
        old = next((r for r in pages.records(page) if r[Field.UID] == uid), None)
        if old is None:
            continue
        keywords = (old[3] & ~looking.LETTER_MASK) | parsed.keywords
        flags = parsed.flags if parsed.has_info else old[1] & ~SEEN | (old[1] & SEEN)
        new, _, _, _, unseen, deleted = pages.update(page, one, 0, flags, keywords, change.modseq, (1 << 64) - 1)
        if new is not None:
            txn.put(page_at, new, db=t.page)
            box.unseen += unseen
            box.deleted += deleted
            changed.append(uid)
    if changed:
        box.modseq = box.changed = change.modseq
        box_rows.save(txn, t, box)
        change.changed(key, UidSet.of(sorted(changed)))
        change.end()
    return first


def forget(txn: Txn, t: Tables, key: bytes, uids: Sequence[int]) -> None:
    """Expunge messages whose files other programs removed; there is nothing to unlink."""
    removal.expunge(txn, t, key, UidSet.of(uids), 0, unlink=False)
