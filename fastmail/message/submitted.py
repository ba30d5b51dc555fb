"""Corrects a message that a user submits (RFC 6409 8): adds a missing From, Date or Message-ID, and removes Bcc.
Everything else stays as it was written, octet for octet, however long the header is.
"""

import random
import re
import time
from email.utils import formatdate

from fastmail._core import header

Octets = bytes | bytearray | memoryview
_ID = re.compile(rb"\s*<([^<>\s]+)>")
VALUE = 8192  # octets of a value that are read


def hops(content: Octets) -> int:
    """Return the number of Received fields."""
    return header.counts(content, (b"received",))[0]


def does_without_tls(content: Octets) -> bool:
    """Return True if the message says that it may be sent without TLS (RFC 8689 3)."""
    found = header.value(content, b"tls-required", VALUE)
    return found is not None and found.strip().lower() == b"no"


def message_id(content: Octets) -> str:
    """Return the Message-ID of a message (LF), or of its beginning, without its brackets; empty when the header has
    none."""
    value = header.value(content, b"message-id", VALUE)
    found = _ID.match(value) if value is not None else None
    return found.group(1).decode("latin-1")[:250] if found is not None else ""


def complete(content: Octets, sender: str, hostname: str, feedback: str = "") -> list[Octets]:
    """Return the corrected message (LF) as pieces to be joined. ``feedback``: the value of a Feedback-ID field, which a
    message gets that has none; empty for no such field."""
    wrote, date, ident, told, *bcc = header.counts(
        content, (b"from", b"date", b"message-id", b"feedback-id", b"bcc", b"resent-bcc")
    )
    added = b""
    if not wrote and sender:
        added += b"From: <" + sender.encode() + b">\n"
    if not date:
        added += b"Date: " + formatdate(time.time(), localtime=False).replace("-0000", "+0000").encode() + b"\n"
    if not ident:
        added += b"Message-ID: <%x.%x@%b>\n" % (time.time_ns(), random.getrandbits(64), hostname.encode())
    if feedback and not told:
        added += b"Feedback-ID: " + feedback.encode("ascii", "replace") + b"\n"
    if not added and not any(bcc):
        return [content]
    end = header.end(content)
    rest = memoryview(content)[end:]
    if not any(bcc):
        return [added, content if end or len(rest) else b"\n"]
    return [added, header.without(content, (b"bcc", b"resent-bcc")), rest]
