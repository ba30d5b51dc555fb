"""Macros of SPF records (RFC 7208 7): parsed once, expanded for each message.

Promise: linear in the text and bounded: a name that comes out is at most 253 characters (labels are dropped from the
left, 7.3), an explanation at most EXPLANATION. A macro that has no form is BadMacro, and the record is an error.
"""

import re
from dataclasses import dataclass

LONGEST = 253  # characters of a name that is looked up
DIGITS = 3  # of how many parts a macro keeps: no value has a thousand of them
EXPLANATION = 400  # characters of an explanation that is kept
NAMES = frozenset("slodiphv")  # letters that a domain-spec may have
TEXTS = NAMES | frozenset("crt")  # and an explanation
_PIECE = re.compile(r"%(?:\{([A-Za-z])([0-9]*)([rR]?)([.\-+,/_=]*)\}|([%_-]))|([\x21-\x24\x26-\x7e]+)")
_TEXT_PIECE = re.compile(r"%(?:\{([A-Za-z])([0-9]*)([rR]?)([.\-+,/_=]*)\}|([%_-]))|([\x20-\x24\x26-\x7e]+)")
_TOP_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_SIGNS = {"%": "%", "_": " ", "-": "%20"}
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class BadMacro(ValueError):
    """It has not the form of RFC 7208 7.1."""


@dataclass(frozen=True, slots=True)
class Macro:
    """``%{letter digits r delimiters}``; ``keep``: how many parts from the right, 0 for all."""

    letter: str
    keep: int
    reverse: bool
    delimiters: str
    escaped: bool

    def expand(self, value: str) -> str:
        """RFC 7208 7.3."""
        parts = re.split("[" + re.escape(self.delimiters) + "]", value)
        if self.reverse:
            parts.reverse()
        if self.keep:
            parts = parts[-self.keep :]
        text = ".".join(parts)
        if not self.escaped:
            return text
        return "".join(chr(c) if c in _PLAIN else f"%{c:02X}" for c in text.encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Template:
    """A macro string; ``letters``: which macros it has, in lower case; ``open``: its last piece is text, and no macro,
    ``%%``, ``%_`` or ``%-``."""

    pieces: tuple[str | Macro, ...]
    letters: frozenset[str]
    open: bool

    def expand(self, values: dict[str, str], most: int) -> str:
        """``values`` by letter. The text is cut behind ``most`` characters, generously where it becomes a name."""
        out: list[str] = []
        size = 0
        for piece in self.pieces:
            text = piece if isinstance(piece, str) else piece.expand(values[piece.letter])
            out.append(text)
            size += len(text)
            if size > most:
                break
        return "".join(out)[:most]

    def name(self, values: dict[str, str]) -> str:
        """The name to look up: without a final dot, shortened from the left (RFC 7208 7.3)."""
        text = "".join(piece if isinstance(piece, str) else piece.expand(values[piece.letter]) for piece in self.pieces)
        text = text.removesuffix(".")
        if len(text) > LONGEST:
            at = text.find(".", len(text) - LONGEST - 1)
            text = text[at + 1 :] if at >= 0 else text[-LONGEST:]
        return text


def parse(text: str, allowed: frozenset[str] = NAMES, spaces: bool = False) -> Template:
    """A macro-string (RFC 7208 7.1). BadMacro."""
    pieces: list[str | Macro] = []
    letters = set()
    pattern = _TEXT_PIECE if spaces else _PIECE
    literal = None
    at = 0
    while at < len(text):
        found = pattern.match(text, at)
        if found is None:
            raise BadMacro(f"a character or a macro at {at} is not allowed")
        at = found.end()
        letter, digits, reverse, delimiters, sign, literal = found.groups()
        if letter is None:
            pieces.append(literal if sign is None else _SIGNS[sign])
            continue
        lower = letter.lower()
        number = digits.lstrip("0")
        if lower not in allowed or (digits and not number):
            raise BadMacro(f"macro {letter}{digits[:9]} is not allowed")
        keep = int(number) if 0 < len(number) <= DIGITS else 0
        pieces.append(Macro(lower, keep, bool(reverse), delimiters or ".", letter.isupper()))
        letters.add(lower)
    return Template(tuple(pieces), frozenset(letters), literal is not None)


def domain_spec(text: str) -> Template:
    """A domain-spec (RFC 7208 7.1): it ends with a macro, or with a label that is no number, behind a dot. BadMacro."""
    made = parse(text)
    if made.pieces and not made.open:
        return made
    _, dot, label = text.removesuffix(".").rpartition(".")
    if not dot or not _TOP_LABEL.fullmatch(label) or label.isdecimal():
        raise BadMacro("no domain name")
    return made
