Octets = bytes | bytearray | memoryview
IN_MOVED_FROM: int
IN_MOVED_TO: int
IN_CREATE: int
IN_DELETE: int
IN_CLOSE_WRITE: int
IN_Q_OVERFLOW: int
IN_IGNORED: int

def rename_batch(pairs: list[tuple[bytes, bytes]]) -> list[int]: ...
def sync_dirs(paths: list[bytes]) -> list[int]: ...

class NotOpened(OSError): ...

def sync_file_system(path: bytes) -> None:
    """Everything that was written to the file system that the directory lies on is on the disk when it returns;
    OSError."""

def link_batch(pairs: list[tuple[bytes, bytes]]) -> list[int]: ...
def unlink_batch(paths: list[bytes]) -> list[int]: ...
def open_fd(path: bytes, flags: int, mode: int = 0o600) -> int: ...
def parent(path: bytes) -> tuple[int, bytes]:
    """Return (descriptor of the path's directory, to be closed; name in it); (-1, path) if it is not guarded."""

def directory_times(paths: list[bytes]) -> list[int]:
    """Return the change times of directories in ns; -1 for a path that is no directory."""

def touch_batch(paths: list[bytes]) -> None:
    """Read files into the page cache, some megabytes at most."""

def make_file(path: bytes, content: bytes) -> bool:
    """A new file, mode 0600, written in one go; False when there is one already. OSError, and no file, where it cannot
    be written."""

def read_file(path: bytes, nowait: bool = False) -> bytes | None:
    """A regular file's octets; with ``nowait`` None when the page cache does not hold them. OSError otherwise."""

class Directory:
    """Files of one directory, read one after the other. Close it soon: a guarded path's ROOT stays open until then."""

    def __init__(self, path: bytes) -> None: ...
    def close(self) -> None: ...
    def read_now(self, name: bytes) -> bytes | None:
        """A regular file's octets, by its name below the directory; None when the page cache does not hold them.
        OSError otherwise."""

def same_batch(paths: list[bytes], contents: list[Octets]) -> list[bool]:
    """For each path: True if it is a regular file with exactly this content; False if it cannot be read."""

def same_pieces(path: bytes, offsets: list[int], contents: list[Octets]) -> list[bool]:
    """For each offset: True if the file has these octets there. All False if it cannot be read."""

class Inotify:
    fd: int
    def __init__(self) -> None: ...
    def close(self) -> None: ...
    def add(self, path: bytes, mask: int) -> int: ...
    def remove(self, wd: int) -> None: ...
    def read(self) -> list[tuple[int, int, bytes]]: ...

class Mapped:
    """The first ``size`` octets of a file as a buffer, which may be more than it has: nothing after its end may be
    read before it has grown. OSError where it cannot be mapped."""

    size: int
    def __init__(self, path: bytes, size: int) -> None: ...
    def end(self) -> int:
        """Return the present size of the file in octets."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
