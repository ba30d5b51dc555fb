"""The first words of a message as a reader would see them (RFC 8970): from its first text part, plain before HTML,
without markup, quoted lines and runs of white space; at most 200 characters.
"""

import html
import re

from fastmail.message import text
from fastmail.message.summary import Summary

Octets = bytes | bytearray | memoryview
LONGEST = 200
LOOK_AT = 16384
_HIDDEN = re.compile(r"<(style|script|head|title)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"<[^>]*(>|\Z)")
_QUOTE = re.compile(r"^>.*$", re.MULTILINE)
_SPACE = re.compile(r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff\u00ad\u034f]+")


def preview(content: Octets, summary: Summary) -> str:
    """Empty when the message has no text."""
    found = ""
    for part in text.text_parts(content, summary):
        if part.attached or part.main != "text":
            continue
        if part.sub == "plain":
            words = part.text[:LOOK_AT]
            return _shorten(_QUOTE.sub("", words)) or _shorten(words)
        if part.sub == "html" and not found:
            found = _shorten(html.unescape(_MARKUP.sub(" ", _HIDDEN.sub(" ", part.text[: 4 * LOOK_AT]))))
    return found


def _shorten(words: str) -> str:
    return _SPACE.sub(" ", words).strip()[:LONGEST].strip()
