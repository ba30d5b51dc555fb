"""Decides when housekeeping runs: soon after a change, one mailbox at a time, and again later if it failed.

The work itself is recorded in the index (see housekeeping); here is only which mailboxes this process has to look at.
The follower of other programs' changes is told before and after, so that it ignores our own renames and removals.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Protocol

from fastmail.model.errors import NoSuchMailbox, StorageFailed
from fastmail.store.interface import Account
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import housekeeping
from fastmail.store.local.maildir.account_paths import Paths
from fastmail.telemetry import log

DELAY = 0.3  # s after a change, so that several changes are handled together
LONGEST_DELAY = 5.0  # s between two tries at most, after failures


class Own(Protocol):
    """The part of follow.MaildirFollower that has to hear of our own changes."""

    def begin_own(self, account: Account, key: bytes, directory: str) -> None: ...
    def end_own(self, key: bytes, directory: str, touched: set[bytes]) -> None: ...


class Tidier:
    """One for each store. ``own`` is told of what is done; ``lock``: held meanwhile where another server serves the
    same mail."""

    def __init__(
        self,
        commits: Commits,
        paths: Paths,
        own: Own,
        lock: Callable[[Account, bytes], AbstractAsyncContextManager[None]] | None = None,
    ) -> None:
        self._commits = commits
        self._paths = paths
        self._own = own
        self._lock = lock
        self._untidy: dict[bytes, Account] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def touch(self, account: Account, key: bytes) -> None:
        """Note that file names or files of this mailbox have to be brought in line with the index soon."""
        self._untidy[key] = account
        if self._task is None and not self._closing:
            self._task = asyncio.get_running_loop().create_task(self._run(DELAY))

    async def close(self) -> None:
        """Do the remaining work at once, then stop."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._untidy:
            await asyncio.gather(self._run(0), return_exceptions=True)

    async def _tidy(self, account: Account, key: bytes) -> bool:
        """Work on one mailbox; True if something is left to do."""
        shard = self._commits.shard(account.id)
        async with self._lock(account, key) if self._lock is not None else nullcontext():
            directory = self._paths.directory(account, key)
            self._own.begin_own(account, key, directory)
            touched: set[bytes] = set()
            try:
                done = await self._commits.help(housekeeping.tidy, shard.env.read, shard.tables, key, directory)
                touched = done.touched
            finally:
                self._own.end_own(key, directory, touched)
            if done.named or done.unlinked or done.aside:
                await housekeeping.clear_all(partial(self._commits.submit, account), done)
            return done.more

    async def _run(self, delay: float) -> None:
        work: dict[bytes, Account] = {}
        try:
            while self._untidy:
                await asyncio.sleep(delay)
                work, self._untidy = self._untidy, {}
                pause = DELAY
                for key, account in work.items():
                    try:
                        again = await self._tidy(account, key)
                    except (OSError, NoSuchMailbox):
                        continue
                    except StorageFailed as error:
                        log.event("store.tidy_later", "warning", account=account.address, error=error)
                        again, pause = not self._closing, min(max(delay, pause) * 2, LONGEST_DELAY)
                    except Exception as error:  # a bug with one mailbox must not stop the others
                        log.event("store.bug", "error", account=account.address, error=repr(error))
                        continue
                    if again:
                        self._untidy[key] = account
                delay = pause
        except asyncio.CancelledError:
            self._untidy = work | self._untidy
            raise
        finally:
            self._task = None
