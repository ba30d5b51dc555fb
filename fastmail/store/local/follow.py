"""Follows what other programs do to Maildirs: at SELECT and STATUS by the directories' change times, while a session
looks by inotify.

Promise: a change of another program is an ordinary commit within a second where a session looks, and before the
answer to SELECT or STATUS elsewhere. A mailbox whose directories did not change costs two stat calls; one where only
the running server delivered costs a listing of new/. Without inotify (limits) the checks at commands remain.
"""

import asyncio
import os
from typing import TYPE_CHECKING

from fastmail.durable import files
from fastmail.model.errors import MailError, NoSuchMailbox
from fastmail.store.interface import Account
from fastmail.store.local import foreign, sync
from fastmail.store.local.names import base_of, folder
from fastmail.telemetry import log

if TYPE_CHECKING:
    from fastmail.store.local.store import LocalStore

SETTLE = 0.2
MASK = files.IN_MOVED_FROM | files.IN_MOVED_TO | files.IN_DELETE | files.IN_CREATE


class Follower:
    """One in each LocalStore."""

    def __init__(self, store: "LocalStore") -> None:
        self._store = store
        self._seen: dict[bytes, sync.State] = {}
        self._locks: dict[bytes, asyncio.Lock] = {}
        self._inotify: files.Inotify | None = None
        self._watches: dict[int, tuple[bytes, bool]] = {}
        self._watched: dict[bytes, tuple[Account, list[int]]] = {}
        self._stirred: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        try:
            self._inotify = files.Inotify()
        except OSError as error:
            log.event("store.inotify", "warning", error=error, then="changes by other programs show at commands")
            return
        self._store.loop.add_reader(self._inotify.fd, self._events)

    def close(self) -> None:
        if self._inotify is not None:
            self._store.loop.remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None
        for task in self._tasks:
            task.cancel()

    # ---------------------------------------------------------------- looking

    async def sync(self, account: Account, key: bytes, force: bool = False) -> None:
        """Take in what changed; returns at once when the directories did not."""
        store = self._store
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        directory = folder(account.root, box.name)
        if not os.path.isdir(directory + "/cur"):
            return  # content in segments only, or a volume that is not there: nothing of it is gone
        state = sync.directory_state(directory)
        seen = self._seen.get(key)
        if state is not None and state == seen and not force:
            return
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                state = sync.directory_state(directory)
                if state is not None and state == self._seen.get(key) and not force:
                    return
                same_cur = state is not None and seen is not None and state[1] == seen[1] and box.generation
                if same_cur and not force and await store.help(sync.only_own_news, directory, store.maker):
                    if state is not None:
                        self._seen[key] = state
                    return
                for _ in range(5):
                    settled = await self._take_in(account, key, directory)
                    if settled is not None:
                        break
                if state is not None and settled:
                    self._seen[key] = state
                    if len(self._seen) > 100_000:
                        self._seen.pop(next(iter(self._seen)))
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def _take_in(self, account: Account, key: bytes, directory: str) -> bool | None:
        """One look: True when all was taken in, False when something must be looked at again later, None when another
        worker took something in at the same time and it must be repeated now."""
        store = self._store
        shard = store.shard(account.id)
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        plan = await store.help(sync.look, shard.env.begin, shard.tables, box, directory, store.maker)
        if not plan:
            return not plan.pending
        generation = plan.generation
        known = foreign.Control()
        if plan.fresh:
            place = foreign.control_directory(account.root, account.control, box.name)
            known = await store.help(foreign.read_control, place)
            if not await store.submit(account, lambda txn, t: sync.begin_adoption(txn, t, key, generation, known)):
                return None
            generation = max(generation, 1)
        uids, floor = known.uids, known.uidnext
        if uids:
            plan.new.sort(key=lambda item: uids.get(base_of(item[1]), 1 << 40))
        if plan.new and not plan.fresh:
            plan.new = await store.help(sync.drop_cut_short, account.root, directory, plan.new)
        total = len(plan.new)
        for start in range(0, total, sync.ADOPT_BATCH):
            part = plan.new[start : start + sync.ADOPT_BATCH]
            found = await store.help(sync.examine, directory, part, known)
            if not found:
                continue
            expected = generation

            def apply(txn: object, t: object, found: list[sync.Found] = found, expected: int = expected) -> object:
                return sync.adopt(txn, t, key, expected, found, floor)  # type: ignore[arg-type]

            after = await store.submit(account, apply)
            if after is None:
                return None
            generation = after
            if total > 5000:
                log.event("store.adopting", mailbox=directory, done=min(start + len(part), total), of=total)
        if plan.fresh and floor > 1:
            await store.submit(account, lambda txn, t: sync.end_adoption(txn, t, key, floor))
        if plan.renamed:
            renamed = plan.renamed
            await store.submit(account, lambda txn, t: sync.take_names(txn, t, key, renamed))
        if plan.gone:
            gone = plan.gone
            await store.submit(account, lambda txn, t: sync.forget(txn, t, key, gone))
        log.event(
            "store.external", "debug", mailbox=directory, new=total, renamed=len(plan.renamed), gone=len(plan.gone)
        )
        store.hub.publish([key])
        return not plan.pending

    # ---------------------------------------------------------------- watching

    def watch(self, account: Account, key: bytes) -> None:
        """A session looks at the mailbox."""
        if self._inotify is None:
            return
        try:
            root = os.fsencode(self._store.path(account, key))
            if not os.path.isdir(root + b"/cur"):
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
                    self._stir(key)
                continue
            entry = self._watches.get(number)
            if entry is None or mask & files.IN_IGNORED:
                continue
            key, is_new = entry
            arrived = mask & (files.IN_MOVED_TO | files.IN_CREATE)
            if is_new and arrived and self._store.maker.under_way(name):
                continue  # our own delivery; its commit tells the sessions
            self._stir(key)

    def _stir(self, key: bytes) -> None:
        if key in self._stirred:
            return
        self._stirred.add(key)
        self._store.loop.call_later(SETTLE, self._settle, key)

    def _settle(self, key: bytes) -> None:
        self._stirred.discard(key)
        entry = self._watched.get(key)
        if entry is None:
            return
        task = self._store.loop.create_task(self._look(entry[0], key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, account: Account, key: bytes) -> None:
        try:
            await self.sync(account, key)
        except (MailError, OSError) as error:
            log.event("store.look", "warning", error=error)
