from collections.abc import Sequence

Octets = bytes | bytearray | memoryview
PUT: int
DELETE: int
CLEAR: int
MADE: int
PIECE: int
LINKED: int
AGAIN: int

def read(body: memoryview, tables: tuple[str, ...], rows: bool = True) -> list[tuple[int, str, bytes, memoryview]]:
    """The entries of a record: kind, table (empty for files), key, value. Without ``rows`` only those of files."""

class Record:
    """Entries in their order. Small ones are copied, long content is kept as it is until the record is written."""

    def __init__(self) -> None: ...
    def add(self, kind: int, table: int, key: Octets, value: Octets = b"") -> None:
        """An entry without long content."""

    def add_content(self, kind: int, key: bytes, before: bytes, content: Sequence[Octets]) -> None:
        """An entry whose value may be long: ``before``, then the buffers of ``content``. Of several that end with the
        same object only the first has it."""

    def __bool__(self) -> bool: ...
    def body(self) -> tuple[list[Octets], int]:
        """(its parts, octets in all). Nothing may be added while the parts are kept."""
