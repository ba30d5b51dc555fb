"""Recovers messages from segments after the index was lost: records that no row names are given to the mailboxes to
which they were delivered.
"""

from collections.abc import Sequence
from functools import partial

from fastmail.durable import segments
from fastmail.durable.commit import Operation
from fastmail.durable.segments import Record
from fastmail.durable.transaction import Txn
from fastmail.message.preview import scanned
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.index import layout, messages, references
from fastmail.store.local.index.layout import account_of
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir.opened import OpenedStore
from fastmail.store.local.segments import usage


async def recover(store: OpenedStore, accounts: Sequence[Account], every: bool = False) -> int:
    """Give messages to mailboxes from segments that this index does not know, or from ``every`` one; return how many.

    That is everything in them, including messages that were expunged and not compacted yet."""
    by_id = {account.id: account for account in accounts}
    given = 0
    for shard in {store.commits.shard(account.id) for account in accounts}:
        with shard.env.read() as txn:
            found = usage.usage(txn, shard.tables, shard.directory)
        for one in found:
            if one.state == "unknown" or (every and one.state not in ("open", "compacted")):
                given += await _recover_one(store, shard, int(one.segment, 16), by_id)
    return given


async def _recover_one(store: OpenedStore, shard: Shard, number: int, accounts: dict[int, Account]) -> int:
    found = await store.commits.help(_unnamed, shard, number)
    given = 0
    whole = True
    for record in found:
        account = accounts.get(account_of(record.key))
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
        await store.commits.submit(account, partial(_give, key=key, message=message, record=record))
        given += 1
    if whole:
        await shard.queue.submit(Operation(partial(references.seal, t=shard.tables, number=number)))
    return given


def _give(txn: Txn, t: Tables, key: bytes, message: NewMessage, record: Record) -> None:
    if txn.get(layout.U64.pack(record.id), db=t.ref) is None:
        references.keep(txn, t, [references.reference(record)])
        here = segments.make_id(record.number, record.offset)
        if here != record.id:
            txn.put(layout.U64.pack(record.id), layout.U64.pack(here), db=t.moved)
        messages.append(txn, t, key, [message], [references.reference(record)], record.date)


def _unnamed(shard: Shard, number: int) -> list[Record]:
    with shard.env.read() as txn:
        found = usage.survey(txn, shard.tables, shard.directory, number)
        orphans = {where for where, _ in found.orphans}
    return [
        record
        for record, start, _ in segments.scan(shard.directory, number)
        if record is not None and segments.make_id(number, start) in orphans
    ]
