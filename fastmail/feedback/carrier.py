"""What a message carries: aggregate reports in its attachments (RFC 9990 3.5.2), or a complaint (RFC 5965 2).

A message is taken apart by the scanner that made its structure, so nothing here recurses. Reporters differ in media
types and names; a part counts as a report by either. Promise: PARTS are looked at, REPORTS are read, and Room bounds
what all of them together may unpack to.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fastmail._core import header, mime
from fastmail.feedback import complaint, reading, unpacking
from fastmail.feedback.complaint import HEADER, Complaint
from fastmail.feedback.model import BadReport, Report
from fastmail.message import summary
from fastmail.message.summary import LEAF, MESSAGE, Part
from fastmail.message.text import decode_transfer

PARTS = 50
REPORTS = 10  # of one message
PACKED = 10 << 20  # octets of a part as it lies there
KINDS = (  # media types that may be a report
    b"application/gzip",
    b"application/x-gzip",
    b"application/zip",
    b"application/x-zip",
    b"application/x-zip-compressed",
    b"application/xml",
    b"text/xml",
)
ENDINGS = (b".xml", b".xml.gz", b".zip", b".gz")  # of names of files, whatever their media type is
ORIGINALS = (b"text/rfc822-headers", b"message/rfc822")
Octets = bytes | bytearray | memoryview


@dataclass(slots=True)
class Carried:
    """``faults``: why parts that look like reports are none, for an administrator."""

    reports: list[Report] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.reports or self.complaints)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A part, with what its header says."""

    part: Part
    kind: bytes
    encoding: str
    names: tuple[bytes, ...]


def _leaves(content: Octets) -> Iterator[_Leaf]:
    for part in summary.of(content).parts[:PARTS]:
        if part.kind not in (LEAF, MESSAGE):
            continue
        main, sub, _, encoding, _, names = mime.leaf(bytes(content[part.header : part.body]))
        lower = tuple(name.lower() for _, name in names)
        yield _Leaf(part, main + b"/" + sub, encoding.decode("latin-1"), lower)


def read(content: Octets) -> Carried:
    """All that a message (LF) carries. Nothing is raised for what is in it."""
    out = Carried()
    room = unpacking.Room()
    leaves = list(_leaves(content))
    for at, leaf in enumerate(leaves):
        if leaf.kind == b"message/feedback-report" and not out.complaints:
            original = next((one for one in leaves[at + 1 :] if one.kind in ORIGINALS), None)
            try:
                fields = _decoded(content, leaf, 2 * complaint.FIELDS)
                header_of = _decoded(content, original, HEADER) if original is not None else b""
                out.complaints.append(complaint.read(fields, header_of))
            except BadReport as error:
                out.faults.append(str(error))
        elif leaf.part.kind == LEAF and (leaf.kind in KINDS or any(one.endswith(ENDINGS) for one in leaf.names)):
            if len(out.reports) + len(out.faults) >= REPORTS:
                break
            try:
                out.reports.append(read_file(_decoded(content, leaf, PACKED + 1), room))
            except BadReport as error:
                out.faults.append(str(error))
    return out


def _decoded(content: Octets, leaf: _Leaf, most: int) -> bytes:
    """The body of a part; of its octets as they lie there, so many at most."""
    body = bytes(content[leaf.part.body : min(leaf.part.end, leaf.part.body + most)])
    return decode_transfer(body, leaf.encoding)


def read_file(data: bytes, room: unpacking.Room | None = None) -> Report:
    """The report in a file: packed or not. BadReport."""
    if len(data) > PACKED:
        raise BadReport("it is too large")
    return reading.read(unpacking.pieces(data, room or unpacking.Room()))


def from_file(data: bytes) -> Carried:
    """What a file has, be it a report or a message (with LF or CRLF) that carries some."""
    packed = data.startswith((unpacking.GZIP, unpacking.ZIP))
    if packed or data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return Carried([read_file(data)])
    return read(data.replace(b"\r\n", b"\n"))


def subject(content: Octets) -> bytes:
    """The beginning of the Subject."""
    return bytes(header.value(content, b"subject", 100) or b"").strip()
