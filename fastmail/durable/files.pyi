from collections.abc import Sequence

Octets = bytes | bytearray | memoryview
IN_MOVED_FROM: int
IN_MOVED_TO: int
IN_CREATE: int
IN_DELETE: int
IN_CLOSE_WRITE: int
IN_Q_OVERFLOW: int
IN_IGNORED: int

def place(jobs: list[tuple[bytes, bytes, bytes, Sequence[Octets], int]]) -> list[int]:
    """For each (temporary path, final path, directory of it, chunks, mtime in s or -1): write the temporary file, sync
    it, rename it, sync the directory. An errno, or 0, for each; the caller keeps the job's octets alive and unlinks
    the final path of one that failed."""

def rename_batch(pairs: list[tuple[bytes, bytes]]) -> list[int]: ...
def sync_dirs(paths: list[bytes]) -> list[int]: ...
def unlink_batch(paths: list[bytes]) -> list[int]: ...
def read_file(path: bytes, nowait: bool = False) -> bytes | None:
    """A regular file's octets; with ``nowait`` None when the page cache does not hold them. OSError otherwise."""

class Inotify:
    fd: int
    def __init__(self) -> None: ...
    def close(self) -> None: ...
    def add(self, path: bytes, mask: int) -> int: ...
    def remove(self, wd: int) -> None: ...
    def read(self) -> list[tuple[int, int, bytes]]: ...
