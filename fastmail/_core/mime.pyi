Octets = bytes | bytearray | memoryview

def scan(data: Octets) -> bytes:
    """The summary (version 1, laid out at the top of mime.pyx) of a stored message; never raises for content."""

def with_prefix(summary: bytes, prefix: bytes) -> bytes:
    """The summary of ``prefix`` + the message that ``summary`` is of; ``prefix`` is whole header fields, LF."""

def is_bulk(name: bytes) -> bool:
    """Is this header field left out of the header cache (Received, DKIM-Signature and such)?"""

def served_size(data: Octets) -> int:
    """Octets of ``data`` as served, each LF as CRLF."""
