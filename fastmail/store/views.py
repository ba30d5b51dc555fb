"""Who has a view of a mailbox: what is expunged is kept for a while only where another session may still see it.

A session announces its view before it takes the snapshot that the view is of, and takes the announcement back when it
leaves. Who removes messages announces that, and then looks for other views. Each does the first before the second, so
of a session that comes and a removal that goes on at the same moment at least one sees the other: either the removal
keeps what it removes, or the session waits until the removal is committed, and never sees those messages.

Promise: no view of a running worker is missed. The maps only say "perhaps" (see watchmap), and a command that runs
beside the workers cannot announce anything to them: both mean that something is kept which nobody needs. A session
waits at most PATIENCE for a removal; after that a message of its view may be gone when it asks for it.
"""

import asyncio
import os
import threading

from fastmail.store.watchmap import WatchMap

VIEWED = 1 << 17  # octets of the map of views: with 10,000 mailboxes in view in a worker, a hundredth of all seem to be
STEP = 0.002  # s between two looks whether a removal is over
PATIENCE = 1.0  # s


class Views:
    """The views and removals of one worker, and what the others tell of theirs."""

    def __init__(self) -> None:
        self._views: dict[bytes, int] = {}
        self._removals: dict[bytes, int] = {}
        self._viewed: WatchMap | None = None  # what others see of the two counters
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
        """This process is a command beside the workers: it takes for granted that they have views."""
        self._beside = True

    # ---------------------------------------------------------------- sessions

    async def begin(self, key: bytes) -> None:
        """A session is about to take a view of the mailbox. ``end`` must follow."""
        self._views[key] = self._views.get(key, 0) + 1
        if self._viewed is not None:
            self._viewed.add(key)
        self._settle_order()
        try:
            for _ in range(int(PATIENCE / STEP)):
                if not self._is_removed_from(key):
                    return
                await asyncio.sleep(STEP)
        except BaseException:
            self.end(key)
            raise

    def end(self, key: bytes) -> None:
        """The session's view is gone."""
        _less(self._views, key)
        if self._viewed is not None:
            self._viewed.remove(key)

    def _is_removed_from(self, key: bytes) -> bool:
        return key in self._removals or any(removing.has(key) for _, removing in self._peers)

    # ---------------------------------------------------------------- removals

    def begin_removal(self, key: bytes, mine: int) -> bool:
        """Messages of the mailbox are about to be removed: may another session see them? ``mine``: views of the
        mailbox that are the caller's own, who will not ask for them. ``end_removal`` must follow."""
        self._removals[key] = self._removals.get(key, 0) + 1
        if self._removing is not None:
            self._removing.add(key)
        self._settle_order()
        return self.elsewhere(key, mine)

    def end_removal(self, key: bytes) -> None:
        """It is committed, or given up."""
        _less(self._removals, key)
        if self._removing is not None:
            self._removing.remove(key)

    def elsewhere(self, key: bytes, mine: int) -> bool:
        """May there be more views of the mailbox than these of the caller's?"""
        if self._beside or self._views.get(key, 0) > mine:
            return True
        return any(viewed.has(key) for viewed, _ in self._peers)

    def _settle_order(self) -> None:
        """What was announced is seen by the others before anything is read that they announced: taking a lock is a
        barrier for the processor's memory too."""
        with self._order:
            pass


def _less(counts: dict[bytes, int], key: bytes) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
