"""The first words of a message as a reader would see them (RFC 8970): from its first text part, plain before HTML,
without markup, quoted lines and runs of white space; at most 200 characters.
"""

import re

from fastmail.message import text
from fastmail.message.summary import Summary

Octets = bytes | bytearray | memoryview
LONGEST = 200
LOOK_AT = 16384  # characters of a text
LOOK_AT_HTML = 4 * LOOK_AT
LOOK_AT_OCTETS = 4 * LOOK_AT_HTML  # of a body, however it is encoded
_QUOTE = re.compile(r"^>.*$", re.MULTILINE)
_SPACE = re.compile(r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff\u00ad\u034f]+")


def preview(content: Octets, summary: Summary) -> str:
    """Empty when the message has no text."""
    found = ""
    for part in text.text_parts(content, summary, LOOK_AT_OCTETS):
        if part.attached or part.main != "text":
            continue
        if part.sub == "plain":
            words = part.text[:LOOK_AT]
            return _shorten(_QUOTE.sub("", words)) or _shorten(words)
        if part.sub == "html" and not found:
            found = _shorten(text.html_text(part.text[:LOOK_AT_HTML], True))
    return found


def _shorten(words: str) -> str:
    return _SPACE.sub(" ", words).strip()[:LONGEST].strip()
