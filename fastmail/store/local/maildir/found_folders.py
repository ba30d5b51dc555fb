"""Finds folders that other programs created or removed in a Maildir, when mailboxes are listed.

A folder that is just being created is left alone for a moment, and all folders are while one is being renamed. A
mailbox that refers to content in segments is kept even if its folder is gone. An account whose directories did not
change costs one look at their times.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from fastmail.durable import beneath
from fastmail.durable.transaction import Txn
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import DEFAULT_MAILBOXES, Account
from fastmail.store.local.index import box_rows, layout, mailboxes, references, renaming
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.account_paths import AccountPaths

REMEMBERED = 50_000  # accounts whose directory times are remembered: bounds memory
YOUNG = 2.0  # s after which a folder counts as completely created


class FoundFolders:
    """One for each store. ``instance``: of the running server; ``is_whole``: True if it is known otherwise that a
    folder is complete."""

    def __init__(
        self,
        commits: Commits,
        account_paths: AccountPaths,
        instance: bytes,
        is_whole: Callable[[Account, str], bool],
    ) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self._instance = instance
        self._is_whole = is_whole
        self._roots: dict[int, dict[str, int]] = {}  # by account: change times of its directories at the last look

    async def look(self, account: Account) -> None:
        """Add mailboxes for new folders, and remove those whose folders are gone."""
        times = self._roots.get(account.id)
        if times is not None and (
            folders.unchanged(times) if len(times) == 1 else await self._commits.help(folders.unchanged, times)
        ):
            return
        found = await self._commits.help(folders.look, self._account_paths.home(account))
        if found is None:
            return
        shard = self._commits.shard(account.id)
        with shard.env.read() as txn:
            if renaming.is_under_way(txn, shard.tables, account.id, self._instance):
                return
            known = {box.name: box for box in mailboxes.boxes(txn, shard.tables, account.id)}
        ages = found.ages.items()
        fresh = [name for name, age in ages if name not in known and (age > YOUNG or self._is_whole(account, name))]
        lost = [box for name, box in known.items() if name != INBOX and name not in found.ages]
        named = {box.key for box in lost if folders.openable(box.name)}
        if fresh:
            with suppress(OSError):  # a Maildir that cannot be written to can be read
                await self._commits.help(folders.complete, self._account_paths.home(account), fresh)
        if fresh or lost:

            def apply(txn: Txn, t: Tables) -> None:
                if renaming.is_under_way(txn, t, account.id, self._instance):
                    return
                for name in fresh:
                    if mailboxes.find(txn, t, account.id, name) is None:
                        mailboxes.create(txn, t, account.id, name, DEFAULT_MAILBOXES.get(name, 0))
                for box in lost:
                    if (
                        (
                            box.key not in named
                            or not beneath.is_directory(self._account_paths.folder(account, box.name))
                        )
                        and txn.get(layout.row_key(box.key), db=t.page) is not None
                        and mailboxes.find(txn, t, account.id, box.name) == box.key  # otherwise its row is damaged
                        and not references.referred(txn, t, box.key)
                    ):
                        mailboxes.drop(txn, t, box_rows.load(txn, t, box.key))

            await self._commits.submit_new(account, apply)
        if time.time_ns() - max(found.times.values()) > 3_000_000_000:
            if len(self._roots) > REMEMBERED:
                self._roots.clear()
            self._roots[account.id] = found.times
