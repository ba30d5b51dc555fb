"""Content on its way in: in memory while small, in a file of its own beyond that.

Promise: a large message costs SPILL octets of memory, whatever its size. The file is unlinked when the message is
kept or dropped, and what a crash left is removed at the next start; it never held anything acknowledged.
"""

import asyncio
import itertools
import mmap
import os
from typing import BinaryIO

from fastmail.durable import beneath

SPILL = 131072
STREAM = 65536  # octets that one that is in a file already keeps in memory
_numbers = itertools.count(1)


class Staged:
    """One message's content with LF."""

    __slots__ = ("_chunks", "_directory", "_file", "_held", "_path", "size")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path = ""
        self._held = 0  # octets in memory
        self.size = 0

    def add(self, data: bytes) -> bool:
        """Keep more content in memory; True when ``spill`` should be awaited before more is taken."""
        self._chunks.append(data)
        self._held += len(data)
        self.size += len(data)
        return self._held > (SPILL if self._file is None else STREAM)

    async def spill(self) -> None:
        """Move what is in memory to the file, on a helper thread."""
        chunks, self._chunks = self._chunks, []
        self._held = 0
        await asyncio.get_running_loop().run_in_executor(None, self._write, chunks)

    def _write(self, chunks: list[bytes]) -> None:
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
