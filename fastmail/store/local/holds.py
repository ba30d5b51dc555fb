"""Holds: content that a queued message and mailboxes share (index/held.py).

A hold is a file in ``held-<shard>``, or a record in a segment. A mailbox gets the content as COPY does: by a link of
the file, or a reference to the record.

Promise: when ``keep`` returns, content, name and row of the hold are durable. It stays until ``let_go``, whatever
happens to the messages that share it; a mailbox on another file system gets a copy. A delivery from the queue is stored
once, however often it is repeated (index/given.py) and wherever a crash interrupted it: its file has the same name each
time.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from fastmail.durable import beneath, files
from fastmail.durable.commit import FileWrite, Operation, PieceWrite
from fastmail.durable.errors import translate
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

TRIES = 3  # look-ups of a record that compaction moves; it moves one rarely twice in a row
UNDER_WAY = 600.0  # s that a running process may take from writing a file to committing its row
BATCH = 500  # holders that one commit releases
Placed = tuple[FileWrite | PieceWrite | None, bytes]


class Holds:
    """The holds of a store; see interface.Holds. ``find``: returns a mailbox by its name; ``synced``: True if mailbox
    files are synced at once, because another server may read them."""

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
        return os.fsencode(os.path.join(beneath.guarded(self._commits.settings.directory), f"held-{number}"))

    def _split(self, hold: bytes) -> tuple[int, Shard, bytes]:
        """Return (number of the shard, shard, mark and name of the content)."""
        return hold[0], self._commits.shards[hold[0]], hold[1 + HOLDER :]

    async def keep(self, account: Account, message: NewMessage, holder: int) -> bytes:
        """Store the content; return the name of the hold."""
        number = account.id % len(self._commits.shards)
        shard = self._commits.shards[number]
        write: FileWrite | PieceWrite
        if shard.writer is not None:
            inbox = self._find(account, "INBOX") or bytes(MAILBOX)
            write, record = await shard.place(inbox, "INBOX", message.date, message.size, message.content)
            marked = references.reference(record)
        else:
            record = None
            directory = self._directory(number)
            if not beneath.is_directory(directory):
                await self._commits.help(make_directories, os.fsdecode(directory))
            name = self._maker.make(sum(map(len, message.content)), message.size)
            path, temporary = directory + b"/" + name, directory + b"/." + name
            write = FileWrite(directory, path, temporary, message.content, message.date)
            marked = HELD + name
        at = U64.pack(holder) + marked

        def apply(txn: Txn) -> None:
            if record is not None:
                references.keep(txn, shard.tables, [references.reference(record)])
            txn.put(at, b"", db=shard.tables.held)

        await shard.queue.submit(Operation(apply, [write], adds=True))
        return bytes([number]) + at

    async def read(self, hold: bytes) -> bytes:
        """Return the content. CorruptData if it is damaged or missing."""
        number, shard, marked = self._split(hold)
        for _ in range(TRIES):
            try:
                if references.in_segment(marked):
                    _, ident, skip, length = references.reference_in(marked)
                    with shard.env.read() as txn:
                        at = references.locate(txn, shard.tables, ident)
                    data = await self._commits.help(shard.tables.reader.read, at, skip, length)
                else:
                    data = await self._commits.help(files.read_file, self._directory(number) + b"/" + marked[1:])
                return bytes(data or b"")
            except FileNotFoundError:
                continue  # compaction has just moved it: look it up again
            except OSError as error:
                raise translate(error) from error
        raise CorruptData("the held content is missing")

    def holders(self) -> set[int]:
        """Return all holders."""
        out: set[int] = set()
        for shard in self._commits.shards:
            with shard.env.read() as txn:
                out |= held.holders(txn, shard.tables)
        return out

    def leftovers(self, number: int) -> tuple[list[bytes], list[str]]:
        """Compare ``held-<number>`` with the rows: return (paths of files without a row, which a crash left; names in
        rows without a file, which is damage). Files that the running server may be writing are left out. Waits for the
        disk."""
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
        """True if the file's row may still be on its way. The files of a command do not have a server's instance in
        their names."""
        base = name.removeprefix(b".")  # the name while it is being written
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
        """Release what these holders hold. Repeating it is harmless."""
        for start in range(0, len(holders), BATCH):
            await self._let_go([U64.pack(one) for one in holders[start : start + BATCH]])

    async def _let_go(self, prefixes: list[bytes]) -> None:
        for number, shard in enumerate(self._commits.shards):
            gone = await shard.queue.submit(Operation(partial(held.let_go, t=shard.tables, prefixes=prefixes)))
            if gone:
                directory = self._directory(number)
                await self._commits.help(files.unlink_batch, [directory + b"/" + name for name in gone])

    async def place(self, item: Delivery, root: bytes) -> Placed | None:
        """Return how the mailbox at ``root`` gets a delivery from the queue: the write, if one is needed, and the name
        for its row.

        None if it is placed like any other message, in this process's own segment."""
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
        path = root + b"/new/" + name
        if item.hold:
            source = self._directory(number) + b"/" + marked[1:]
            if await self._commits.help(_ready, source, path):
                return FileWrite(root + b"/new", path, source=source), NEW + name
            item.hold = b""
        temporary = root + b"/tmp/" + maker.make(octets, message.size)
        write = FileWrite(root + b"/new", path, temporary, message.content, message.date, synced=self._synced)
        return write, NEW + name


def _ready(source: bytes, place: bytes) -> bool:
    """True if the source can be linked to ``place``. A file that an earlier attempt left there is removed."""
    try:
        if beneath.lstat(source).st_dev != beneath.lstat(os.path.dirname(place)).st_dev:
            return False
    except OSError:
        return False
    files.unlink_batch([place])
    return True
