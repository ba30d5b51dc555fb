"""Messages on their way from the queue: content that queue and mailbox share (index/held.py).

A hold is a file in ``held-<shard>``, or a record in a segment. A mailbox gets the content by a link of the file, or a
reference to the record, as COPY does.

Promise: a hold is durable, content, name and row, when ``keep`` returns, and stays until ``let_go``, whatever becomes
of the messages that share it; a mailbox on another file system gets a copy. A delivery from the queue is kept once,
however often it is repeated (index/given.py) and wherever a crash cut it short: its file has the same name each time.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from fastmail.durable import beneath, files
from fastmail.durable.commit import FileJob, Operation, PieceJob
from fastmail.durable.env import translate
from fastmail.durable.replace import make_directories
from fastmail.durable.transaction import Txn
from fastmail.message import transaction
from fastmail.model.errors import CorruptData
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.index import held, references
from fastmail.store.local.index.layout import HELD, HOLDER, MAILBOX, NEW, U64
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir.names import NO_INSTANCE, NameMaker
from fastmail.telemetry import log

TRIES = 3
UNDER_WAY = 600.0  # s after which a file of a running process without a row is no hold under way any more
BATCH = 500  # holders that one commit forgets
Placed = tuple[FileJob | PieceJob | None, bytes]


class Holds:
    """The holds of a store; see interface.Holds. ``find``: a mailbox by its name; ``synced``: are files of mailboxes
    synced at once, because another server may come to them?"""

    def __init__(
        self,
        commits: Commits,
        maker: NameMaker,
        find: Callable[[Account, str], bytes | None],
        synced: bool,
    ) -> None:
        self._commits = commits
        self._maker = maker
        self._find = find
        self._synced = synced

    def _directory(self, number: int) -> bytes:
        return os.fsencode(os.path.join(beneath.mark(self._commits.settings.directory), f"held-{number}"))

    def _split(self, hold: bytes) -> tuple[int, Shard, bytes]:
        """(number of the shard, shard, mark)."""
        return hold[0], self._commits.shards[hold[0]], hold[1 + HOLDER :]

    async def keep(self, account: Account, message: NewMessage, holder: int) -> bytes:
        """Keep the content; what the hold is called."""
        number = account.id % len(self._commits.shards)
        shard = self._commits.shards[number]
        job: FileJob | PieceJob
        if shard.writer is not None:
            inbox = self._find(account, "INBOX") or bytes(MAILBOX)
            job, record = await shard.place(inbox, "INBOX", message.date, message.size, message.content)
            marked = references.mark(record)
        else:
            record = None
            directory = self._directory(number)
            if not beneath.is_directory(directory):
                await self._commits.help(make_directories, os.fsdecode(directory))
            name = self._maker.make(sum(map(len, message.content)), message.size)
            job = FileJob(directory, name, directory + b"/." + name, message.content, message.date)
            marked = HELD + name
        at = U64.pack(holder) + marked

        def apply(txn: Txn) -> None:
            if record is not None:
                references.keep(txn, shard.tables, [record.id])
            txn.put(at, b"", db=shard.tables.held)

        await shard.queue.submit(Operation(apply, [job], adds=True))
        return bytes([number]) + at

    async def read(self, hold: bytes) -> bytes:
        """The content. CorruptData when it is damaged or gone."""
        number, shard, marked = self._split(hold)
        for _ in range(TRIES):
            try:
                if references.in_segment(marked):
                    _, ident, skip, length = references.MARK.unpack(marked)
                    with shard.env.read() as txn:
                        at = references.locate(txn, shard.tables, ident)
                    data = await self._commits.help(shard.tables.reader.read, at, skip, length)
                else:
                    data = await self._commits.help(files.read_file, self._directory(number) + b"/" + marked[1:])
                return bytes(data or b"")
            except FileNotFoundError:
                continue  # moved by compaction
            except OSError as error:
                raise translate(error) from error
        raise CorruptData("content that was held is gone")

    def holders(self) -> set[int]:
        """Who holds anything."""
        out: set[int] = set()
        for shard in self._commits.shards:
            with shard.env.read() as txn:
                out |= held.holders(txn, shard.tables)
        return out

    def leftovers(self, number: int) -> tuple[list[bytes], list[str]]:
        """Of ``held-<number>``: paths of files that no row names, left by a crash on the way; names that rows have and
        no file has, which is damage. What the running server may be writing is left out. It waits for the disk."""
        directory = self._directory(number)
        try:
            names = [os.fsencode(name) for name in beneath.names(directory)]
        except FileNotFoundError:
            names = []
        shard = self._commits.shards[number]
        with shard.env.read() as txn:
            known = {held.name_of(at) for at in txn.cursor(db=shard.tables.held).iternext(values=False)} - {b""}
        left = [directory + b"/" + name for name in names if name not in known and not self._fresh(directory, name)]
        lost = [name for name in known - set(names) if not beneath.exists(directory + b"/" + name)]
        return left, sorted(os.fsdecode(name) for name in lost)

    def _fresh(self, directory: bytes, name: bytes) -> bool:
        """May its row be on the way? A command writes without a server's mark."""
        base = name.removeprefix(b".")  # until it is whole
        if not self._maker.under_way(base) and not NameMaker(NO_INSTANCE).under_way(base):
            return False
        try:
            return time.time() - beneath.lstat(directory + b"/" + name).st_ctime < UNDER_WAY
        except OSError:
            return True

    async def tidy(self) -> None:
        """Remove what a crash left."""
        for number in range(len(self._commits.shards)):
            left, _ = await self._commits.help(self.leftovers, number)
            if left:
                await self._commits.help(files.unlink_batch, left)
                log.event("store.held", held=number, removed=len(left))

    async def let_go(self, holders: Sequence[int]) -> None:
        """Let go of what they hold. A second time nothing happens."""
        for start in range(0, len(holders), BATCH):
            await self._let_go([U64.pack(one) for one in holders[start : start + BATCH]])

    async def _let_go(self, prefixes: list[bytes]) -> None:
        for number, shard in enumerate(self._commits.shards):
            gone = await shard.queue.submit(Operation(partial(held.let_go, t=shard.tables, prefixes=prefixes)))
            if gone:
                directory = self._directory(number)
                await self._commits.help(files.unlink_batch, [directory + b"/" + name for name in gone])

    async def place(self, item: Delivery, root: bytes) -> Placed | None:
        """How the mailbox at ``root`` gets a delivery from the queue: the job, if one is needed, and what its row calls
        it. None where it is placed as any other: a segment of its own."""
        shard = self._commits.shard(item.account.id)
        number, lent, marked = self._split(item.hold) if item.hold else (0, None, b"")
        if lent is not shard:
            item.hold = b""
        if item.hold and references.in_segment(marked):
            return None, marked
        if shard.writer is not None:
            item.hold = b""
            return None
        maker, message = self._maker, item.message
        octets = sum(map(len, message.content))
        name = maker.numbered(transaction.number_of(item.id), octets, message.size, item.copy)
        if item.hold:
            source = self._directory(number) + b"/" + marked[1:]
            if await self._commits.help(_ready, source, root + b"/new/" + name):
                return FileJob(root + b"/new", name, source=source), NEW + name
            item.hold = b""
        temporary = root + b"/tmp/" + maker.make(octets, message.size)
        job = FileJob(root + b"/new", name, temporary, message.content, message.date, synced=self._synced)
        return job, NEW + name


def _ready(source: bytes, place: bytes) -> bool:
    """Can the source be linked to that place? What a try before this one left there is removed."""
    try:
        if beneath.lstat(source).st_dev != beneath.lstat(os.path.dirname(place)).st_dev:
            return False
    except OSError:
        return False
    files.unlink_batch([place])
    return True
