from collections.abc import Iterable
from typing import Any

from fastmail._core.leaves import Source
from fastmail._core.uidset import UidSet

Octets = bytes | bytearray | memoryview
Rows = Source | Iterable[tuple[Octets, Octets]]  # in key order

def up_to(rows: Rows, first: bytes, last: int, most: int) -> tuple[list[Any], int, bool]:
    """(values from the key ``first`` up to that of the UID ``last`` of its mailbox, ``most`` of them; the UID of the
    last key; are there more?)."""

def search_field(
    rows: Rows, prefix: Octets, uids: UidSet, name: bytes, needle: bytes
) -> tuple[list[int], list[tuple[int, list[bytes] | None]]]:
    """(UIDs whose cached field ``name`` contains ``needle``, both ASCII in lower case; UIDs whose field needs a
    decoder, with the values as they are; None where the fields are not cached, and behind a megabyte of values)."""

def search_addresses(
    rows: Rows, prefix: Octets, uids: UidSet, which: int, needle: bytes
) -> tuple[list[int], list[tuple[int, list[bytes] | None]]]:
    """The same for addresses in an element of the ENVELOPE (see envelope.pyi), as ``envelope.line`` writes them."""

def values(rows: Rows, prefix: Octets, uids: UidSet, names: tuple[bytes, ...]) -> dict[int, tuple[bytes | None, ...]]:
    """{uid: the first value of each field as it is, or None}; without those whose fields are not cached."""

def marks(rows: Rows, prefix: Octets, uids: UidSet) -> dict[int, bytes]:
    """{uid: mark and name of its content}, in UID order."""
