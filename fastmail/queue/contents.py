"""The content of queued messages: records in segments of the queue, or a part of what the mail store keeps for both.

A process appends to a segment of its own. The table ``alive`` counts the items that have their content in a segment; a
segment without any is removed (``sweep``).

Promise: what ``write`` returns is for the commit that queues the message. ``read`` returns the message as it was
queued, or raises CorruptData.
"""

import asyncio
import os
import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from fastmail._core.checksum import crc32
from fastmail.durable import beneath, segments
from fastmail.durable.commit import PieceWrite
from fastmail.durable.env import Environment
from fastmail.durable.errors import translate
from fastmail.durable.segments import SegmentReader, SegmentWriter
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CorruptData
from fastmail.queue.model import Item, Outgoing

SEGMENT = 16 << 20  # octets of a segment: small, because it is removed when its last message has left the queue
LONGEST_SENDER = 200  # octets of the reverse-path in a record, for people who read it after damage
NUMBER = struct.Struct(">I")


class Shared(Protocol):
    """What the queue needs from the mail store for content that both use (store.interface.Holds)."""

    async def read(self, hold: bytes) -> bytes: ...
    async def let_go(self, holders: Sequence[int]) -> None: ...
    def holders(self) -> set[int]: ...


class Contents:
    """One for each queue. ``directory``: of the queue; ``env``: returns its environment, which is opened at first use;
    ``holds``: None where no mail store is open."""

    def __init__(self, directory: str, env: Callable[[], Environment], holds: Shared | None) -> None:
        self._directory = directory
        self._env = env
        self._holds = holds
        self._preparing = asyncio.Lock()
        self._writer: SegmentWriter | None = None
        self._reader = SegmentReader(self._segments)

    @property
    def _segments(self) -> str:
        return os.path.join(beneath.guarded(self._directory), "segments")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader.close()

    def release(self) -> None:
        """No operation that writes here is under way any more."""
        if self._writer is not None:
            self._writer.release()

    async def write(self, outgoing: Outgoing) -> PieceWrite:
        """Append the content to the segment of this process; fills in the item's place."""
        if self._writer is None:
            self._writer = SegmentWriter(self._segments, SEGMENT)
        writer = self._writer
        # Only one task at a time may prepare the writer's next segment, because that runs on a helper thread.
        async with self._preparing:
            while not writer.has_room:
                await asyncio.get_running_loop().run_in_executor(None, self._prepare, writer)
        item = outgoing.item
        name = item.sender[:LONGEST_SENDER]
        piece, record = writer.append(
            item.id.to_bytes(segments.KEY, "big"), name, item.arrived, item.size, outgoing.content
        )
        item.record, item.skip, item.length = record.id, record.skip, record.length
        return piece

    def _prepare(self, writer: SegmentWriter) -> None:
        try:
            writer.prepare()
        except OSError as error:
            raise translate(error) from error

    def count(self, txn: Txn, item: Item, step: int) -> None:
        """Add ``step`` to the number of items in a segment."""
        if item.hold:
            return
        at = NUMBER.pack(segments.split_id(item.record)[0])
        found = txn.get(at, db=self._env().db["alive"])
        alive = (NUMBER.unpack(found)[0] if found else 0) + step
        if alive > 0:
            txn.put(at, NUMBER.pack(alive), db=self._env().db["alive"])
        else:
            txn.delete(at, db=self._env().db["alive"])

    async def read(self, item: Item) -> bytes:
        """Return the message with LF, checked. CorruptData when it is damaged or missing."""
        if item.hold:
            if self._holds is None:
                raise CorruptData(f"message {item.number}: its content is in a mail store that is not open")
            shared = await self._holds.read(item.hold)
            content = shared[item.skip :]
            if len(content) != item.length or crc32(content) != item.checksum:
                raise CorruptData(f"message {item.number}: its content has changed")
            return content
        read = self._reader.read
        try:
            data = read(item.record, item.skip, item.length, True)
            if data is None:
                loop = asyncio.get_running_loop()
                data = await loop.run_in_executor(None, read, item.record, item.skip, item.length)
        except FileNotFoundError:
            raise CorruptData(f"message {item.number}: its segment is gone") from None
        except OSError as error:
            raise translate(error) from error
        if data is None:
            raise CorruptData(f"message {item.number}: its content cannot be read")
        return data

    def sweep(self) -> int:
        """Remove segments that nothing refers to and nobody writes to; returns how many."""
        removed = 0
        for number in segments.numbers(self._segments):
            with self._env().read() as txn:
                if txn.get(NUMBER.pack(number), db=self._env().db["alive"]) is not None:
                    continue
            held = segments.lock_segment(self._segments, number)
            if held is None:
                continue
            try:
                # with the lock, nobody writes there: what was written is committed by now, or never will be
                with self._env().read() as txn:
                    alive = txn.get(NUMBER.pack(number), db=self._env().db["alive"]) is not None
                if not alive:
                    beneath.unlink(segments.path_of(self._segments, number))
                    self._reader.forget(number)
                    removed += 1
            finally:
                os.close(held)
        return removed
