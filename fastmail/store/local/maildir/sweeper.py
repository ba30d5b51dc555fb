"""Removes what was kept of expunged messages, once its time has come, or at once where room is needed (kept.py).

The worker that also finishes what a crash left does it, and the others what it left undone for a while. Each look at
what is due is one step of a cursor, so it costs nothing while there is none. Order: files, synced, then rows; until the
rows are gone it is done again, and a file that is not there any more is no error. A file that was not put aside yet is
then removed like any other. Any process does it at once, for all that is kept, where it found no room for something
new.
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
from fastmail.store.local.maildir.places import Places
from fastmail.telemetry import log

EVERY = 10.0  # s
ROWS = 8  # of what is due, in one commit
LATE = 60.0  # s that the first worker has for it
FEW = 16  # messages that are forgotten at once where there is hardly any room


class Sweeper:
    """One for each store. ``touch``: files of a mailbox have to follow the index soon; ``resolve`` finds accounts by
    number: without it only those are known that removed mail; ``grace``: s that something is kept."""

    def __init__(
        self,
        commits: Commits,
        places: Places,
        touch: Callable[[Account, bytes], None],
        resolve: Callable[[int], Account | None] | None,
        grace: float,
    ) -> None:
        self.grace = grace
        self._commits = commits
        self._places = places
        self._touch = touch
        self._resolve = resolve
        self._known: dict[int, Account] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry: asyncio.Task[None] | None = None
        self._late = 0.0  # s

    def due(self, account: Account) -> int:
        """Until when something that is removed now is kept, as ``removal.expunge`` takes it; 0 for not at all."""
        if not self.grace:
            return 0
        if self._resolve is None:
            self._known[account.id] = account
        return kept.until(self.grace)

    def start(self, first: bool) -> None:
        """Look from time to time at what is due; only at what is late unless this is the ``first`` worker."""
        self._late = 0.0 if first else LATE
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """What is kept stays: another process may have views."""
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
        except Exception as error:  # it must not end with one mailbox
            log.event("store.bug", "error", error=repr(error))

    def hurry(self) -> None:
        """There was no room for something: what is kept goes at once."""
        if self._hurry is None or self._hurry.done():
            self._hurry = asyncio.get_running_loop().create_task(self._try(True))

    async def sweep(self, all_of_it: bool = False) -> int:
        """Remove what is due, or ``all_of_it``: how many rows said so."""
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
                await self._remove(key, names)  # what was put aside since
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
        """Remove the files of a mailbox that are kept."""
        account = self._account(key)
        if account is None:
            return  # it was removed, with all that was in it
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is not None:
            await self._commits.help(aside.remove, self._places.folder(account, box.name), names, self.grace)
