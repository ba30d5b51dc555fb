from array import array
from collections.abc import Iterable

from fastmail._core.uidset import UidSet

Octets = bytes | bytearray | memoryview
NAMES: dict[bytes, int]  # what ``values`` can be asked for, by its name in SORT

def base_subject(value: Octets) -> tuple[bytes, bool]:
    """(base subject of a value that was decoded to UTF-8, in the case in which it is written; is it that of a reply or
    forward?) (RFC 5256 2.1)."""

def sent_date(value: Octets) -> int | None:
    """Seconds since 1970 UTC of a Date field's value; None when it has no day, month and year."""

def message_ids(value: Octets) -> list[bytes]:
    """The ids of a References, In-Reply-To or Message-ID field, without brackets and without needless quoting."""

def arrived(pages: Iterable[Octets], uids: UidSet) -> tuple[list[int], list[int], list[int]]:
    """(UIDs, internal dates in seconds since 1970 UTC, sizes in octets) of the messages of index pages that are in
    ``uids``, in UID order."""

def values(
    uids: list[int], items: list[tuple[int, Octets]], what: int
) -> tuple[list[bytes | int | None], list[tuple[int, bytes, bytes]], list[int]]:
    """What ``what`` of NAMES compares of each of ``uids``, from (UID, summary) pairs, both in UID order.

    Returns (values; values to decode; places without a usable summary). A value is a key in octets, or a number for a
    date and None where it cannot be read. To decode: (place, octets, octets that stand for it when nothing is left).
    """

def ranked(columns: list[tuple[list[bytes | int], bool]], n: int) -> list[int]:
    """The places 0 .. n - 1 in the order of their values: by the first column, then the next, then by place. A column
    is (values, reverse). The GIL is free while they are compared."""

def kept(uids: array[int] | memoryview, wanted: UidSet) -> bytes:
    """Those of ``uids`` (u32, in any order) that are wanted, in the same order, as octets of an array("I")."""

def numbered(uids: array[int] | memoryview, view: UidSet | None) -> bytes:
    """`` 4 1 3``: the sequence number of each UID in ``view``, or the UIDs, each led by a space."""
