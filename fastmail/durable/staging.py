"""Staged messages: content that is still coming in, kept in memory while it is small and in a temporary file beyond
that.

Promise: a large message needs SPILL octets of memory, whatever its size. All unfinished messages of a worker together
need what the worker's Budget allows, and LEAST octets for each message beyond that. The temporary file is removed when
the message is kept or dropped; files that a crash left are removed at the next start. They never hold an acknowledged
message.
"""

import asyncio
import itertools
import mmap
import os
import threading
from collections.abc import Callable, Iterable
from typing import BinaryIO

from fastmail.durable import beneath

Octets = bytes | bytearray | memoryview
SPILL = 131072  # octets in memory above which a message moves to a file
STREAM = 65536  # octets that a message in a file gathers in memory before they are written
PIECE = 65536  # octets of other content that are copied at once
LEAST = 16384  # octets that stay in memory even when the budget is used up: a file would cost more
SHARE = 8  # one account may use one eighth of the memory
MEMORY = 64 << 20  # octets of memory of one worker
_numbers = itertools.count(1)
_lock = threading.Lock()  # guards Staged._writing and ._dropped; held only for a moment, so one for all


class Budget:
    """Bounds what unfinished messages of a worker use: memory, and for each account the octets that clients announced
    (SIZE of MAIL).

    ``owner`` is an account; it is empty for a sender without a login, for whom only the bound of all memory counts."""

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        self.used = 0  # octets in memory, of all owners
        self._used: dict[str, int] = {}  # the same, by owner
        self._announced: dict[str, int] = {}

    def count(self, owner: str, octets: int) -> bool:
        """Count ``octets`` more in memory, or fewer if negative. True when more is in memory than allowed."""
        self.used += octets
        if not owner:
            return self.used > self.memory
        mine = self._used.get(owner, 0) + octets
        if mine > 0:
            self._used[owner] = mine
        else:
            self._used.pop(owner, None)
        return self.used > self.memory or mine > self.memory // SHARE

    def announce(self, owner: str, octets: int, most: int) -> bool:
        """Note that the owner is about to send ``octets``; negative when a message has ended.

        False, and nothing is noted, if all announced octets of the owner together would exceed ``most``."""
        mine = self._announced.get(owner, 0) + octets
        if octets > 0 and mine > most:
            return False
        if mine > 0:
            self._announced[owner] = mine
        else:
            self._announced.pop(owner, None)
        return True


class Staged:
    """The content of one message, with LF as line ends."""

    __slots__ = (
        "_announced",
        "_budget",
        "_chunks",
        "_directory",
        "_dropped",
        "_file",
        "_in_memory",
        "_owner",
        "_path",
        "_writing",
        "size",
        "tap",
    )

    def __init__(self, directory: str, budget: Budget | None = None, owner: str = "", announced: int = 0) -> None:
        """``announced``: octets that ``budget`` has noted for ``owner``, until ``drop``."""
        self._directory = directory
        self._budget = budget if budget is not None else Budget()
        self._owner = owner
        self._announced = announced
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path = ""
        self._in_memory = 0  # octets in memory
        self._writing = False  # a helper thread is using the file
        self._dropped = False
        self.size = 0
        self.tap: Callable[[bytes], None] | None = None  # called with all content as it is added

    def add(self, data: bytes) -> bool:
        """Add content in memory; True if the caller should await ``spill`` before it adds more."""
        if self.tap is not None:
            self.tap(data)
        self._chunks.append(data)
        self._in_memory += len(data)
        self.size += len(data)
        crowded = self._budget.count(self._owner, len(data))
        return self._in_memory > (LEAST if crowded else SPILL if self._file is None else STREAM)

    async def spill(self) -> None:
        """Write what is in memory to the file, on a helper thread."""
        chunks, self._chunks = self._chunks, []
        octets, self._in_memory = self._in_memory, 0
        self._writing = True
        try:
            # shielded: if the call were cancelled before a thread has started, nobody would remove the file
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._write, chunks))
        finally:
            self._budget.count(self._owner, -octets)

    def _write(self, chunks: list[bytes]) -> None:
        """Write chunks on the helper thread. If the message was dropped meanwhile, remove the file."""
        try:
            self._put(chunks)
        finally:
            with _lock:
                self._writing = False
                dropped = self._dropped
            if dropped:
                self._remove()

    def _put(self, chunks: list[bytes]) -> None:
        """Append chunks to the file, which is created with the first."""
        if self._file is None:
            self._path = os.path.join(self._directory, f"{os.getpid()}.{next(_numbers)}")
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "w+b", buffering=0)
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) or 0 :]

    def content(self) -> bytes | memoryview:
        """Return the whole content in one piece: a mapping of the file if there is one (``spill`` must have been
        awaited last)."""
        if self._file is None:
            self._chunks = [b"".join(self._chunks)]
            return self._chunks[0]
        return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)) if self.size else b""

    @property
    def spilled(self) -> bool:
        return self._file is not None

    def drop(self) -> None:
        """Discard the message. What ``content`` returned stays valid as long as it is referred to."""
        self._chunks = []
        self._budget.count(self._owner, -self._in_memory)
        self._in_memory = 0
        if self._announced:
            self._budget.announce(self._owner, -self._announced, 0)
            self._announced = 0
        if self._file is None and not self._writing:
            self._dropped = True
            return  # nothing was ever written, as nearly always, so no helper thread knows of it
        with _lock:
            self._dropped = True
            writing = self._writing
        if not writing:
            self._remove()

    def _remove(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            os.unlink(self._path)


async def staged_whole(staged: Staged, pieces: Iterable[Octets]) -> bytes | memoryview:
    """Return the pieces as one content, which is in a file and not in memory if it is large. It stays valid as long as
    it is referred to; ``staged`` itself is dropped."""
    try:
        for piece in pieces:
            for start in range(0, len(piece), PIECE):
                if staged.add(bytes(piece[start : start + PIECE])):
                    await staged.spill()
        if staged.spilled:
            await staged.spill()
        return staged.content()
    finally:
        staged.drop()


def clean(directory: str) -> None:
    """Create the directory at start, and remove the files that a crash left. A link is removed, not its target."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    top = beneath.guarded(directory)
    for name in beneath.names(top):
        try:
            beneath.unlink(os.path.join(top, name))
        except IsADirectoryError:
            beneath.remove_tree(os.path.join(top, name))
