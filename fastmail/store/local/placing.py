"""Decides where the content of a new message goes: a file of its mailbox's Maildir, or a record in a segment.

Nothing is written here. The result is for the commit (durable.commit): the write of the content, and the name
that the message's row will have. Content that will not be committed is given up (``give_up``). If a Maildir has been
removed, it is created again, and the commit fails: the next attempt works.
"""

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from fastmail.durable import beneath
from fastmail.durable.commit import FileWrite, PieceWrite
from fastmail.durable.transaction import Txn
from fastmail.model.errors import StorageFailed
from fastmail.model.flags import to_info
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.index import references
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import CUR, NEW
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import Commits, Writes
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.account_paths import AccountPaths, Paths
from fastmail.store.local.maildir.names import NameMaker

T = TypeVar("T")
Write = FileWrite | PieceWrite


class Placing:
    """One for each store. ``synced``: True if files are synced at once, because another server may read them."""

    def __init__(
        self, commits: Commits, account_paths: AccountPaths, paths: Paths, maker: NameMaker, synced: bool
    ) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self._paths = paths
        self._maker = maker
        self._synced = synced

    async def place(
        self, account: Account, key: bytes, message: NewMessage, taken_recent: bool = False
    ) -> tuple[Write, bytes]:
        """Return the write of a message's content, and the name for its row. ``taken_recent``: a session is told of
        the message at once, so it goes to cur/, not new/."""
        shard = self._commits.shard(account.id)
        if shard.writer is not None:
            name = self._paths.name(account, key)
            write, record = await shard.place(key, name, message.date, message.size, message.content)
            return write, references.reference(record)
        root = self._paths.root(account, key)
        base = self._maker.make(sum(len(chunk) for chunk in message.content), message.size)
        mtime = message.date  # other programs show a file's mtime as its internal date
        if message.flags or message.keywords or not message.recent or taken_recent:
            called = base + b":2," + to_info(message.flags, 0).encode()
            sub, mark = b"/cur", CUR
        else:
            sub, mark, called = b"/new", NEW, base
        file = FileWrite(root + sub, called, root + b"/tmp/" + base, message.content, mtime, synced=self._synced)
        return file, mark + called

    async def commit(
        self,
        account: Account,
        apply: Callable[[Txn, Tables], Changed[T]],
        writes: Writes,
        then: Callable[[T], None],
        repeatable: bool = False,
    ) -> T:
        """Commits.change, for messages that were placed."""
        try:
            return await self._commits.change(account, apply, writes, adds=True, then=then, repeatable=repeatable)
        except StorageFailed:
            self._commits.refuse_gone(account)
            files = [write for write in writes if isinstance(write, FileWrite)]
            for directory in {os.path.dirname(os.fsdecode(write.directory)) for write in files}:
                if not beneath.is_directory(directory + "/tmp"):  # it was removed: create it for the next attempt
                    await self._commits.help(folders.make, self._account_paths.home(account), directory)
            raise


def give_up(writes: Iterable[Write | None]) -> None:
    """Give up content that was placed and will not be written: the space reserved in a segment counts as waste."""
    for write in writes:
        if isinstance(write, PieceWrite):
            write.undo(StorageFailed("it was given up"))
