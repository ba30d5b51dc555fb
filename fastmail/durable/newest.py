"""Tells without a transaction whether an LMDB file has had a commit since a known one.

Each commit writes its number into one of the two meta pages at the front of the file, and only then shows itself to
readers. So while neither page has a higher number than the last commit that a reader saw, there is no newer one. The
other way round nothing can be concluded: a commit whose page is written may still be on its way to the readers.
"""

import mmap
import os

from fastmail.durable.salvage import HEAD, TOP

U64 = 8  # octets of a transaction's number
NUMBER_AT = HEAD.size + TOP.size - U64  # it is the last field of a meta page


class MetaPages:
    """The meta pages of an open LMDB file, mapped for as long as this object lives. ``page``: octets of a page.

    The kernel shows what was written to the file in the map at once, also what another process wrote."""

    __slots__ = ("_first", "_numbers", "_second")

    def __init__(self, path: str, page: int) -> None:
        with open(os.path.join(path, "data.mdb"), "rb", buffering=0) as file:
            pages = mmap.mmap(file.fileno(), 2 * page, mmap.MAP_SHARED, mmap.PROT_READ)
        self._numbers = memoryview(pages).cast("Q")
        self._first, self._second = NUMBER_AT // U64, (page + NUMBER_AT) // U64

    def newest(self) -> int:
        """Return the highest number of a commit in the file."""
        first, second = self._numbers[self._first], self._numbers[self._second]
        return first if first > second else second
