"""System flags as bits (RFC 3501 2.3.2) and their letters in a Maildir file name.

Letters in ASCII order: D draft, F flagged, R answered, S seen, T deleted; a to z are the first 26 keywords of the
mailbox. Other letters, and everything from a comma on, belong to other tools and are kept as they are.
"""

from functools import lru_cache

SEEN, ANSWERED, FLAGGED, DELETED, DRAFT = 1, 2, 4, 8, 16
ALL_FLAGS = 31
LETTERS = {"D": DRAFT, "F": FLAGGED, "R": ANSWERED, "S": SEEN, "T": DELETED}
MAX_KEYWORDS = 64
LETTERED_KEYWORDS = 26
KEPT = 1024  # info parts that are remembered: most messages have one of a few


@lru_cache(KEPT)
def from_info(info: str) -> tuple[int, int, str]:
    """The part of a Maildir name behind ``:2,``: (flags, keyword bits, what other tools put there)."""
    letters, comma, rest = info.partition(",")
    flags = keywords = 0
    foreign = ""
    for letter in letters:
        if letter in LETTERS:
            flags |= LETTERS[letter]
        elif "a" <= letter <= "z":
            keywords |= 1 << (ord(letter) - 97)
        else:
            foreign += letter
    return flags, keywords, foreign + comma + rest


@lru_cache(KEPT)
def to_info(flags: int, keywords: int, foreign: str = "") -> str:
    """The inverse of ``from_info``: letters in ASCII order, then what other tools keep behind a comma."""
    letters, comma, rest = foreign.partition(",")
    own = [letter for letter, bit in LETTERS.items() if flags & bit]
    own += [chr(97 + i) for i in range(LETTERED_KEYWORDS) if keywords >> i & 1]
    return "".join(sorted([*own, *letters])) + comma + rest
