"""Writes text as encoded words (RFC 2047), so that a header of ASCII can carry it.

Promise: UTF-8 in base64, which may stand in texts, phrases and comments alike (5); no word has more than 75 octets, and
none is cut within a character (2, 5). Linear in the text.
"""

import re
from base64 import b64encode

OCTETS = 45  # of text in one word: 60 digits, 72 octets with what is around them
_PIECES = re.compile(r"[ \t\r\n]+|[^ \t\r\n]+")


def word(text: str) -> str:
    """One encoded word; the caller knows that the text is short enough (OCTETS)."""
    return f"=?utf-8?b?{b64encode(text.encode()).decode()}?="


def words(text: str) -> str:
    """The whole text, unfolded, as encoded words, each in a line of its own."""
    raw = text.replace("\r", "").replace("\n", "").encode()
    out, at = [], 0
    while at < len(raw):
        end = at + OCTETS
        while end < len(raw) and raw[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        out.append(word(raw[at:end].decode()))
        at = end
    return "\n ".join(out)


def line(text: str) -> str:
    """The same in one line."""
    return words(text).replace("\n", "")


def unstructured(text: str) -> str:
    """The value of an unstructured field (RFC 5322 3.2.5): words of ASCII stay, with the folding around them.

    White space between two encoded words is not shown (RFC 2047 6.2), so it is written within them."""
    out: list[str] = []
    held: list[str] = []  # neighbours that are not ASCII, with the white space between them
    space = ""
    coded = False  # the last word written was an encoded word
    for piece in _PIECES.findall(text):
        if piece[0] in " \t\r\n":
            space = piece
            continue
        if not piece.isascii():
            if held:
                held.append(space)
            else:
                out.append(space)
                held += [" "] * coded
            held.append(piece)
        else:
            begins = piece.startswith("=?")
            if held:
                out.append(words("".join([*held, " " if begins else ""])))
                held = []
            out += [space, piece]
            coded = begins and piece.endswith("?=")
        space = ""
    if held:
        out.append(words("".join(held)))
    return "".join([*out, space])
