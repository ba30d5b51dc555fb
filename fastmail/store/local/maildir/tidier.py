"""When housekeeping runs: soon after a change, one mailbox after the other, and later again where it failed.

What is to be done stands in the index (see housekeeping); here is only which mailboxes this process has to look at.
"""

import asyncio
from collections.abc import Awaitable, Callable

from fastmail.model.errors import NoSuchMailbox, StorageFailed
from fastmail.store.interface import Account
from fastmail.telemetry import log

DELAY = 0.3  # s after a change, so that several changes are one round
LONGEST_DELAY = 5.0  # s until it is tried again where it failed
One = Callable[[Account, bytes], Awaitable[bool]]  # tidies one mailbox; True where something is left to do


class Tidier:
    """One for each store. ``one`` does the work for one mailbox."""

    def __init__(self, one: One) -> None:
        self._one = one
        self._untidy: dict[bytes, Account] = {}
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def touch(self, account: Account, key: bytes) -> None:
        """File names or files of this mailbox have to follow the index soon."""
        self._untidy[key] = account
        if self._task is None and not self._closing:
            self._task = asyncio.get_running_loop().create_task(self._run(DELAY))

    async def close(self) -> None:
        """Do at once what is left, and no more afterwards."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._untidy:
            await asyncio.gather(self._run(0), return_exceptions=True)

    async def _run(self, delay: float) -> None:
        work: dict[bytes, Account] = {}
        try:
            while self._untidy:
                await asyncio.sleep(delay)
                work, self._untidy = self._untidy, {}
                pause = DELAY
                for key, account in work.items():
                    try:
                        again = await self._one(account, key)
                    except (OSError, NoSuchMailbox):
                        continue
                    except StorageFailed as error:
                        log.event("store.tidy_later", "warning", account=account.address, error=error)
                        again, pause = not self._closing, min(max(delay, pause) * 2, LONGEST_DELAY)
                    except Exception as error:  # one mailbox must not stop the others
                        log.event("store.bug", "error", account=account.address, error=repr(error))
                        continue
                    if again:
                        self._untidy[key] = account
                delay = pause
        except asyncio.CancelledError:
            self._untidy = work | self._untidy
            raise
        finally:
            self._task = None
