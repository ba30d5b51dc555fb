"""MOVE to a mailbox of another account: the messages arrive there and are removed here.

Promise: whatever is killed, each message is in one of the two mailboxes afterwards (RFC 6851 3.3). Accounts of one
shard are changed by one commit. With several shards the commit in the target's shard decides; it notes what is still to
be removed (index/moving.py), and what a crash interrupts then is finished by the next worker that starts.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from fastmail._core.uidset import UidSet
from fastmail.durable.commit import Operation
from fastmail.durable.transaction import Txn
from fastmail.model.errors import MailError, NoSuchMailbox
from fastmail.store.interface import Account, Appended, NewMessage, Origin
from fastmail.store.local.going_on import GoingOn
from fastmail.store.local.index import moving
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import account_of
from fastmail.store.local.index.moving import Arrival
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.removals import Removals
from fastmail.telemetry import log

Store = Callable[[Callable[[Txn, Tables], Changed[Appended]]], Awaitable[Appended]]


class Moves:
    """One for each store. ``resolve``: returns an account by its number."""

    def __init__(
        self,
        commits: Commits,
        removals: Removals,
        going_on: GoingOn,
        resolve: Callable[[int], Account | None] | None,
    ) -> None:
        self._commits = commits
        self._removals = removals
        self._going_on = going_on
        self._resolve = resolve

    async def append(
        self,
        account: Account,
        key: bytes,
        new: Sequence[NewMessage],
        names: Sequence[bytes],
        origin: Origin,
        store: Store,
    ) -> Appended:
        """Move messages whose content is placed under ``names``. ``store``: commits a change of the target."""
        arrival = Arrival(key, new, names, origin.key, origin.uids, int(time.time()))
        if self._commits.shard(account.id) is not self._commits.shard(origin.account.id):
            return await self._going_on.run(self._between(account, origin, arrival, store))
        with self._removals.announced(origin.account, origin.key, 1) as due:
            return await store(partial(moving.move, arrival=arrival, due=due))

    async def _between(self, account: Account, origin: Origin, arrival: Arrival, store: Store) -> Appended:
        """Move from one shard to another."""
        source = self._commits.shard(origin.account.id)

        def look() -> UidSet:
            with source.env.read() as txn:
                return moving.present(txn, source.tables, origin.key, origin.uids)

        done = await store(partial(moving.arrive, arrival=arrival, look=look))
        if done.moved is None or not done.moved.uids:
            return done
        removed = await self._removals.expunge(origin.account, origin.key, done.moved.uids, 0, 1)
        at = moving.row_key(origin.key, done)
        await self._commits.submit(account, partial(moving.finished, at=at))
        return replace(done, moved=replace(removed, uids=done.moved.uids))

    async def finish(self) -> None:
        """Remove what a crash left in both mailboxes."""
        resolve = self._resolve
        if resolve is None:
            return  # nobody here knows accounts
        for shard in self._commits.shards:
            with shard.env.read() as txn:
                rows = list(moving.unfinished(txn, shard.tables))
            for at, source, uids in rows:
                try:
                    await self._remove(resolve(account_of(source)), source, uids)
                    await shard.queue.submit(Operation(partial(moving.finished, t=shard.tables, at=at)))
                except MailError as error:
                    log.event("store.moving", "warning", error=error, then="the next start tries again")

    async def _remove(self, owner: Account | None, key: bytes, uids: UidSet) -> None:
        """Remove messages, unless the account or the mailbox is gone."""
        if owner is not None:
            with suppress(NoSuchMailbox):
                await self._removals.expunge(owner, key, uids, 0, 0)
