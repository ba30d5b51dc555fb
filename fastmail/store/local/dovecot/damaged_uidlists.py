"""Reads what is credible in a damaged UID list (``dovecot-uidlist`` version 3 or 1; ``courierimapuiddb``).

A client that has seen a message under a UID shows what it remembers for that UID. So a line counts only if nothing
contradicts it, and a UID that any line may have assigned is not used again. The rules:

- a line counts if it has the form of a line and its UID ascends from the lines before it to those after it; of lines
  out of order, the longest ascending run is kept;
- if two messages have one UID, neither counts; of two UIDs for one message the later counts, as in Dovecot;
- UIDVALIDITY and UIDNEXT are those of the header, each by itself; 0 and 1 if it has none.

Nothing is changed on disk. The work is n log n in the lines, and bounded by the size of the file.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MOST = 4_000_000_000  # a UID above this counts as damage: UIDs end at 4,294,967,295, and new ones must follow
JUMP = 1_000_000  # a number in a damaged last line that is further above the others is not taken for a UID
_VALIDITY = re.compile(rb" V(\d{1,10})(?= |$)")
_NEXT = re.compile(rb" N(\d{1,10})(?= |$)")
_FIRST = re.compile(rb"1 (\d{1,10}) (\d{1,10})")
_OTHER = re.compile(rb"[024-9]\d* ")  # an undocumented version
_NAMED = re.compile(rb"(\d{1,10})((?: [A-Z][^ \x00]*)*) :([^\x00-\x1f/:][^\x00-\x1f/]*)")
_PLAIN = re.compile(rb"(\d{1,10}) ([^\x00-\x1f/: ][^\x00-\x1f/ ]*)")
_NUMBER = re.compile(rb"(\d{1,10}) ")


@dataclass(frozen=True, slots=True)
class Line:
    """One message: its UID, its base name, and what is between them (`` P... O...``)."""

    uid: int
    base: bytes
    more: bytes = b""


@dataclass(slots=True)
class Salvaged:
    """``torn``: nothing sound follows the damage, so lines after ``lines`` may be lost. ``uidnext`` is above every UID
    in the list."""

    uidvalidity: int
    uidnext: int
    lines: list[Line]
    torn: bool


def salvage(data: bytes) -> Salvaged | None:
    """Return what is credible in a list; None if it has nothing, or is of an unknown version."""
    rows = data.replace(b"\r", b"").split(b"\n")
    head = rows[0]
    validity, following = _header(head)
    is_line = any(one.fullmatch(head) for one in (_NAMED, _PLAIN))
    if not validity and not following and not is_line and _OTHER.match(head):
        return None
    form = _PLAIN if _FIRST.fullmatch(head) else _NAMED
    if form is _NAMED and not head.startswith(b"3 ") and not any(map(_NAMED.fullmatch, rows)):
        form = _PLAIN
    found: list[Line] = []
    numbers: list[int] = []  # the numbers with which rows begin, sound or not
    after_last = 0  # index in numbers of the first one after the last sound row
    for row in rows if is_line else rows[1:]:
        number = _NUMBER.match(row)
        match = form.fullmatch(row)
        if number is not None:
            numbers.append(int(number[1]))
        if match is None or not 0 < int(match[1]) <= MOST:
            continue
        after_last = len(numbers)
        groups = match.groups()
        found.append(Line(int(groups[0]), groups[-1].partition(b":")[0], groups[1] if len(groups) == 3 else b""))
    torn = bool(rows[-1]) or not found or form.fullmatch(rows[-2]) is None
    lines = _ascending(_without_doubles(found))
    if not lines and not validity:
        return None
    last = max(following - 1, lines[-1].uid if lines else 0)
    for number_ in [line.uid for line in found] + numbers[after_last:]:
        if last < number_ <= last + JUMP:
            last = number_
    return Salvaged(validity, last + 1, lines, torn)


def _header(head: bytes) -> tuple[int, int]:
    """Return (UIDVALIDITY, UIDNEXT) of the header, 0 for a missing one."""
    first = _FIRST.fullmatch(head)
    if first is not None:
        found = [int(first[1]), int(first[2])]
    elif head.startswith(b"3 "):
        matches = [form.search(head) for form in (_VALIDITY, _NEXT)]
        found = [int(match[1]) if match is not None else 0 for match in matches]
    else:
        return 0, 0
    return found[0] if found[0] <= 0xFFFFFFFF else 0, found[1] if found[1] <= MOST else 0


def _without_doubles(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with each UID and each message once."""
    last = {line.base: line for line in lines}
    counts = Counter(line.uid for line in last.values())
    kept = [line for line in last.values() if counts[line.uid] == 1]
    places = {line.base: place for place, line in enumerate(lines)}
    return sorted(kept, key=lambda line: places[line.base])


def _ascending(lines: Sequence[Line]) -> list[Line]:
    """Return a longest run of lines whose UIDs ascend."""
    ends: list[int] = []  # the lowest UID in which a run of length i + 1 ends
    at: list[int] = []  # the line of that UID
    before: list[int] = []  # for each line, the one before it in its run
    for place, line in enumerate(lines):
        length = bisect_left(ends, line.uid)
        before.append(at[length - 1] if length else -1)
        if length == len(ends):
            ends.append(line.uid)
            at.append(place)
        else:
            ends[length], at[length] = line.uid, place
    out: list[Line] = []
    place = at[-1] if at else -1
    while place >= 0:
        out.append(lines[place])
        place = before[place]
    return out[::-1]
