"""Prepares a message for sending: its line ends, its dots, and what it requires of the host (RFC 5321 4.5.2, RFC 3030
2, RFC 6152, RFC 6531 3.4).
"""

from collections.abc import Callable

from fastmail._core import mime
from fastmail._core.lines import dot_stuffed, to_crlf
from fastmail.message import summary
from fastmail.message.recode import without_eight_bits


def wire(content: bytes, downgrade: bool, chunking: bool, anew: Callable[[bytes], bytes] | None = None) -> bytes:
    """A message (LF) as it is sent by BDAT, or by DATA with its final dot. ``anew``: signs again what a downgrade to 7
    bits changed: the signature of before does not fit any more (RFC 6376 5.3)."""
    if downgrade:
        content = without_eight_bits(content)
        content = anew(content) if anew is not None else content
    octets = to_crlf(content) if chunking else dot_stuffed(content)
    return octets + b"\r\n" if chunking and not octets.endswith(b"\r\n") else octets


def header_needs_utf8(content: bytes) -> bool:
    """True when a header field of the message (LF), or of one of its parts, has octets beyond ASCII (RFC 6532 3)."""
    if content.isascii():
        return False
    parsed = summary.read(mime.scan(content))
    if parsed is None:
        return True
    return any(not content[part.header : part.body].isascii() for part in parsed.parts)
