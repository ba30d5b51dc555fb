from collections.abc import Iterable
from typing import Any

from fastmail._core.uidset import UidSet

Octets = bytes | bytearray | memoryview

def up_to(rows: Iterable[tuple[Octets, Octets]], prefix: Octets, last: int, most: int) -> tuple[list[Any], int, bool]:
    """(values up to the key of ``last``, ``most`` of them; the UID of the last key; are there more?)."""

def summaries(rows: Iterable[tuple[Octets, Octets]], prefix: Octets, uids: UidSet) -> dict[int, Any]:
    """{uid: summary} of rows in key order, up to the last of ``uids`` or the end of the mailbox; the summaries are
    slices of the values."""

def search_field(
    rows: Iterable[tuple[Octets, Octets]], prefix: Octets, uids: UidSet, name: bytes, needle: bytes
) -> tuple[list[int], list[tuple[int, list[bytes] | None]]]:
    """(UIDs whose cached field ``name`` contains ``needle``, both ASCII in lower case; UIDs whose field needs a
    decoder, with the values as they are; None where the fields are not cached)."""

def values(
    rows: Iterable[tuple[Octets, Octets]], prefix: Octets, uids: UidSet, names: tuple[bytes, ...]
) -> dict[int, tuple[bytes | None, ...]]:
    """{uid: the first value of each field as it is, or None}; without those whose fields are not cached."""
