from typing import Any

from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet

Octets = bytes | bytearray | memoryview

class Item:
    """Items of a response, as bits; their numbers are in fetch.pxd."""

    UID: int
    FLAGS: int
    DATE: int  # INTERNALDATE
    SIZE: int  # RFC822.SIZE
    MODSEQ: int
    ENVELOPE: int
    STRUCTURE: int  # BODYSTRUCTURE
    FIELDS: int  # the header fields that are asked for
    SAVEDATE: int
    UIDONLY: int  # no item: answer by UID (RFC 9586)
    SUMMARY: int  # those that need the message's summary

def page(
    out: Out,
    data: Octets,
    view: UidSet,
    uids: UidSet,
    items: int,
    names: list[bytes],
    recent: UidSet | None,
    summaries: Any,
    asked: list[tuple[bytes, tuple[bytes, ...]]],
    open_end: bool,
) -> list[int]:
    """Append a FETCH response for each record of the page that is in ``uids`` and in ``view``.

    ``items``: bits of ``Item``; ``asked``: pairs of (label, names in lower case); ``names``: keyword of each bit;
    ``summaries``: by UID, a mapping or a leaves.Summaries. ``open_end`` leaves out the closing parenthesis, for items
    that the caller appends.
    Returns the UIDs left out because their summary is missing, too old or lacks what is asked.
    """

def page_to(
    out: Out,
    data: Octets,
    view: UidSet,
    uids: UidSet,
    items: int,
    names: list[bytes],
    recent: UidSet | None,
    summaries: Any,
    asked: list[tuple[bytes, tuple[bytes, ...]]],
    most: int,
) -> tuple[list[int], int]:
    """The same until ``out`` has ``most`` octets: (UIDs left out, UID of the last record that was looked at, or 0 when
    that is the page's last)."""

def message(
    out: Out,
    data: Octets,
    view: UidSet,
    uid: int,
    items: int,
    names: list[bytes],
    recent: UidSet | None,
    summary: Octets,
    asked: list[tuple[bytes, tuple[bytes, ...]]],
    content: Octets,
    sections: list[tuple[bytes, bytes]],
) -> bool:
    """Append the whole FETCH response of one message of the page ``data``: as ``page``, then ``sections`` of the stored
    ``content``, pairs of ("", "HEADER" or "TEXT"; label). False, and nothing, where that is not all there is to do: a
    message that is not in page or view, a summary that cannot be used, an empty message, or one with NUL in it."""

def header_fields(header: Octets, names: tuple[bytes, ...], negate: bool) -> bytes:
    """BODY[HEADER.FIELDS (names)] of a header block with CRLF: whole fields, then an empty line."""
