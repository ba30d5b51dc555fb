"""Converts content from Maildirs to segments and back.

Promise: a message's content is always at one place that its row names: it is written again and synced, then the row
changes, then the old content is given up, in the order of the commit queue. So the conversion can be interrupted at any
step and run again; converted messages are skipped. It works while a server runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.durable import files
from fastmail.durable.commit import FileWrite, PieceWrite
from fastmail.durable.segments import Record
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CannotDo
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.index import box_rows, layout, references
from fastmail.store.local.index.layout import CUR, trash_key
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import SEGMENTS
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.names import FileName, path_of
from fastmail.store.local.maildir.opened import OpenedStore

MESSAGES = 200  # messages moved in one commit
OCTETS = 8 << 20  # octets moved in one commit
Row = tuple[int, int, int, int, int, int, int]  # a record of an index page
PASSES = 5  # tries for messages that are renamed or delivered meanwhile


@dataclass(slots=True)
class Converted:
    """Result for one account."""

    account: str
    converted: int
    left: int


Step = tuple[int, bytes, bytes, Record | None]  # UID, old and new mark and name, its new record in a segment


async def convert(store: OpenedStore, account: Account, to: str, done: Callable[[int], None]) -> Converted:
    """Move an account's messages. ``done`` is called with the number of messages moved, for progress."""
    if to == SEGMENTS and store.commits.settings.shared:
        raise CannotDo("what Dovecot serves too ([store] shared) must stay in Maildirs")
    out = Converted(account.address, 0, 0)
    for box in (await store.listing(account)).mailboxes:
        if to != SEGMENTS:
            await store.commits.help(
                folders.make, store.account_paths.home(account), store.account_paths.folder(account, box.name)
            )
        await store.sync(account, box.key)
        for _ in range(PASSES):
            work = _work(store, account, box, to)
            if not work:
                break
            for block in _blocks(store, account, box, work):
                moved = await _move(store, account, box, block, to)
                out.converted += moved
                done(moved)
        out.left += len(_work(store, account, box, to))
        store.touch(account, box.key)
    return out


def _work(store: OpenedStore, account: Account, box: Mailbox, to: str) -> list[tuple[Row, bytes]]:
    """Return (record, mark and name) of messages that are not converted yet."""
    with store.commits.snapshot(account) as snapshot:
        records = {r[Field.UID]: r for page in snapshot.pages(box.key) for r in pages.records(page)}
        return [
            (records[uid], marked)
            for uid, marked in snapshot.files(box.key)
            if uid in records and references.in_segment(marked) != (to == SEGMENTS)
        ]


def _blocks(
    store: OpenedStore, account: Account, box: Mailbox, work: Sequence[tuple[Row, bytes]]
) -> list[list[tuple[Row, bytes]]]:
    """Split the work into parts for one commit each, which has their content and summaries in memory."""
    with store.commits.snapshot(account) as snapshot:
        long = snapshot.long(box.key, UidSet.of(sorted(item[0][0] for item in work)))
    out: list[list[tuple[Row, bytes]]] = []
    octets = OCTETS
    for item in work:
        if octets >= OCTETS or len(out[-1]) >= MESSAGES:
            out.append([])
            octets = 0
        out[-1].append(item)
        octets += item[0][5] + long.get(item[0][0], 0)
    return out


async def _move(store: OpenedStore, account: Account, box: Mailbox, block: Sequence[tuple[Row, bytes]], to: str) -> int:
    shard = store.commits.shard(account.id)
    directory = store.account_paths.folder(account, box.name)
    writes: list[FileWrite | PieceWrite] = []
    steps: list[Step] = []
    for record, old in block:
        data = await _read(store, account, directory, old)
        if data is None:
            continue
        if to == SEGMENTS:
            piece, kept = await shard.place(box.key, box.name, record[Field.DATE], record[Field.SIZE], [data])
            writes.append(piece)
            steps.append((record[Field.UID], old, references.reference(kept), kept))
        else:
            base = store.maker.make(len(data), record[Field.SIZE])
            name = FileName.parse(base).with_flags(record[Field.FLAGS], 0)
            root = directory.encode("utf-8", "surrogateescape")
            path, temporary = root + b"/cur/" + name, root + b"/tmp/" + base
            writes.append(FileWrite(root + b"/cur", path, temporary, [data], record[Field.DATE]))
            steps.append((record[Field.UID], old, CUR + name, None))
    moved: int = await store.commits.submit(account, lambda txn, t: _apply(txn, t, box.key, steps), writes)
    return moved


async def _read(store: OpenedStore, account: Account, directory: str, marked: bytes) -> bytes | None:
    try:
        if references.in_segment(marked):
            with store.commits.snapshot(account) as snapshot:
                return snapshot.record(marked)
        found: bytes | None = await store.commits.help(files.read_file, path_of(directory, marked))
        return found
    except FileNotFoundError:
        return None  # renamed or moved meanwhile: the next pass handles it


def _apply(txn: Txn, t: Tables, key: bytes, steps: Sequence[Step]) -> int:
    moved = 0
    box_rows.load(txn, t, key)
    for uid, old, new, record in steps:
        at = layout.uid_key(key, uid)
        value = txn.get(at, db=t.msg)
        if value is None or layout.marked_of(value) != old:
            if record is not None:
                references.bury(txn, t, [(record.id, record.end - record.offset)])
            else:
                txn.put(trash_key(key, new), new, db=t.trash)
            continue
        txn.put(at, layout.pack_message(new, bytes(layout.summary_of(value))), db=t.msg)
        if record is not None:
            txn.put(trash_key(key, old), old, db=t.trash)
            txn.delete(at, db=t.todo)
        else:
            references.release(txn, t, [old])
            txn.put(at, b"", db=t.todo)
        moved += 1
    return moved


# ---------------------------------------------------------------- check


# ---------------------------------------------------------------- a lost index
