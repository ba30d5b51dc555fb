"""The first words of a message as a reader would see them (RFC 8970): from its first text part, plain before HTML,
without markup, quoted lines and runs of white space; at most 200 characters.
"""

from fastmail._core import idents, mime, words
from fastmail.message import summary as summaries
from fastmail.message import text
from fastmail.message.summary import Summary

Octets = bytes | bytearray | memoryview
LONGEST = 200
LOOK_AT = 16384  # characters of a text
LOOK_AT_HTML = 4 * LOOK_AT
LOOK_AT_OCTETS = 4 * LOOK_AT_HTML  # of a body, however it is encoded
MANY = 64  # parts of a message whose first words are not found at a glance
SHORT = 4096  # characters of a text without tags that nearly always have its first words


def scanned(content: Octets, most: int = 0) -> bytes:
    """The summary of a message that is to be stored (``mime.scan``), with its preview. ``most``: see there."""
    return with_preview(mime.scan(content, True, most), content)


def with_preview(made: bytes, content: Octets) -> bytes:
    """The same summary with the message's first words; without where it would take long to find them: whoever asks for
    them waits then. The summary must be sound, and not ``mime.lost``."""
    found = words.first(content, made, LONGEST)
    if found is None:
        parsed = summaries.read(made)
        if parsed is None or len(parsed.parts) > MANY:
            return made
        found = preview(content, parsed).encode()
    return idents.with_preview(made, found)


def preview(content: Octets, summary: Summary) -> str:
    """The first words of a message, whatever form they have; empty when it has no text."""
    found = ""
    for part in text.text_parts(content, summary, LOOK_AT_OCTETS):
        if part.attached or part.main != "text":
            continue
        if part.sub == "plain":
            return _shortened(part.text[:LOOK_AT], False)[0]
        if part.sub == "html" and not found:
            found = _of_html(part.text[:LOOK_AT_HTML])
    return found


def _of_html(html: str) -> str:
    for most in (SHORT, LOOK_AT_HTML):
        found, count = _shortened(text.html_text(html, True, most), True)
        if count >= LONGEST:
            break
    return found


def _shortened(found: str, quotes: bool) -> tuple[str, int]:
    """(the first words of a text, how many characters). ``quotes``: lines with ``>`` are as any other."""
    out, count = words.shortened(found.encode("utf-8", "replace"), LONGEST, quotes)
    return (out or b"").decode(), count
