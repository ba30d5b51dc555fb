"""Repairs the index of a shard that was rebuilt from a damaged file, so that rows may be missing or wrong.

``shape`` comes first, while no process has the index open: unreadable rows are deleted, every mailbox gets its row and
its name, and numbers are raised above those in use. Then ``repair`` works beside the running server: mailboxes that do
not match their files are rebuilt from them, with the UIDs that are known, and records in segments that no row names are
given to the mailboxes to which they were delivered. Messages that were expunged but not yet removed may come back.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail.durable import segments
from fastmail.durable.commit import Operation
from fastmail.durable.env import Environment
from fastmail.durable.salvage import SALVAGED_ROW
from fastmail.durable.segments import SegmentReader
from fastmail.durable.transaction import Txn
from fastmail.model.errors import MailError
from fastmail.store.interface import Account
from fastmail.store.local.index import account_log, box_rows, kept, layout, references
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, MARK_AT, SEGMENT, MailboxRow, mark_of, uid_of
from fastmail.store.local.index.shard import FORMER, Shard
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir.opened import OpenedStore
from fastmail.store.local.recovery import check_account, consistent_rows, rebuild_account, unnamed_records
from fastmail.telemetry import log


def shape(path: str, map_size: int) -> None:
    """Make the rows of an index consistent with each other. No process may have it open."""
    env = Environment(path, layout.TABLES, layout.LAYOUT, map_size, FORMER)
    try:
        tables = Tables(**env.db, reader=SegmentReader(""))
        with env.write() as txn:
            boxes = consistent_rows.make_consistent(txn, tables)
            _count(txn, tables, boxes)
            for account in {key[:ACCOUNT] for key in boxes}:
                account_log.again(txn, tables, account)
            _references(txn, tables)
    finally:
        env.close()


def _count(txn: Txn, t: Tables, boxes: dict[bytes, MailboxRow]) -> None:
    """Count the totals of each mailbox's row again."""
    for key, box in boxes.items():
        box.exists = box.unseen = box.deleted = box.octets = 0
        for _, page in box_rows.pages_of(txn, t, key, None):
            for _, flags, modseq, _, _, size, _ in pages.records(page):
                box.exists += 1
                box.unseen += not flags & 1
                box.deleted += bool(flags & 8)
                box.octets += size
                box.modseq = max(box.modseq, modseq)
        box_rows.save(txn, t, box)


def _references(txn: Txn, t: Tables) -> None:
    """Count the references to records in segments. A record with a row is never taken for an orphan."""
    found = (mark for _, mark in references.marks(txn, t) if len(mark) >= references.REFERENCE.size)
    count = Counter(references.reference_in(mark).ident for mark in found)
    consistent_rows.drop_where(txn, t.ref, lambda key, value: True)
    for ident, number in count.items():
        at = layout.U64.pack(ident)
        txn.put(at, references.COUNT.pack(number - 1), db=t.ref)
        where = references.locate(txn, t, ident)
        txn.delete(layout.U64.pack(where), db=t.dead)


# ---------------------------------------------------------------- beside the server


def salvaged(store: OpenedStore) -> list[Shard]:
    """Return the shards that were rebuilt and not repaired yet."""
    return [shard for shard in store.commits.shards if shard.salvaged]


async def repair(store: OpenedStore, accounts: Sequence[Account], told: Callable[[str], None]) -> None:
    """Compare the accounts of salvaged shards with the disk, and rebuild what differs. ``told`` is called with what was
    done."""
    for shard in salvaged(store):
        mine = [account for account in accounts if store.commits.shard(account.id) is shard]
        for account in mine:
            try:
                for one in [one for one in await check_account.check(store, account) if one.problems]:
                    told(f"{one.account} {one.mailbox}: {one.detail}")
                    await rebuild_account.rebuild(store, account)
            except (MailError, OSError, ValueError) as error:
                log.event("store.mend", "error", account=account.address, error=repr(error))
        given = await find_again(store, shard, mine)
        if given:
            told(f"{given} messages were found in segments and put into their mailboxes")
        tables = shard.tables
        await shard.queue.submit(Operation(lambda txn, t=tables: txn.delete(SALVAGED_ROW, db=t.meta)))  # type: ignore[misc]


async def find_again(store: OpenedStore, shard: Shard, accounts: Sequence[Account]) -> int:
    """Give messages in segments that no row names to their mailboxes; return how many."""
    # rebuilt mailboxes refer to other records than before
    await shard.queue.submit(Operation(partial(_references, t=shard.tables)))
    await store.commits.help(_relink, shard)
    await shard.queue.submit(Operation(partial(_references, t=shard.tables)))
    return await unnamed_records.recover(store, accounts, every=True)


def _relink(shard: Shard) -> None:
    """Correct rows whose record is not where they say.

    Compaction moved it and the new location was lost, or the row is damaged. The record at the row's location is used
    if it has the message's size; else the only sound record of that mailbox and size to which no other row refers."""
    t = shard.tables
    sound = {
        segments.make_id(number, start): record
        for number in segments.numbers(shard.directory)
        for record, start, _ in segments.scan(shard.directory, number)
        if record is not None
    }
    with shard.env.write() as txn:
        for here, record in sound.items():
            at = layout.U64.pack(record.id)
            if record.id != here and txn.get(at, db=t.ref) is not None and txn.get(at, db=t.moved) is None:
                txn.put(at, layout.U64.pack(here), db=t.moved)
        free = {here for here in sound if txn.get(layout.U64.pack(here), db=t.dead) is None}
        for _, mark in kept.marks(txn, t):  # these records belong to kept messages, which were expunged
            free.discard(references.locate(txn, t, references.reference_in(mark).ident))
        lost: list[tuple[bytes, bytes]] = []
        for at, value in txn.cursor(db=t.msg).iternext():
            if mark_of(value) == SEGMENT:
                _, ident, skip, length = references.reference_in(value, MARK_AT)
                where = references.locate(txn, t, ident)
                named = sound.get(where)
                if named is not None and (named.skip, named.length) == (skip, length):
                    free.discard(where)
                else:
                    lost.append((at, layout.marked_of(value)))  # without the summary, which may be long
        alone: dict[tuple[bytes, int], list[int]] = {}
        for here in free:
            alone.setdefault((sound[here].key, sound[here].size), []).append(here)
        wanted = []
        for at, marked in lost:
            uid = uid_of(at)
            page = txn.get(layout.page_key(at[:MAILBOX], uid), db=t.page)
            size = next((r[Field.SIZE] for r in pages.records(page) if r[Field.UID] == uid), -1) if page else -1
            where = references.locate(txn, t, references.reference_in(marked).ident)
            wanted.append((where not in alone.get((at[:MAILBOX], size), ()), where, size, at))
        for elsewhere, where, size, at in sorted(wanted):  # first the rows whose location is right
            found = alone.get((at[:MAILBOX], size), [])
            if elsewhere:
                if not found and where in sound and sound[where].size == size:
                    found = [where]
                where = found[0] if len(found) == 1 else 0
            if where:
                if where in found:
                    found.remove(where)
                record = sound[where]
                made = bytes(layout.summary_of(txn.get(at, db=t.msg)))
                txn.put(at, layout.pack_message(references.reference(record), made), db=t.msg)
                references.keep(txn, t, [references.reference(record)])
