from collections.abc import Sequence

Octets = bytes | bytearray | memoryview
Write = tuple[bytes, bytes, bytes, Sequence[Octets] | None, int, int, bool]

def write_files(writes: list[Write]) -> list[int]:
    """Write, name or link files; return an errno for each, 0 for success. At most 8 chunks each. A write is one of

    (temporary path, final path, directory of it, chunks, mtime in s or -1, -1, synced): written and renamed;
    (old path, final path, directory of it, None, -1 or 0, -1, synced): a link; -1: its content needs no sync;
    (b"", b"", b"", chunks, offset, descriptor, synced): written at the offset of an open file.

    ``synced``: content and name are on the disk when it returns."""

def write_at(fd: int, parts: list[Octets], offset: int) -> None:
    """Write all parts, one after the other, from an offset of an open file; OSError."""
