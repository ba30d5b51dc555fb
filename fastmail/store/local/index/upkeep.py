"""Background work on the account log, done by the first worker: messages of earlier versions are entered in the tables
of object_ids.py, and entries older than KEPT are removed from logs.

Promise: every commit is small, with pauses between them for other writers. Interrupted work continues in the next
round. An account is looked at every EVERY seconds until all its messages are entered.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from fastmail.durable.commit import Operation
from fastmail.durable.transaction import Reading, Txn
from fastmail.model.errors import MailError, StorageFull
from fastmail.store.local.index import account_log, object_ids
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.index.tables import Tables
from fastmail.telemetry import log

FIRST = 5.0  # s from the start to the first round
EVERY = 300.0  # s between rounds
TRIMMED = 6 * 3600.0  # s between rounds that look at the age of logs
KEPT = 30 * 86400  # s that a log reaches back
PAUSE = 0.05  # s after each commit
FILL = 200  # messages that one commit enters
LOOK = 2000  # accounts looked at in one read transaction: a long one would keep LMDB from reusing pages
TRIM = 200  # accounts whose logs one commit trims


async def run(shard: Shard) -> None:
    """Do rounds until cancelled."""
    looked = -TRIMMED
    await asyncio.sleep(FIRST)
    while True:
        try:
            await fill(shard)
            if time.monotonic() - looked >= TRIMMED:
                looked = time.monotonic()
                await trim(shard, int(time.time()) - KEPT)
        except StorageFull:
            pass  # logged elsewhere; until it succeeds, EMAILIDs are found by reading messages
        except (MailError, OSError) as error:
            log.event("accounts.upkeep", "warning", error=error)
        await asyncio.sleep(EVERY)


async def fill(shard: Shard) -> None:
    """Enter the messages of all accounts that are not completely entered."""
    for account in await _those(shard, lambda txn, t, key, row: not row.whole):
        after = b""
        while True:
            step = Operation(partial(_fill, t=shard.tables, account=account, after=after), adds=True)
            (after,) = await shard.queue.submit(step)
            if not after:
                break
            await asyncio.sleep(PAUSE)


def _fill(txn: Txn, t: Tables, account: bytes, after: bytes) -> tuple[bytes]:
    last = object_ids.fill(txn, t, account, after, FILL)
    if not last:
        row = account_log.load(txn, t, account)
        row.whole = True
        account_log.write(txn, t, account, row)
    return (last,)


async def trim(shard: Shard, before: int) -> None:
    """Remove log entries older than ``before`` (s since 1970)."""
    old = await _those(shard, lambda txn, t, key, row: account_log.oldest(txn, t, key) < before)
    for start in range(0, len(old), TRIM):
        some = old[start : start + TRIM]
        await shard.queue.submit(Operation(partial(account_log.trim, t=shard.tables, keys=some, before=before)))
        await asyncio.sleep(PAUSE)


async def _those(shard: Shard, wanted: Callable[[Reading, Tables, bytes, account_log.Row], bool]) -> list[bytes]:
    """Return the keys of the accounts for which ``wanted`` is true, found in short read transactions on another
    thread."""

    def look(after: bytes) -> tuple[list[bytes], bytes]:
        out: list[bytes] = []
        last, count = b"", 0
        with shard.env.read() as txn:
            cursor = txn.cursor(db=shard.tables.acct)
            if cursor.set_range(after):
                for key, value in cursor.iternext():
                    if count >= LOOK:
                        return out, last + b"\0"
                    count, last = count + 1, bytes(key)
                    row = account_log.unpack(value)
                    if row is not None and wanted(txn, shard.tables, last, row):
                        out.append(last)
        return out, b""

    found: list[bytes] = []
    after = b"\0"
    while after:
        some, after = await asyncio.get_running_loop().run_in_executor(None, look, after)
        found += some
    return found
