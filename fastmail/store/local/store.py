"""LocalStore: the store interface over LMDB shards and Maildirs. This file puts its parts together; each part is
described in its own file.

Promise: an answer that acknowledges something comes after content, names and index are durable (durable.commit). Reads
take a snapshot of the index on the caller's thread and never wait for a writer. File reads that the page cache cannot
serve, directory scans and renames run on helper threads. Errors are those of model.errors.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from fastmail._core.uidset import UidSet
from fastmail.durable.commit import Operation
from fastmail.model.keys import EVERYTHING
from fastmail.store.hub import Hub
from fastmail.store.interface import (
    ALL_MODSEQ,
    GRACE,
    Account,
    Appended,
    Copied,
    Delivery,
    Expunged,
    Listing,
    Mailbox,
    NewMessage,
    Notes,
    Origin,
    Stored,
)
from fastmail.store.local.copies import Copies
from fastmail.store.local.deliveries import Deliveries
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.dovecot.shared_mode import SharedMode
from fastmail.store.local.going_on import GoingOn
from fastmail.store.local.holds import Holds
from fastmail.store.local.index import everywhere, given, mailboxes, messages, renaming, upkeep
from fastmail.store.local.index.layout import ACCOUNT, account_of
from fastmail.store.local.index.snapshot import LocalSnapshot
from fastmail.store.local.index.writer import SEGMENTS, Commits, Settings
from fastmail.store.local.mailboxes import Mailboxes
from fastmail.store.local.maildir import housekeeping
from fastmail.store.local.maildir.account_paths import AccountPaths, Paths
from fastmail.store.local.maildir.follow import MaildirFollower
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.lists import Lists
from fastmail.store.local.maildir.names import NameMaker
from fastmail.store.local.maildir.sweeper import Sweeper
from fastmail.store.local.maildir.tidier import Tidier
from fastmail.store.local.moves import Moves
from fastmail.store.local.placing import Placing
from fastmail.store.local.reading import Reading
from fastmail.store.local.recovery.file_locations import FileLocations
from fastmail.store.local.removals import Removals
from fastmail.store.local.segments import compaction
from fastmail.store.room import LONG, Room

T = TypeVar("T")


class LocalStore:
    """See the module. One instance in each worker, all over the same directories."""

    read_only = False
    holds_class = Holds

    def __init__(
        self,
        directory: str,
        homes: Callable[[Account], Home],
        shards: int = 1,
        instance: str = "00000000",
        hub: Hub | None = None,
        map_size: int = 64 << 30,
        resolve: Callable[[int], Account | None] | None = None,
        recover: bool = True,
        kind: str = "maildir",
        shared: bool = False,
        gone: Callable[[Account], bool] | None = None,
        grace: float = GRACE,
    ) -> None:
        """``homes``: returns where an account's Maildir is, NoSuchMailbox for an unknown account. ``resolve``: returns
        an account by its number. ``recover``: finish what earlier processes left, as one process has to do. ``kind``:
        [store] content. ``shared``: Dovecot serves the same Maildirs at the same time. ``gone``: True if an account was
        removed; nothing is created for it then. ``grace``: seconds that a removed message is kept for the views of
        other sessions."""
        self.hub = hub or Hub()
        self.views = self.hub.views
        self.maker = NameMaker(instance)
        self.queued: Callable[[int], bool] | None = None  # is a message with this number in the queue?
        self._resolve = resolve
        self._recover = recover
        self._maintaining: list[asyncio.Task[None]] = []
        self._room = Room()  # bounds long summaries in transactions
        self._going_on = GoingOn()
        self.account_paths = AccountPaths(homes)
        settings = Settings(directory, shards, map_size, kind == SEGMENTS, shared, partial(FileLocations, self.home_of))
        self.commits = Commits(settings, self._publish, self.account_paths, gone)
        self.paths = Paths(self.commits, self.account_paths)
        self.together = SharedMode(self.commits, self.account_paths, self._take_in_listed) if shared else None
        self._lists: Lists | None = self.together
        self._make_followers(grace)
        self.holds = self.holds_class(self.commits, self.maker, self.find, shared)
        self._make_changes(shared)
        self._mailboxes = self._make_mailboxes()
        self._reading = Reading(self.commits, self.account_paths, self._take_in)

    def _make_followers(self, grace: float) -> None:
        """What keeps files and index alike: follower, tidier and sweeper."""
        self.follower = MaildirFollower(
            self.commits,
            self.account_paths,
            self.paths,
            self.maker,
            self._publish,
            control_files.read_control,
            self.home_of,
            self.together,
            self.read_only,
        )
        tidying = self.together.tidying if self.together is not None else None
        self._tidier = Tidier(self.commits, self.paths, self.follower, tidying)
        self.sweeper = Sweeper(self.commits, self.account_paths, self.touch, self._resolve, grace)
        self.commits.when_full = self.sweeper.hurry

    def _make_changes(self, shared: bool) -> None:
        """What adds, copies, moves and removes messages."""
        placing = Placing(self.commits, self.paths, self.maker, shared)
        self._removals = Removals(self.commits, self.views, self.sweeper.due, self.touch)
        self._moves = Moves(self.commits, self._removals, self._going_on, self._resolve)
        self._deliveries = Deliveries(
            self.commits,
            placing,
            self.account_paths,
            self.paths,
            self.holds,
            self._moves,
            self._going_on,
            self._lists,
            self.touch,
        )
        self._copies = Copies(
            self.commits,
            self.account_paths,
            self.maker,
            self._removals,
            self._going_on,
            self._lists,
            self._take_in,
            self.touch,
        )

    def _make_mailboxes(self) -> Mailboxes:
        return Mailboxes(
            self.commits,
            self.account_paths,
            self.paths,
            self.maker,
            self._removals,
            self.together,
            self._take_in,
            self._publish,
            self._move_all,
            self.read_only,
            self._going_on,
        )

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Open the shards, and finish what a crash left undone."""
        self.commits.start()
        self.follower.start()
        if self._recover:
            await self._finish()
        if self._recover or self.hub.is_shared:
            await self._moves.finish()
        if not self.read_only and (self._recover or self.hub.is_shared):
            self.sweeper.start(first=self._recover)
        if self._recover and self._resolve is not None:
            for shard in self.commits.shards:
                for key in housekeeping.pending(shard.env.read, shard.tables):
                    account = self._resolve(account_of(key))
                    if account is not None:
                        self.touch(account, key)

    async def _finish(self) -> None:
        """Finish what earlier processes left, and start the background work that one process does for all."""
        begin = self.commits.loop.create_task
        for shard in self.commits.shards:
            await compaction.survey(shard)
            self._maintaining += [begin(compaction.maintain(shard)), begin(upkeep.run(shard))]
            await shard.queue.submit(Operation(partial(renaming.forget, t=shard.tables, instance=self.maker.instance)))
        await self.holds.tidy()
        self._maintaining.append(begin(given.keep_trimming(self.commits.shards, lambda: self.queued)))

    async def close(self) -> None:
        """Finish this worker's renames and removals, then stop the commit threads."""
        for task in self._maintaining:
            task.cancel()
        await asyncio.gather(*self._maintaining, return_exceptions=True)
        self.follower.close()
        await self.sweeper.close()
        await self._going_on.ended()
        await self._tidier.close()
        await asyncio.gather(self.follower.save(), return_exceptions=True)
        await self.commits.close()

    def _publish(self, keys: list[bytes]) -> None:
        """Tell those who watch these mailboxes."""
        if keys:
            self.hub.publish(keys)

    def home_of(self, number: int) -> Home | None:
        """Return where the Maildir of the account with this number is; None if the account is unknown."""
        account = self._resolve(number) if self._resolve is not None else None
        return self.account_paths.home(account) if account is not None else None

    def address(self, number: int) -> str:
        """Return an account's address, for messages to people."""
        account = self._resolve(number) if self._resolve is not None else None
        return account.address if account is not None else f"account {number}"

    async def _take_in(self, account: Account, key: bytes) -> None:
        """Apply other programs' changes of a mailbox's files to the index."""
        await self.follower.sync(account, key, force=True)

    async def _take_in_listed(self, account: Account, key: bytes) -> None:
        """Do the same while the mailbox's UID list is locked."""
        await self.follower.sync(account, key, force=True, list_locked=True)

    def touch(self, account: Account, key: bytes) -> None:
        """Note that file names or files of this mailbox have to be brought in line with the index soon."""
        self._tidier.touch(account, key)

    def snapshot(self, account: Account) -> LocalSnapshot:
        return self.commits.snapshot(account)

    def annotated(self, name: bytes) -> list[bytes]:
        """The keys of all mailboxes, of all accounts, that have an annotation of this name. A look through the table of
        annotations, for what is done once in a while."""
        return [
            key for shard in self.commits.shards for key in everywhere.annotated(shard.env.read, shard.tables, name)
        ]

    def subscriptions(self, top: str) -> list[tuple[int, str]]:
        """Return (account, name) of the subscriptions of all accounts to names that begin with ``top``."""
        return [
            one for shard in self.commits.shards for one in everywhere.subscriptions(shard.env.read, shard.tables, top)
        ]

    # ---------------------------------------------------------------- mailboxes

    async def open(self, account: Account) -> None:
        if account.id not in self.paths.inboxes:
            await self._mailboxes.open(account)

    async def forget(self, account: Account, returns: bool = False) -> None:
        """Remove the records of an account that was removed; see Mailboxes."""
        await self._mailboxes.forget(account, returns)

    def find(self, account: Account, name: str) -> bytes | None:
        return self._mailboxes.find(account, name)

    async def listing(self, account: Account) -> Listing:
        return await self._mailboxes.listing(account)

    async def create(self, account: Account, name: str, special: int = 0) -> None:
        await self._mailboxes.create(account, name, special)

    async def delete(self, account: Account, name: str) -> None:
        await self._mailboxes.delete(account, name)

    async def rename(self, account: Account, old: str, new: str) -> None:
        await self._mailboxes.rename(account, old, new)

    async def subscribe(self, account: Account, name: str, on: bool) -> None:
        await self._mailboxes.subscribe(account, name, on)

    async def annotate(self, account: Account, key: bytes, changes: Notes, expected: Notes | None = None) -> bool:
        adds = any(value is not None for value in changes.values())
        apply = partial(mailboxes.annotate, key=key, changes=changes, expected=expected)
        done = await self.commits.submit_new(account, apply, adds=adds)
        if done:
            self._publish([key])  # for sessions that asked for notifications of annotations (RFC 5465 5.6)
        return done

    async def sync(self, account: Account, key: bytes) -> None:
        await self.follower.sync(account, key)

    def is_up_to_date(self, account: Account, box: Mailbox) -> bool:
        return self.follower.is_up_to_date(account, box)

    def watch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        if self.hub.watch(key, callback) and _is_mailbox(key):
            self.follower.watch(account, key)

    def unwatch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        if self.hub.unwatch(key, callback) and _is_mailbox(key):
            self.follower.unwatch(key)

    # ---------------------------------------------------------------- messages

    async def content(self, account: Account, key: bytes, uid: int) -> bytes | None:
        return await self._reading.content(account, key, uid)

    async def fetch_ahead(self, account: Account, key: bytes, uids: UidSet) -> None:
        await self._reading.fetch_ahead(account, key, uids)

    def deliver(self, items: Sequence[Delivery]) -> Coroutine[Any, Any, list[Appended]]:
        octets = sum([len(item.message.summary) for item in items])
        return self._deliveries.deliver(items) if octets <= LONG else self._deliver_long(items, octets)

    async def _deliver_long(self, items: Sequence[Delivery], octets: int) -> list[Appended]:
        async with self._room.entry(octets):
            return await self._deliveries.deliver(items)

    def given(self, items: Sequence[Delivery]) -> Coroutine[Any, Any, list[Appended | None]]:
        return self._deliveries.given(items)

    def append(
        self,
        account: Account,
        key: bytes,
        messages: Sequence[NewMessage],
        takes_recent: bool = False,
        origin: Origin | None = None,
    ) -> Coroutine[Any, Any, Appended]:
        octets = sum([len(message.summary) for message in messages])
        work = self._deliveries.append(account, key, messages, takes_recent, origin)
        return work if octets <= LONG else self._in_room(octets, work)

    async def _in_room(self, octets: int, work: Coroutine[Any, Any, T]) -> T:
        """Wait for room for long summaries in a transaction, then do the work."""
        try:
            async with self._room.entry(octets):
                return await work
        finally:
            work.close()  # it has not begun where there was no room

    def store(
        self,
        account: Account,
        key: bytes,
        uids: UidSet,
        mode: int,
        flags: int,
        keywords: Sequence[bytes],
        unchanged_since: int = ALL_MODSEQ,
    ) -> Coroutine[Any, Any, Stored]:
        apply = partial(
            messages.store,
            key=key,
            uids=uids,
            mode=mode,
            flags=flags,
            words=keywords,
            unchanged_since=unchanged_since,
        )

        def then(result: Stored) -> None:
            if result.changed:
                self.touch(account, key)

        changing = self.commits.change(account, apply, then=then)
        if self._lists is None or not keywords or mode < 0:
            return changing
        return self._listed(self._lists, account, key, keywords, changing)

    async def _listed(
        self, lists: Lists, account: Account, key: bytes, keywords: Sequence[bytes], changing: Coroutine[Any, Any, T]
    ) -> T:
        """Give keywords their letters in the list of another server before they are used."""
        try:
            await lists.keywords(account, key, keywords)
        except BaseException:
            changing.close()
            raise
        return await changing

    async def copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool = False, mine: int = 1
    ) -> Copied:
        return await self._copies.copy(account, key, uids, target, move, mine)

    async def _move_all(self, account: Account, key: bytes, uids: UidSet, target: bytes) -> Copied:
        return await self.copy(account, key, uids, target, move=True, mine=0)

    async def expunge(
        self, account: Account, key: bytes, uids: UidSet | None, required: int, mine: int = 1
    ) -> Expunged:
        return await self._removals.expunge(account, key, uids, required, mine)

    async def learn_previews(self, account: Account, key: bytes, found: Mapping[int, bytes]) -> None:
        while found:  # summaries may be long: each commit takes as many as its bound allows
            found = await self.commits.submit(
                account, partial(messages.learn_previews, key=key, found=found), adds=True
            )

    async def take_recent(self, account: Account, key: bytes) -> tuple[int, int]:
        with self.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None or box.recent_from >= box.uidnext:
            return 0, 0
        return await self.commits.submit(
            account, partial(messages.take_recent, key=key), then=lambda _: self.touch(account, key)
        )


def _is_mailbox(key: bytes) -> bool:
    return any(key[ACCOUNT:]) and key[ACCOUNT:] != EVERYTHING
