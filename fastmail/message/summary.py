"""Reads the summary that _core/mime.pyx makes of a message: cached header fields, parts, day of the Date field."""

import re
import struct
from dataclasses import dataclass

from fastmail._core import idents, mime

Octets = bytes | bytearray | memoryview
_FIXED = struct.Struct("<BBHIIIIIiI")
_SERVED = struct.Struct("<20xI")  # in _FIXED
_PART = struct.Struct("<BBHIII")
_PLAIN_ID = re.compile(rb'<[^<>\s"\\]+>')
LEAF, MULTIPART, MESSAGE = 0, 1, 2
NO_DAY = -(1 << 31)
VERSIONS = (1, 2, 3)  # of the layout that this file can read


@dataclass(slots=True)
class Part:
    """One MIME entity; ``header``, ``body`` and ``end`` are offsets into the message as it is stored."""

    kind: int
    depth: int
    header: int
    body: int
    end: int


@dataclass(slots=True)
class Summary:
    """What the summary of a message says.

    - ``complete``: the cached header has every field that is not bulk (see mime.is_bulk).
    - ``cut``: parts that are nested too deep, or that come after too many others, are kept as one leaf.
    - ``short``: addresses or texts are left out of the ENVELOPE, because it would be too long.
    - ``bare``: the same for values in the BODYSTRUCTURE.
    - ``lost``: made by version 1, which did not find the parts of this message: scan it again for its structure.
    """

    complete: bool
    cut: bool
    short: bool
    bare: bool
    lost: bool
    shift: int
    envelope: bytes
    structure: bytes
    header: bytes
    sent_day: int
    parts: list[Part]


def served_size(made: Octets) -> int:
    """Return RFC822.SIZE: the octets of the message as it is served."""
    size: int = _SERVED.unpack_from(made)[0]
    return size


def read(data: Octets) -> Summary | None:
    """Return the summary; None when it is damaged or of another version, so that the message has to be scanned
    again."""
    if len(data) < _FIXED.size:
        return None
    version, marks, count, shift, envelope, structure, header, _, day, _ = _FIXED.unpack_from(data)
    at = _FIXED.size
    a, b, c = at + envelope, at + envelope + structure, at + envelope + structure + header
    end = c + count * _PART.size
    if version not in VERSIONS or len(data) < end:
        return None
    parts = [
        Part(kind, depth, start + shift, body + shift, end + shift)
        for kind, depth, _, start, body, end in _PART.iter_unpack(data[c:end])
    ]
    if parts:
        parts[0].header = 0
    lost = mime.lost(data)
    return Summary(
        not marks & 1,
        bool(marks & 2),
        bool(marks & 4),
        bool(marks & 8),
        lost,
        shift,
        bytes(data[at:a]),
        bytes(data[a:b]),
        bytes(data[b:c]),
        day,
        parts,
    )


def rest(data: Octets) -> bytes:
    """Return what the store keeps after a summary."""
    return bytes(data[idents.rest_at(data) :])


def preview(data: Octets) -> bytes | None:
    """Return the message's first words, in UTF-8; None where an earlier version did not look for them."""
    return idents.preview(data)


def has_attachment(data: Octets) -> bool | None:
    """Return True if a mail program would offer a part as a file; None where an earlier version did not look."""
    return bool(data[1] & 32) if len(data) >= _FIXED.size and data[1] & 64 else None


def message_id(data: Octets) -> bytes | None:
    """Return the Message-ID in its brackets, as it stands at the end of the ENVELOPE; empty when there is none. None
    when it is written in a way that this quick look cannot read."""
    _, marks, _, _, envelope, _, _, _, _, _ = _FIXED.unpack_from(data)
    if marks & 4:
        return None
    end = bytes(data[_FIXED.size : _FIXED.size + envelope])
    if end.endswith(b" NIL)"):
        return b""
    value = end[end.rfind(b' "') + 2 : -2]
    return value if _PLAIN_ID.fullmatch(value) and end.endswith(b'>")') else None


def size(data: Octets) -> int:
    """Return RFC822.SIZE of the message: its octets with CRLF."""
    return int(_FIXED.unpack_from(data)[7])


def sent_day(data: Octets) -> int:
    """Return the day of the Date field since 1970, NO_DAY when there is none."""
    return int(_FIXED.unpack_from(data)[8]) if len(data) >= _FIXED.size and data[0] in VERSIONS else NO_DAY


def of(content: Octets) -> Summary:
    """Return a new summary of a stored message."""
    found = read(mime.scan(content))
    assert found is not None
    return found
