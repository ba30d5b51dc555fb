"""Folders that other programs make and remove in a Maildir."""

import time
from typing import TYPE_CHECKING, Any

from fastmail.durable import beneath
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import DEFAULT_MAILBOXES, Account
from fastmail.store.local.index import box_rows, layout, mailboxes, references
from fastmail.store.local.index.layout import Tables
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.folders import folder

if TYPE_CHECKING:
    from fastmail.store.local.store import LocalStore

REMEMBERED = 50_000


class FoundFolders:
    """One for each LocalStore."""

    def __init__(self, store: "LocalStore") -> None:
        self._store = store
        self._roots: dict[int, dict[str, int]] = {}  # account: when its directories changed, as all was known

    async def look(self, account: Account) -> None:
        """Take in what was made, and drop what is gone."""
        store = self._store
        times = self._roots.get(account.id)
        if times is not None and (
            folders.unchanged(times) if len(times) == 1 else await store.help(folders.unchanged, times)
        ):
            return
        found = await store.help(folders.look, account)
        if found is None:
            return
        shard = store.shard(account.id)
        with shard.env.read() as txn:
            known = {box.name: box for box in mailboxes.boxes(txn, shard.tables, account.id)}
        whole = store.together.listed if store.together is not None else _never
        fresh = [name for name, age in found.ages.items() if name not in known and (age > 2 or whole(account, name))]
        lost = [box for name, box in known.items() if name != INBOX and name not in found.ages]
        named = {box.key for box in lost if folders.openable(box.name)}
        if fresh or lost:

            def apply(txn: Any, t: Tables) -> None:
                for name in fresh:
                    if mailboxes.find(txn, t, account.id, name) is None:
                        mailboxes.create(txn, t, account.id, name, DEFAULT_MAILBOXES.get(name, 0))
                for box in lost:
                    if (
                        (box.key not in named or not beneath.is_directory(folder(account, box.name)))
                        and txn.get(layout.row_key(box.key), db=t.page) is not None
                        and not references.referred(txn, t, box.key)
                    ):
                        mailboxes.drop(txn, t, box_rows.load(txn, t, box.key))

            await store.submit_new(account, apply)
        if time.time_ns() - max(found.times.values()) > 3_000_000_000:
            if len(self._roots) > REMEMBERED:
                self._roots.clear()
            self._roots[account.id] = found.times


def _never(account: Account, name: str) -> bool:
    return False
