"""Deliveries of a LocalStore: content is placed, then every shard commits what is for its accounts.

Promise: what ``deliver`` returns is durable, and the first answer for its id. A caller that is cancelled, or one of
whose shards fails, loses nothing and leaves nothing behind: what was handed to a commit goes on to its end, with all
that follows it, and ``given`` tells what was kept.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastmail.durable import files
from fastmail.durable.commit import FileJob, PieceJob
from fastmail.model.errors import NoSuchMailbox, StorageFailed
from fastmail.store.interface import Appended, Delivery
from fastmail.store.local.dovecot.shared_mode import Line, Together
from fastmail.store.local.index import given
from fastmail.store.local.index.given import Placed

if TYPE_CHECKING:
    from fastmail.store.local.store import LocalStore


class GoingOn:
    """Work that must not end in its middle, because it holds another program's lock or has to tell what it did."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of the work. Whoever is cancelled waits no more, and the work goes on."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits has been told of it

    async def ended(self) -> None:
        """Wait until nothing goes on any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)


class Deliveries:
    """One for each LocalStore."""

    def __init__(self, store: "LocalStore") -> None:
        self._store = store

    def _shards_of(self, items: Sequence[Delivery]) -> list[int]:
        count = len(self._store.shards())
        return [item.account.id % count for item in items]

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        """See interface.Store."""
        together = self._store.together
        if together is None:
            return await self._deliver(items, [])
        done: list[Appended] = await self._store.going_on.run(self._deliver_together(together, items))
        return done

    async def _deliver_together(self, together: Together, items: Sequence[Delivery]) -> list[Appended]:
        async with together.giving([(item.account, item.key) for item in items], ()) as lines:
            return await self._deliver(items, lines)

    async def given(self, items: Sequence[Delivery]) -> list[Appended | None]:
        """See interface.Store. The writer is asked, behind all that it was given before, so the answer is durable."""
        shards = self._shards_of(items)
        groups: dict[int, list[Delivery]] = {}
        for n, item in zip(shards, items, strict=True):
            groups.setdefault(n, []).append(item)
        asked = [self._store.submit(group[0].account, partial(given.answers, group)) for group in groups.values()]
        return _in_order(shards, groups, await _all(asked))

    async def _deliver(self, items: Sequence[Delivery], lines: list[Line]) -> list[Appended]:
        store, now = self._store, int(time.time())
        groups: dict[int, list[Placed]] = {}
        shards = self._shards_of(items)
        try:
            for n, item in zip(shards, items, strict=True):
                job, name = await self._place(item)
                groups.setdefault(n, []).append((item, job, name))
        except BaseException:
            give_up(job for group in groups.values() for _, job, _ in group)
            raise
        waits = []
        for group in groups.values():
            twins: list[bytes] = []
            apply, then = partial(given.put_in, now, group, twins), partial(self._delivered, group, twins)
            jobs = [job for _, job, _ in group if job is not None]
            known = all(item.id for item, _, _ in group)
            waits.append(store.submit_files(group[0][0].account, apply, jobs, then, known))
        results: list[list[Appended]] = [await waits[0]] if len(waits) == 1 else await _all(waits)
        if store.together is not None:
            for group, kept in zip(groups.values(), results, strict=True):
                pairs = zip(group, kept, strict=True)
                lines += [(one[0].key, at.uids[0], one[2][1:]) for one, at in pairs if not at.repeated]
        return results[0] if len(results) == 1 else _in_order(shards, groups, results)

    async def _place(self, item: Delivery) -> tuple[FileJob | PieceJob | None, bytes]:
        """The job that puts the content in place, if one is needed, and what its row calls it; see given.put_in."""
        store = self._store
        if item.again or item.hold:
            if self._is_given(item):
                return None, b""
            found = await store.holds.place(item, os.fsencode(store.path(item.account, item.key)))
            if found is not None:
                return found
        try:
            return await store.place(item.account, item.key, item.message)
        except NoSuchMailbox:  # removed, perhaps with what the first try put there
            if self._is_given(item):
                return None, b""
            raise

    def _is_given(self, item: Delivery) -> bool:
        shard = self._store.shard(item.account.id)
        with shard.env.read() as txn:
            return bool(item.id) and given.find(txn, shard.tables, item) is not None

    def _delivered(self, group: Sequence[Placed], twins: list[bytes], kept: Sequence[Appended]) -> None:
        """A shard's part is durable."""
        if twins:
            self._store.help(files.unlink_batch, twins)
        self._store.shard(group[0][0].account.id).arrived([item.key for item, _, _ in group])
        for (item, _, name), placed in zip(group, kept, strict=True):
            if placed.repeated and name:
                self._store.touch(item.account, item.key)  # a file that nobody needs


def _in_order(shards: Sequence[int], groups: dict[int, Any], results: Sequence[Sequence[Any]]) -> list[Any]:
    """Results of the groups in the order of the items; ``shards``: where each of these is."""
    parts = dict(zip(groups, map(iter, results), strict=True))
    return [next(parts[n]) for n in shards]


async def _all(waits: Sequence[Awaitable[Any]]) -> list[Any]:
    """The results of all. When one fails the others are waited for first: what they kept is known then."""
    results = await asyncio.gather(*waits, return_exceptions=True)
    for one in results:
        if isinstance(one, BaseException):
            raise one
    return results


def give_up(jobs: Iterable[FileJob | PieceJob | None]) -> None:
    """Content that was given its place will not be written: what is reserved in a segment is nobody's."""
    for job in jobs:
        if isinstance(job, PieceJob):
            job.undo(StorageFailed("it was given up"))
