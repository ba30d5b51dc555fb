"""Decides where the content of a new message goes: a file of its mailbox's Maildir, or a record in a segment.

Nothing is written here. The result is for the commit (durable.commit): the write of the content, and the name
that the message's row will have. Content that will not be committed is given up (``give_up``).
"""

from collections.abc import Iterable

from fastmail.durable.commit import FileWrite, PieceWrite
from fastmail.model.errors import StorageFailed
from fastmail.model.flags import to_info
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.index import references
from fastmail.store.local.index.layout import CUR, NEW
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir.account_paths import Paths
from fastmail.store.local.maildir.names import NameMaker

Write = FileWrite | PieceWrite


class Placing:
    """One for each store. ``synced``: True if files are synced at once, because another server may read them."""

    def __init__(self, commits: Commits, paths: Paths, maker: NameMaker, synced: bool) -> None:
        self._commits = commits
        self._paths = paths
        self._maker = maker
        self._synced = synced

    async def place(
        self, account: Account, key: bytes, message: NewMessage, taken_recent: bool = False, source: int = 0
    ) -> tuple[Write, bytes]:
        """Return the write of a message's content, and the name for its row. ``taken_recent``: a session is told of
        the message at once, so it goes to cur/, not new/. ``source``: the account that it is moved from."""
        placed = self.at_once(account, key, message, taken_recent, source)
        if placed is not None:
            return placed
        name = self._paths.name(account, key)
        shard = self._commits.shard(account.id)
        write, record = await shard.place(key, name, message.date, message.size, message.content)
        return write, references.reference(record)

    def at_once(
        self, account: Account, key: bytes, message: NewMessage, taken_recent: bool = False, source: int = 0
    ) -> tuple[Write, bytes] | None:
        """``place``, for what has nothing to wait for, as nearly always; None where a new segment is needed soon."""
        writer = self._commits.shard(account.id).writer
        if writer is None:
            return self._file(account, key, message, taken_recent, source)
        if writer.wants_file:
            return None
        name = self._paths.name(account, key)
        write, record = writer.append(key, name, message.date, message.size, message.content, 0)
        return write, references.reference(record)

    def _file(
        self, account: Account, key: bytes, message: NewMessage, taken_recent: bool, source: int
    ) -> tuple[FileWrite, bytes]:
        """The same, where content goes into files."""
        root = self._paths.root(account, key)
        base = self._maker.make(sum(map(len, message.content)), message.size, source=source)
        mtime = message.date  # other programs show a file's mtime as its internal date
        if message.flags or message.keywords or not message.recent or taken_recent:
            called = base + b":2," + to_info(message.flags, 0).encode()
            sub, mark = b"/cur", CUR
        else:
            sub, mark, called = b"/new", NEW, base
        directory, temporary = root + sub, root + b"/tmp/" + base
        path = directory + b"/" + called
        return FileWrite(directory, path, temporary, message.content, mtime, synced=self._synced), mark + called


def give_up(writes: Iterable[Write | None]) -> None:
    """Give up content that was placed and will not be written: the space reserved in a segment counts as waste."""
    for write in writes:
        if isinstance(write, PieceWrite):
            write.undo(StorageFailed("it was given up"))
