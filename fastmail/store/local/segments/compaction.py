"""Compaction: the live records of a segment with much waste are moved to another one, and its file is removed.

Promise: segments of a process that died are scanned before compaction touches them. A file is removed after the commit
that records the new location of everything in it, and never while a part of it is damaged. It works while a server
runs, in any process; two processes never compact the same segment.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastmail.durable import beneath, segments
from fastmail.durable.commit import Operation
from fastmail.durable.segments import Record
from fastmail.durable.transaction import Txn
from fastmail.model.errors import MailError
from fastmail.store.local.index import references
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.segments import usage
from fastmail.store.local.segments.usage import Survey, Usage
from fastmail.telemetry import log

MAINTENANCE = 300.0  # s between looks for waste
WASTE = 50  # percent of waste from which on moving the rest is worth its cost


async def _help(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function that waits for the disk on a helper thread."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def usage_of(shard: Shard) -> list[Usage]:
    """Return the space of every segment of a shard."""
    with shard.env.read() as txn:
        return usage.usage(txn, shard.tables, shard.directory)


async def survey(shard: Shard) -> None:
    """Scan the segments of processes that died: records that nothing refers to are dead."""
    if shard.salvaged:
        return
    every: list[Usage] = await _help(usage_of, shard)
    strange = [one.segment for one in every if one.state == "unknown"]
    if strange:
        log.event("segments.unknown", "warning", segments=strange, then="run `fastmail index rebuild`")
    for one in every:
        if one.state == "compacted":
            await _remove(shard, int(one.segment, 16))

    def look(number: int) -> Survey:
        with shard.env.read() as txn:
            return usage.survey(txn, shard.tables, shard.directory, number)

    for number in [int(one.segment, 16) for one in every if one.state == "unchecked"]:
        found: Survey = await _help(look, number)

        def apply(txn: Txn, found: Survey = found) -> None:
            references.bury(txn, shard.tables, found.orphans)
            references.seal(txn, shard.tables, found.number)

        await shard.queue.submit(Operation(apply))
        level = "warning" if found.damaged else "info"
        log.event(
            "segments.checked", level, segment=f"{number:06x}", records=found.records, damaged_octets=found.damaged
        )


async def maintain(shard: Shard) -> None:
    """Compact segments that are mostly waste, every MAINTENANCE seconds, in one process."""
    while True:
        await asyncio.sleep(MAINTENANCE)
        try:
            if shard.salvaged:
                continue
            for one in usage_of(shard):
                if one.state == "sealed" and one.dead * 100 >= one.octets * WASTE and shard.writer is not None:
                    won = await compact(shard, int(one.segment, 16))
                    log.event("segments.compacted", "warning" if won < 0 else "info", segment=one.segment, won=won)
        except (MailError, OSError) as error:
            log.event("segments.maintain", "warning", error=error)


async def compact(shard: Shard, number: int) -> int:
    """Move the live records of a sealed segment and remove its file. Returns the octets won; -1 if it is damaged and
    stays; 0 if another process has locked it."""
    held = segments.lock_segment(shard.directory, number)
    if held is None:
        return 0
    try:
        return await _compact(shard, number)
    finally:
        os.close(held)


def _texts(shard: Shard, records: Sequence[Record]) -> list[bytes | None]:
    read = shard.tables.reader.read
    return [read(segments.make_id(r.number, r.offset), r.skip, r.length) for r in records]


async def _compact(shard: Shard, number: int) -> int:
    tables = shard.tables
    records, sound = await _help(usage.live, shard.env.read, tables, shard.directory, number)
    if not sound:
        return -1
    size = beneath.lstat(segments.path_of(shard.directory, number)).st_size
    kept = 0
    for part in usage.batches(records):
        texts = await _help(_texts, shard, part)
        writes, moves = [], []
        for record, text in zip(part, texts, strict=True):
            write, new = await shard.place(
                record.key, record.name, record.date, record.size, [text or b""], ident=record.id
            )
            writes.append(write)
            moves.append((record, new))
            kept += new.end - new.offset
        await shard.queue.submit(Operation(partial(references.record_moves, t=tables, moves=moves), writes))
    await shard.queue.submit(Operation(partial(references.forget_segment, t=tables, number=number)))
    await _remove(shard, number)
    return size - kept


async def _remove(shard: Shard, number: int) -> None:
    await _help(beneath.unlink, segments.path_of(shard.directory, number))
    shard.tables.reader.forget(number)
    await shard.queue.submit(Operation(partial(references.forget_file, t=shard.tables, number=number)))
