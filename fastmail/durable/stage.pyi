from collections.abc import Sequence
from typing import Any

Octets = bytes | bytearray | memoryview
Job = tuple[bytes, bytes, bytes, Sequence[Octets] | None, int, int]

def keeps_order(fd: int) -> bool:
    """Does the journal of the file system that a descriptor is of keep the order of what is done?"""

class FileStage:
    """A native thread that puts files in place; see the module."""

    def __init__(self) -> None: ...
    def submit(self, token: Any, jobs: list[Job]) -> None:
        """Each job is (temporary path, final path, directory of it, chunks, mtime in s or -1, -1): written, synced,
        renamed; or, with chunks None, a link to the first path is made at the final path; or (b"", b"", b"", chunks,
        offset, descriptor): written at the offset and synced. At most 8 chunks."""

    def settled(self, tasks: int) -> None: ...
    def ping(self) -> None: ...
    def wait(self) -> list[tuple[Any, list[int]]]: ...
    def close(self) -> None: ...
