"""Content from Maildirs to segments and back, a check of all segments, and messages from segments to a lost index.

Promise: a message is always in one place that its row names: it is written and synced anew, then the row changes, then
the old place is given up, each in the commit queue's order. So every step can be broken off and run again; what is
already there is skipped. Works while a server runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable import files, segments
from fastmail.durable.commit import FileJob, Operation, PieceJob
from fastmail.durable.segments import Record
from fastmail.message.preview import scanned
from fastmail.model.errors import CannotDo
from fastmail.store.interface import Account, Mailbox, NewMessage
from fastmail.store.local import content, folders, layout, ops
from fastmail.store.local.folders import folder
from fastmail.store.local.layout import Tables
from fastmail.store.local.names import FileName, base_of, path_of
from fastmail.store.local.shard import SEGMENTS, Shard
from fastmail.store.local.store import LocalStore

MESSAGES = 200
OCTETS = 8 << 20
Row = tuple[int, int, int, int, int, int, int]  # a record of an index page
PASSES = 5


@dataclass(slots=True)
class Converted:
    """One account."""

    account: str
    converted: int
    left: int


Step = tuple[int, bytes, bytes, Record | None]  # uid, the mark it had, the mark it gets, its record in a segment


async def convert(store: LocalStore, account: Account, to: str, done: Callable[[int], None]) -> Converted:
    """Move an account's messages; ``done`` is told how many were, now and then."""
    if to == SEGMENTS and store.together is not None:
        raise CannotDo("what Dovecot serves too ([store] shared) must stay in Maildirs")
    out = Converted(account.address, 0, 0)
    for box in (await store.listing(account)).mailboxes:
        if to != SEGMENTS:
            await store.help(folders.make, account, folder(account, box.name))
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


def _work(store: LocalStore, account: Account, box: Mailbox, to: str) -> list[tuple[Row, bytes]]:
    """(record, mark) of messages that are not there yet."""
    with store.snapshot(account) as snapshot:
        records = {r[0]: r for page in snapshot.pages(box.key) for r in pages.records(page)}
        return [
            (records[uid], marked)
            for uid, marked in snapshot.files(box.key)
            if uid in records and content.in_segment(marked) != (to == SEGMENTS)
        ]


def _blocks(
    store: LocalStore, account: Account, box: Mailbox, work: Sequence[tuple[Row, bytes]]
) -> list[list[tuple[Row, bytes]]]:
    """Pieces that are moved in one commit: it has their content and their summaries in memory."""
    with store.snapshot(account) as snapshot:
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


async def _move(store: LocalStore, account: Account, box: Mailbox, block: Sequence[tuple[Row, bytes]], to: str) -> int:
    shard = store.shard(account.id)
    directory = folder(account, box.name)
    jobs: list[FileJob | PieceJob] = []
    steps: list[Step] = []
    for record, old in block:
        data = await _read(store, account, directory, old)
        if data is None:
            continue
        if to == SEGMENTS:
            piece, kept = await shard.place(box.key, box.name, record[4], record[5], [data])
            jobs.append(piece)
            steps.append((record[0], old, content.mark(kept), kept))
        else:
            base = store.maker.make(len(data), record[5])
            name = FileName.parse(base).with_flags(record[1], 0)
            root = directory.encode("utf-8", "surrogateescape")
            jobs.append(FileJob(root + b"/cur", name, root + b"/tmp/" + base, [data], record[4]))
            steps.append((record[0], old, b"c" + name, None))
    moved: int = await store.submit(account, lambda txn, t: _apply(txn, t, box.key, steps), jobs)
    return moved


async def _read(store: LocalStore, account: Account, directory: str, marked: bytes) -> bytes | None:
    try:
        if content.in_segment(marked):
            with store.snapshot(account) as snapshot:
                return snapshot.record(marked)
        found: bytes | None = await store.help(files.read_file, path_of(directory, marked))
        return found
    except FileNotFoundError:
        return None  # renamed or moved meanwhile: the next pass finds it


def _apply(txn: Any, t: Tables, key: bytes, steps: Sequence[Step]) -> int:
    moved = 0
    ops.load(txn, t, key)
    for uid, old, new, record in steps:
        at = layout.uid_key(key, uid)
        value = txn.get(at, db=t.msg)
        if value is None or layout.marked_of(value) != old:
            if record is not None:
                content.bury(txn, t, [(record.id, record.end - record.offset)])
            else:
                txn.put(key + base_of(new[1:])[:480], new, db=t.trash)
            continue
        txn.put(at, layout.pack_message(new, bytes(layout.summary_of(value))), db=t.msg)
        if record is not None:
            txn.put(key + base_of(old[1:])[:480], old, db=t.trash)
            txn.delete(at, db=t.todo)
        else:
            content.release(txn, t, [old])
            txn.put(at, b"", db=t.todo)
        moved += 1
    return moved


# ---------------------------------------------------------------- check


@dataclass(slots=True)
class Finding:
    """A segment with damage, or a message whose content is not there."""

    where: str
    problem: str


def check(store: LocalStore, shard: Shard, progress: Callable[[int, int], None]) -> list[Finding]:
    """Read every segment, and look whether each message's record is sound; on a helper thread.

    A stretch without a whole record is damage where something names a record in it, or where the index does not know
    the segment; otherwise a process left it that died before it answered."""
    out: list[Finding] = []
    sound: dict[int, int] = {}
    ends: dict[int, int] = {}  # segment: how far it was read
    torn: list[tuple[int, int, int, bool]] = []  # segment, first octet, past-last octet, is the segment unknown
    every = segments.numbers(shard.directory)
    for position, number in enumerate(every):
        progress(position, len(every))
        with shard.env.read() as txn:
            dead = content.dead_in(txn, shard.tables, number)
            unknown = txn.get(layout.U64.pack(number), db=shard.tables.seg) is None
        for record, start, end in segments.scan(shard.directory, number):
            ends[number] = end
            if record is not None:
                sound[segments.make_id(number, start)] = _shape(record.skip, record.length)
            elif not content.covered(dead, start, end) and not segments.in_use(shard.directory, number):
                torn.append((number, start, end, unknown and start >= segments.START))
    lost: dict[int, list[int]] = {}  # segment: where records should be
    messages: list[Finding] = []
    with shard.env.read() as txn:
        t = shard.tables
        for at, marked in content.marks(txn, t):
            _, ident, skip, length = content.MARK.unpack_from(marked)
            where = content.locate(txn, t, ident)
            if sound.get(where) == _shape(skip, length):
                continue
            number, offset = segments.split_id(where)
            if offset >= ends.get(number, 0) and segments.in_use(shard.directory, number):
                continue  # it came, or was moved there, since the segment was read
            lost.setdefault(number, []).append(offset)
            messages.append(Finding(_owner(store, txn, t, bytes(at)), "the content is missing or damaged"))
    for number, start, end, unknown in torn:
        if unknown or content.names_any(sorted(lost.get(number, [])), start, end):
            out.append(Finding(f"segment {number:06x}", f"{end - start} octets at {start} hold no sound record"))
    return out + messages


def _owner(store: LocalStore, txn: Any, t: Tables, at: bytes) -> str:
    """Whose content a row names: ``at`` is a mailbox's key and a UID, or a message in the queue."""
    if len(at) == layout.U64.size:
        return f"queue {layout.U64.unpack(at)[0]:x}"
    row = txn.get(layout.row_key(at[:12]), db=t.page)
    name = layout.unpack_row(at[:12], row).name if row is not None else at[8:12].hex()
    return f"{store.address(int.from_bytes(at[:8], 'big'))} {name} UID {int.from_bytes(at[12:], 'big')}"


def _shape(skip: int, length: int) -> int:
    """Both in one number."""
    return length << 16 | skip


# ---------------------------------------------------------------- a lost index


async def recover(store: LocalStore, accounts: Sequence[Account], every: bool = False) -> int:
    """Give messages to mailboxes from segments that this index does not know, or from ``every`` one: how many. That is
    all there is in them, what was expunged and not compacted yet included."""
    by_id = {account.id: account for account in accounts}
    given = 0
    for shard in {store.shard(account.id) for account in accounts}:
        with shard.env.read() as txn:
            found = content.usage(txn, shard.tables, shard.directory)
        for one in found:
            if one.state == "unknown" or (every and one.state not in ("open", "compacted")):
                given += await _recover_one(store, shard, int(one.segment, 16), by_id)
    return given


async def _recover_one(store: LocalStore, shard: Shard, number: int, accounts: dict[int, Account]) -> int:
    found = await store.help(_unnamed, shard, number)
    given = 0
    whole = True
    for record in found:
        account = accounts.get(int.from_bytes(record.key[:8], "big"))
        if account is None:
            whole = False
            continue
        await store.open(account)
        if store.find(account, record.name) is None:
            await store.create(account, record.name)
        key = store.find(account, record.name)
        assert key is not None
        data = shard.tables.reader.read(segments.make_id(number, record.offset), record.skip, record.length) or b""
        message = NewMessage([data], scanned(data), record.size, record.date)
        await store.submit(account, partial(_give, key=key, message=message, record=record))
        given += 1
    if whole:
        await shard.queue.submit(Operation(partial(content.seal, t=shard.tables, number=number)))
    return given


def _give(txn: Any, t: Tables, key: bytes, message: NewMessage, record: Record) -> None:
    if txn.get(layout.U64.pack(record.id), db=t.ref) is None:
        content.keep(txn, t, [record.id])
        here = segments.make_id(record.number, record.offset)
        if here != record.id:
            txn.put(layout.U64.pack(record.id), layout.U64.pack(here), db=t.moved)
        ops.append(txn, t, key, [message], [content.mark(record)], record.date)


def _unnamed(shard: Shard, number: int) -> list[Record]:
    with shard.env.read() as txn:
        found = content.survey(txn, shard.tables, shard.directory, number)
        orphans = {where for where, _ in found.orphans}
    return [
        record
        for record, start, _ in segments.scan(shard.directory, number)
        if record is not None and segments.make_id(number, start) in orphans
    ]
