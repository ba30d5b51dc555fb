"""LocalStore: the store interface over LMDB shards and Maildirs.

Promise: an answer that acknowledges something comes after content, names and index are synced (durable.commit).
Reads take a snapshot of the index on the caller's thread and never wait for a writer. File reads that the page
cache cannot serve, directory scans and renames run on helper threads. Errors are those of model.errors.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from fastmail._core import pages as page_format
from fastmail._core.uidset import UidSet
from fastmail.durable import beneath, files
from fastmail.durable.commit import FileJob, Operation, PieceJob
from fastmail.durable.env import translate
from fastmail.model.errors import CannotDo, MailboxExists, NoSuchMailbox, StorageFailed, StorageFull
from fastmail.model.flags import to_info
from fastmail.model.mailbox_name import INBOX
from fastmail.store import sharing
from fastmail.store.hub import Hub
from fastmail.store.interface import (
    ALL_MODSEQ,
    DEFAULT_MAILBOXES,
    EVERYTHING,
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
    Stored,
)
from fastmail.store.local import deliveries, long_copies, removing
from fastmail.store.local.deliveries import Deliveries, GoingOn
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.dovecot.shared_mode import Together
from fastmail.store.local.holds import Holds
from fastmail.store.local.index import box_rows, copying, given, layout, mailboxes, messages, references, upkeep
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.layout import Tables
from fastmail.store.local.index.shard import SEGMENTS, Shard
from fastmail.store.local.index.snapshot import LocalSnapshot
from fastmail.store.local.maildir import folders, housekeeping
from fastmail.store.local.maildir.folders import folder
from fastmail.store.local.maildir.follow import Follower
from fastmail.store.local.maildir.found_folders import FoundFolders
from fastmail.store.local.maildir.names import FileName, NameMaker, given_sizes, path_of
from fastmail.store.local.maildir.sweeper import Sweeper
from fastmail.store.local.maildir.tidier import Tidier
from fastmail.store.room import Room

COPY_TRIES = 40
ELSEWHERE = ("Other Users/", "Shared/")  # subscriptions in other accounts
AHEAD = 64  # messages that are read ahead at once
TIDY_PATIENCE = 2.0  # s that other mailboxes wait for the lock of one


class LocalStore:
    """See the module; one instance in each worker, all over the same directories."""

    read_only = False

    def __init__(
        self,
        directory: str,
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
        """``gone``: was this account removed? Then nothing is made for it any more, whoever still holds it. ``grace``:
        seconds that a removed message is kept for the views of other sessions."""
        self.directory = directory
        self.hub = hub or Hub()
        self.views = self.hub.views
        self.maker = NameMaker(instance)
        self._count = shards
        self._map_size = map_size
        self._resolve = resolve
        self._gone = gone
        self._recover = recover
        self._kind = kind
        self._shards: list[Shard] = []
        self._opened: dict[int, bytes] = {}  # account: key of its INBOX, which is never removed or renamed
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._folders = FoundFolders(self)
        self._tidier = Tidier(self._tidy)
        self._maintaining: list[asyncio.Task[None]] = []
        self.going_on = GoingOn()
        self._deliveries = Deliveries(self)
        self.queued: Callable[[int], bool] | None = None  # is a message with this number in the queue?
        self._helpers = ThreadPoolExecutor(4, thread_name_prefix="store")
        self.together = Together(self) if shared else None
        self.follower = Follower(self)
        self.holds = Holds(self)
        self._room = Room()  # in the transactions
        self.sweeper = Sweeper(self, resolve, grace)

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Open the shards, and finish what a crash left undone."""
        self.loop = asyncio.get_running_loop()
        for n in range(self._count):
            settings = self._kind, self._resolve, self.together is not None
            self._shards.append(Shard(self.directory, n, self._map_size, self.loop, self._publish, *settings))
        self.follower.start()
        if self._recover:
            for shard in self._shards:
                shard.leftover()
                await shard.settle()
                await shard.survey()
                self._maintaining.append(self.loop.create_task(shard.maintain()))
                self._maintaining.append(self.loop.create_task(upkeep.run(shard)))
            await self.holds.tidy()
            self._maintaining.append(self.loop.create_task(given.keep_trimming(self._shards, lambda: self.queued)))
        if not self.read_only and (self._recover or self.hub.is_shared):
            self.sweeper.start(first=self._recover)
        if self._recover and self._resolve is not None:
            for shard in self._shards:
                for key in housekeeping.pending(shard.env.read, shard.tables):
                    account = self._resolve(int.from_bytes(key[:8], "big"))
                    if account is not None:
                        self.touch(account, key)

    async def close(self) -> None:
        """Finish the names and removals of this worker, then stop the writers."""
        for task in self._maintaining:
            task.cancel()
        await asyncio.gather(*self._maintaining, return_exceptions=True)
        self.follower.close()
        await self.sweeper.close()
        await self.going_on.ended()
        await self._tidier.close()
        await asyncio.gather(self.follower.save(), return_exceptions=True)
        for shard in self._shards:
            await shard.close()
        self._helpers.shutdown(wait=True)
        self._shards.clear()

    def shard(self, account: int) -> Shard:
        return self._shards[account % self._count]

    def help(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        """Run on a helper thread."""
        return self.loop.run_in_executor(self._helpers, function, *args)

    async def submit(
        self,
        account: Account,
        apply: Callable[[Any, Tables], Any],
        jobs: Sequence[FileJob | PieceJob] = (),
        adds: bool = False,
        then: Callable[[Any], None] | None = None,
        repeatable: bool = False,
    ) -> Any:
        """Files, then ``apply(txn, tables)`` in the index, all durable when it returns; see Operation. ``then`` is
        called with the result once it is durable, even if whoever waits for it was cancelled."""
        shard = self.shard(account.id)
        tables = shard.tables
        operation = Operation(lambda txn: apply(txn, tables), jobs, adds, repeatable=repeatable)
        if then is not None:
            operation.after = partial(_go_on, then)
        try:
            return await shard.queue.submit(operation)
        except StorageFull:
            self.sweeper.hurry()
            raise

    async def submit_new(self, account: Account, apply: Callable[[Any, Tables], Any], adds: bool = False) -> Any:
        """The same for what makes rows of an account that it had not, or may have no more. It is asked within the
        transaction whether the account is still there: one that is removed leaves the directory before ``forget``
        drops its rows, so what comes before that is dropped, and what comes after is refused."""

        def checked(txn: Any, t: Tables) -> Any:
            self._refuse_gone(account)
            return apply(txn, t)

        return await self.submit(account, checked, adds=adds)

    def _refuse_gone(self, account: Account) -> None:
        if self._gone is not None and not sharing.is_everybody(account) and self._gone(account):
            raise NoSuchMailbox("the account was removed")

    def _publish(self, results: list[Any]) -> None:
        keys: list[bytes] = []
        for result in results:
            if isinstance(result, Appended | Stored | Expunged):
                keys.append(result.key)
            elif isinstance(result, Copied):
                keys.append(result.target.key)
                if result.expunged is not None:
                    keys.append(result.expunged.key)
            elif isinstance(result, list):
                keys += [one.key for one in result]
            elif isinstance(result, bytes):
                keys.append(result)
        if keys:
            self.hub.publish(keys)

    def snapshot(self, account: Account) -> LocalSnapshot:
        shard = self._shards[account.id % self._count]
        return LocalSnapshot(shard.env.begin(), shard.tables, account)

    # ---------------------------------------------------------------- mailboxes

    async def forget(self, account: Account, returns: bool = False) -> None:
        """The account was removed: drop its records. Its Maildir is not touched. ``returns``: it is there again at
        once, with other mail; no MODSEQ, and no number of a mailbox, is given a second time."""
        await self.submit(account, lambda txn, t: mailboxes.forget_account(txn, t, account.id, returns))
        self._opened.pop(account.id, None)

    async def open(self, account: Account) -> None:
        if account.id in self._opened:
            return
        task = self._opening.get(account.id)
        if task is None:  # others who come meanwhile wait, or they would find an account half made
            task = self._opening[account.id] = self.loop.create_task(self._open(account))
            task.add_done_callback(lambda _: self._opening.pop(account.id, None))
        await asyncio.shield(task)

    async def _open(self, account: Account) -> None:
        if self.find(account, INBOX) is None:
            self._refuse_gone(account)
            fresh = not await self.help(beneath.is_directory, os.path.join(folder(account, INBOX), "cur"))
            subscribed = None
            given = await self.help(control_files.last_uidvalidity, account) if not fresh else 0
            names = {INBOX: 0, **(DEFAULT_MAILBOXES if fresh and not self.read_only else {})}
            if not fresh:  # somebody's Maildir
                subscribed = await self.help(control_files.read_subscriptions, account)
                found = await self.help(folders.look, account)
                names |= {name: DEFAULT_MAILBOXES.get(name, 0) for name in (found.ages if found is not None else ())}
            if self._files(account) and not self.read_only:
                await self.help(folders.make_all, account, list(names) if fresh else [INBOX])

            def apply(txn: Any, t: Tables) -> None:
                mailboxes.note_uidvalidity(txn, t, account.id, given)
                change = Change(txn, t, layout.account_key(account.id))
                for name, special in names.items():
                    if mailboxes.find(txn, t, account.id, name) is None:
                        box = mailboxes.create(txn, t, account.id, name, special, change)
                        box.generation = 1 if fresh else 0
                        box_rows.save(txn, t, box)
                        if subscribed is None:
                            mailboxes.subscribe(txn, t, account.id, name, True)
                change.end()
                for name in subscribed or ():
                    mailboxes.subscribe(txn, t, account.id, name, True)

            try:
                await self.submit_new(account, apply)
            except NoSuchMailbox:  # it was removed meanwhile
                if fresh and not self.read_only:
                    await self.help(folders.unmake, account, list(names))
                raise
            if self.together is not None:
                if subscribed is None:
                    await self.together.subscribe(account, set(names), INBOX, True, keep=True)
                await self._list(account, names)
        key = self.find(account, INBOX)
        assert key is not None
        self._opened[account.id] = key

    def _files(self, account: Account) -> bool:
        """Does the account have a Maildir, or get one?"""
        return self._kind != SEGMENTS or os.path.isdir(account.root)

    def find(self, account: Account, name: str) -> bytes | None:
        if name == INBOX and account.id in self._opened:
            return self._opened[account.id]
        shard = self.shard(account.id)
        with shard.env.read() as txn:
            return mailboxes.find(txn, shard.tables, account.id, name)

    async def listing(self, account: Account) -> Listing:
        await self.open(account)
        await self._folders.look(account)
        shard = self.shard(account.id)
        with shard.env.read() as txn:
            boxes = LocalSnapshot(txn, shard.tables).boxes(account.id)
            subscribed = mailboxes.subscriptions(txn, shard.tables, account.id)
        if self.together is not None:
            theirs = await self.together.subscribed(account)
            if theirs is not None:
                subscribed = theirs | {name for name in subscribed if name.startswith(ELSEWHERE)}
        return Listing(boxes, subscribed)

    async def create(self, account: Account, name: str, special: int = 0) -> None:
        if self.find(account, name) is not None:
            raise MailboxExists("mailbox already exists")
        folders.refuse(account, name)
        levels = name.split("/")
        wanted = ["/".join(levels[: i + 1]) for i in range(len(levels))]
        missing = [n for n in wanted if n == name or self.find(account, n) is None]
        self._refuse_gone(account)
        if self._files(account):
            await self.help(folders.make_all, account, missing)
        given = await self.help(control_files.last_uidvalidity, account) if self.together is not None else 0

        def apply(txn: Any, t: Tables) -> None:
            mailboxes.note_uidvalidity(txn, t, account.id, given)
            change = Change(txn, t, layout.account_key(account.id))
            for one in missing:
                if one == name or mailboxes.find(txn, t, account.id, one) is None:
                    box = mailboxes.create(txn, t, account.id, one, special if one == name else 0, change)
                    box.generation = 1
                    box_rows.save(txn, t, box)
            change.end()

        try:
            await self.submit_new(account, apply)
        except NoSuchMailbox:
            await self.help(folders.unmake, account, missing)
            raise
        await self._list(account, missing)
        self._renamed(account)

    async def _list(self, account: Account, names: Iterable[str]) -> None:
        """Mailboxes that were made, and that another server shall not number in its own way."""
        if self.together is None:
            return
        with self.shard(account.id).env.read() as txn:
            last = mailboxes.last_uidvalidity(txn, self.shard(account.id).tables, account.id)
        await self.help(control_files.write_last_uidvalidity, account, last)
        for name in names:
            key = self.find(account, name)
            if key is not None:
                await self.follower.sync(account, key, force=True)

    async def delete(self, account: Account, name: str) -> None:
        key = self.find(account, name)
        if key is None:
            raise NoSuchMailbox("mailbox does not exist")
        if name == INBOX:
            raise CannotDo("INBOX can not be deleted")
        unique = self.maker.make(0, 0).decode().partition(",")[0]
        hidden = os.path.join(folder(account, INBOX), "tmp", "deleted." + unique)
        if self._files(account):
            await self.help(folders.move_away, account, name, hidden)

        def apply(txn: Any, t: Tables) -> bytes:
            mailboxes.drop(txn, t, box_rows.load(txn, t, key))
            return key

        try:
            await self.submit(account, apply)
        except StorageFull:
            await removing.expunge_few(self, account, key, None, 0, False)
            await self.submit(account, apply)
        self._renamed(account)
        await self.help(beneath.remove_tree, hidden)

    async def rename(self, account: Account, old: str, new: str) -> None:
        if self.find(account, new) is not None:
            raise MailboxExists("mailbox already exists")
        key = self.find(account, old)
        if key is None:
            raise NoSuchMailbox("mailbox does not exist")
        if old == INBOX:
            await self.create(account, new)
            target = self.find(account, new)
            assert target is not None
            await self.copy(account, key, UidSet.of_ranges((1, 0xFFFFFFFF)), target, move=True, mine=0)
            return
        folders.refuse(account, new)
        if new.startswith(old + "/"):
            raise CannotDo("a mailbox can not be moved into itself")
        parent = new.rpartition("/")[0]
        if parent and self.find(account, parent) is None:
            await self.create(account, parent)
        shard = self.shard(account.id)
        with shard.env.read() as txn:
            boxes = mailboxes.boxes(txn, shard.tables, account.id)
        moved = [(b, new + b.name[len(old) :]) for b in boxes if b.name == old or b.name.startswith(old + "/")]
        for _, name in moved:
            folders.refuse_length(account, name)
        self._refuse_gone(account)
        if self._files(account):
            await self.help(folders.rename, account, [(box.name, name) for box, name in moved])
        pairs = [(box.key, name) for box, name in moved]
        await self.submit(account, lambda txn, t: mailboxes.rename(txn, t, account.id, pairs))
        self._renamed(account)

    async def annotate(self, account: Account, key: bytes, changes: Notes, expected: Notes | None = None) -> bool:
        adds = any(value is not None for value in changes.values())
        done: bool = await self.submit_new(
            account, lambda txn, t: mailboxes.annotate(txn, t, key, changes, expected), adds=adds
        )
        if done:
            self.hub.publish([key])  # sessions that asked to be told of annotations (RFC 5465 5.6)
        return done

    async def subscribe(self, account: Account, name: str, on: bool) -> None:
        await self.submit_new(account, lambda txn, t: mailboxes.subscribe(txn, t, account.id, name, on))
        if self.together is not None and not name.startswith(ELSEWHERE):
            with self.shard(account.id).env.read() as txn:
                names = mailboxes.subscriptions(txn, self.shard(account.id).tables, account.id)
            await self.together.subscribe(account, {one for one in names if not one.startswith(ELSEWHERE)}, name, on)
        self._renamed(account)

    def _renamed(self, account: Account) -> None:
        """Names or subscriptions changed: tell who watches the account."""
        self.hub.publish([layout.mailbox_key(account.id, 0)])

    def path(self, account: Account, key: bytes) -> str:
        """The directory of a mailbox; NoSuchMailbox when it is gone."""
        if self._opened.get(account.id) == key:
            return folder(account, INBOX)
        return folder(account, self._name(account, key))

    def _name(self, account: Account, key: bytes) -> str:
        with self.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        return box.name

    # ---------------------------------------------------------------- messages

    async def sync(self, account: Account, key: bytes) -> None:
        await self.follower.sync(account, key)

    def settled(self, account: Account, box: Mailbox) -> bool:
        return self.follower.settled(account, box)

    async def fetch_ahead(self, account: Account, key: bytes, uids: UidSet) -> None:
        with self.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            if box is None:
                return
            directory = folder(account, box.name)
            marks = snapshot.marks(key, UidSet.of(itertools.islice(uids, AHEAD)))
        paths = [path_of(directory, one) for one in marks.values() if not references.in_segment(one)]
        if len(paths) > 1:
            await self.help(files.touch_batch, paths)

    async def content(self, account: Account, key: bytes, uid: int) -> bytes | None:
        for attempt in range(3):
            with self.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                marked = snapshot.file(key, uid)
                ready = snapshot.read(key, marked) if marked is not None else None
            if box is None:
                return None
            if marked is None:
                return await removing.content_of(self, account, key, uid)
            if ready is not None:
                return ready
            if references.in_segment(marked):
                try:
                    found: bytes | None = await self.help(self.record, account, marked)
                    return found
                except FileNotFoundError:
                    continue  # moved by compaction
                except OSError as error:
                    raise translate(error) from error
            directory = folder(account, box.name)
            path = path_of(directory, marked)
            try:
                data: bytes = await self.help(files.read_file, path)
                return data
            except FileNotFoundError:
                # renamed: by another program, or by housekeeping, whose commit of the new name may take a while
                if not attempt:
                    await asyncio.sleep(0.01)
                    continue
                late: bytes | None = await self.help(housekeeping.read_by_base, directory, marked)
                if late is not None:
                    return late
                await self.follower.sync(account, key, force=True)
            except OSError as error:
                raise translate(error) from error
        return None

    def address(self, number: int) -> str:
        """An account's address, for people."""
        account = self._resolve(number) if self._resolve is not None else None
        return account.address if account is not None else f"account {number}"

    def shards(self) -> list[Shard]:
        return list(self._shards)

    def record(self, account: Account, marked: bytes) -> bytes | None:
        """The content of a record in a segment; it waits for the disk."""
        with self.snapshot(account) as snapshot:
            return snapshot.record(marked)

    async def append(
        self, account: Account, key: bytes, messages: Sequence[NewMessage], claim: bool = False
    ) -> Appended:
        async with self._room.entry(sum(len(message.summary) for message in messages)):
            return await self._append_all(account, key, messages, claim)

    async def _append_all(self, account: Account, key: bytes, messages: Sequence[NewMessage], claim: bool) -> Appended:
        if self.together is None:
            return (await self._append(account, key, messages, claim))[0]
        work = self._append_together(self.together, account, key, messages, claim)
        result: Appended = await self.going_on.run(work)
        return result

    async def _append_together(
        self, together: Together, account: Account, key: bytes, messages: Sequence[NewMessage], claim: bool
    ) -> Appended:
        words = [word for message in messages for word in message.keywords]
        async with together.giving([(account, key)], words) as lines:
            result, names = await self._append(account, key, messages, claim)
            lines += [(key, uid, name[1:]) for uid, name in zip(result.uids, names, strict=True)]
        return result

    async def _append(
        self, account: Account, key: bytes, messages: Sequence[NewMessage], claim: bool
    ) -> tuple[Appended, list[bytes]]:
        now = int(time.time())
        jobs: list[FileJob | PieceJob] = []
        names = []
        try:
            for message in messages:
                job, name = await self.place(account, key, message, claim)
                jobs.append(job)
                names.append(name)
        except BaseException:
            deliveries.give_up(jobs)
            raise

        def then(result: Appended) -> None:
            self.shard(account.id).arrived([key])
            if any(message.keywords for message in messages):
                self.touch(account, key)

        result: Appended = await self.submit_files(
            account, lambda txn, t: messages.append(txn, t, key, messages, names, now, claim), jobs, then
        )
        return result, names

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        async with self._room.entry(sum(len(item.message.summary) for item in items)):
            return await self._deliveries.deliver(items)

    async def given(self, items: Sequence[Delivery]) -> list[Appended | None]:
        return await self._deliveries.given(items)

    async def hold(self, account: Account, message: NewMessage, holder: int) -> bytes:
        return await self.holds.keep(account, message, holder)

    async def held(self, hold: bytes) -> bytes:
        return await self.holds.read(hold)

    async def let_go(self, holders: Sequence[int]) -> None:
        await self.holds.let_go(holders)

    def holders(self) -> set[int]:
        return self.holds.holders()

    async def place(
        self, account: Account, key: bytes, message: NewMessage, claimed: bool = False
    ) -> tuple[FileJob | PieceJob, bytes]:
        """Where a message's content goes, and what its row will call it. ``claimed``: a session is told of it at once,
        so it is nothing new any more."""
        shard = self.shard(account.id)
        if shard.writer is not None:
            box = INBOX if self._opened.get(account.id) == key else self._name(account, key)
            job, record = await shard.place(key, box, message.date, message.size, message.content)
            return job, references.mark(record)
        root = os.fsencode(self.path(account, key))
        base = self.maker.make(sum(len(chunk) for chunk in message.content), message.size)
        mtime = message.date  # what any other program takes for its date
        if message.flags or message.keywords or not message.recent or claimed:
            name = base + b":2," + to_info(message.flags, 0).encode()
            sub, mark = b"/cur", b"c"
        else:
            sub, mark, name = b"/new", b"n", base
        synced = self.together is not None  # Dovecot may come to it, after a loss of power, before we do
        file = FileJob(root + sub, name, root + b"/tmp/" + base, message.content, mtime, synced=synced)
        return file, mark + name

    async def submit_files(
        self,
        account: Account,
        apply: Callable[[Any, Tables], Any],
        jobs: Sequence[FileJob | PieceJob],
        then: Callable[[Any], None],
        repeatable: bool = False,
    ) -> Any:
        try:
            return await self.submit(account, apply, jobs, adds=True, then=then, repeatable=repeatable)
        except StorageFailed:
            self._refuse_gone(account)
            for directory in {os.path.dirname(os.fsdecode(job.directory)) for job in jobs if isinstance(job, FileJob)}:
                if not beneath.is_directory(directory + "/tmp"):
                    await self.help(folders.make, account, directory)  # somebody removed it: the next try works
            raise

    async def store(
        self,
        account: Account,
        key: bytes,
        uids: UidSet,
        mode: int,
        flags: int,
        keywords: Sequence[bytes],
        unchanged_since: int = ALL_MODSEQ,
    ) -> Stored:
        if self.together is not None and keywords and mode >= 0:
            await self.together.keywords(account, key, keywords)
        result: Stored = await self.submit(
            account,
            lambda txn, t: messages.store(txn, t, key, uids, mode, flags, keywords, unchanged_since),
            then=lambda result: self.touch(account, key) if result.changed else None,
        )
        return result

    async def copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool = False, mine: int = 1
    ) -> Copied:
        with self.snapshot(account) as snapshot:
            some = long_copies.split(uids, snapshot.long(key, uids))
        if len(some) > 1:
            return await long_copies.copy(self, account, key, some, target, move)
        if move:
            return await removing.move(self, account, key, uids, target, mine)
        return await self.transfer(account, key, uids, target, False)

    async def transfer(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int = 0
    ) -> Copied:
        """COPY or MOVE; ``due``: until when what is moved stays readable for views."""
        for attempt in range(COPY_TRIES):
            try:
                return await self._copy_once(account, key, uids, target, move, due)
            except copying.SourceMoved:  # by housekeeping or a conversion, whose commit is to come, or another program
                await asyncio.sleep(0.025)
                if attempt % 8 == 0:
                    await self.follower.sync(account, key, force=True)
        return await self._copy_once(account, key, uids, target, move, due)

    async def _copy_once(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int
    ) -> Copied:
        if self.together is None:
            return (await self._copy(account, key, uids, target, move, due))[0]
        work = self._copy_together(self.together, account, key, uids, target, move, due)
        result: Copied = await self.going_on.run(work)
        return result

    async def _copy_together(
        self, together: Together, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int
    ) -> Copied:
        with self.snapshot(account) as snapshot:
            names, used = snapshot.keywords(key), 0
            for page in snapshot.pages(key, uids):
                for record in page_format.records(page):
                    used |= record[3] if record[0] in uids else 0
        words = [name for bit, name in enumerate(names) if used >> bit & 1]
        async with together.giving([(account, target)], words) as lines:
            result, linked = await self._copy(account, key, uids, target, move, due)
            names_of = dict(linked)
            lines += [
                (target, uid, names_of[source][1:])
                for source, uid in zip(result.source, result.target.uids, strict=True)
            ]
        return result

    async def _copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int
    ) -> tuple[Copied, list[tuple[int, bytes]]]:
        with self.snapshot(account) as snapshot:
            source_box, target_box = snapshot.mailbox(key), snapshot.mailbox(target)
            if source_box is None or target_box is None:
                raise NoSuchMailbox("mailbox is gone")
            marked = snapshot.marks(key, uids)
        source_dir = folder(account, source_box.name)
        root = os.fsencode(folder(account, target_box.name))
        jobs: list[FileJob] = []
        names: list[tuple[int, bytes]] = []
        for uid, old in marked.items():
            if references.in_segment(old):
                names.append((uid, old))
                continue
            parsed = FileName.parse(old[1:])
            size, served = given_sizes(parsed.base)
            parsed.base = (
                os.fsdecode(self.maker.make(size, served, True))
                if size >= 0
                else os.fsdecode(self.maker.make(0, 0, True).partition(b",")[0])
            )
            name = parsed.with_flags(parsed.flags, 0)
            theirs = not self.maker.is_ours(old[1:])  # nobody knows whether it is on the disk
            jobs.append(FileJob(root + b"/cur", name, source=path_of(source_dir, old), synced=theirs))
            names.append((uid, b"c" + name))
        now = int(time.time())

        def then(result: Copied) -> None:
            self.touch(account, target)
            if move:
                self.touch(account, key)

        try:
            result: Copied = await self.submit(
                account,
                lambda txn, t: copying.copy(txn, t, key, target, names, now, move, due),
                jobs,
                adds=not move,
                then=then,
            )
        except StorageFailed as error:
            if not isinstance(error, copying.SourceMoved) and any(not beneath.exists(job.source) for job in jobs):
                raise copying.SourceMoved(str(error)) from error
            raise
        return result, names

    async def learn_previews(self, account: Account, key: bytes, found: Mapping[int, bytes]) -> None:
        while found:  # long summaries: so many as fit into one commit
            found = await self.submit(account, partial(messages.learn_previews, key=key, found=found), adds=True)

    async def expunge(
        self, account: Account, key: bytes, uids: UidSet | None, required: int, mine: int = 1
    ) -> Expunged:
        return await removing.expunge(self, account, key, uids, required, mine)

    async def claim_recent(self, account: Account, key: bytes) -> tuple[int, int]:
        with self.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None or box.recent_from >= box.uidnext:
            return 0, 0
        claimed: tuple[int, int] = await self.submit(
            account, lambda txn, t: messages.claim_recent(txn, t, key), then=lambda _: self.touch(account, key)
        )
        return claimed

    def watch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        if self.hub.watch(key, callback) and _is_mailbox(key):
            self.follower.watch(account, key)

    def unwatch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        if self.hub.unwatch(key, callback) and _is_mailbox(key):
            self.follower.unwatch(key)

    # ---------------------------------------------------------------- housekeeping

    def touch(self, account: Account, key: bytes) -> None:
        """File names or files of this mailbox have to follow the index soon."""
        self._tidier.touch(account, key)

    async def _tidy(self, account: Account, key: bytes) -> bool:
        if self.together is None:
            return await self._tidy_names(account, key)
        box = self.together.box(account, key)
        async with self.together.lock(account, box, TIDY_PATIENCE):  # nobody lists while names change
            return await self._tidy_names(account, key)

    async def _tidy_names(self, account: Account, key: bytes) -> bool:
        shard = self.shard(account.id)
        directory = self.path(account, key)
        self.follower.begin_own(account, key, directory)
        touched: set[bytes] = set()
        try:
            done = await self.help(housekeeping.tidy, shard.env.read, shard.tables, key, directory)
            touched = done.touched
        finally:
            self.follower.end_own(key, directory, touched)
        if done.named or done.unlinked or done.aside:
            await housekeeping.clear_all(partial(self.submit, account), done)
        return bool(done.more)


def _go_on(then: Callable[[Any], None], operation: Operation) -> None:
    if operation.error is None:
        then(operation.result)


def _is_mailbox(key: bytes) -> bool:
    return any(key[8:]) and key[8:] != EVERYTHING
