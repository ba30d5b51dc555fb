"""Flags are bits: 1 Seen, 2 Answered, 4 Flagged, 8 Deleted, 16 Draft. Keywords are 64 bits, named per mailbox.

A record as a tuple: (uid, flags, modseq, keywords, internal date, RFC822.SIZE, save date); dates are seconds
since 1970 UTC. A page covers UIDs base .. base+31 with base a multiple of 32.
"""

from collections.abc import Iterable

from fastmail._core.uidset import UidSet

Octets = bytes | bytearray | memoryview
Record = tuple[int, int, int, int, int, int, int]

class Field:
    """Places in a Record; their numbers are in pages.pxd."""

    UID: int
    FLAGS: int
    MODSEQ: int
    KEYWORDS: int
    DATE: int
    SIZE: int
    SAVED: int

class Head:
    """Places in what ``head`` returns; their numbers are in pages.pxd."""

    COUNT: int
    MODSEQ: int
    PRESENT: int
    UNSEEN: int

class Op:
    """Operations of a search program; their numbers, and what they do, are in pages.pxd."""

    ALL: int
    FLAGS: int
    KEYWORD: int
    LARGER: int
    SMALLER: int
    DATE: int
    UIDS: int
    MODSEQ: int
    NOT: int
    AND: int
    OR: int
    SAVED: int

def head(page: Octets) -> tuple[int, int, int, int]:
    """(records, highest modseq, presence bits, unseen bits); see ``Head``."""

def span(page: Octets) -> tuple[int, int]:
    """First and last UID, zeros for an empty page."""

def presence(page: Octets) -> int: ...
def pack(uid: int, flags: int, modseq: int, keywords: int, date: int, size: int, saved: int) -> bytes:
    """One record as it lies in a page: RECORD octets."""

def extend(page: Octets | None, packed: Octets) -> bytes:
    """The page with packed records behind its own; ValueError unless their UIDs ascend and belong to it."""

def chosen(found: Iterable[Octets], uids: UidSet) -> tuple[bytes, list[int], set[int]]:
    """The records of these UIDs in pages, which are in order: (packed records, their UIDs, all keywords that they
    have)."""

def copied(packed: Octets, first: int, modseq: int, keywords: dict[int, int], saved: int) -> bytes:
    """Packed records for copies of these messages: the UIDs from ``first`` on, this MODSEQ and save date.

    ``keywords``: what becomes of the keywords of a record, if it has any. KeyError if that is not said."""

def tally(packed: Octets) -> tuple[int, int, int]:
    """(unseen, deleted, octets) of packed records."""

def update(
    page: Octets, uids: UidSet, mode: int, flags: int, keywords: int, modseq: int, unchanged_since: int
) -> tuple[bytes | None, list[int], list[int], list[int], int, int]:
    """STORE on one page: mode 0 replaces, 1 adds, -1 removes.

    (new page or None, changed UIDs, UIDs already so, UIDs refused by UNCHANGEDSINCE, change of the unseen count,
    change of the deleted count). ``unchanged_since`` is 2**64-1 to accept all.
    """

def remove(page: Octets, uids: UidSet, required: int) -> tuple[bytes, list[int], int, int, int]:
    """Drop those of ``uids`` that have all ``required`` flags: (page, gone, unseen gone, deleted gone, octets)."""

def records(page: Octets) -> list[Record]: ...
def changed_since(page: Octets, within: UidSet, modseq: int) -> list[int]:
    """UIDs in ``within`` whose MODSEQ is above ``modseq``."""

def sizes(page: Octets, within: UidSet) -> list[int]:
    """RFC822.SIZE of those of ``within`` that the page holds, in UID order."""

def listed(pages: Iterable[Octets]) -> tuple[bytes, bytes]:
    """(UIDs, RFC822.SIZE) of all messages of index pages in UID order, each as 32-bit numbers of this machine."""

def search(pages: Iterable[Octets], within: UidSet, program: object, sets: list[UidSet]) -> list[int]:
    """UIDs of all pages for which the postfix ``program`` (int64 triples: operation, a, b) is true.

    Operations are those of ``Op``. ValueError for a program that lacks operands, names a bit or a set that there is
    not, leaves not exactly one answer, or nests more than 128 deep.
    """
