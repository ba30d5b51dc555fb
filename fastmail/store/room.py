"""Room in memory for long summaries on their way into the index.

A message of some kilobytes may have a summary of a megabyte. Its session has it until the commit, and so has the
transaction that writes it: a hundred sessions at once would have hundreds of megabytes.

Promise: all entries together have at most the room's octets and one entry. Work whose summaries are known to be short
waits for nobody. Who waits longest is first.
"""

import asyncio

LONG = 16384  # octets of summaries that count here: those of nearly all messages do not
MOST = 16 << 20


class Room:
    """One for everything that fills the same memory."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._free = asyncio.Event()
        self.octets = 0

    def entry(self, octets: int = -1) -> "Entry":
        """For ``async with``: work that has so many octets of summaries, -1 when it is about to make them."""
        return Entry(self, octets)

    async def ready(self) -> None:
        """Wait while there is no room."""
        while self.octets >= self._most:
            self._free.clear()
            await self._free.wait()

    def change(self, octets: int) -> None:
        """So much more, or less."""
        self.octets += octets
        if self.octets < self._most:
            self._free.set()


class Entry:
    """One piece of work, while it is entered."""

    __slots__ = ("_counted", "_octets", "_room")

    def __init__(self, room: Room, octets: int) -> None:
        self._room = room
        self._octets = octets
        self._counted = 0

    async def __aenter__(self) -> "Entry":
        if not 0 <= self._octets <= LONG:
            await self._room.ready()
            self.holds(self._octets)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.holds(0)

    def holds(self, octets: int) -> None:
        """It has so many octets of summaries now."""
        octets = octets if octets > LONG else 0
        if octets != self._counted:
            self._room.change(octets - self._counted)
            self._counted = octets
