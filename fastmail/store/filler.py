"""Keeps the full-text index up to date, in the background.

What a search reads is added after its answer; mail that arrives in a mailbox that was searched is added after its
delivery; the text of a removed message is removed.

Promise: nobody waits for it. Whoever changes a mailbox only notes its key (``changed``). One task works on the noted
mailboxes a moment later, one by one, on other threads, with a pause after each batch. At most NOTED mailboxes are
noted; the next change or search of a mailbox makes good for one that was not. A process that dies loses its notes, so
``sweep`` looks at all indexes once when the first worker starts. An account that never searches has no index, and costs
one look for its file for each changed mailbox.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from fastmail._core.uidset import UidSet
from fastmail.model.errors import MailError
from fastmail.model.keys import account_of
from fastmail.store.fulltext import FILL, FullText, Text, folded
from fastmail.store.interface import Account, Store
from fastmail.telemetry import log

AT_ONCE = 2  # batches being written at a time
NOTED = 10_000  # mailboxes that are noted at most: bounds memory
LATER = 2.0  # s from the first note to the work: deliveries and removals seldom come alone
PAUSE = 0.05  # s after each batch and each index: leaves the disk and the processor to others
SWEPT = 1000  # mailboxes that a command updates at most before it ends


class Filler:
    """One in each process. ``resolve``: returns the account with a number, None if there is none any more."""

    def __init__(self, index: FullText, store: Store, resolve: Callable[[int], Account | None] | None = None) -> None:
        self.index = index
        self._store = store
        self._resolve = resolve
        self._tasks: set[asyncio.Task[None]] = set()
        self._noted: dict[bytes, None] = {}  # in the order in which they changed
        self._follows = False
        self._worker: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        # (UIDVALIDITY, highest UID looked at) by mailbox, so that messages too long for the index are not read every
        # time
        self._looked: dict[bytes, tuple[int, int]] = {}

    # ---------------------------------------------------------------- what searches read

    async def put(self, key: bytes, validity: int, batch: list[Text]) -> None:
        """Add a batch. Waits only while AT_ONCE batches are being written."""
        while len(self._tasks) >= AT_ONCE:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.get_running_loop().create_task(self._add(key, validity, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self, key: bytes, validity: int, batch: list[Text]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.index.add, key, validity, batch)
        self.changed([key])  # one of its messages may have been removed meanwhile

    async def fill(self, account: Account, key: bytes) -> int:
        """Add every message of a mailbox that the index lacks; return how many."""
        validity, present = self._present(account, key)
        known = await asyncio.get_running_loop().run_in_executor(None, self.index.known, key, validity)
        return await self._fill(account, key, validity, present.minus(known), 0.0)

    # ---------------------------------------------------------------- what changes later

    def follow(self) -> None:
        """Start updating noted mailboxes. Without it, ``close`` only removes the text of removed mail."""
        self._follows = True

    def changed(self, keys: Iterable[bytes]) -> None:
        """Note mailboxes that changed. Called after every commit, so it does nothing more."""
        self._noted.update(dict.fromkeys(islice(keys, NOTED - len(self._noted))))
        if self._follows and self._noted and self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    def sweep(self) -> None:
        """Start to look at every index once: mail and accounts may have been removed while no process noted it."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def _work(self) -> None:
        try:
            while self._noted:
                await asyncio.sleep(LATER)
                keys = list(self._noted)
                self._noted.clear()
                for key in await asyncio.get_running_loop().run_in_executor(None, self.index.has, keys):
                    await self._agree(key, True)
        finally:
            self._worker = None

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for number in await loop.run_in_executor(None, self.index.accounts):
            if self._resolve is not None and self._resolve(number) is None:
                await loop.run_in_executor(None, self.index.forget, number)
            else:
                for key in await loop.run_in_executor(None, self.index.mailboxes, number):
                    await self._agree(key, False)
            await asyncio.sleep(PAUSE)

    async def _agree(self, key: bytes, fills: bool) -> None:
        """Remove the texts of messages that a mailbox no longer has, and with ``fills`` add those of new ones.

        Failures are only logged: the index knows which messages it has, so a search reads the others."""
        if self._resolve is None:
            return
        account = self._resolve(account_of(key))
        try:
            validity, present = self._present(account, key) if account is not None else (0, UidSet())
            loop = asyncio.get_running_loop()
            known = await loop.run_in_executor(None, self.index.keep, key, validity, present)
            if fills and known is not None and account is not None:
                looked = self._looked.pop(key, (0, 0))
                above = max(known.last, looked[1] if looked[0] == validity else 0)
                fresh = present.minus(UidSet.of_ranges((1, above))) if above else present
                if fresh:
                    await self._fill(account, key, validity, fresh, PAUSE)
                    self._looked[key] = (validity, fresh.last)
                    while len(self._looked) > NOTED:
                        del self._looked[next(iter(self._looked))]
        except (MailError, OSError) as error:
            log.event("fulltext.failed", "warning", key=key.hex(), error=error)

    def _present(self, account: Account, key: bytes) -> tuple[int, UidSet]:
        """Return (UIDVALIDITY, UIDs) of a mailbox; (0, none) if it does not exist."""
        with self._store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            if box is None:
                return 0, UidSet()
            return box.uidvalidity, UidSet().plus_pages(snapshot.presence(key), 0)

    async def _fill(self, account: Account, key: bytes, validity: int, uids: UidSet, pause: float) -> int:
        """Read these messages and add their texts, a batch at a time."""
        loop = asyncio.get_running_loop()
        batch: list[tuple[int, bytes]] = []
        size = done = 0
        for uid in uids:
            content = await self._store.content(account, key, uid)
            if content is not None:
                batch.append((uid, content))
                size += len(content)
            if size > FILL:
                done += await loop.run_in_executor(None, self._put, key, validity, batch)
                batch, size = [], 0
                await asyncio.sleep(pause)
        if batch:
            done += await loop.run_in_executor(None, self._put, key, validity, batch)
        return done

    def _put(self, key: bytes, validity: int, batch: list[tuple[int, bytes]]) -> int:
        self.index.add(key, validity, [folded(uid, content) for uid, content in batch])
        return len(batch)

    async def close(self) -> None:
        """Finish what is being written. A command removes the texts of the messages that it removed."""
        for task in (self._sweeper, self._worker):
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, (self._sweeper, self._worker)), return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks)
        keys = list(self._noted)[:SWEPT]
        self._noted.clear()
        if keys and not self._follows:  # a worker leaves that to the sweep of the next start
            for key in await asyncio.get_running_loop().run_in_executor(None, self.index.has, keys):
                await self._agree(key, False)
