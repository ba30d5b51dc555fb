"""What a submission server puts right in a message of its users (RFC 6409 8): a missing From, Date or Message-ID is
added, Bcc is taken out. Everything else stays as it was written, octet for octet.
"""

import random
import re
import time
from email.utils import formatdate

Octets = bytes | bytearray | memoryview
HEADER = 262144
_BCC = re.compile(rb"^(?:Resent-)?Bcc[ \t]*:.*(?:\n[ \t].*)*(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)
_DATE = re.compile(rb"^Date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_ID = re.compile(rb"^Message-ID[ \t]*:", re.IGNORECASE | re.MULTILINE)
_VALUE = re.compile(rb"^Message-ID[ \t]*:\s*<([^<>\s]+)>", re.IGNORECASE | re.MULTILINE)
_FROM = re.compile(rb"^From[ \t]*:", re.IGNORECASE | re.MULTILINE)
_NO_TLS = re.compile(rb"^TLS-Required[ \t]*:\s*No\s*$", re.IGNORECASE | re.MULTILINE)
_RECEIVED = re.compile(rb"^Received[ \t]*:", re.IGNORECASE | re.MULTILINE)


def split(content: Octets) -> tuple[bytes, int]:
    """(the header with LF, without the empty line; where it ends)."""
    head = bytes(content[:HEADER])
    if head.startswith(b"\n"):
        return b"", 0
    at = head.find(b"\n\n")
    return (head, len(head)) if at < 0 else (head[: at + 1], at + 1)


def hops(header: bytes) -> int:
    """Received fields."""
    return len(_RECEIVED.findall(header))


def does_without_tls(header: bytes) -> bool:
    """Does it say that it may go without TLS (RFC 8689 3)?"""
    return _NO_TLS.search(header) is not None


def message_id(text: bytes) -> str:
    """The Message-ID in the beginning of a message (LF), without its brackets; empty when its header has none."""
    end = 0 if text.startswith(b"\n") else text.find(b"\n\n")
    found = _VALUE.search(text, 0, end if end >= 0 else len(text))
    return found.group(1).decode("latin-1")[:250] if found is not None else ""


def complete(content: Octets, sender: str, hostname: str) -> list[Octets]:
    """The message (LF) in pieces."""
    header, end = split(content)
    added = b""
    if not _FROM.search(header) and sender:
        added += b"From: <" + sender.encode() + b">\n"
    if not _DATE.search(header):
        added += b"Date: " + formatdate(time.time(), localtime=False).replace("-0000", "+0000").encode() + b"\n"
    if not _ID.search(header):
        added += b"Message-ID: <%x.%x@%b>\n" % (time.time_ns(), random.getrandbits(64), hostname.encode())
    clean = _BCC.sub(b"", header)
    if not added and clean == header:
        return [content]
    rest = memoryview(content)[end:]
    gap = b"\n" if not header and bytes(rest[:1]) != b"\n" else b""
    return [added, clean, gap, rest]
