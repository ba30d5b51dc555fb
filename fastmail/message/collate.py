"""How text is compared: the collation i;unicode-casemap (RFC 5051), which SORT, THREAD and SEARCH use (RFC 5256 7, RFC
5255 4.3).

``titlecased`` is the form that the collation prescribes. SORT and THREAD compare its UTF-8. ``fold`` is for SEARCH,
which may find more than it must: texts that are equal by the collation are equal there too, and so are those that
readers take for the same.
"""

import re
import unicodedata

# Characters whose titlecase in UnicodeData.txt (always one character) is not what str.upper makes of them: letters that
# become several in upper case, digraphs that have a titlecase of their own, Greek with iota below, Georgian.
_ODD = re.compile(
    "[\u00df\u0149\u01c4-\u01cc\u01f0-\u01f3\u0390\u03b0\u0587\u10d0-\u10ff\u1e96-\u1e9a\u1f50-\u1f57\u1f80-\u1faf"
    "\u1fb2-\u1fbc\u1fc2-\u1fcc\u1fd2-\u1fd7\u1fe2-\u1fe7\u1ff2-\u1ffc\ufb00-\ufb17]"
)


PIECE = 128  # characters that are taken apart at once: the square of it is what a long run of marks costs


def _apart(text: str) -> str:
    """Normalization form KD. unicodedata sorts a run of combining marks in quadratic time, so a long text is given to
    it in pieces. They begin with a character that is no mark; only runs of marks as long as a piece are cut within."""
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
    """Text with each character in titlecase, then taken apart (RFC 5051 2, steps 2a and 2b)."""
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
    """Text as SEARCH compares it, in lower case. Besides what the collation makes equal, sharp s is ss, and a ligature
    is its letters."""
    if text.isascii():
        return text.lower()
    # once more, because what was taken apart may have letters in upper case (a superscript A, say)
    apart = _apart(text.casefold())
    return _apart(apart.casefold()).replace("\u0131", "i")  # dotless i: its titlecase is I
