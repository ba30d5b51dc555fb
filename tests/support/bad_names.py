"""Names as an attacker, a careless script or another alphabet would give them, for tests of whatever takes a name.

``SHAPES`` has one of each kind of trouble, ``NAMES`` all. ``trouble`` says what is wrong with what a command printed.
"""

import re
from collections.abc import Sequence
from typing import TypeVar

from tests.support.examples import FEW

Name = TypeVar("Name")
CONTROLS = "a\x1b[31mred@example.test"
SHAPES = (
    "",
    " ",
    "..",
    "../../outside/x",
    "/",
    "a\0b@example.test",
    "a@example.test\nforged: yes",
    CONTROLS,
    "\udcff@example.test",  # an octet of the command line that is no UTF-8
    "\u202egpj.exe@example.test",  # shown from right to left
    "[/bold]@example.test",  # the markup of what prints
    "\\[/]",
    "$(touch outside)@example.test",
    "*",
    "x" * 5000,
)
LOCAL_PARTS = (
    "../x@example.test",
    "a/b@example.test",
    ".hidden@example.test",
    "a" * 64 + "@example.test",
    "a" * 65 + "@example.test",
    "é" * 33 + "@example.test",
    "İ" * 32 + "@example.test",  # 64 octets, and 96 in lower case
    "\ud800@example.test",
    "ME@EXAMPLE.TEST",
    "ẞtraße@example.test",
    "ΣΊΣΥΦΟΣ@example.test",
    '"a b"@example.test',
    '"a\\"b"@example.test',
    '""@example.test',
    '"a/b"@example.test',
    '".."@example.test',
    "a b@example.test",
    "a\r\nforged: yes@example.test",
    "a\x7f@example.test",
    "a\x85b@example.test",
    "a\u2028b@example.test",
    "a\u200db@example.test",
    "a\u3000b@example.test",
    "%s%n{0}@example.test",
    "`id`|reboot;@example.test",
    "$team@example.test",
    "-x@example.test",
    "😀@example.test",
)
DOMAINS = (
    "a@../x",
    "a@example.test/..",
    "a@.example.test",
    "a@example..test",
    "a@example.test\0",
    "a@" + "b" * 64 + ".test",
    "a@" + ".".join(["c" * 60] * 5),
    "a@\udcff.test",
    "a@faß.example",
    "a@xn--fa-hia.example",
    "a@ΒΌΛΟΣ.example",
    "a@نامه\u200cای.example",
    "a@a\u200db.example",
    "a@xn--.example",
    "a@אבc.example",
    "a@😀.example",
    "ａ＠ｅｘ.test",
    "@",
    "@example.test",
    "@..",
    "a@",
    "a@[127.0.0.1]",
    "faß.example",
    "other name.example",
)
NAMES = SHAPES + LOCAL_PARTS + DOMAINS
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|^forged:",
    re.MULTILINE,
)


def taken(names: Sequence[Name], number: int, parts: int = 3) -> Sequence[Name]:
    """The names that are tried in the ``number``-th place of many: all of them; in `make check` one of ``parts`` parts,
    another one for the next place."""
    return names[number % parts :: parts] if FEW else names


def trouble(printed: str) -> str:
    """What of a name would move a terminal's cursor or look like a line of ours; empty for nothing."""
    found = _HIDDEN.search(printed)
    return repr(printed[max(0, found.start() - 60) : found.end() + 20]) if found else ""
