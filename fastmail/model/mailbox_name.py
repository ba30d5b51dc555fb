"""Mailbox names: inside, str with "/" between levels; on the wire, modified UTF-7 (RFC 3501 5.1.3).

INBOX is INBOX in any case. A name that decodes badly, has control characters, an empty level or ``.``/``..`` as a
level is refused with CannotDo, so that no name can lead out of its Maildir. Mailboxes that another program made may
have names that are not given here (``refuse_new``): such a mailbox can be opened, and no mailbox gets such a name.
"""

import base64
import re
from functools import lru_cache

from fastmail.model.errors import CannotDo

INBOX = "INBOX"
MAX_OCTETS = 240  # of a new name in modified UTF-7: a directory entry has at most 255
MAX_KNOWN = 4096  # of any name: PATH_MAX of Linux
# Characters of a pattern beside its wildcards: no name is longer, with its namespace and the owner's address in front.
MAX_LITERAL = MAX_KNOWN + 1024
KEPT = 256  # names whose stored form is kept: clients use the same ones again and again
_BASE64 = re.compile(r"[A-Za-z0-9+,]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SPECIAL = re.compile(r"[^\x20-\x25\x27-\x7e]+|&")


def decode_utf7(name: bytes) -> str:
    """Modified UTF-7 to str; CannotDo when it is not (8-bit octets, bad base64, encoded ASCII, lone surrogates)."""
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            raise CannotDo("mailbox name is neither modified UTF-7 nor UTF-8") from None
    if "&" not in text:
        return text
    # Split instead of a regular expression: one that looks for the end of each run is quadratic in "&&&&...".
    plain, *runs = text.split("&")
    out = [plain]
    for run in runs:
        coded, end, rest = run.partition("-")
        if not end:
            raise CannotDo("mailbox name has & without -")
        out += [_decoded(coded) if coded else "&", rest]
    return "".join(out)


def _decoded(coded: str) -> str:
    """One run of modified base64, without ``&`` and ``-``."""
    if not _BASE64.fullmatch(coded):
        raise CannotDo("mailbox name is not modified UTF-7")
    try:
        return base64.b64decode(coded.replace(",", "/") + "=" * (-len(coded) % 4)).decode("utf-16-be")
    except ValueError:
        raise CannotDo("mailbox name is not modified UTF-7") from None


def encode_utf7(name: str) -> bytes:
    """str to modified UTF-7."""
    if _SPECIAL.search(name) is None:
        return name.encode("ascii")

    def shift(match: re.Match[str]) -> str:
        run = match.group(0)
        if run == "&":
            return "&-"
        coded = base64.b64encode(run.encode("utf-16-be", "surrogatepass")).decode("ascii").rstrip("=")
        return "&" + coded.replace("/", ",") + "-"

    return _SPECIAL.sub(shift, name).encode("ascii")


@lru_cache(KEPT)
def canonical(name: str, separator: str, dotted: bool = False, new: bool = True) -> str:
    """A client's name, with its ``separator``, as it is stored; CannotDo for one that can not be. ``dotted``: may a
    level have dots? ``new``: it must be a name that ``refuse_new`` lets pass."""
    if len(name) > MAX_KNOWN:
        raise CannotDo("mailbox name is too long")
    name = name.removesuffix(separator)
    levels = name.split(separator)
    if is_inbox(levels[0]):
        levels[0] = INBOX
    for level in levels:
        if not level:
            raise CannotDo("mailbox name has an empty level")
        if _CONTROL.search(level):
            raise CannotDo("mailbox name has a control character")
        if "/" in level or ("." in level and not dotted):
            raise CannotDo("character not allowed in mailbox name: " + ("/" if "/" in level else "."))
        if level in (".", ".."):
            raise CannotDo(f"{level} is no name for a mailbox")
    name = "/".join(levels)
    if new:
        refuse_new(name)
    return name


def is_inbox(level: str) -> bool:
    """Is it INBOX in any case? Of ASCII letters: upper() would make one of a dotless i, too."""
    return level.isascii() and level.upper() == INBOX


def refuse_new(name: str) -> None:
    """CannotDo for a stored name that no mailbox is given here: too long, or with a level that begins with ``~``, which
    Dovecot does not open."""
    if name.startswith("~") or "/~" in name:
        raise CannotDo("mailbox name may not start with ~")
    if len(encode_utf7(name)) > MAX_OCTETS:
        raise CannotDo("mailbox name is too long")


class Pattern:
    """A pattern of LIST (RFC 3501 6.3.8): ``*`` is any text, ``%`` any text without the separator.

    Matching costs one step for each character of the name, whatever the pattern: the states that a pattern can be in
    are bits of one integer. State n: the first n characters of the pattern that are no wildcards were found.
    """

    __slots__ = ("_any", "_last", "_level", "_literals", "_separator")

    def __init__(self, text: str, separator: str) -> None:
        self._separator = separator
        self._literals: dict[str, int] = {}  # character: the states that it leads out of
        self._any = 0  # states with a * at that place: any character leaves them as they are
        self._level = 0  # states with a %: any character but the separator does
        self._last = 0  # the state in which the whole pattern was found; 0 when no name is so long
        state = 1
        if len(text) - text.count("*") - text.count("%") > MAX_LITERAL:
            return
        for character in text:
            if character == "*":
                self._any |= state
            elif character == "%":
                self._level |= state
            else:
                self._literals[character] = self._literals.get(character, 0) | state
                state <<= 1
        self._last = state

    def matches(self, name: str) -> bool:
        """Does the whole name fit?"""
        states = 1
        for character in name:
            kept = self._any if character == self._separator else self._any | self._level
            states = (states & kept) | (states & self._literals.get(character, 0)) << 1
            if not states:
                return False
        return bool(states & self._last)
