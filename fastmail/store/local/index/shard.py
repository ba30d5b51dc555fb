"""A shard: one index environment with its tables, its commit queue, and the segments with its messages.

Promise: what is submitted to ``queue`` is durable when its future is done.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fastmail.durable import beneath
from fastmail.durable.commit import CommitQueue, Operation, PieceWrite
from fastmail.durable.env import Environment
from fastmail.durable.errors import translate
from fastmail.durable.layouts import Former
from fastmail.durable.opening import Journaled
from fastmail.durable.recovery import Files
from fastmail.durable.salvage import SALVAGED_ROW
from fastmail.durable.segments import Record, SegmentReader, SegmentWriter
from fastmail.durable.transaction import Txn
from fastmail.store.interface import Octets
from fastmail.store.local.index import first_layout, former_arrivals, layout, references
from fastmail.store.local.index.layout import TABLES
from fastmail.store.local.index.tables import Tables

Owner = Callable[[dict[str, Any]], Files]
FORMER = (  # before version 1 of today's tables; before version 4
    Former(frozenset(first_layout.TABLES), first_layout.convert, bars_older=True),
    Former(frozenset((former_arrivals.TABLE,)), former_arrivals.convert),
)


def open_index(directory: str, n: int, map_size: int, owner: Owner | None) -> Environment:
    """Open the index of a shard. ``owner``: makes, from the tables, the object that knows where files belong after a
    loss of power."""
    journaled = Journaled(directory, owner)
    return Environment(os.path.join(directory, f"index-{n}"), TABLES, layout.LAYOUT, map_size, FORMER, journaled)


class Shard:
    """One environment with its tables and its writer."""

    def __init__(
        self,
        directory: str,
        n: int,
        map_size: int,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[list[bytes]], None],
        keeps_segments: bool,
        owner: Owner | None = None,
        shared: bool = False,
    ) -> None:
        """``publish``: tell those who watch mailboxes; ``keeps_segments``: new content goes into segments."""
        self.env = open_index(directory, n, map_size, owner)
        self.directory = os.path.join(beneath.guarded(directory), f"segments-{n}")
        self.writer = SegmentWriter(self.directory) if keeps_segments else None
        self._preparing: asyncio.Task[None] | None = None
        self.tables = Tables(
            **self.env.db,
            reader=SegmentReader(self.directory),
            segments=self.writer is not None,
            whole=self.env.table,
            tight=self.env.tight,
            shared=shared,
            recovered=self.env.recovered,
        )
        self.queue = CommitQueue(self.env, loop, publish, str(n))
        self._loop = loop

    async def close(self) -> None:
        """Commit what was submitted, then stop the commit thread."""
        if self.writer is not None and self.writer.numbers:
            writer, tables = self.writer, self.tables

            def apply(txn: Txn) -> None:
                references.bury(txn, tables, writer.orphans)
                for number in writer.numbers:
                    references.seal(txn, tables, number)

            await asyncio.gather(self.queue.submit(Operation(apply)), return_exceptions=True)
        await self.queue.close()
        if self.writer is not None:
            self.writer.close()
        self.tables.reader.close()
        self.env.close()

    @property
    def salvaged(self) -> bool:
        """True if the index was rebuilt from a damaged file and may still lack rows. Then records that no row refers to
        do not count as dead (recovery.after_salvage)."""
        with self.env.read() as txn:
            return txn.get(SALVAGED_ROW, db=self.tables.meta) is not None

    # ---------------------------------------------------------------- segments

    async def place(
        self, key: bytes, name: str, date: int, size: int, chunks: Sequence[Octets], ident: int = 0
    ) -> tuple[PieceWrite, Record]:
        """Assign a record to a message's content: return the write for it, and the record."""
        writer = self.writer
        assert writer is not None
        if writer.wants_file:  # the next segment is created in the background, before the present one is full
            if self._preparing is None or self._preparing.done():
                self._preparing = self._loop.create_task(self._prepare(writer))
            if not writer.has_room:
                try:
                    await asyncio.shield(self._preparing)
                except OSError as error:
                    raise translate(error) from error
        return writer.append(key, name, date, size, chunks, ident)

    async def _prepare(self, writer: SegmentWriter) -> None:
        await self._loop.run_in_executor(None, writer.prepare)
        await self.queue.submit(Operation(partial(references.announce, t=self.tables, number=writer.numbers[-1])))
