"""What the mail of a whole domain takes, against the limit of the domain (``most_octets``).

The sum is taken from the rows of the domain's accounts, which are exact, and counts for EVERY seconds, or longer where
taking it is slow: a worker spends at most a fiftieth of its time on it. What this worker takes meanwhile is added at
once, so of one worker nothing passes the limit; what the others took since the last look is seen at the next one.
So a domain can pass its limit by what the other workers take in a few seconds, and by no more. Nobody is refused by an
old sum: before a refusal the sum is taken again.

A domain without the limit has no Pool, and costs nothing.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from fastmail.directory.records import Account as AccountRecord
from fastmail.directory.records import Domain
from fastmail.model.domain import comparable
from fastmail.model.errors import MailError
from fastmail.store.interface import Account, Store
from fastmail.telemetry import log

EVERY = 5.0  # s for which a sum counts
AGAIN = 1.0  # s until it is taken again before somebody is refused
SHARE, SHARE_AGAIN = 50, 10  # a look may take such a part of the time; the second of a domain that is full
AT_ONCE = 100  # accounts that are looked at before others have their turn
REMEMBERED = 10_000  # domains


class Accounts(Protocol):
    """What is asked of the directory."""

    def each_account(self, domain: str = "", after: str = "") -> Iterator[AccountRecord]: ...


class Pool:
    """One domain in one worker (store.interface.Pool)."""

    __slots__ = ("_accounts", "_added", "_again", "_every", "_held", "_looked", "_looking", "_name", "_store", "most")

    def __init__(self, accounts: Accounts, store: Store, name: str, most: int) -> None:
        self._accounts, self._store, self._name = accounts, store, name
        self.most = most
        self._held = 0  # octets, at the last look
        self._added = 0  # octets that were taken here since that look began
        self._looked = 0.0  # time.monotonic() of it; 0 where there was none yet
        self._every, self._again = EVERY, AGAIN
        self._looking: asyncio.Task[None] | None = None

    def fits(self, octets: int) -> bool:
        """Is there room for so much? By a sum that is old nobody is refused: whoever can wait asks ``ready`` before."""
        if not self._looked or self._held + self._added + octets <= self.most:
            return True
        if time.monotonic() - self._looked < self._again:
            return False
        self._look_soon()
        return True

    def took(self, octets: int) -> None:
        """So much is stored now."""
        self._added += octets

    async def ready(self, octets: int) -> None:
        """Before ``fits`` is asked for so much: take the sum again, where it is old, or would refuse it."""
        age = time.monotonic() - self._looked
        full = self._held + self._added + octets > self.most
        if not self._looked or age >= self._every or (full and age >= self._again):
            await asyncio.wait({self._look_soon()})  # whatever comes of it: without a sum nobody is refused

    def _look_soon(self) -> "asyncio.Task[None]":
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._ended)
        return self._looking

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._looking = None
        if not task.cancelled() and task.exception() is not None:
            log.event("domain.sum", "error", domain=self._name, error=repr(task.exception()))

    async def _look(self) -> None:
        begun, before = time.monotonic(), self._added
        total = 0
        for count, record in enumerate(self._accounts.each_account(self._name), 1):
            with suppress(MailError):  # one that cannot be read stops nobody
                with self._store.snapshot(Account(record.id, record.address)) as snapshot:
                    held = snapshot.holding(record.id)
                total += held.octets + held.kept
            if not count % AT_ONCE:
                await asyncio.sleep(0)
        self._held, self._added = total, self._added - before
        self._looked = time.monotonic()
        took = self._looked - begun
        self._every, self._again = max(EVERY, SHARE * took), max(AGAIN, SHARE_AGAIN * took)


class Pools:
    """Those of one worker."""

    def __init__(self, accounts: Accounts, store: Store) -> None:
        self._accounts, self._store = accounts, store
        self._pools: dict[str, Pool] = {}

    def of(self, domain: Domain | None) -> Pool | None:
        """None where the domain has no limit."""
        if domain is None or not domain.most_octets:
            return None
        name = comparable(domain.name)
        found = self._pools.get(name)
        if found is None:
            if len(self._pools) >= REMEMBERED:
                self._pools.clear()
            found = self._pools[name] = Pool(self._accounts, self._store, name, domain.most_octets)
        found.most = domain.most_octets
        return found
