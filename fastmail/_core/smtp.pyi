Octets = bytes | bytearray | memoryview

def parse_mailbox(data: Octets, start: int, utf8: bool) -> tuple[bytes, bytes, int]:
    """RFC 5321 Mailbox at ``start``: (local-part in shortest quoting, domain in lower case, offset behind it).

    ValueError, fit for the peer, for anything else. ``utf8`` allows octets above 127 (RFC 6531).
    """

def parse_path(data: Octets, start: int, utf8: bool) -> tuple[tuple[bytes, bytes] | None, int]:
    """``<...>``: ((local, domain) or None for ``<>``, offset behind it); a source route is dropped."""

def parse_params(data: Octets, start: int) -> list[tuple[bytes, bytes]]:
    """ESMTP parameters from ``start`` to the end: (NAME, value), value b"" when there is none."""

def xtext(value: bytes) -> bytes:
    """RFC 3461 xtext decoded."""
