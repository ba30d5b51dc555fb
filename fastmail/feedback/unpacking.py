"""The XML of a report out of what carries it: gzip, zip or nothing (RFC 9990 3.5.2; older reporters send zip).

The first octets say which of them it is, because media types and names are often wrong. Promise: memory is bounded by
PIECE, whatever comes; a Room bounds what is unpacked in all, and how much larger than its packed form anything may
become. A zip is read from its front, so a directory of a million files costs nothing: its first file is the report.

BadReport for anything else, and for what is cut short or larger than the Room.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from fastmail.feedback.model import BadReport

UNPACKED = 10 << 20  # octets of all reports of a message
RATIO = 250  # of unpacked to packed octets; reports come to 10 to 100
FREE = 1 << 20  # octets for which nobody asks about the ratio
PIECE = 65536
FOLDERS = 16  # entries of a zip that are passed over, because they are folders
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
_LOCAL = struct.Struct("<4sHHHHHIIIHH")  # the header in front of a file in a zip (APPNOTE 4.3.7)
_ENCRYPTED, _SIZE_BEHIND = 1, 8  # bits of its flags
_STORED, _DEFLATED = 0, 8  # its methods
_RAW, _WITH_HEADER = -15, 31  # zlib's window bits: deflate alone, or in gzip


@dataclass(slots=True)
class Room:
    """Octets that may still be unpacked."""

    left: int = UNPACKED

    def take(self, octets: int, out: int, packed: int) -> None:
        """Use some of it. ``out``: octets that came of ``packed`` so far. BadReport."""
        self.left -= octets
        if self.left < 0:
            raise BadReport("it is too large when it is unpacked")
        if out > FREE and out > packed * RATIO:
            raise BadReport("it is packed too well to be a report")


def pieces(data: bytes, room: Room) -> Iterator[bytes]:
    """The XML, in pieces of PIECE octets at most. BadReport at any of them."""
    if data.startswith(GZIP):
        yield from _gzip(data, room)
    elif data.startswith(ZIP):
        yield from _zip(data, room)
    else:
        yield from _plain(data, room)


def _plain(data: bytes, room: Room) -> Iterator[bytes]:
    for at in range(0, len(data), PIECE):
        piece = data[at : at + PIECE]
        room.take(len(piece), 0, 0)
        yield piece


def _inflated(data: bytes, window: int, room: Room) -> Iterator[bytes]:
    """One stream of deflate."""
    machine = zlib.decompressobj(window)
    out, at, rest = 0, 0, b""
    try:
        while not machine.eof:
            if not rest:
                rest = data[at : at + PIECE]
                at += len(rest)
            piece = machine.decompress(rest, PIECE)
            rest = machine.unconsumed_tail
            if piece:
                out += len(piece)
                room.take(len(piece), out, at - len(rest))
                yield piece
            elif at >= len(data) and not rest and not machine.eof:
                raise BadReport("its packed form is cut short")
    except zlib.error:
        raise BadReport("its packed form is damaged") from None


def _gzip(data: bytes, room: Room) -> Iterator[bytes]:
    """The first member: a report is one file."""
    yield from _inflated(data, _WITH_HEADER, room)


def _zip(data: bytes, room: Room) -> Iterator[bytes]:
    at = 0
    for _ in range(FOLDERS):
        if len(data) < at + _LOCAL.size or data[at : at + 4] != ZIP:
            break
        _, _, flags, method, _, _, _, size, _, name, extra = _LOCAL.unpack_from(data, at)
        name_at = at + _LOCAL.size
        start = name_at + name + extra
        if data[name_at : name_at + name].endswith(b"/"):
            at = start + size
            continue
        if flags & _ENCRYPTED:
            raise BadReport("its zip is encrypted")
        if method == _DEFLATED:
            yield from _inflated(data[start:], _RAW, room)
        elif method == _STORED and not flags & _SIZE_BEHIND and start + size <= len(data):
            yield from _plain(data[start : start + size], room)
        else:
            raise BadReport("its zip is packed in a way that is not known here")
        return
    raise BadReport("its zip has no file")
