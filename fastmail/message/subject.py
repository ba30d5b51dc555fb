"""A word in front of the subject of a message (RFC 5322 3.6.5), such as [SPAM].

The subject itself stays octet for octet, with its folding and its encoded words (RFC 2047), so it reads as before. Two
rules of RFC 2047 matter for what is put in front: an encoded word stands by itself between white space (5), and white
space between two of them is not shown (6.2). A signature of the message that covers Subject no longer holds.
"""

from fastmail._core import header as scanner
from fastmail.message import encoded
from fastmail.message.header import Octets

LINE = 76  # octets after which the subject goes on in a line of its own (RFC 5322 2.1.1)
LONGEST = 40  # characters of a tag: encoded, it is one encoded word (RFC 2047 2: 75 octets)
LOOKED_AT = 200  # octets of a subject
Edit = tuple[int, int, bytes]


def valid(tag: str) -> bool:
    """True for what can stand in front of a subject: a short text without control characters."""
    return tag.isprintable() and tag == tag.strip() and len(tag.encode()) <= LONGEST and "=?" not in tag


def _encoded(text: str) -> bytes:
    return encoded.word(text).encode()


def edits(header: Octets, tag: str) -> list[Edit]:
    """What to change: (start, end, what stands there instead), in order. Each Subject field gets the tag, because
    programs differ in which they show, unless it begins with it; a message without one gets a field in front."""
    starts = memoryview(scanner.starts(header, b"subject")).cast("I").tolist()
    if not starts:
        word = tag.encode("ascii") if tag.isascii() else _encoded(tag)
        return [(0, 0, b"Subject: " + word + b"\n")]
    out: list[Edit] = []
    for start in starts:
        _, value, end = scanner.field(header, start)
        edit = _edit(bytes(header[value : min(end, value + LOOKED_AT)]), tag)
        if edit:
            out.append((value, value, edit))
    return out


def _edit(value: bytes, tag: str) -> bytes:
    """What is put in front of a subject's value, which begins behind the colon; empty where the tag is there."""
    text = value.lstrip(b" \t\r\n")
    if tag.isascii():
        word = tag.encode("ascii")
        there = text.startswith(word)
    else:
        # between two encoded words only a space within one of them is shown
        word = _encoded(f"{tag} " if text.startswith(b"=?") else tag)
        there = text.startswith((_encoded(f"{tag} "), _encoded(tag), tag.encode()))
    if there:
        return b""
    first = value.partition(b"\n")[0]
    fold = b"\n" if len("Subject: ") + len(word) + len(first) > LINE and first.strip() else b""
    space = b"" if value[:1] in (b" ", b"\t", b"\r", b"\n") else b" "
    return b" " + word + fold + space
