"""Reads the summary that _core/mime.pyx makes of a message: cached header fields, parts, day of the Date field."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from fastmail._core import idents, mime
from fastmail._core.mime import Status

Octets = bytes | bytearray | memoryview
_FIXED = struct.Struct("<BBHIIIIIiI")  # see Fixed
_PART = struct.Struct("<BBHIII")  # kind, depth, 0, start of its header, start and end of its body
LEAF, MULTIPART, MESSAGE = mime.Kind.LEAF, mime.Kind.MULTIPART, mime.Kind.MESSAGE
NO_DAY = -(1 << 31)
VERSIONS = (1, 2, 3)  # of the layout that this file can read
FIXED = _FIXED.size  # octets before ENVELOPE


class Fixed(NamedTuple):
    """The fixed part of a summary, with its fields in their order; summary.pxd explains them."""

    version: int
    status: int
    parts: int
    shift: int
    envelope: int
    structure: int
    cache: int
    served: int
    day: int
    received: int


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


_new = tuple.__new__  # of a named tuple, without its constructor, which is Python


def fixed(data: Octets) -> Fixed:
    """Return the fixed part of a summary that was made just now, or that ``read`` accepts."""
    return _new(Fixed, _FIXED.unpack_from(data))


def served_size(data: Octets) -> int:
    """Return RFC822.SIZE: the octets of the message as it is served."""
    return fixed(data).served


def read(data: Octets) -> Summary | None:
    """Return the summary; None when it is damaged or of another version, so that the message has to be scanned
    again."""
    if len(data) < FIXED:
        return None
    version, status, count, shift, envelope, structure, cache, _, day, _ = fixed(data)
    structure_at = FIXED + envelope
    cache_at = structure_at + structure
    parts_at = cache_at + cache
    end = parts_at + count * _PART.size
    if version not in VERSIONS or len(data) < end:
        return None
    parts = [
        Part(kind, depth, start + shift, body + shift, end + shift)
        for kind, depth, _, start, body, end in _PART.iter_unpack(data[parts_at:end])
    ]
    if parts:
        parts[0].header = 0
    lost = mime.lost(data)
    return Summary(
        not status & Status.NO_CACHE,
        bool(status & Status.NO_PARTS),
        bool(status & Status.NO_ENVELOPE),
        bool(status & Status.NO_VALUES),
        lost,
        shift,
        bytes(data[FIXED:structure_at]),
        bytes(data[structure_at:cache_at]),
        bytes(data[cache_at:parts_at]),
        day,
        parts,
    )


def rest(data: Octets) -> bytes:
    """Return what the store keeps after a summary."""
    return bytes(data[idents.rest_at(data) :])


def sent_day(data: Octets) -> int:
    """Return the day of the Date field since 1970, NO_DAY when there is none."""
    if len(data) < FIXED:
        return NO_DAY
    head = fixed(data)
    return head.day if head.version in VERSIONS else NO_DAY


def of(content: Octets) -> Summary:
    """Return a new summary of a stored message."""
    found = read(mime.scan(content))
    assert found is not None
    return found
