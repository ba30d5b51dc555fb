from collections.abc import Iterable
from typing import Any

from fastmail._core.uidset import UidSet

Octets = bytes | bytearray | memoryview

class Damaged(Exception): ...

class Source:
    """Rows in key order, for _core.rows and Summaries; used for one pass."""

class Pairs(Source):
    """Rows of an iterable of (key, value)."""

    def __init__(self, rows: Iterable[tuple[Octets, Octets]]) -> None: ...

class Table(Source):
    """Rows of a table in an LMDB file, read from its map. Valid until the transaction ends."""

def table(octets: Any, txn: int, name: bytes, end: int = -1) -> Table | None:
    """The table ``name`` as transaction ``txn`` sees it, in the map of its file, which may be longer than the ``end``
    octets that the file has.

    None when the file is of another kind, larger than the map, or no longer has the root of that transaction: then
    LMDB itself is to be asked. The caller holds the transaction open as long as anything here is used. Damaged when a
    page on the way is not what it should be.
    """

class Summaries:
    """Summaries of a mailbox (``prefix``, 12 octets), each found when it is asked for: in the table ``msg``, else in
    ``more``, which has ``get`` and ``items`` by UID. What is lent dies with the transaction."""

    def __init__(self, table: Table, prefix: bytes, uids: UidSet, more: Any) -> None: ...
    def get(self, uid: int) -> Octets | None: ...
    def items(self) -> list[tuple[int, Octets]]: ...
