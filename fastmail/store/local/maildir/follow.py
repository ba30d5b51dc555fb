"""Follows what other programs do to Maildirs: at SELECT and STATUS by the directories' change times, and by inotify
while a session has the mailbox selected.

Promise: a change by another program becomes an ordinary commit within a second where a session looks, and before the
answer to SELECT or STATUS elsewhere. A mailbox whose directories did not change costs two stat calls; one that only got
mail costs a listing of new/, whoever delivered. Renames and removals by this process itself cost nothing where a
session looks, or where a mailbox has LEAST messages. Every other change is found by comparing cur/ with the index. A
file that another program still writes in its place is taken in by the first look after it was closed: by the event of
that, or after RETRY, where a session looks. One that came by a rename is never delayed.
Without inotify (limits of the system) the checks at commands remain.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

from fastmail.durable import beneath, files
from fastmail.durable.commit import Operation
from fastmail.durable.transaction import Txn
from fastmail.model.errors import MailError, NoSuchMailbox, StorageFull
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.index.layout import NEW, account_of, base_of
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import adopting, interrupted, looking
from fastmail.store.local.maildir.account_paths import AccountPaths, Paths
from fastmail.store.local.maildir.control import Control
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.lists import Shared
from fastmail.store.local.maildir.looking import Plan
from fastmail.store.local.maildir.names import NameMaker, arrival_order
from fastmail.store.local.maildir.seen import Seen, States, written
from fastmail.telemetry import log

RETRY = 1.1 * looking.SETTLED  # s until a mailbox with an unfinished file is looked at again without an event
QUIET = 0.2  # s from an event to the comparison, so that several events cause one
LARGE = 2000  # messages from which on a mailbox's state is written at shutdown
LEAST = 200  # messages from which on a mailbox is watched during our own changes, though no session looks
Taken = tuple[int, frozenset[bytes]]  # generation, other programs' files in new/
AGAIN: Taken = (-1, frozenset())
MASK = files.IN_MOVED_FROM | files.IN_MOVED_TO | files.IN_DELETE | files.IN_CREATE | files.IN_CLOSE_WRITE


class MaildirFollower:
    """One for each store.

    ``publish``: tell those who watch mailboxes. ``read_control``: reads another server's control files of a mailbox,
    given their directory and the one of its index files. ``home_of``: returns where the Maildir of the account with a
    number is. ``shared``: the UID lists, where another server serves the
    same mail. ``read_only``: nothing may be removed."""

    def __init__(
        self,
        commits: Commits,
        account_paths: AccountPaths,
        paths: Paths,
        maker: NameMaker,
        publish: Callable[[list[bytes]], None],
        read_control: Callable[[str, str], Control],
        home_of: Callable[[int], Home | None],
        shared: Shared | None = None,
        read_only: bool = False,
    ) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self._paths = paths
        self._maker = maker
        self._publish = publish
        self._read_control = read_control
        self._home_of = home_of
        self._shared = shared
        self._read_only = read_only
        self._seen = States()
        self._asked: set[bytes] = set()  # large mailboxes whose written state was read
        self._own_events: dict[bytes, list[bytes]] = {}  # file names in events of mailboxes that housekeeping works on
        self._locks: dict[bytes, asyncio.Lock] = {}
        self._inotify: files.Inotify | None = None
        self._watches: dict[int, tuple[bytes, bool]] = {}
        self._watched: dict[bytes, tuple[Account, list[int]]] = {}
        self._passing: dict[bytes, asyncio.TimerHandle | None] = {}  # mailboxes watched only during our own changes
        self._stirred: set[bytes] = set()
        self._unfinished: set[bytes] = set()  # mailboxes with a file that is still written, to be looked at again
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        try:
            self._inotify = files.Inotify()
        except OSError as error:
            log.event("store.inotify", "warning", error=error, then="changes by other programs show at commands")
            return
        self._commits.loop.add_reader(self._inotify.fd, self._events)

    def close(self) -> None:
        if self._inotify is not None:
            self._commits.loop.remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None
        for timer in self._passing.values():
            if timer is not None:
                timer.cancel()
        self._passing.clear()
        self._watched.clear()
        self._own_events.clear()
        for task in self._tasks:
            task.cancel()

    async def save(self) -> None:
        """Write the states of large mailboxes, so that the next start need not compare them with the index."""
        known: dict[Shard, list[tuple[bytes, bytes]]] = {}
        for key, seen in self._seen.items():
            value = seen.packed()
            if value is not None:
                known.setdefault(self._commits.shard(account_of(key)), []).append((key, value))
        for shard, rows in known.items():
            await shard.queue.submit(Operation(partial(adopting.keep_seen, t=shard.tables, rows=rows, least=LARGE)))

    # ---------------------------------------------------------------- looking

    def is_up_to_date(self, account: Account, box: Mailbox) -> bool:
        """True if the directories of a mailbox are as they were when everything was in the index. False if that cannot
        be told."""
        directory = self._account_paths.folder(account, box.name)
        state = looking.directory_state(directory)
        if state is None:
            # without cur/: in segments only, or no volume there, so nothing of it is gone
            return not beneath.is_directory(directory + "/cur")
        seen, shared = self._seen.get(box.key), self._shared
        return seen is not None and state == seen.state and (shared is None or shared.same(account, box))

    async def sync(self, account: Account, key: bytes, force: bool = False, list_locked: bool = False) -> None:
        """Apply what changed; returns at once if the directories did not change. ``list_locked``: the caller has locked
        the UID list that is shared with another server."""
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        if self.is_up_to_date(account, box) and not force:
            return
        directory = self._account_paths.folder(account, box.name)
        if not beneath.is_directory(directory + "/cur"):
            return
        if self._shared is not None:
            await self._sync_shared(self._shared, account, box, directory, list_locked)
            return
        if key not in self._seen and box.exists >= LARGE and key not in self._asked:
            self._asked.add(key)
            with self._commits.snapshot(account) as snapshot:
                remembered = written(snapshot, key)
            if remembered is not None:
                self._seen[key] = remembered
        if self.is_up_to_date(account, box) and not force:
            return
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if self.is_up_to_date(account, box) and not force:
                    return
                state = looking.directory_state(directory)
                seen = self._seen.get(key)
                taken: Taken | None = None
                quiet = looking.quiet_cur(directory) if seen is not None and not force and not self._read_only else 0
                if seen is not None and quiet == seen.state[1] != 0:
                    taken = await self._only_news(account, key, directory, seen)
                    if taken is not None and taken != AGAIN and state is None:
                        # new/ changed just now and has to be listed again
                        self._seen.note(key, Seen((0, quiet), *taken))
                for _ in range(5):
                    if taken is not None:
                        break
                    taken = await self._take_in(account, key, directory)
                if taken is not None and taken != AGAIN and state is not None:
                    self._seen.note(key, Seen(state, *taken))
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _sync_shared(
        self, shared: Shared, account: Account, box: Mailbox, directory: str, list_locked: bool
    ) -> None:
        """Do the same for a mailbox in which another server may change things, and assign UIDs, at any time."""
        key = box.key
        async with nullcontext() if list_locked else shared.lock(account, box):
            state = looking.directory_state(directory)
            taken: Taken | None = None
            try:
                while taken is None:
                    taken = await self._take_in_shared(shared, account, key, directory)
            except BaseException:
                shared.forget(key)
                raise
            if taken != AGAIN and state is not None:
                self._seen.note(key, Seen(state, *taken))

    async def _take_in_shared(self, shared: Shared, account: Account, key: bytes, directory: str) -> Taken | None:
        """Compare everything once, under the lock; returns what ``_take_in`` returns."""
        tables = self._commits.shard(account.id).tables
        listed, whole = await shared.read(account, key)
        box = shared.box(account, key)
        plan = await self._commits.help(
            looking.look, self._commits.shard(account.id).env.read, tables, box, directory, self._maker, listed, whole
        )
        if plan.pending and not whole:
            shared.forget(key)  # a skipped file may be in the part of the list that was not read: read all of it
            return None
        if plan.fresh:
            generation = plan.generation
            await shared.take_overflow(account, box, listed)
            if not await self._commits.submit(
                account, lambda txn, t: adopting.begin_adoption(txn, t, key, generation, listed)
            ):
                return None
            plan.generation = max(generation, 1)
        elif plan.new:
            doubtful = [item for item in plan.new if base_of(item[1]) not in listed.uids]
            kept = set(await self._commits.help(self._without_interrupted, account, directory, doubtful))
            plan.new = [item for item in plan.new if base_of(item[1]) in listed.uids or item in kept]
        if plan.new:  # nobody must get a UID for a message that is not whole
            plan.leave(await self._commits.help(looking.unfinished, directory, plan.new))
            left = set(plan.unfinished)
            plan.new = [item for item in plan.new if item not in left]
            self._look_later(key, plan)
        lines = looking.assign(plan, listed, box.uidnext)
        if lines:
            await shared.write(account, box, lines)
        taken: Taken | None = AGAIN if plan.pending else (plan.generation, plan.news)
        if plan:
            taken = await self._apply(account, key, directory, plan, listed)
        if shared.box(account, key).uidnext < listed.uidnext:
            await self._commits.submit(account, lambda txn, t: adopting.end_adoption(txn, t, key, listed.uidnext))
        if taken is not None:
            shared.taken_in(account, box)
        return taken

    async def _only_news(self, account: Account, key: bytes, directory: str, seen: Seen) -> Taken | None:
        """Apply what came into new/ since; None if more than that happened and everything must be compared."""
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None or not box.generation or box.generation != seen.generation:
            return None  # another worker has added something
        news: frozenset[bytes] = await self._commits.help(looking.foreign_news, directory, self._maker)
        if not seen.news <= news:
            return None  # a file has left new/
        fresh = [(NEW, name) for name in news - seen.news]
        if len({base_of(name) for name in news}) != len(news):
            return None
        if fresh and seen.written:
            shard = self._commits.shard(account.id)
            fresh = await self._commits.help(looking.unknown, shard.env.read, shard.tables, key, fresh)
        fresh.sort(key=lambda item: arrival_order(item[1]))
        plan = Plan(box.generation, new=fresh, news=news)
        if not fresh:
            return seen.generation, news
        taken = await self._apply(account, key, directory, plan, Control())
        if taken == AGAIN:  # new/ has to be listed again, and nothing else
            self._seen.note(key, Seen((0, seen.state[1]), plan.generation, plan.news))
        return taken

    async def _take_in(self, account: Account, key: bytes, directory: str) -> Taken | None:
        """Compare everything once. Returns the generation and other programs' files in new/ if everything was applied;
        AGAIN if something must be looked at later; None if another worker was first and it must be repeated now."""
        shard = self._commits.shard(account.id)
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        plan = await self._commits.help(looking.look, shard.env.read, shard.tables, box, directory, self._maker)
        if not plan:
            return AGAIN if plan.pending else (plan.generation, plan.news)
        generation = plan.generation
        known = Control()
        if plan.fresh or self._read_only:  # read-only means beside another server, which continues to assign UIDs
            places = self._account_paths.control(account, box.name), self._account_paths.indexes(account, box.name)
            known = await self._commits.help(self._read_control, *places)
        if plan.fresh:
            if not await self._commits.submit(
                account, lambda txn, t: adopting.begin_adoption(txn, t, key, generation, known)
            ):
                return None
            plan.generation = max(generation, 1)
        return await self._apply(account, key, directory, plan, known)

    async def _apply(self, account: Account, key: bytes, directory: str, plan: Plan, known: Control) -> Taken | None:
        """Apply what a comparison found; returns what ``_take_in`` returns."""
        generation = plan.generation
        uids = known.uids
        floor = known.following(sum(base_of(name) not in uids for _, name in plan.new) if known.torn else 0)
        if uids:
            plan.new.sort(key=lambda item: uids.get(base_of(item[1]), 1 << 40))
        if plan.new and not plan.fresh and self._shared is None and not self._read_only:
            plan.new = await self._commits.help(self._without_interrupted, account, directory, plan.new)
        total = len(plan.new)
        full: StorageFull | None = None
        done = 0
        while done < total:
            part = plan.new[done : done + looking.ADOPT_BATCH]
            left: list[tuple[bytes, bytes]] = []
            found, looked = await self._commits.help(looking.examine, directory, part, known, left)
            plan.leave(left)
            done += looked
            if not found:
                continue
            expected = generation

            def apply(
                txn: Txn, t: Tables, found: Sequence[looking.Found] = found, expected: int = expected
            ) -> int | None:
                return adopting.adopt(txn, t, key, expected, found, floor)

            try:
                after = await self._commits.submit(account, apply, adds=True)
            except StorageFull as error:
                full = error  # go on: expunging what is gone makes room
                break
            if after is None:
                return None
            generation = after
            if total > 5000:
                log.event("store.adopting", mailbox=directory, done=done, of=total)
        if plan.fresh and floor > 1 and full is None:
            await self._commits.submit(account, lambda txn, t: adopting.end_adoption(txn, t, key, floor))
        if plan.renamed:
            await self._take_names(account, key, plan.renamed)
        if plan.gone:
            gone = plan.gone
            await self._commits.submit(account, lambda txn, t: adopting.forget(txn, t, key, gone))
        if full is not None:
            self._publish([key])
            raise full
        log.event(
            "store.external", "debug", mailbox=directory, new=total, renamed=len(plan.renamed), gone=len(plan.gone)
        )
        self._publish([key])
        plan.generation = generation
        self._look_later(key, plan)
        return AGAIN if plan.pending else (generation, plan.news)

    def _look_later(self, key: bytes, plan: Plan) -> None:
        """Look again at a mailbox with an unfinished file, if a session looks at it then."""
        if plan.unfinished and key not in self._unfinished:
            self._unfinished.add(key)
            self._commits.loop.call_later(RETRY, self._retry, key)

    def _retry(self, key: bytes) -> None:
        self._unfinished.discard(key)
        self._stir(key)

    def _without_interrupted(
        self, account: Account, directory: str, items: Sequence[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        """Remove what a crash left; return the other files. Waits for the disk."""
        stops = self._commits.shard(account.id).env.stops()
        return interrupted.remove(self._account_paths.home(account), directory, items, stops, self._home_of)

    async def _take_names(self, account: Account, key: bytes, renamed: Sequence[tuple[int, bytes, bytes]]) -> None:
        done = 0
        while done < len(renamed):
            done = await self._commits.submit(account, partial(adopting.take_names, key=key, items=renamed, first=done))

    # ---------------------------------------------------------------- what this process does itself

    def begin_own(self, account: Account, key: bytes, directory: str) -> None:
        """Housekeeping is about to rename and remove files of a mailbox.

        Events of the mailbox are collected and looked at afterwards, all together. A large mailbox that no session
        looks at is watched meanwhile, because comparing it would cost more."""
        seen = self._seen.get(key)
        if seen is None:
            return
        if key not in self._watched and self._is_large(account, key):
            self.watch(account, key)
            if key in self._watched:
                self._passing[key] = None
        if key in self._watched and seen.state == looking.directory_state(directory):
            if not self._own_events and self._inotify is not None:
                self._commits.loop.remove_reader(self._inotify.fd)
            self._own_events[key] = []
        elif key in self._passing:
            self._pass(key)

    def _is_large(self, account: Account, key: bytes) -> bool:
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        return box is not None and box.exists >= LEAST

    def _pass(self, key: bytes) -> None:
        """Stop watching a mailbox that no session looks at, once a change of this moment would show in its directories'
        times."""
        timer = self._passing.get(key)
        if timer is not None:
            timer.cancel()
        self._passing[key] = self._commits.loop.call_later(2 * looking.TICK, self._passed, key)

    def _passed(self, key: bytes) -> None:
        if key in self._own_events:
            return  # housekeeping works on it again, and will come back here
        self._events()
        self._passing.pop(key, None)
        self.unwatch(key)

    def end_own(self, key: bytes, directory: str, touched: set[bytes]) -> None:
        """Housekeeping is done: events about the names that it touched are ignored. While a session looks, events tell
        of every other change, so the mailbox still counts as seen."""
        if key not in self._own_events:
            return
        self._events()
        names = self._own_events.pop(key)
        if not self._own_events and self._inotify is not None:
            self._commits.loop.add_reader(self._inotify.fd, self._events)
        seen, times = self._seen.get(key), looking.directory_times(directory)
        if key in self._passing:
            self._pass(key)
        if seen is None or times is None:
            return
        if set(names) <= touched and key not in self._stirred:
            self._seen[key] = Seen(times, seen.generation, seen.news - touched, seen.written)
        else:
            self._seen.unsee(key, False)
            self._stir(key)

    # ---------------------------------------------------------------- watching

    def watch(self, account: Account, key: bytes) -> None:
        """A session selects the mailbox: watch its directories."""
        if self._inotify is None:
            return
        if key in self._passing:
            timer = self._passing.pop(key)
            if timer is not None:
                timer.cancel()
            if key in self._watched:
                return
        try:
            root = os.fsencode(self._paths.directory(account, key))
            if not beneath.is_directory(root + b"/cur"):
                return
            numbers = []
            for sub in (b"/new", b"/cur"):
                number = self._inotify.add(root + sub, MASK)
                self._watches[number] = (key, sub == b"/new")
                numbers.append(number)
            self._watched[key] = (account, numbers)
        except (OSError, MailError) as error:
            log.event("store.inotify", "warning", error=error, then="changes by other programs show at commands")

    def unwatch(self, key: bytes) -> None:
        """No session has the mailbox selected any more. While housekeeping works there, the events are still needed."""
        if key in self._own_events and key in self._watched:
            self._passing[key] = None
            return
        entry = self._watched.pop(key, None)
        if entry is None or self._inotify is None:
            return
        for number in entry[1]:
            self._watches.pop(number, None)
            self._inotify.remove(number)

    def _events(self) -> None:
        assert self._inotify is not None
        for number, mask, name in self._inotify.read():
            if mask & files.IN_Q_OVERFLOW:
                for key in self._watched:
                    self._seen.unsee(key, False)
                    self._stir(key)
                continue
            entry = self._watches.get(number)
            if entry is None or mask & files.IN_IGNORED:
                continue
            key, is_new = entry
            arrived = mask & (files.IN_MOVED_TO | files.IN_CREATE)
            if ((is_new and arrived) or mask & files.IN_CLOSE_WRITE) and self._maker.under_way(name):
                continue  # our own delivery, of which its commit tells the sessions
            if key in self._own_events:
                self._own_events[key].append(name)
                continue
            self._seen.unsee(key, is_new)
            self._stir(key)

    def _stir(self, key: bytes) -> None:
        if key in self._stirred or key in self._passing:
            return
        self._stirred.add(key)
        self._commits.loop.call_later(QUIET, self._compare, key)

    def _compare(self, key: bytes) -> None:
        self._stirred.discard(key)
        entry = self._watched.get(key)
        if entry is None:
            return
        task = self._commits.loop.create_task(self._look(entry[0], key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, account: Account, key: bytes) -> None:
        try:
            await self.sync(account, key)
        except (MailError, OSError) as error:
            log.event("store.look", "warning", error=error)
