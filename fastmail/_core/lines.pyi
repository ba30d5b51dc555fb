from array import array
from collections.abc import Set

Octets = bytes | bytearray | memoryview

class ContentReader:
    """Content off the wire, kept with LF. ``dots``: True for DATA, False for BDAT and literals.
    ``limit``: octets with CRLF.
    ``strict``: drop content that has a bare CR, a bare LF or NUL; otherwise keep it, with the marks set all the same.

    ``size`` counts octets as served. After ``full`` (over the limit), ``bare`` (a bare CR or LF) or ``nul``,
    content is dropped but the end is still found, so the session stays usable.
    """

    done: bool
    bare: bool
    nul: bool
    full: bool
    size: int
    limit: int
    def __init__(self, dots: bool, limit: int, strict: bool = True) -> None: ...
    def feed(self, data: Octets, start: int = 0) -> int:
        """Take ``data[start:]``; returns the offset behind what was taken (all of it unless ``done``)."""
    def finish(self) -> None: ...
    def pending(self) -> int:
        """Octets that ``take`` would return."""
    def take(self) -> bytes: ...

def to_crlf(data: Octets) -> bytes:
    """Each LF that no CR precedes becomes CRLF."""

def to_lf(data: Octets) -> bytes:
    """Each CRLF becomes LF; a CR elsewhere stays."""

def top_end(data: Octets, body_lines: int) -> int:
    """Octets that the header and ``body_lines`` lines of body have (RFC 1939 7, TOP)."""

def dot_stuffed(data: Octets, last: bool = True) -> bytes:
    """Whole lines of a POP3 multi-line answer; with ``last`` its final dot too."""

def numbered(first: int, values: array[int], without: Set[int], tail: bytes | None = None) -> bytes:
    """Lines of a POP3 listing: a number, from ``first`` on, and one of the 32-bit ``values`` in decimal; with ``tail``
    in 8 hexadecimal digits, and the tail after them. Those with a number of ``without`` are left out."""

def find_crlf(data: Octets, start: int, end: int) -> int:
    """Offset of the next LF in data[start:end], or -1."""
