"""Members of mailing lists as a source names them, kept on the disk while they are brought over: a list may have more
than memory should hold. They come in any order, and go in the order of the directory's rows, so that both are compared
side by side (directory.followed_lists).

Most readings say what the last one said, so a row that comes is only counted and kept as it is; what is in it is looked
at when somebody asks for members.

Promises: the file is this process's alone and gone with it; what is in memory at once is a page of rows. Two readings
of the same rows are equal, in whatever order they came.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from fastmail.directory import fields, once
from fastmail.directory.records import Member
from fastmail.directory.rows import address_key, member_key
from fastmail.model.errors import ClientError

PAGE = 1000  # rows that are read at once
MEMORY = 2048  # KiB of SQLite's cache
MASK = (1 << 64) - 1
_TABLES = (
    "CREATE TABLE said (of TEXT, address TEXT, name TEXT)",
    "CREATE TABLE members (of BLOB, at BLOB, address TEXT, name TEXT, PRIMARY KEY (of, at)) WITHOUT ROWID",
)
Said = tuple[str, str, str]  # the addresses of a list and of a member, and the member's name


class Incoming:
    """One reading. Used by one thread at a time; ``close`` it."""

    def __init__(self) -> None:
        self._base: sqlite3.Connection | None = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for one in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{MEMORY}"):
            self._base.execute(f"PRAGMA {one}")
        for one in _TABLES:
            self._base.execute(one)
        self._base.execute("BEGIN")
        self._count = 0
        self._sum = 0  # of the hashes of all rows: the same whatever their order. Nobody outside knows the hash's key.
        self._is_ready = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Incoming) and (self._count, self._sum) == (other._count, other._sum)

    __hash__ = None  # type: ignore[assignment]

    def add(self, members: Iterable[Said]) -> None:
        """Add members, before any are asked for."""
        assert self._base is not None and not self._is_ready
        rows = list(members)
        self._base.executemany("INSERT INTO said VALUES (?, ?, ?)", rows)
        self._count += len(rows)
        self._sum = (self._sum + sum(map(hash, rows))) & MASK

    def of(self, address: str) -> Iterator[tuple[bytes, Member]]:
        """Give the members of a list with the keys of their rows, in the order of these. The log names addresses that
        are none; of two that are the same the first counts."""
        assert self._base is not None
        if not self._is_ready:
            self._look(self._base)
        asked = "SELECT at, address, name FROM members WHERE of = ? ORDER BY at"
        cursor = self._base.execute(asked, (address_key(address),))
        while page := cursor.fetchmany(PAGE):
            for at, plain, name in page:
                yield at, Member(plain, name, source=True)

    def _look(self, base: sqlite3.Connection) -> None:
        cursor = base.execute("SELECT of, address, name FROM said")
        while page := cursor.fetchmany(PAGE):
            base.executemany("INSERT OR IGNORE INTO members VALUES (?, ?, ?, ?)", filter(None, map(_row, page)))
        self._is_ready = True

    def close(self) -> None:
        """Let go of the file; what was counted stays to be compared."""
        if self._base is not None:
            self._base.close()
            self._base = None


def _row(said: Sequence[str]) -> tuple[bytes, bytes, str, str] | None:
    of, address, name = said
    try:
        plain = fields.address(address.strip())
    except (ClientError, ValueError):
        once.event("directory.member", list=of[:100], address=address[:100], why="no usable address")
        return None
    key = address_key(of)
    at = member_key(key, plain)
    if not key or not at:
        return None
    return key, at, plain, name if len(name) <= fields.LINE and name.isprintable() else ""
