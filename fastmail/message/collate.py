"""Compares text by the collation i;unicode-casemap (RFC 5051), which SORT, THREAD and SEARCH use (RFC 5256 7, and
RFC 5255 4.3).

``titlecased`` is the form that the collation prescribes; SORT and THREAD compare it in UTF-8. ``fold`` is for SEARCH,
which may find more than it must: texts that are equal by the collation are also equal when folded, and so are texts
that readers take for the same.
"""

import re
import unicodedata

# Characters whose titlecase in UnicodeData.txt (always one character) is not what str.upper makes of them: letters that
# become several in upper case, digraphs that have a titlecase of their own, Greek with iota below, Georgian.
_ODD = re.compile(
    "[\u00df\u0149\u01c4-\u01cc\u01f0-\u01f3\u0390\u03b0\u0587\u10d0-\u10ff\u1e96-\u1e9a\u1f50-\u1f57\u1f80-\u1faf"
    "\u1fb2-\u1fbc\u1fc2-\u1fcc\u1fd2-\u1fd7\u1fe2-\u1fe7\u1ff2-\u1ffc\ufb00-\ufb17]"
)


PIECE = 128  # characters that are decomposed at once: a long run of combining marks costs the square of this


def _apart(text: str) -> str:
    """Return normalization form KD.

    unicodedata sorts a run of combining marks in quadratic time, so a long text is given to it in pieces. A piece
    begins with a character that is not a combining mark; only a run of marks as long as a whole piece is cut."""
    if len(text) <= PIECE:
        return unicodedata.normalize("NFKD", text)
    out: list[str] = []
    at = 0
    while at < len(text):
        end = at + PIECE
        if end < len(text):
            end = next((cut for cut in range(end, at, -1) if not unicodedata.combining(text[cut])), end)
        out.append(unicodedata.normalize("NFKD", text[at:end]))
        at = end
    return "".join(out)


def _titlecase(match: re.Match[str]) -> str:
    letter = match.group()
    title = letter.title()
    return title if len(title) == 1 else letter


def titlecased(text: str) -> str:
    """Return the text with each character in titlecase, then decomposed (RFC 5051 2, steps 2a and 2b)."""
    if text.isascii():
        return text.upper()
    at = 0
    out: list[str] = []
    for match in _ODD.finditer(text):
        out += (text[at : match.start()].upper(), _titlecase(match))
        at = match.end()
    out.append(text[at:].upper())
    return _apart("".join(out))


def fold(text: str) -> str:
    """Return the text as SEARCH compares it, in lower case. More is equal than in the collation: sharp s is "ss", and a
    ligature is its letters."""
    if text.isascii():
        return text.lower()
    # Once more, because decomposing may bring upper case letters (a superscript A becomes "A").
    apart = _apart(text.casefold())
    return _apart(apart.casefold()).replace("\u0131", "i")  # dotless i: its titlecase is I
