"""Announced views: expunged messages are kept for a while only if another session may still see them.

A session announces its view before it takes the view's snapshot, and withdraws the announcement when it leaves the
mailbox. An operation that removes messages announces that first, and then looks for other views. As each side announces
before it looks, at least one sees the other when a session comes during a removal: either the removal keeps the
messages, or the session waits until the removal is committed and never sees them.

Promise: no view of a running worker is missed. The maps may say "perhaps" for a mailbox without views (see watchmap),
and a command beside the workers cannot announce anything to them; in both cases a message is kept that no session
needs. A session waits at most PATIENCE for a removal; after that, a message of its view may be missing when it asks.
"""

import asyncio
import os
import threading

from fastmail.store.watchmap import WatchMap

VIEWED = 1 << 17  # octets of the map of views: with 10,000 viewed mailboxes, one in a hundred others seems viewed too
STEP = 0.002  # s between two looks whether a removal has ended
PATIENCE = 1.0  # s that a session waits for removals at most


class Views:
    """The views and removals of one worker, and the maps of the others."""

    def __init__(self) -> None:
        self._views: dict[bytes, int] = {}
        self._removals: dict[bytes, int] = {}
        self._viewed: WatchMap | None = None  # this and the next show the two counters to other workers
        self._removing: WatchMap | None = None
        self._peers: list[tuple[WatchMap, WatchMap]] = []
        self._beside = False
        self._order = threading.Lock()

    def start(self, directory: str, own: int, workers: int) -> None:
        """Share announcements with the other workers."""

        def maps(n: int) -> tuple[WatchMap, WatchMap]:
            viewed = WatchMap(os.path.join(directory, f"viewed.{n}"), n == own, VIEWED)
            return viewed, WatchMap(os.path.join(directory, f"removing.{n}"), n == own)

        self._viewed, self._removing = maps(own)
        self._peers = [maps(n) for n in range(workers) if n != own]

    def beside(self) -> None:
        """Declare this process a command beside the workers: it assumes that they have views of every mailbox."""
        self._beside = True

    # ---------------------------------------------------------------- sessions

    async def begin(self, key: bytes) -> None:
        """Announce a view of the mailbox, before its snapshot is taken. ``end`` must follow."""
        self._views[key] = self._views.get(key, 0) + 1
        if self._viewed is not None:
            self._viewed.add(key)
        self._memory_barrier()
        try:
            for _ in range(int(PATIENCE / STEP)):
                if not self._is_removed_from(key):
                    return
                await asyncio.sleep(STEP)
        except BaseException:
            self.end(key)
            raise

    def end(self, key: bytes) -> None:
        """Withdraw the announcement of a view."""
        _less(self._views, key)
        if self._viewed is not None:
            self._viewed.remove(key)

    def _is_removed_from(self, key: bytes) -> bool:
        return key in self._removals or any(removing.has(key) for _, removing in self._peers)

    # ---------------------------------------------------------------- removals

    def begin_removal(self, key: bytes, mine: int) -> bool:
        """Announce a removal from the mailbox; True if another session may see the messages. ``end_removal`` must
        follow.

        ``mine``: how many views of the mailbox are the caller's own and do not count."""
        self._removals[key] = self._removals.get(key, 0) + 1
        if self._removing is not None:
            self._removing.add(key)
        self._memory_barrier()
        return self.elsewhere(key, mine)

    def end_removal(self, key: bytes) -> None:
        """The removal is committed, or was given up."""
        _less(self._removals, key)
        if self._removing is not None:
            self._removing.remove(key)

    def elsewhere(self, key: bytes, mine: int) -> bool:
        """True if there may be more views of the mailbox than the caller's ``mine``."""
        if self._beside or self._views.get(key, 0) > mine:
            return True
        return any(viewed.has(key) for viewed, _ in self._peers)

    def _memory_barrier(self) -> None:
        """Make sure that others see our announcement before we read theirs: taking a lock is a memory barrier."""
        with self._order:
            pass


def _less(counts: dict[bytes, int], key: bytes) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
