"""The index of all accounts, and the only way to change it. Nearly every part of the local backend works with this.

Promise: what ``submit`` and ``change`` return is durable. Before ``change`` returns, those who watch the changed
mailboxes were told, here and in other workers. Reads take a snapshot on the caller's thread and wait for no writer.
Raises the errors of model.errors.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from fastmail.durable.commit import FileWrite, Operation, PieceWrite
from fastmail.durable.transaction import Txn
from fastmail.model.errors import NoSuchMailbox, StorageFull
from fastmail.store import sharing
from fastmail.store.interface import Account
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.shard import Owner, Shard
from fastmail.store.local.index.snapshot import Files, LocalSnapshot
from fastmail.store.local.index.tables import Tables

SEGMENTS = "segments"  # one of the two values of [store] content
T = TypeVar("T")
Writes = Sequence[FileWrite | PieceWrite]
_keys = attrgetter("keys")


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of an index. ``directory``: has its shards; ``segments``: new content goes into segments; ``shared``:
    UIDs are assigned under Dovecot's locks; ``owner``: see shard.open_index."""

    directory: str
    shards: int = 1
    map_size: int = 64 << 30
    segments: bool = False
    shared: bool = False
    owner: Owner | None = None


class Commits:
    """One for each store.

    ``publish``: tell those who watch mailboxes; ``files``: where content in files is; ``gone``: True if an account was
    removed: nothing is created for it then. ``when_full`` is called when there was no room for a change."""

    def __init__(
        self,
        settings: Settings,
        publish: Callable[[list[bytes]], None],
        files: Files,
        gone: Callable[[Account], bool] | None = None,
    ) -> None:
        self.settings = settings
        self.shards: list[Shard] = []
        self.when_full: Callable[[], None] = lambda: None
        self._publish = publish
        self._files = files
        self._gone = gone
        self._helpers = ThreadPoolExecutor(4, thread_name_prefix="store")

    def start(self) -> None:
        """Open the shards."""
        self.loop = asyncio.get_running_loop()
        own = self.settings
        for n in range(own.shards):
            shard = Shard(own.directory, n, own.map_size, self.loop, self._publish, own.segments, own.owner, own.shared)
            self.shards.append(shard)

    async def close(self) -> None:
        """Commit what was submitted, then stop the commit threads."""
        for shard in self.shards:
            await shard.close()
        self._helpers.shutdown(wait=True)
        self.shards.clear()

    def shard(self, account: int) -> Shard:
        return self.shards[account % self.settings.shards]

    def snapshot(self, account: Account) -> LocalSnapshot:
        shard = self.shards[account.id % self.settings.shards]
        return LocalSnapshot(shard.env.begin(), shard.tables, account, self._files)

    def help(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Run a function that waits for the disk on a helper thread."""
        return self.loop.run_in_executor(self._helpers, partial(function, *args))

    async def submit(
        self,
        account: Account,
        apply: Callable[[Txn, Tables], T],
        writes: Writes = (),
        adds: bool = False,
        then: Callable[[T], None] | None = None,
        repeatable: bool = False,
    ) -> T:
        """Write the files of ``writes``, then run ``apply(txn, tables)`` in the index; all durable when it returns (see
        Operation).

        No session is told. ``then`` is called with the result once it is durable, even if the caller was cancelled."""
        operation = self._operation(account, apply, writes, adds, repeatable)
        if then is not None:
            operation.after = partial(_after, then)
        try:
            done: T = await self.shard(account.id).queue.submit(operation)
        except StorageFull:
            self.when_full()
            raise
        return done

    def change_begun(
        self,
        account: Account,
        apply: Callable[[Txn, Tables], Changed[T]],
        writes: Writes = (),
        adds: bool = False,
        then: Callable[[T], None] | None = None,
        repeatable: bool = False,
    ) -> "asyncio.Future[Changed[T]]":
        """Begin ``change``. The future gets the whole Changed; whoever awaits it calls ``when_full`` on StorageFull."""
        operation = self._operation(account, apply, writes, adds, repeatable)
        operation.tells = _keys
        if then is not None:
            operation.after = partial(_after_change, then)
        return self.shard(account.id).queue.submit(operation)

    async def change(
        self,
        account: Account,
        apply: Callable[[Txn, Tables], Changed[T]],
        writes: Writes = (),
        adds: bool = False,
        then: Callable[[T], None] | None = None,
        repeatable: bool = False,
    ) -> T:
        """Do the same for a change that sessions must hear of; returns the result after they were told."""
        try:
            return (await self.change_begun(account, apply, writes, adds, then, repeatable)).result
        except StorageFull:
            self.when_full()
            raise

    async def submit_new(self, account: Account, apply: Callable[[Txn, Tables], T], adds: bool = False) -> T:
        """``submit`` for an operation that creates rows of an account.

        The transaction itself checks that the account still exists. An account that is removed leaves the directory
        before its rows are dropped; so rows that come before the removal are dropped with it, and later ones are
        refused."""

        def checked(txn: Txn, t: Tables) -> T:
            self.refuse_gone(account)
            return apply(txn, t)

        return await self.submit(account, checked, adds=adds)

    def _operation(
        self, account: Account, apply: Callable[[Txn, Tables], Any], writes: Writes, adds: bool, repeatable: bool
    ) -> Operation:
        tables = self.shard(account.id).tables
        return Operation(lambda txn: apply(txn, tables), writes, adds, repeatable=repeatable)

    def refuse_gone(self, account: Account) -> None:
        """Raise NoSuchMailbox if the account was removed."""
        if self._gone is not None and not sharing.is_everybody(account) and self._gone(account):
            raise NoSuchMailbox("the account was removed")


def _after(then: Callable[[Any], None], operation: Operation) -> None:
    if operation.error is None:
        then(operation.result)


def _after_change(then: Callable[[Any], None], operation: Operation) -> None:
    if operation.error is None:
        then(operation.result.result)
