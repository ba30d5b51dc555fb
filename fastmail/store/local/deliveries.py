"""New messages of a LocalStore, by delivery or APPEND: content is assigned a path or record, then each shard commits
its accounts' messages.

Promise: what ``deliver`` returns is durable, and it is the first answer for its id. If the caller is cancelled, or a
shard fails, nothing is lost and nothing is left behind: a commit that was begun runs to its end with everything that
follows it, and ``given`` tells what was stored. If a Maildir has been removed, it is created again, and the commit
fails: the next attempt works.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fastmail.durable import beneath, files
from fastmail.durable.commit import FileWrite
from fastmail.durable.transaction import Txn
from fastmail.model.errors import NoSuchMailbox, StorageFailed, StorageFull
from fastmail.store.interface import Account, Appended, Delivery, NewMessage, Origin
from fastmail.store.local.going_on import GoingOn
from fastmail.store.local.holds import Holds
from fastmail.store.local.index import given, messages
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.given import Placed
from fastmail.store.local.index.layout import base_of
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import Commits, Writes
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.account_paths import AccountPaths, Paths
from fastmail.store.local.maildir.lists import Line, Lists
from fastmail.store.local.moves import Moves
from fastmail.store.local.placing import Placing, Write, give_up

T = TypeVar("T")


class Deliveries:
    """One for each store. ``lists``: given where UIDs are assigned under another server's locks; ``touch``: note that
    files of a mailbox have to be brought in line with the index."""

    def __init__(
        self,
        commits: Commits,
        placing: Placing,
        account_paths: AccountPaths,
        paths: Paths,
        holds: Holds,
        moves: Moves,
        going_on: GoingOn,
        lists: Lists | None,
        touch: Callable[[Account, bytes], None],
    ) -> None:
        self._commits = commits
        self._placing = placing
        self._account_paths = account_paths
        self._paths = paths
        self._holds = holds
        self._moves = moves
        self._going_on = going_on
        self._lists = lists
        self._touch = touch

    def _shards_of(self, items: Sequence[Delivery]) -> list[int]:
        count = len(self._commits.shards)
        return [item.account.id % count for item in items]

    def deliver(self, items: Sequence[Delivery]) -> Coroutine[Any, Any, list[Appended]]:
        """See interface.Store."""
        if self._lists is None:
            # nearly always one message for one account: its content is placed now, and committed when this is awaited
            placed = self._at_once(items[0]) if len(items) == 1 else None
            if placed is not None:
                return self._commit_group([(items[0], *placed)], int(time.time()))
            return self._deliver(items, [])
        return self._going_on.run(self._deliver_listed(self._lists, items))

    async def _deliver_listed(self, lists: Lists, items: Sequence[Delivery]) -> list[Appended]:
        async with lists.giving([(item.account, item.key) for item in items], ()) as lines:
            return await self._deliver(items, lines)

    async def given(self, items: Sequence[Delivery]) -> list[Appended | None]:
        """See interface.Store. The commit thread answers after everything it was given before, so the answer is
        durable."""
        shards = self._shards_of(items)
        groups: dict[int, list[Delivery]] = {}
        for n, item in zip(shards, items, strict=True):
            groups.setdefault(n, []).append(item)
        asked = [self._commits.submit(group[0].account, partial(given.answers, group)) for group in groups.values()]
        return _in_order(shards, groups, await _all(asked))

    async def _deliver(self, items: Sequence[Delivery], lines: list[Line]) -> list[Appended]:
        now = int(time.time())
        groups: dict[int, list[Placed]] = {}
        shards = self._shards_of(items)
        try:
            for n, item in zip(shards, items, strict=True):
                write, name = self._at_once(item) or await self._place(item)
                groups.setdefault(n, []).append((item, write, name))
        except BaseException:
            give_up(write for group in groups.values() for _, write, _ in group)
            raise
        waits = [self._commit_group(group, now) for group in groups.values()]
        results: list[list[Appended]] = [await waits[0]] if len(waits) == 1 else await _all(waits)
        if self._lists is not None:
            for group, kept in zip(groups.values(), results, strict=True):
                pairs = zip(group, kept, strict=True)
                lines += [(one[0].key, at.uids[0], one[2][1:]) for one, at in pairs if not at.repeated]
        return results[0] if len(results) == 1 else _in_order(shards, groups, results)

    def _commit_group(self, group: Sequence[Placed], now: int) -> Coroutine[Any, Any, list[Appended]]:
        """Commit the part of one shard."""
        twins: list[bytes] = []
        apply, then = partial(given.put_in, now, group, twins), partial(self._delivered, group, twins)
        writes = [write for _, write, _ in group if write is not None]
        known = b"" not in [item.id for item, _, _ in group]
        return self._commit(group[0][0].account, apply, writes, then, known)

    def _at_once(self, item: Delivery) -> tuple[Write, bytes] | None:
        """``_place`` of a first delivery, as nearly all are, if it has nothing to wait for; otherwise None."""
        if item.again or item.hold:
            return None
        try:
            return self._placing.at_once(item.account, item.key, item.message)
        except NoSuchMailbox:  # _place looks why
            return None

    async def _place(self, item: Delivery) -> tuple[Write | None, bytes]:
        """Return the write of the content (None if none is needed) and the name that its row will have; see
        given.put_in."""
        if item.again or item.hold:
            if self._is_given(item):
                return None, b""
            found = await self._holds.place(item, self._paths.root(item.account, item.key))
            if found is not None:
                return found
        try:
            return await self._placing.place(item.account, item.key, item.message)
        except NoSuchMailbox:  # removed, perhaps after an earlier attempt stored the message there
            if self._is_given(item):
                return None, b""
            raise

    async def append(
        self, account: Account, key: bytes, new: Sequence[NewMessage], takes_recent: bool, origin: Origin | None
    ) -> Appended:
        """See interface.Store."""
        work = self._append(account, key, new, takes_recent, origin)
        if self._lists is None:
            return (await work)[0]
        words = [word for message in new for word in message.keywords]
        return await self._going_on.run(self._append_listed(self._lists, account, key, words, work))

    async def _append_listed(
        self,
        lists: Lists,
        account: Account,
        key: bytes,
        words: Sequence[bytes],
        work: Coroutine[Any, Any, tuple[Appended, list[bytes]]],
    ) -> Appended:
        try:
            async with lists.giving([(account, key)], words) as lines:
                result, names = await work
                lines += [(key, uid, name[1:]) for uid, name in zip(result.uids, names, strict=True)]
        finally:
            work.close()  # it has not begun where the lists cannot be had
        return result

    async def _append(
        self, account: Account, key: bytes, new: Sequence[NewMessage], takes_recent: bool, origin: Origin | None
    ) -> tuple[Appended, list[bytes]]:
        """Return where the messages were stored, and the names of their content."""
        writes: list[Write] = []
        names: list[bytes] = []
        source = origin.account.id if origin is not None else 0
        try:
            for message in new:
                write, name = await self._placing.place(account, key, message, takes_recent, source)
                writes.append(write)
                names.append(name)
        except BaseException:
            give_up(writes)
            raise

        def then(result: Appended) -> None:
            if any(message.keywords for message in new) or len(result.uids) < len(new):
                self._touch(account, key)
            if origin is not None:
                self._touch(origin.account, origin.key)

        now = int(time.time())

        def apply(txn: Txn, t: Tables) -> Changed[Appended]:
            return messages.append(txn, t, key, new, names, now, takes_recent)

        def commit(apply: Callable[[Txn, Tables], Changed[Appended]]) -> Awaitable[Appended]:
            return self._commit(account, apply, writes, then)

        if origin is None:
            return await commit(apply), names
        done = await self._moves.append(account, key, new, names, origin, commit)
        assert done.moved is not None
        return done, [name for name, uid in zip(names, origin.uids, strict=True) if uid in done.moved.uids]

    async def _commit(
        self,
        account: Account,
        apply: Callable[[Txn, Tables], Changed[T]],
        writes: Writes,
        then: Callable[[T], None],
        repeatable: bool = False,
    ) -> T:
        """Commits.change, for messages that were placed."""
        try:
            return (await self._commits.change_begun(account, apply, writes, True, then, repeatable)).result
        except StorageFull:
            self._commits.when_full()
            raise
        except StorageFailed:
            self._commits.refuse_gone(account)
            placed = [write for write in writes if isinstance(write, FileWrite)]
            for directory in {os.path.dirname(os.fsdecode(write.directory)) for write in placed}:
                if not beneath.is_directory(directory + "/tmp"):  # it was removed: create it for the next attempt
                    await self._commits.help(folders.make, self._account_paths.home(account), directory)
            raise

    def _is_given(self, item: Delivery) -> bool:
        shard = self._commits.shard(item.account.id)
        with shard.env.read() as txn:
            return bool(item.id) and given.find(txn, shard.tables, item) is not None

    def _delivered(self, group: Sequence[Placed], twins: list[bytes], kept: Sequence[Appended]) -> None:
        """A shard's part is durable: remove the files of repeated deliveries."""
        if twins:
            self._commits.help(files.unlink_batch, twins)
        for at, placed in enumerate(kept):
            item, write, name = group[at]
            if placed.repeated and name:
                self._touch(item.account, item.key)  # the trash table has a file that is not needed
                if isinstance(write, FileWrite) and write.path not in twins:
                    self._commits.help(_unlink_twin, write.path)


def _unlink_twin(path: bytes) -> None:
    """Unlink the file of a repeated delivery if cur/ has another file with its base name.

    The message's own file had been renamed for its flags, and its row did not say so yet when the repetition was placed
    under the old name."""
    directory, name = os.path.split(path)
    cur = os.path.join(os.path.dirname(directory), b"cur")
    with suppress(OSError):
        mine = base_of(name)
        others = (os.fsencode(one) for one in beneath.names(cur))
        if any(base_of(one) == mine and os.path.join(cur, one) != path for one in others):
            beneath.unlink(path)


def _in_order(shards: Sequence[int], groups: dict[int, Any], results: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the groups' results in the order of the items; ``shards``: the shard of each item."""
    parts = dict(zip(groups, map(iter, results), strict=True))
    return [next(parts[n]) for n in shards]


async def _all(waits: Sequence[Awaitable[Any]]) -> list[Any]:
    """Return all results. If one fails, the others are awaited first, so that it is known what they stored."""
    results = await asyncio.gather(*waits, return_exceptions=True)
    for one in results:
        if isinstance(one, BaseException):
            raise one
    return results
