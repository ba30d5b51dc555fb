"""Content on its way in: in memory while small, in a file of its own beyond that.

Promise: a large message costs SPILL octets of memory, whatever its size; all messages of a worker that have not come to
their end cost what the worker's Budget allows, and LEAST octets for each beyond that. The file is unlinked when the
message is kept or dropped, and what a crash left is removed at the next start; it never held anything acknowledged.
"""

import asyncio
import itertools
import mmap
import os
import threading
from collections.abc import Callable
from typing import BinaryIO

from fastmail.durable import beneath

SPILL = 131072
STREAM = 65536  # octets that one that is in a file already keeps in memory
LEAST = 16384  # octets that are not worth a file
SHARE = 8  # an account has one part in so many of the memory
MEMORY = 64 << 20
_numbers = itertools.count(1)


class Budget:
    """What messages on their way in may take: of a worker's memory, and, announced, for each account.

    ``owner`` is an account, or empty for a sender without a login, who has a share of the memory only.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        self.held = 0  # octets in memory
        self._held: dict[str, int] = {}  # the same, by owner
        self._announced: dict[str, int] = {}

    def hold(self, owner: str, octets: int) -> bool:
        """So many more (or less) octets are in memory; True when that is more than may be."""
        self.held += octets
        if not owner:
            return self.held > self.memory
        mine = self._held.get(owner, 0) + octets
        if mine > 0:
            self._held[owner] = mine
        else:
            self._held.pop(owner, None)
        return self.held > self.memory or mine > self.memory // SHARE

    def announce(self, owner: str, octets: int, most: int) -> bool:
        """The owner is about to send so much; False, and nothing is noted, when all that is under way would be more
        than ``most``."""
        mine = self._announced.get(owner, 0) + octets
        if octets > 0 and mine > most:
            return False
        if mine > 0:
            self._announced[owner] = mine
        else:
            self._announced.pop(owner, None)
        return True


class Staged:
    """One message's content with LF."""

    __slots__ = (
        "_announced",
        "_budget",
        "_chunks",
        "_directory",
        "_dropped",
        "_file",
        "_held",
        "_lock",
        "_owner",
        "_path",
        "_writing",
        "size",
        "tap",
    )

    def __init__(self, directory: str, budget: Budget | None = None, owner: str = "", announced: int = 0) -> None:
        """``announced``: octets that ``budget`` noted for ``owner`` until this is dropped."""
        self._directory = directory
        self._budget = budget if budget is not None else Budget()
        self._owner = owner
        self._announced = announced
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path = ""
        self._held = 0  # octets in memory
        self._lock = threading.Lock()  # of the two below, for a moment
        self._writing = False  # a helper thread has the file
        self._dropped = False
        self.size = 0
        self.tap: Callable[[bytes], None] | None = None  # hears of all content as it is added

    def add(self, data: bytes) -> bool:
        """Keep more content in memory; True when ``spill`` should be awaited before more is taken."""
        if self.tap is not None:
            self.tap(data)
        self._chunks.append(data)
        self._held += len(data)
        self.size += len(data)
        crowded = self._budget.hold(self._owner, len(data))
        return self._held > (LEAST if crowded else SPILL if self._file is None else STREAM)

    async def spill(self) -> None:
        """Move what is in memory to the file, on a helper thread."""
        chunks, self._chunks = self._chunks, []
        held, self._held = self._held, 0
        self._writing = True
        try:
            # shielded: work that is cancelled before a thread has begun it would leave the file to nobody
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._write, chunks))
        finally:
            self._budget.hold(self._owner, -held)

    def _write(self, chunks: list[bytes]) -> None:
        """On the helper thread. The session may be gone meanwhile: then the file goes too."""
        try:
            self._put(chunks)
        finally:
            with self._lock:
                self._writing = False
                dropped = self._dropped
            if dropped:
                self._remove()

    def _put(self, chunks: list[bytes]) -> None:
        if self._file is None:
            self._path = os.path.join(self._directory, f"{os.getpid()}.{next(_numbers)}")
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "w+b", buffering=0)
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) or 0 :]

    def content(self) -> bytes | memoryview:
        """All of it, in one piece; a mapping of the file when it was spilled (after a last ``spill``)."""
        if self._file is None:
            self._chunks = [b"".join(self._chunks)]
            return self._chunks[0]
        return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)) if self.size else b""

    @property
    def spilled(self) -> bool:
        return self._file is not None

    def drop(self) -> None:
        """Forget it; what ``content`` returned stays valid as long as somebody holds it."""
        self._chunks = []
        self._budget.hold(self._owner, -self._held)
        self._held = 0
        self._budget.announce(self._owner, -self._announced, 0)
        self._announced = 0
        with self._lock:
            self._dropped = True
            writing = self._writing
        if not writing:
            self._remove()

    def _remove(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            os.unlink(self._path)


def clean(directory: str) -> None:
    """At start: make the directory, and remove what a crash left. Links in it go, what they lead to stays."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    top = beneath.mark(directory)
    for name in beneath.names(top):
        try:
            beneath.unlink(os.path.join(top, name))
        except IsADirectoryError:
            beneath.remove_tree(os.path.join(top, name))
