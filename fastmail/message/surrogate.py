"""The surrogate of a message with UTF-8 in its header (RFC 6532), for a program that has not said that it can read
that: all fields of the message and of its parts are in ASCII (RFC 6857, RFC 6856 2.1).

Bodies stay as they are, and so does every field of ASCII, octet for octet. A line that is no field, or whose name is
not ASCII, has no form in ASCII and is left out (RFC 6858 2.4). Signatures that cover a rewritten field no longer hold.
Linear in the message: of fields that are not ASCII, MOST octets are rewritten, and the rest is left out.

A message whose header has octets that are no UTF-8 is none of RFC 6532, and a program that downloads and deletes it
must not lose what is in it: it has no surrogate, and goes out as it is, as from servers without UTF8.
"""

import re
from collections.abc import Callable

from fastmail._core import mime
from fastmail.message import ascii_fields, summary
from fastmail.message.encoded import unstructured
from fastmail.message.summary import Summary

MOST = 1 << 20
_LINES = re.compile(rb"[^\n]+(?:\n[ \t][^\n]*)*\n?|\n")  # a field with its folding, or an empty line
_FIELD_NAME = re.compile(rb"[\x21-\x39\x3b-\x7e]+[ \t]*")
_ADDRESSES = (
    "from sender to cc bcc reply-to resent-from resent-sender resent-to resent-cc resent-bcc resent-reply-to "
    "return-path disposition-notification-to"
)
_COMMENTED = (
    "date resent-date mime-version content-id content-transfer-encoding content-language accept-language auto-submitted"
)
# No text may take the place of these: it goes into a field of another name (RFC 6857 3.1.10).
_IDS = ("message-id", "resent-message-id", "in-reply-to", "references", "original-recipient", "final-recipient")
_WAYS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(_ADDRESSES.split(), ascii_fields.addresses),
    **dict.fromkeys((*_COMMENTED.split(), *_IDS), ascii_fields.with_comments),
    "content-type": ascii_fields.mime,
    "content-disposition": ascii_fields.mime,
    "received": ascii_fields.received,
    "keywords": ascii_fields.keywords,
}


def needs_utf8(content: bytes) -> bool:
    """True when a header field of the message (LF), or of one of its parts, has octets beyond ASCII (RFC 6532 3)."""
    if content.isascii():
        return False
    parsed = summary.read(mime.scan(content))
    return parsed is None or _has_utf8(content, parsed)


def _has_utf8(content: bytes, parsed: Summary) -> bool:
    return any(not content[part.header : part.body].isascii() for part in parsed.parts)


def of(content: bytes) -> bytes:
    """Return the message with all header fields in ASCII; the same object where they are, and where they are neither
    ASCII nor UTF-8."""
    if content.isascii():
        return content
    parsed = summary.read(mime.scan(content))
    assert parsed is not None  # it was made just now
    if not _has_utf8(content, parsed):
        return content
    try:
        for part in parsed.parts:
            content[part.header : part.body].decode()
    except UnicodeDecodeError:
        return content
    out: list[bytes] = []
    done = 0
    room = MOST
    for part in parsed.parts:
        header = content[part.header : part.body]
        if header.isascii():
            continue
        out.append(content[done : part.header])
        for line in _LINES.findall(header):
            if line.isascii():
                out.append(line)
            elif len(line) <= room:
                room -= len(line)
                out.append(_in_ascii(line))
        done = part.body
    out.append(content[done:])
    return b"".join(out)


def _in_ascii(line: bytes) -> bytes:
    """Return a field with its line end; nothing where it has no form in ASCII."""
    name, colon, value = line.partition(b":")
    if not colon or not _FIELD_NAME.fullmatch(name):
        return b""
    key = name.decode().rstrip().lower()
    text = value.rstrip(b"\r\n").decode()
    made = _WAYS.get(key, unstructured)(text)
    if not made.isascii():
        made = unstructured(text)
        name = b"Downgraded-" + name if key in _IDS else name
    return b"".join((name, colon, made.encode("ascii"), b"\n"))
