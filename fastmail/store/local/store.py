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
from fastmail.store.local import content, folders, foreign, holds, housekeeping, layout, ops, upkeep
from fastmail.store.local.accounts import Change
from fastmail.store.local.folders import folder
from fastmail.store.local.follow import Follower
from fastmail.store.local.holds import Holds
from fastmail.store.local.layout import Tables
from fastmail.store.local.names import FileName, NameMaker, path_of, sizes_in
from fastmail.store.local.shard import SEGMENTS, Shard
from fastmail.store.local.snapshot import LocalSnapshot
from fastmail.store.local.tidier import Tidier
from fastmail.store.local.together import Line, Together

COPY_TRIES = 40
ELSEWHERE = ("Other Users/", "Shared/")  # subscriptions in other accounts
REMEMBERED = 50_000
AHEAD = 64  # messages that are read ahead at once
FEW = 8  # messages that are removed at once where there is hardly any room
TIDY_PATIENCE = 2.0  # s that other mailboxes wait for the lock of one
Placed = tuple[Delivery, FileJob | PieceJob | None, bytes]


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
    ) -> None:
        """``gone``: was this account removed? Then nothing is made for it any more, whoever still holds it."""
        self.directory = directory
        self.hub = hub or Hub()
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
        self._roots: dict[int, dict[str, int]] = {}  # account: when its directories changed, as all was known
        self._tidier = Tidier(self._tidy)
        self._maintaining: list[asyncio.Task[None]] = []
        self._helpers = ThreadPoolExecutor(4, thread_name_prefix="store")
        self.together = Together(self) if shared else None
        self.follower = Follower(self)
        self.holds = Holds(self)

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Open the shards, and finish what a crash left undone."""
        self.loop = asyncio.get_running_loop()
        for n in range(self._count):
            self._shards.append(Shard(self.directory, n, self._map_size, self.loop, self._publish, self._kind))
        self.follower.start()
        if self._recover:
            for shard in self._shards:
                shard.leftover()
                await shard.settle()
                await shard.survey()
                self._maintaining.append(self.loop.create_task(shard.maintain()))
                self._maintaining.append(self.loop.create_task(upkeep.run(shard)))
            await self.holds.tidy()
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
    ) -> Any:
        """Files, then ``apply(txn, tables)`` in the index, all durable when it returns. ``adds``: see Operation."""
        shard = self.shard(account.id)
        tables = shard.tables
        return await shard.queue.submit(Operation(lambda txn: apply(txn, tables), jobs, adds))

    async def _submit_new(self, account: Account, apply: Callable[[Any, Tables], Any], adds: bool = False) -> Any:
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
        await self.submit(account, lambda txn, t: ops.forget_account(txn, t, account.id, returns))
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
            given = await self.help(foreign.last_uidvalidity, account) if not fresh else 0
            names = {INBOX: 0, **(DEFAULT_MAILBOXES if fresh and not self.read_only else {})}
            if not fresh:  # somebody's Maildir
                subscribed = await self.help(foreign.read_subscriptions, account)
                found = await self.help(folders.look, account)
                names |= {name: DEFAULT_MAILBOXES.get(name, 0) for name in (found.ages if found is not None else ())}
            if self._files(account) and not self.read_only:
                await self.help(folders.make_all, account, list(names) if fresh else [INBOX])

            def apply(txn: Any, t: Tables) -> None:
                ops.note_uidvalidity(txn, t, account.id, given)
                change = Change(txn, t, layout.account_key(account.id))
                for name, special in names.items():
                    if ops.find(txn, t, account.id, name) is None:
                        box = ops.create(txn, t, account.id, name, special, change)
                        box.generation = 1 if fresh else 0
                        ops.save(txn, t, box)
                        if subscribed is None:
                            ops.subscribe(txn, t, account.id, name, True)
                change.end()
                for name in subscribed or ():
                    ops.subscribe(txn, t, account.id, name, True)

            try:
                await self._submit_new(account, apply)
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
            return ops.find(txn, shard.tables, account.id, name)

    async def listing(self, account: Account) -> Listing:
        await self.open(account)
        await self._look_for_folders(account)
        shard = self.shard(account.id)
        with shard.env.read() as txn:
            boxes = LocalSnapshot(txn, shard.tables).boxes(account.id)
            subscribed = ops.subscriptions(txn, shard.tables, account.id)
        if self.together is not None:
            theirs = await self.together.subscribed(account)
            if theirs is not None:
                subscribed = theirs | {name for name in subscribed if name.startswith(ELSEWHERE)}
        return Listing(boxes, subscribed)

    async def _look_for_folders(self, account: Account) -> None:
        """Folders that other programs made or removed."""
        times = self._roots.get(account.id)
        if times is not None and (
            folders.unchanged(times) if len(times) == 1 else await self.help(folders.unchanged, times)
        ):
            return
        found = await self.help(folders.look, account)
        if found is None:
            return
        shard = self.shard(account.id)
        with shard.env.read() as txn:
            known = {box.name: box for box in ops.boxes(txn, shard.tables, account.id)}
        whole = self.together.listed if self.together is not None else _never
        fresh = [name for name, age in found.ages.items() if name not in known and (age > 2 or whole(account, name))]
        lost = [box for name, box in known.items() if name != INBOX and name not in found.ages]
        named = {box.key for box in lost if folders.openable(box.name)}
        if fresh or lost:

            def apply(txn: Any, t: Tables) -> None:
                for name in fresh:
                    if ops.find(txn, t, account.id, name) is None:
                        ops.create(txn, t, account.id, name, DEFAULT_MAILBOXES.get(name, 0))
                for box in lost:
                    if (
                        (box.key not in named or not beneath.is_directory(folder(account, box.name)))
                        and txn.get(layout.row_key(box.key), db=t.page) is not None
                        and not content.referred(txn, t, box.key)
                    ):
                        ops.drop(txn, t, ops.load(txn, t, box.key))

            await self._submit_new(account, apply)
        if time.time_ns() - max(found.times.values()) > 3_000_000_000:
            if len(self._roots) > REMEMBERED:
                self._roots.clear()
            self._roots[account.id] = found.times

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
        given = await self.help(foreign.last_uidvalidity, account) if self.together is not None else 0

        def apply(txn: Any, t: Tables) -> None:
            ops.note_uidvalidity(txn, t, account.id, given)
            change = Change(txn, t, layout.account_key(account.id))
            for one in missing:
                if one == name or ops.find(txn, t, account.id, one) is None:
                    box = ops.create(txn, t, account.id, one, special if one == name else 0, change)
                    box.generation = 1
                    ops.save(txn, t, box)
            change.end()

        try:
            await self._submit_new(account, apply)
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
            last = ops.last_uidvalidity(txn, self.shard(account.id).tables, account.id)
        await self.help(foreign.write_last_uidvalidity, account, last)
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
            ops.drop(txn, t, ops.load(txn, t, key))
            return key

        try:
            await self.submit(account, apply)
        except StorageFull:
            await self._expunge_few(account, key, None, 0, False)
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
            await self.copy(account, key, UidSet.of_ranges((1, 0xFFFFFFFF)), target, move=True)
            return
        folders.refuse(account, new)
        if new.startswith(old + "/"):
            raise CannotDo("a mailbox can not be moved into itself")
        parent = new.rpartition("/")[0]
        if parent and self.find(account, parent) is None:
            await self.create(account, parent)
        shard = self.shard(account.id)
        with shard.env.read() as txn:
            boxes = ops.boxes(txn, shard.tables, account.id)
        moved = [(b, new + b.name[len(old) :]) for b in boxes if b.name == old or b.name.startswith(old + "/")]
        for _, name in moved:
            folders.refuse_length(account, name)
        self._refuse_gone(account)
        if self._files(account):
            await self.help(folders.rename, account, [(box.name, name) for box, name in moved])
        pairs = [(box.key, name) for box, name in moved]
        await self.submit(account, lambda txn, t: ops.rename(txn, t, account.id, pairs))
        self._renamed(account)

    async def annotate(self, account: Account, key: bytes, changes: Notes, expected: Notes | None = None) -> bool:
        adds = any(value is not None for value in changes.values())
        done: bool = await self._submit_new(
            account, lambda txn, t: ops.annotate(txn, t, key, changes, expected), adds=adds
        )
        if done:
            self.hub.publish([key])  # sessions that asked to be told of annotations (RFC 5465 5.6)
        return done

    async def subscribe(self, account: Account, name: str, on: bool) -> None:
        await self._submit_new(account, lambda txn, t: ops.subscribe(txn, t, account.id, name, on))
        if self.together is not None and not name.startswith(ELSEWHERE):
            with self.shard(account.id).env.read() as txn:
                names = ops.subscriptions(txn, self.shard(account.id).tables, account.id)
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
        paths = [path_of(directory, one) for one in marks.values() if not content.in_segment(one)]
        if len(paths) > 1:
            await self.help(files.touch_batch, paths)

    async def content(self, account: Account, key: bytes, uid: int) -> bytes | None:
        for attempt in range(3):
            with self.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                marked = snapshot.file(key, uid)
                ready = snapshot.read(key, marked) if marked is not None else None
            if box is None or marked is None:
                return None
            if ready is not None:
                return ready
            if content.in_segment(marked):
                try:
                    found: bytes | None = await self.help(self._record, account, marked)
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

    def _record(self, account: Account, marked: bytes) -> bytes | None:
        with self.snapshot(account) as snapshot:
            return snapshot.record(marked)

    async def append(
        self, account: Account, key: bytes, messages: Sequence[NewMessage], claim: bool = False
    ) -> Appended:
        if self.together is None:
            return (await self._append(account, key, messages, claim))[0]
        words = [word for message in messages for word in message.keywords]
        async with self.together.giving([(account, key)], words) as lines:
            result, names = await self._append(account, key, messages, claim)
            lines += [(key, uid, name[1:]) for uid, name in zip(result.uids, names, strict=True)]
        return result

    async def _append(
        self, account: Account, key: bytes, messages: Sequence[NewMessage], claim: bool
    ) -> tuple[Appended, list[bytes]]:
        now = int(time.time())
        placed = [await self._place(account, key, message, claim) for message in messages]
        names = [name for _, name in placed]
        result: Appended = await self._submit_files(
            account, lambda txn, t: ops.append(txn, t, key, messages, names, now, claim), [job for job, _ in placed]
        )
        self.shard(account.id).arrived([key])
        if any(message.keywords for message in messages):
            self.touch(account, key)
        return result, names

    def one_commit(self, accounts: Sequence[Account]) -> bool:
        return len({account.id % self._count for account in accounts}) < 2

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        if self.together is None:
            return await self._deliver(items, [])
        async with self.together.giving([(item.account, item.key) for item in items], ()) as lines:
            return await self._deliver(items, lines)

    async def _deliver(self, items: Sequence[Delivery], lines: list[Line]) -> list[Appended]:
        now = int(time.time())
        groups: dict[int, list[Placed]] = {}
        before: dict[int, Appended] = {}
        for position, item in enumerate(items):
            if item.number and (there := self.holds.done(item)) is not None:
                before[position] = there
                continue
            job, name = await self._place_delivery(item)
            groups.setdefault(item.account.id % self._count, []).append((item, job, name))

        waits = [
            self._submit_files(
                group[0][0].account, partial(_put_in, now, group), [job for _, job, _ in group if job is not None]
            )
            for group in groups.values()
        ]
        results = [await waits[0]] if len(waits) == 1 else await asyncio.gather(*waits)
        for (n, group), kept in zip(groups.items(), results, strict=True):
            self._shards[n].arrived([item.key for item, _, _ in group])
            if self.together is not None:
                lines += [(one[0].key, at.uids[0], one[2][1:]) for one, at in zip(group, kept, strict=True)]
        if len(results) == 1 and not before:
            only: list[Appended] = results[0]
            return only
        parts = dict(zip(groups, map(iter, results), strict=True))
        return [before.get(n) or next(parts[item.account.id % self._count]) for n, item in enumerate(items)]

    async def _place_delivery(self, item: Delivery) -> tuple[FileJob | PieceJob | None, bytes]:
        if item.number:
            found = await self.holds.place(item, os.fsencode(self.path(item.account, item.key)))
            if found is not None:
                return found
        return await self._place(item.account, item.key, item.message)

    async def hold(self, account: Account, message: NewMessage, holder: int) -> bytes:
        return await self.holds.keep(account, message, holder)

    async def held(self, hold: bytes) -> bytes:
        return await self.holds.read(hold)

    async def let_go(self, holders: Sequence[int]) -> None:
        await self.holds.let_go(holders)

    def holders(self) -> set[int]:
        return self.holds.holders()

    async def _place(
        self, account: Account, key: bytes, message: NewMessage, claimed: bool = False
    ) -> tuple[FileJob | PieceJob, bytes]:
        """Where a message's content goes, and what its row will call it. ``claimed``: a session is told of it at once,
        so it is nothing new any more."""
        shard = self.shard(account.id)
        if shard.writer is not None:
            box = INBOX if self._opened.get(account.id) == key else self._name(account, key)
            job, record = await shard.place(key, box, message.date, message.size, message.content)
            return job, content.mark(record)
        root = os.fsencode(self.path(account, key))
        base = self.maker.make(sum(len(chunk) for chunk in message.content), message.size)
        mtime = message.date  # what any other program takes for its date
        if message.flags or message.keywords or not message.recent or claimed:
            name = base + b":2," + to_info(message.flags, 0).encode()
            return FileJob(root + b"/cur", name, root + b"/tmp/" + base, message.content, mtime), b"c" + name
        return FileJob(root + b"/new", base, root + b"/tmp/" + base, message.content, mtime), b"n" + base

    async def _submit_files(
        self, account: Account, apply: Callable[[Any, Tables], Any], jobs: Sequence[FileJob | PieceJob]
    ) -> Any:
        try:
            return await self.submit(account, apply, jobs, adds=True)
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
            account, lambda txn, t: ops.store(txn, t, key, uids, mode, flags, keywords, unchanged_since)
        )
        if result.changed:
            self.touch(account, key)
        return result

    async def copy(self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool = False) -> Copied:
        for attempt in range(COPY_TRIES):
            try:
                return await self._copy_once(account, key, uids, target, move)
            except ops.SourceMoved:  # by housekeeping or a conversion, whose commit is to come, or another program
                await asyncio.sleep(0.025)
                if attempt % 8 == 0:
                    await self.follower.sync(account, key, force=True)
        return await self._copy_once(account, key, uids, target, move)

    async def _copy_once(self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool) -> Copied:
        if self.together is None:
            return (await self._copy(account, key, uids, target, move))[0]
        with self.snapshot(account) as snapshot:
            names, used = snapshot.keywords(key), 0
            for page in snapshot.pages(key, uids):
                for record in page_format.records(page):
                    used |= record[3] if record[0] in uids else 0
        words = [name for bit, name in enumerate(names) if used >> bit & 1]
        async with self.together.giving([(account, target)], words) as lines:
            result, linked = await self._copy(account, key, uids, target, move)
            names_of = dict(linked)
            lines += [
                (target, uid, names_of[source][1:])
                for source, uid in zip(result.source, result.target.uids, strict=True)
            ]
        return result

    async def _copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool
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
            if content.in_segment(old):
                names.append((uid, old))
                continue
            parsed = FileName.parse(old[1:])
            size, served = _sizes(parsed.base)
            parsed.base = (
                os.fsdecode(self.maker.make(size, served, True))
                if size >= 0
                else os.fsdecode(self.maker.make(0, 0, True).partition(b",")[0])
            )
            name = parsed.with_flags(parsed.flags, 0)
            jobs.append(FileJob(root + b"/cur", name, source=path_of(source_dir, old)))
            names.append((uid, b"c" + name))
        now = int(time.time())
        try:
            result: Copied = await self.submit(
                account, lambda txn, t: ops.copy(txn, t, key, target, names, now, move), jobs, adds=not move
            )
        except StorageFailed as error:
            if not isinstance(error, ops.SourceMoved) and any(not beneath.exists(job.source) for job in jobs):
                raise ops.SourceMoved(str(error)) from error
            raise
        finally:
            self.touch(account, target)
        if move:
            self.touch(account, key)
        return result, names

    async def learn_previews(self, account: Account, key: bytes, found: Mapping[int, bytes]) -> None:
        await self.submit(account, lambda txn, t: ops.learn_previews(txn, t, key, found), adds=True)

    async def expunge(self, account: Account, key: bytes, uids: UidSet | None, required: int) -> Expunged:
        try:
            result: Expunged = await self.submit(account, lambda txn, t: ops.expunge(txn, t, key, uids, required))
        except StorageFull:
            result = await self._expunge_few(account, key, uids, required, True)
        if result.uids:
            self.touch(account, key)
        return result

    async def _expunge_few(
        self, account: Account, key: bytes, uids: UidSet | None, required: int, unlink: bool
    ) -> Expunged:
        """The same in small commits. LMDB lists the pages that one commit sets free side by side, for which a map that
        is nearly full may have no room."""
        with self.snapshot(account) as snapshot:
            records = (one for page in snapshot.pages(key, uids) for one in page_format.records(page))
            wanted = [one[0] for one in records if uids is None or one[0] in uids]
        gone, result = UidSet(), None
        for start in range(0, len(wanted), FEW):
            some = UidSet.of(wanted[start : start + FEW])
            remove = partial(ops.expunge, key=key, uids=some, required=required, unlink=unlink)
            result = await self.submit(account, remove)
            gone = gone.plus(result.uids)
        if result is None:
            raise StorageFull("index map is full")
        return Expunged(key, gone, result.modseq, result.before)

    async def claim_recent(self, account: Account, key: bytes) -> tuple[int, int]:
        with self.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None or box.recent_from >= box.uidnext:
            return 0, 0
        claimed: tuple[int, int] = await self.submit(account, lambda txn, t: ops.claim_recent(txn, t, key))
        self.touch(account, key)
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
        if done.named or done.unlinked:
            await self.submit(account, lambda txn, t: housekeeping.clear(txn, t, done))
        return bool(done.more)


def _put_in(now: int, group: list[Placed], txn: Any, t: Tables) -> list[Appended]:
    """Deliveries whose files are in place."""
    return [holds.deliver(txn, t, item, name, now) for item, _, name in group]


def _is_mailbox(key: bytes) -> bool:
    return any(key[8:]) and key[8:] != EVERYTHING


def _never(account: Account, name: str) -> bool:
    return False


def _sizes(base: str) -> tuple[int, int]:
    size, served = sizes_in(os.fsencode(base))
    return (size, served) if size >= 0 and served >= 0 else (-1, -1)
