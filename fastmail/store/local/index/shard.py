"""One index environment with its tables, its writer, and the segments that its messages lie in.

Promise: what is handed to ``queue`` is durable when its future is done. Arrivals are settled about a second after they
came.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from fastmail.durable import beneath
from fastmail.durable.commit import CommitQueue, Operation, PieceJob
from fastmail.durable.env import Environment, Former, Journaled, translate
from fastmail.durable.recovery import Files
from fastmail.durable.salvage import MARK
from fastmail.durable.segments import Record, SegmentReader, SegmentWriter
from fastmail.durable.transaction import Txn
from fastmail.model.errors import MailError, StorageFull
from fastmail.store.interface import Octets
from fastmail.store.local.index import box_rows, first_layout, layout, references
from fastmail.store.local.index.arrivals import Arrivals
from fastmail.store.local.index.layout import TABLES
from fastmail.store.local.index.tables import Tables
from fastmail.telemetry import log

SETTLE_DELAY = 1.0
SETTLE_BATCH = 256  # messages
Owner = Callable[[dict[str, Any]], Files]
FIRST = Former(frozenset(first_layout.TABLES), first_layout.convert)  # the layout before version 1 of today's tables


def open_index(directory: str, n: int, map_size: int, owner: Owner | None) -> Environment:
    """The index of a shard. ``owner``: made with the tables, it says where files belong after a loss of power."""
    journaled = Journaled(directory, owner)
    return Environment(os.path.join(directory, f"index-{n}"), TABLES, layout.LAYOUT, map_size, FIRST, "new", journaled)


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
        """``publish``: tell who watches these mailboxes; ``keeps_segments``: is new content kept in segments?"""
        self.env = open_index(directory, n, map_size, owner)
        self.directory = os.path.join(beneath.mark(directory), f"segments-{n}")
        self.writer = SegmentWriter(self.directory) if keeps_segments else None
        self._preparing: asyncio.Task[None] | None = None
        arrivals = Arrivals(self.env.db["new"])
        reader = SegmentReader(self.directory)
        self.tables = Tables(
            **self.env.db,
            arrivals=arrivals,
            reader=reader,
            segments=self.writer is not None,
            whole=self.env.table,
            shared=shared,
            recovered=self.env.recovered,
        )
        self.queue = CommitQueue(self.env, loop, publish, str(n), self._begun)
        self._loop = loop
        self._unsettled: Counter[bytes] = Counter()  # arrivals of this worker, by mailbox
        self._settling: asyncio.Task[None] | None = None

    def _begun(self, txn: Txn) -> None:
        """The writer's transaction was opened. Where the map is nearly used up, nothing may have to be copied later, or
        what removes would have to find room for that first."""
        self.tables.arrivals.begun(txn, self.env.tight(txn))

    def arrived(self, keys: Iterable[bytes]) -> None:
        """Messages came to these mailboxes: settle them soon."""
        for key in keys:
            self._unsettled[key] += 1
        if self._settling is None:
            self._settling = self._loop.create_task(self._settle_soon())

    async def _settle_soon(self) -> None:
        try:
            while self._unsettled:
                await asyncio.sleep(SETTLE_DELAY)
                try:
                    await self.settle()
                except MailError as error:
                    log.event("store.settle", "warning", error=error)
        finally:
            self._settling = None

    async def settle(self) -> None:
        """Settle what this worker put in, some hundred messages to a commit. A mailbox that cannot be settled keeps its
        arrivals, which readers add, and does not hold up the others; its error is raised at the end."""
        work, self._unsettled = self._unsettled, Counter()
        failed: MailError | None = None
        while work:
            keys: list[bytes] = []
            messages = 0
            for key, n in work.items():
                keys.append(key)
                messages += n
                if messages >= SETTLE_BATCH:
                    break
            try:
                await self._settle_these(keys)
            except StorageFull:
                self._unsettled.update(work)
                raise
            except MailError as error:
                failed = error
                for key in keys:
                    try:
                        await self._settle_these([key])
                    except MailError:
                        self._unsettled[key] += work[key]
            for key in keys:
                del work[key]
        if failed is not None:
            raise failed

    async def _settle_these(self, keys: Sequence[bytes]) -> None:
        await self.queue.submit(Operation(partial(box_rows.settle, t=self.tables, keys=keys)))

    def leftover(self) -> None:
        """Settle everything that a process before this one left."""
        with self.env.read() as txn:
            self.tables.arrivals.catch_up(txn)
        self._unsettled.update(self.tables.arrivals.keys())

    async def close(self) -> None:
        """Settle, and stop the writer."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        if self._unsettled:
            await asyncio.gather(self.settle(), return_exceptions=True)
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
        """Was the index saved from a damaged file, and what it lacks not found again yet? Then what nothing refers to
        is not dead (recovery.mend)."""
        with self.env.read() as txn:
            return txn.get(MARK, db=self.tables.meta) is not None

    # ---------------------------------------------------------------- segments

    async def place(
        self, key: bytes, name: str, date: int, size: int, chunks: Sequence[Octets], ident: int = 0
    ) -> tuple[PieceJob, Record]:
        """Where a message's content goes."""
        writer = self.writer
        assert writer is not None
        if writer.wants_file:
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
