"""Bounds the memory for long summaries on their way into the index.

A message of a few kilobytes may have a summary of a megabyte. The session has it in memory until the commit, and so has
the transaction that writes it: a hundred such sessions at once would need hundreds of megabytes.

Promise: together, all entries have at most the room's octets and one entry more. Work whose summaries are short never
waits. Whoever has waited longest goes first.
"""

import asyncio

LONG = 16384  # summaries up to so many octets do not count: nearly all are shorter
MOST = 16 << 20  # octets of long summaries at a time


class Room:
    """One for all work that fills the same memory."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._free = asyncio.Event()
        self.octets = 0
        self.full = most <= 0  # while it is, an entry that has to be counted waits

    def entry(self, octets: int = -1) -> "Entry":
        """Return an entry for ``async with``. ``octets`` of summaries that the work has; -1 if it is about to make
        them."""
        return Entry(self, octets)

    async def ready(self) -> None:
        """Wait while there is no room."""
        while self.full:
            self._free.clear()
            await self._free.wait()

    def change(self, octets: int) -> None:
        """Count so many octets more, or fewer if negative."""
        self.octets += octets
        self.full = self.octets >= self._most
        if not self.full:
            self._free.set()


class Entry:
    """One piece of work, while it is in the room. Whoever makes a summary for each message asks the room itself whether
    it is full, and ends with ``resize(0)``: that is what ``async with`` does, without two coroutines."""

    __slots__ = ("_octets", "_room", "counted")

    def __init__(self, room: Room, octets: int) -> None:
        self._room = room
        self._octets = octets
        self.counted = 0  # octets that it takes of the room

    async def __aenter__(self) -> "Entry":
        if not 0 <= self._octets <= LONG:
            await self._room.ready()
            self.resize(self._octets)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.resize(0)

    def resize(self, octets: int) -> None:
        """Set how many octets of summaries the work has now."""
        octets = octets if octets > LONG else 0
        if octets != self.counted:
            self._room.change(octets - self.counted)
            self.counted = octets
