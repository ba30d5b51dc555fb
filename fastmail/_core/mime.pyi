Octets = bytes | bytearray | memoryview

class Status:
    """Bits of a summary's status; their numbers, and what they say, are in summary.pxd."""

    NO_CACHE: int
    NO_PARTS: int
    NO_ENVELOPE: int
    NO_VALUES: int
    BOUNDED: int
    ATTACHED: int
    LOOKED: int

class Kind:
    """Kinds of parts; their numbers are in summary.pxd."""

    LEAF: int
    MULTIPART: int
    MESSAGE: int

def scan(data: Octets, bounded: bool = True, most: int = 0) -> bytes:
    """The summary (version 2, laid out in summary.pxd) of a stored message, of MOST octets at most; never
    raises for content. ``bounded`` False: with all its values; for looking at one header, never for keeping.
    ``most``: every bound is that part of MOST, down to 32 parts and texts of 512 octets, beside the header cache."""

def with_prefix(summary: bytes, prefix: bytes) -> bytes:
    """The summary of ``prefix`` + the message that ``summary`` is of; ``prefix`` is whole header fields, LF."""

def is_bulk(name: bytes) -> bool:
    """Is this header field left out of the header cache (Received, DKIM-Signature and such)?"""

def served_size(data: Octets) -> int:
    """Octets of ``data`` as served, each LF as CRLF."""

def leaf(header: Octets) -> tuple[bytes, bytes, bytes, bytes, bytes, list[tuple[bytes, bytes]]]:
    """What the header of an entity says of its body, read as for BODYSTRUCTURE: (type, subtype, charset, transfer
    encoding, disposition, file names), all but the names in lower case and empty where it is not said (type and
    subtype: ``text``, ``plain``). A name is (its charset by RFC 2231, octets). Parameters in pieces are joined (RFC
    2231 3)."""

def lost(summary: Octets) -> bool:
    """True for a summary of version 1 in which a multipart has no part: its message has to be scanned again."""

MOST: int  # octets of the longest summary that ``scan`` makes within its bounds
LIGHT: int  # octets of a summary that count in no quota

def counted(summary: Octets) -> int:
    """Octets of a stored summary that count in quotas: what it has beyond 4 KiB. None of one that an earlier version
    made, which is not bounded."""
