"""Deliveries that were made, by id: a delivery that is repeated gets the answer of the first one.

    given   id(16) account(8) copy(1)   mailbox id(4) UIDVALIDITY(4) UID(4) MODSEQ(8), big-endian: where the message
                                        was stored. A reader ignores octets after these.

An id begins with a time (message.transaction), so rows are added at the end of the table and the oldest come first: a
delivery costs one small row there, and trimming never has to search.

Promise: the row belongs to the same commit as the message. It outlives the message, so a message that its owner moved
or removed does not come back. Rows stay for KEEP seconds, and those of queued messages as long as the messages are
queued. If more than MOST deliveries arrive in that time, only the newest MOST are kept.
"""

import asyncio
from collections.abc import Callable, Sequence

from fastmail.durable.commit import FileWrite, Operation, PieceWrite
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

KEEP = 86400.0  # s; a client that got no answer tries again within hours
MOST = 2_000_000  # rows of a shard, some 150 MB
EVERY = 60.0  # s between two trims
BATCH = 1000  # rows that one commit deletes
ID = transaction.SIZE  # octets of a key before the account
KEY = ID + ACCOUNT + 1  # octets of a key
Placed = tuple[Delivery, FileWrite | PieceWrite | None, bytes]


def key_of(item: Delivery) -> bytes:
    """Return the key of a delivery's row. It has no mailbox, since a repetition may find another mailbox of the same
    name."""
    return item.id + item.key[:ACCOUNT] + bytes((item.copy,))


def _unpack(account: bytes, row: bytes | memoryview) -> Appended:
    mailbox, uidvalidity, uid, modseq = layout.GIVEN.unpack_from(row)
    return Appended(account + layout.U32.pack(mailbox), uidvalidity, [uid], modseq, repeated=True)


def find(txn: Reading, t: Tables, item: Delivery) -> Appended | None:
    """Return the answer of the first delivery with this id, None if there was none."""
    return _find(txn, t, item, key_of(item))


def _find(txn: Reading, t: Tables, item: Delivery, at: bytes) -> Appended | None:
    """Do the same, given the key of the delivery's row."""
    row = txn.get(at, db=t.given)
    if row is not None:
        return _unpack(item.key[:ACCOUNT], row)
    return held.done(txn, t, transaction.number_of(item.id), item.key) if item.again else None


def find_number(txn: Reading, t: Tables, number: int, key: bytes) -> Appended | None:
    """Return the same for a file that has the queue number in its name (names.py), in the mailbox where the file is."""
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


def put_in(now: int, group: Sequence[Placed], twins: list[bytes], txn: Txn, t: Tables) -> Changed[list[Appended]]:
    """Store deliveries whose content is placed. A delivery whose id the account had before is not stored again.

    An empty name stands for content that was not placed, because the id was known. Paths of files to be unlinked after
    the commit are added to ``twins``: files that have the base name of a message's own file."""
    out = []
    for item, write, name in group:
        at = key_of(item) if item.id else b""
        before = _find(txn, t, item, at) if at else None
        if before is not None:
            if name:
                twins += _drop_content(txn, t, item, write, name, before)
            out.append(before)
            continue
        if not name:
            raise StorageFailed("the record of a delivery was removed while it was repeated")  # the sender tries again
        if item.hold and references.in_segment(name):
            references.share(txn, t, [name])
        placed = messages.append(txn, t, item.key, [item.message], [name], now).result
        if at:
            row = layout.GIVEN.pack(mailbox_of(placed.key), placed.uidvalidity, placed.uids[0], placed.modseq)
            txn.put(at, row, db=t.given)
        out.append(placed)
    return Changed(out, [one.key for one in out])


def _drop_content(
    txn: Txn, t: Tables, item: Delivery, write: FileWrite | PieceWrite | None, name: bytes, before: Appended
) -> list[bytes]:
    """Discard the content that a repeated delivery placed again, unless it is the very file or record of the message.

    A file with the base name of the message's own file is returned instead of being entered in the trash table: that
    table identifies files by their base names, so the message's own file would be removed too."""
    row = txn.get(layout.uid_key(before.key, before.uids[0]), db=t.msg)
    have = layout.marked_of(row) if row is not None else b""
    if have == name:
        return []
    if references.in_segment(name):
        if not item.hold:
            references.bury(txn, t, [references.place_of(name)])
    elif isinstance(write, FileWrite) and base_of(have[1:]) == base_of(name[1:]) and before.key == item.key:
        return [write.path]
    else:
        txn.put(trash_key(item.key, name), name, db=t.trash)
    return []


def answers(items: Sequence[Delivery], txn: Reading, t: Tables) -> list[Appended | None]:
    """Return the answers of earlier deliveries with these ids."""
    return [find(txn, t, item) if item.id else None for item in items]


def _old(shard: Shard, start: bytes, queued: Callable[[int], bool] | None) -> tuple[list[bytes], bytes]:
    """Return (keys of rows from ``start`` on that may be deleted, key to continue from; empty at the end). Waits for
    the disk."""
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
    """Delete the rows that no one will ask for; return how many. ``queued``: True if the message with this number is
    queued."""
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
    """Trim every EVERY seconds, in one process. ``queued``: returns the function for ``trim``, None until it is
    known."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            for shard in shards:
                await trim(shard, queued())
        except MailError as error:
            log.event("store.given", "warning", error=error)
