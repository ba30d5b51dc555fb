"""Deliveries that were made, by their ids: a delivery that is repeated gets the answer of the first one.

    given   id(16) account(8) copy(1)   mailbox id(4) UIDVALIDITY(4) UID(4) MODSEQ(8), big-endian: where the message
                                        went. A reader ignores octets behind these.

An id begins with a time (message.transaction), so rows are added at the end of the table and the oldest are the first:
a delivery costs one small row there, and trimming never looks for anything.

Promise: the row is of the same commit as the message. It outlives the message: what its owner moved or removed does not
come back. Rows stay for KEEP seconds, and those of messages in the queue as long as they are there; a server that gets
more than MOST deliveries in that time keeps the newest MOST.
"""

import asyncio
from collections.abc import Callable, Sequence

from fastmail.durable.commit import FileJob, Operation, PieceJob
from fastmail.durable.transaction import Reading, Txn
from fastmail.message import transaction
from fastmail.model.errors import MailError, StorageFailed
from fastmail.store.interface import Appended, Delivery
from fastmail.store.local.index import held, layout, messages, references
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import ACCOUNT, U64, base_of, mailbox_of, trash_key
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.index.tables import Tables
from fastmail.telemetry import log

KEEP = 86400.0  # s; clients that had no answer come again within hours
MOST = 2_000_000  # rows of a shard, some 150 MB
EVERY = 60.0  # s between two trims
BATCH = 1000  # rows that one commit removes
ID = transaction.SIZE  # octets of a key in front of the account
Placed = tuple[Delivery, FileJob | PieceJob | None, bytes]


def key_of(item: Delivery) -> bytes:
    """The key of a delivery's row: the mailbox is not in it, as a repeat may find another one in its place."""
    return item.id + item.key[:ACCOUNT] + bytes((item.copy,))


def _unpack(account: bytes, row: bytes | memoryview) -> Appended:
    mailbox, uidvalidity, uid, modseq = layout.GIVEN.unpack_from(row)
    return Appended(account + layout.U32.pack(mailbox), uidvalidity, [uid], modseq, repeated=True)


def find(txn: Reading, t: Tables, item: Delivery) -> Appended | None:
    """What the first delivery with this id gave; None when there was none."""
    row = txn.get(key_of(item), db=t.given)
    if row is not None:
        return _unpack(item.key[:ACCOUNT], row)
    return held.done(txn, t, transaction.number_of(item.id), item.key) if item.again else None


def find_number(txn: Reading, t: Tables, number: int, key: bytes) -> Appended | None:
    """The same for a file that has the number in its name (names.py), in the mailbox where the file is."""
    prefix = U64.pack(number)
    cursor = txn.cursor(db=t.given)
    if cursor.set_range(prefix):
        for at, row in cursor.iternext():
            if at[: len(prefix)] != prefix:
                break
            if at[ID : ID + ACCOUNT] == key[:ACCOUNT]:
                placed = _unpack(key[:ACCOUNT], row)
                if placed.key == key:
                    return placed
    return held.done(txn, t, number, key)


def note(txn: Txn, t: Tables, item: Delivery, placed: Appended) -> None:
    """The message is in the mailbox."""
    row = layout.GIVEN.pack(mailbox_of(placed.key), placed.uidvalidity, placed.uids[0], placed.modseq)
    txn.put(key_of(item), row, db=t.given)


def put_in(now: int, group: Sequence[Placed], twins: list[bytes], txn: Txn, t: Tables) -> Changed[list[Appended]]:
    """Records for deliveries whose content is in place; one whose id the account had is not kept again. An empty name
    stands for content that was not placed, as the id was known before. ``twins`` gets paths of files to be unlinked
    after the commit, that only their directory tells from a message's own."""
    out = []
    for item, job, name in group:
        before = find(txn, t, item) if item.id else None
        if before is not None:
            if name:
                twins += _drop_content(txn, t, item, job, name, before)
            out.append(before)
            continue
        if not name:
            raise StorageFailed("what a delivery gave was forgotten while it was repeated")  # it is tried again
        if item.hold and references.in_segment(name):
            references.share(txn, t, [name])
        placed = messages.append(txn, t, item.key, [item.message], [name], now).result
        if item.id:
            note(txn, t, item, placed)
        out.append(placed)
    return Changed(out, [one.key for one in out])


def _drop_content(
    txn: Txn, t: Tables, item: Delivery, job: FileJob | PieceJob | None, name: bytes, before: Appended
) -> list[bytes]:
    """The content of a repeated delivery was put in place once more: nothing needs it, unless it is the very file or
    record that the message has. A file with the base name of the message's is returned: the trash table knows files by
    their base names, and would take the message's own with it."""
    row = txn.get(layout.uid_key(before.key, before.uids[0]), db=t.msg)
    have = layout.marked_of(row) if row is not None else b""
    if have == name:
        return []
    if references.in_segment(name):
        if not item.hold:
            references.bury(txn, t, [references.place_of(name)])
    elif isinstance(job, FileJob) and base_of(have[1:]) == base_of(name[1:]) and before.key == item.key:
        return [job.path]
    else:
        txn.put(trash_key(item.key, name), name, db=t.trash)
    return []


def answers(items: Sequence[Delivery], txn: Reading, t: Tables) -> list[Appended | None]:
    """What earlier deliveries with these ids gave."""
    return [find(txn, t, item) if item.id else None for item in items]


def _old(shard: Shard, start: bytes, queued: Callable[[int], bool] | None) -> tuple[list[bytes], bytes]:
    """(keys of rows from ``start`` on that may go, where to look on; empty at the end). It reads the disk."""
    keys: list[bytes] = []
    with shard.env.read() as txn:
        bound = transaction.oldest(KEEP)
        surplus = txn.stat(shard.tables.given)["entries"] - MOST
        cursor = txn.cursor(db=shard.tables.given)
        if not cursor.set_range(start):
            return [], b""
        seen = [bytes(key) for key, _ in zip(cursor.iternext(values=False), range(BATCH), strict=False)]
    for n, key in enumerate(seen):
        if key >= bound and n >= surplus:
            break
        keys.append(key)
    over = [key for key in keys if queued is None or not queued(transaction.number_of(key))]
    return over, keys[-1] + b"\0" if len(keys) == BATCH else b""


async def trim(shard: Shard, queued: Callable[[int], bool] | None = None) -> int:
    """Remove the rows that nobody will ask for; how many. ``queued``: is the message with this number in the queue?"""
    tables, start, removed = shard.tables, bytes(8), 0
    loop = asyncio.get_running_loop()
    while start:
        keys, start = await loop.run_in_executor(None, _old, shard, start, queued)

        def apply(txn: Txn, keys: list[bytes] = keys) -> None:
            for key in keys:
                txn.delete(key, db=tables.given)

        if keys:
            await shard.queue.submit(Operation(apply))
            removed += len(keys)
    return removed


async def keep_trimming(shards: Sequence[Shard], queued: Callable[[], Callable[[int], bool] | None]) -> None:
    """Trim now and then, in one process. ``queued``: what to ask, see ``trim``, once that is known."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            for shard in shards:
                await trim(shard, queued())
        except MailError as error:
            log.event("store.given", "warning", error=error)
