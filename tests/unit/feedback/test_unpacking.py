"""Packed reports, and bombs that look like some."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest

from fastmail.feedback import unpacking
from fastmail.feedback.model import BadReport
from fastmail.feedback.unpacking import UNPACKED, Room, pieces

TEXT = b"<feedback>" + bytes(range(32, 127)) * 3000 + b"</feedback>"


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zipped(*files: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as made:
        for name, data in files:
            entry = zipfile.ZipInfo(name)  # its date is always the same: names of tests follow from the octets
            entry.compress_type = how
            made.writestr(entry, data)
    return out.getvalue()


def whole(data: bytes, room: Room | None = None) -> bytes:
    return b"".join(pieces(data, room or Room()))


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        packed(TEXT),
        zipped(("a.xml", TEXT)),
        zipped(("a.xml", TEXT), how=zipfile.ZIP_STORED),
        zipped(("folder/", b""), ("folder/a.xml", TEXT), ("b.xml", b"not this one")),
    ],
    ids=lambda data: f"{len(data)}-octets",
)
def test_all_forms(data: bytes) -> None:
    assert whole(data) == TEXT
    assert all(len(piece) <= unpacking.PIECE for piece in pieces(data, Room()))


def test_a_zip_that_says_the_size_behind_its_file() -> None:
    class Stream(io.RawIOBase):
        """Nobody can seek in it."""

        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            piece = bytes(data)  # type: ignore[call-overload]
            self.data += piece
            return len(piece)

    out = Stream()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:  # type: ignore[call-overload]
        made.writestr("a.xml", TEXT)
    assert whole(out.data) == TEXT


@pytest.mark.parametrize("form", [packed, lambda data: zipped(("a.xml", data))], ids=["gzip", "zip"])
def test_bombs_end_soon(form: Callable[[bytes], bytes]) -> None:
    bomb, room = form(bytes(20 << 20)), Room()
    with pytest.raises(BadReport, match="packed too well"):
        whole(bomb, room)
    assert UNPACKED - room.left < 2 << 20


def test_all_reports_of_a_message_share_the_room() -> None:
    room = Room(len(TEXT) * 2 + 10)
    assert whole(packed(TEXT), room) == whole(TEXT, room) == TEXT
    with pytest.raises(BadReport, match="too large"):
        whole(packed(TEXT), room)


@pytest.mark.parametrize(
    "data",
    [
        packed(TEXT)[:-20],
        packed(TEXT)[:5],
        b"\x1f\x8b" + bytes(50),
        zipped(("a.xml", TEXT))[:500],
        zipped(("folder/", b"")),
        b"PK\x03\x04",
        struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 1, 8, 0, 0, 0, 9, 9, 1, 0) + b"a" + zlib.compress(b"x")[2:],
        struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 99, 0, 0, 0, 9, 9, 1, 0) + b"a" + bytes(9),
        struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 1 << 31, 1 << 31, 1, 0) + b"a" + bytes(9),
        b"".join(struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"/" for _ in range(99)),
    ],
    ids=lambda data: f"{len(data)}-{zlib.crc32(data):08x}",
)
def test_what_is_damaged_is_said_to_be_no_report(data: bytes) -> None:
    with pytest.raises(BadReport):
        whole(data)
