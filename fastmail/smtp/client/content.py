"""Prepares a message for sending: its line ends, its dots, and what it requires of the host (RFC 5321 4.5.2, RFC 3030
2, RFC 6152).
"""

from collections.abc import Callable

from fastmail._core.lines import dot_stuffed, to_crlf
from fastmail.message.recode import without_eight_bits


def wire(content: bytes, downgrade: bool, chunking: bool, anew: Callable[[bytes], bytes] | None = None) -> bytes:
    """A message (LF) as it is sent by BDAT, or by DATA with its final dot. ``anew``: signs again what a downgrade to 7
    bits changed: the signature of before does not fit any more (RFC 6376 5.3)."""
    if downgrade:
        content = without_eight_bits(content)
        content = anew(content) if anew is not None else content
    octets = to_crlf(content) if chunking else dot_stuffed(content)
    return octets + b"\r\n" if chunking and not octets.endswith(b"\r\n") else octets
