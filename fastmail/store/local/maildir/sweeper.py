"""Removes kept messages (kept.py) when their time has come, or at once when room is needed.

The first worker does this; the others do what it has left undone for a while. A look for what is due is one step of a
cursor, so it costs nothing while there is none. Order: remove the files, sync, then delete the rows. Until the rows are
deleted it is done again, and a missing file is no error. A file that was not put aside yet is removed like any other. A
process that finds no room for something new removes everything that is kept at once.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from fastmail.durable.commit import Operation
from fastmail.model.errors import MailError, StorageFull
from fastmail.store.interface import Account
from fastmail.store.local.index import kept
from fastmail.store.local.index.layout import account_of
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import aside
from fastmail.store.local.maildir.account_paths import AccountPaths
from fastmail.telemetry import log

EVERY = 10.0  # s between looks
ROWS = 8  # due rows handled in one commit
LATE = 60.0  # s after which another worker does what the first has not done
FEW = 16  # messages in one commit when the map is nearly full


class Sweeper:
    """One for each store.

    ``touch``: note that files of a mailbox have to be brought in line with the index. ``resolve``: finds accounts by
    number; without it only accounts that removed mail here are known. ``grace``: s that a message is kept."""

    def __init__(
        self,
        commits: Commits,
        account_paths: AccountPaths,
        touch: Callable[[Account, bytes], None],
        resolve: Callable[[int], Account | None] | None,
        grace: float,
    ) -> None:
        self.grace = grace
        self._commits = commits
        self._account_paths = account_paths
        self._touch = touch
        self._resolve = resolve
        self._known: dict[int, Account] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry: asyncio.Task[None] | None = None
        self._late = 0.0  # s after its due time that a row is handled by this worker

    def due(self, account: Account) -> int:
        """Return until when a message that is removed now is kept, for ``removal.expunge``; 0 for not at all."""
        if not self.grace:
            return 0
        if self._resolve is None:
            self._known[account.id] = account
        return kept.until(self.grace)

    def start(self, first: bool) -> None:
        """Look for due rows from time to time; only for late ones unless this is the ``first`` worker."""
        self._late = 0.0 if first else LATE
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop. What is kept stays, because another process may have views."""
        for task in (self._task, self._hurry):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._try(False)
            await asyncio.sleep(min(EVERY, max(self.grace, 0.05)))

    async def _try(self, all_of_it: bool) -> None:
        try:
            await self.sweep(all_of_it)
        except (MailError, OSError) as error:
            log.event("store.sweep_later", "warning", error=error)
        except Exception as error:  # a bug with one mailbox must not stop the sweeper
            log.event("store.bug", "error", error=repr(error))

    def hurry(self) -> None:
        """Something found no room: remove everything that is kept, now."""
        if self._hurry is None or self._hurry.done():
            self._hurry = asyncio.get_running_loop().create_task(self._try(True))

    async def sweep(self, all_of_it: bool = False) -> int:
        """Remove what is due, or with ``all_of_it`` everything; return how many rows were handled."""
        done = 0
        for shard in self._commits.shards:
            while some := await self._some(shard, all_of_it):
                done += some
        return done

    async def _some(self, shard: Shard, all_of_it: bool) -> int:
        tables = shard.tables
        with shard.env.read() as txn:
            found = kept.due(txn, tables, ROWS, all_of_it, self.grace, self._late)
        files: dict[bytes, list[bytes]] = {}
        for one in found:
            if one.names:
                files.setdefault(one.key, []).extend(one.names)
        for key, names in files.items():
            await self._remove(key, names)
        if found:
            late = await self._forget(shard, [one.at for one in found])
            for key, names in files.items():
                await self._remove(key, names)  # again, for files that housekeeping put aside meanwhile
                account = self._account(key)
                if key in late and account is not None:
                    self._touch(account, key)
        return len(found)

    async def _forget(self, shard: Shard, dues: list[bytes]) -> set[bytes]:
        forget = partial(kept.forget, t=shard.tables)
        try:
            late: set[bytes] = await shard.queue.submit(Operation(partial(forget, dues=dues)))
        except StorageFull:
            late = await shard.queue.submit(Operation(partial(forget, dues=dues[:1], most=FEW)))
        return late

    def _account(self, key: bytes) -> Account | None:
        number = account_of(key)
        return self._resolve(number) if self._resolve is not None else self._known.get(number)

    async def _remove(self, key: bytes, names: list[bytes]) -> None:
        """Remove the kept files of a mailbox."""
        account = self._account(key)
        if account is None:
            return  # the account was removed with all its files
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is not None:
            await self._commits.help(aside.remove, self._account_paths.folder(account, box.name), names, self.grace)
