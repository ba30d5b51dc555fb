Octets = bytes | bytearray | memoryview

def next_command(data: Octets, start: int) -> tuple[int, bytes | None, bytes] | None:
    """The command line at ``start``: (offset after it, verb in capitals, what follows the first space), without spaces
    and tabs at the end of the line (RFC 5321 4.1.1); None if its LF has not come.

    The verb is None if the line does not end in CRLF, or has a CR or NUL elsewhere. A verb that is too long for any
    command stays as it was written."""

def parse_mailbox(data: Octets, start: int, utf8: bool) -> tuple[bytes, bytes, int]:
    """RFC 5321 Mailbox at ``start``: (local-part in shortest quoting, domain in lower case, offset behind it).
    It has 320 octets at most, with any share of them in the local-part.

    ValueError, fit for the peer, for anything else. ``utf8`` allows octets above 127 (RFC 6531).
    """

def parse_path(data: Octets, start: int, utf8: bool) -> tuple[tuple[bytes, bytes] | None, int]:
    """``<...>``: ((local, domain) or None for ``<>``, offset behind it); a source route is dropped. A path has
    256 octets at most (RFC 5321 4.5.3.1.3)."""

def parse_params(data: Octets, start: int) -> list[tuple[bytes, bytes]]:
    """ESMTP parameters from ``start`` to the end: (NAME, value), value b"" when there is none."""

def reply_line(line: Octets) -> tuple[int, bool, int]:
    """One line of a reply: (code, is it the last one, offset of its text). ValueError when it has no code."""

def to_xtext(value: bytes) -> bytes:
    """Octets as RFC 3461 xtext."""

def xtext(value: bytes) -> bytes:
    """RFC 3461 xtext decoded."""
