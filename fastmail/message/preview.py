"""Makes the preview of a message (RFC 8970): the first words that a reader would see, at most 200 characters. They come
from its first text part, plain before HTML, without markup, quoted lines and runs of white space.
"""

from fastmail._core import idents, mime, words
from fastmail.message import summary as summaries
from fastmail.message import text
from fastmail.message.summary import Summary

Octets = bytes | bytearray | memoryview
LONGEST = 200
LOOK_AT = 16384  # characters of a plain text that are read
LOOK_AT_HTML = 4 * LOOK_AT
LOOK_AT_OCTETS = 4 * LOOK_AT_HTML  # of a body before decoding
MANY = 64  # parts; a message with more gets its preview only when somebody asks for it
SHORT = 4096  # characters of HTML without its tags; nearly always enough for the preview


def scanned(content: Octets, most: int = 0) -> bytes:
    """Return the summary (``mime.scan``) of a message that is to be stored, with its preview. ``most``: see
    ``mime.scan``."""
    return with_preview(mime.scan(content, True, most), content)


def with_preview(made: bytes, content: Octets) -> bytes:
    """Return the summary with the preview added.

    Where finding it would take long, it is left out; whoever asks for it waits then. The summary must be undamaged, and
    not ``mime.lost``."""
    found = words.first(content, made, LONGEST)
    if found is None:
        parsed = summaries.read(made)
        if parsed is None or len(parsed.parts) > MANY:
            return made
        found = preview(content, parsed).encode()
    return idents.with_preview(made, found)


def preview(content: Octets, summary: Summary) -> str:
    """Return the first words of a message, however it is encoded; empty when it has no text."""
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
    """Return (the first words of a text, number of characters). ``quotes``: treat lines that begin with ``>`` like any
    other."""
    out, count = words.shortened(found.encode("utf-8", "replace"), LONGEST, quotes)
    return (out or b"").decode(), count
