"""Reads and changes the header of a message field by field (RFC 5322 2.2, 3.6.8; RFC 7103 7.2).

Promise: what nobody asked to change stays the same, octet for octet and at the same place: other fields, lines that are
not fields, and the body. A message without an empty line after its header gets one, so that no reader takes its text
for header fields. Everything is linear in the header, which may be as long as the message.
"""

import re
from array import array
from collections import deque
from collections.abc import Iterator

from fastmail._core import header

Octets = bytes | bytearray | memoryview
ON_LOOP = 262144  # octets of a header that are read on the event loop; a longer one is read on a helper thread
# The line before a message in an mbox file. A text may begin with "From ", so the date is required too.
_MBOX = re.compile(
    rb">?From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(?:(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d\d?|\d\d? +[A-Z][a-z]{2}) [^\n]{4,60}\r?(?:\n|\Z)"
)
_MBOX_LINE = 512


def mbox_line(content: Octets) -> int:
    """Return the length of the mbox separator at the start of a message, in octets; 0 where there is none."""
    if content[:5] != b"From " and content[:6] != b">From ":
        return 0
    found = _MBOX.match(bytes(content[:_MBOX_LINE]))
    return found.end() if found is not None else 0


def end_at(content: Octets) -> int:
    """Return the offset at which the empty line after the header of a message (LF) is missing; -1 if it is not, as
    nearly always, and -2 if that cannot be said by the beginning of a long message."""
    return header.text_start(content[:ON_LOOP], mbox_line(content), len(content) <= ON_LOOP) if len(content) else -1


async def with_end(content: Octets) -> Octets:
    """Return the message (LF) with the empty line after its header added where it is missing; usually the same
    object."""
    at = end_at(content)
    if at == -1:
        return content
    import asyncio  # commands that never come here need none of it

    loop = asyncio.get_running_loop()
    if at == -2:
        at = await loop.run_in_executor(None, header.text_start, content, mbox_line(content), True)
        if at < 0:
            return content
    if len(content) <= ON_LOOP:
        return ended(content, at)
    return await loop.run_in_executor(None, ended, content, at)


def shown(head: bytes) -> bytes:
    """Return what of a header (LF, without its empty line) is a header still after ``with_end``, which takes what
    stands behind several broken lines for text. Programs show no field of it, so none of it may say who wrote the
    message."""
    at = header.text_start(head + b"\n", mbox_line(head), True)
    return head[:at] if at >= 0 else head


def ended(content: Octets, at: int) -> bytes:
    """Return the message with an empty line inserted at the offset ``at``, the start of a line."""
    return b"".join((content[:at], b"\n", content[at:]))


class Edited:
    """The header of a message (LF) while a filter changes it.

    Each field has a number that never changes: the offset of a field that the message came with, ``~n`` for the n-th
    new field. So a change costs only finding the field, however many fields there are."""

    def __init__(self, content: Octets) -> None:
        self.content = content
        self.end = header.end(content)  # the offset of the empty line
        self._order = array("q", array("I", header.starts(content)))
        self._new: list[bytes] = []
        self._changed: dict[int, bytes] = {}  # new text of a field by its number; b"" when it was removed
        self._removed = False
        self._same: dict[bytes, deque[int]] = {}  # by name: numbers of the present fields, in order

    @property
    def body(self) -> int:
        """Offset of the body."""
        return min(self.end + 1, len(self.content))

    @property
    def changed(self) -> bool:
        return bool(self._changed or self._new)

    def fields(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield names and values of the fields that the message came with; a value includes its white space and its
        folding."""
        for start in self._order:
            name, value, end = header.field(self.content, start)
            yield bytes(self.content[start:name]), bytes(self.content[value:end]).removesuffix(b"\n")

    def add(self, name: bytes, value: bytes) -> None:
        """Add a field after all others. ``value`` has no line end."""
        self._insert(len(self._order), name, value)

    def insert(self, index: int, name: bytes, value: bytes) -> None:
        """Insert a field so that ``index`` fields are before it, or all of them if there are fewer."""
        at = min(index, len(self._order))
        if self._removed:  # removed fields are still in _order, so they must not be counted
            left, at = index, len(self._order)
            for position, number in enumerate(self._order):
                if not left:
                    at = position
                    break
                left -= self._changed.get(number) != b""
        self._insert(at, name, value)

    def _insert(self, at: int, name: bytes, value: bytes) -> None:
        self._new.append(name + b":" + value + b"\n")
        number = ~(len(self._new) - 1)
        last = at == len(self._order)
        self._order.insert(at, number)
        same = self._same.get(name.lower())
        if same is not None and last:
            same.append(number)
        else:
            self._same.pop(name.lower(), None)

    def change(self, name: bytes, index: int, value: bytes) -> bool:
        """Set the value of the ``index``-th field (from 1) of that name; an empty value removes it. Returns False when
        there is no such field."""
        same = self._same.get(name.lower())
        if same is None:
            same = self._same[name.lower()] = self._named(name.lower())
        if not 1 <= index <= len(same):
            return False
        self._changed[same[index - 1]] = name + b":" + value + b"\n" if value else b""
        if not value:
            del same[index - 1]
            self._removed = True
        return True

    def _named(self, name: bytes) -> deque[int]:
        there: array[int] | list[int] = array("I", header.starts(self.content, name))
        new = {~n for n, one in enumerate(self._new) if one.partition(b":")[0].lower() == name}
        if new:
            wanted = new.union(there)
            there = [number for number in self._order if number in wanted]
        return deque(number for number in there if self._changed.get(number) != b"")

    def pieces(self) -> list[Octets]:
        """Return the header as it is now, without its empty line, as pieces to be joined."""
        cuts: list[tuple[int, int, int, bytes]] = []  # start, 0 for inserted or 1 for changed, end, new text
        for number, text in self._changed.items():
            if number >= 0:
                cuts.append((number, 1, header.field(self.content, number)[2], text))
        before = None
        for at in reversed(self._places()):
            if at + 1 == len(self._order):
                before = self.end
            elif self._order[at + 1] >= 0:
                before = self._order[at + 1]
            assert before is not None  # the field after this one was handled in the previous round
            number = self._order[at]
            cuts.append((before, 0, before, self._changed.get(number, self._new[~number])))
        cuts.reverse()
        cuts.sort(key=lambda cut: cut[:2])
        out: list[Octets] = []
        done = 0
        for start, _, goes_on, text in cuts:
            out.append(self.content[done:start])
            out.append(text)
            done = goes_on
        out.append(self.content[done : self.end])
        out = [piece for piece in out if len(piece)]
        for at, piece in enumerate(out[:-1]):
            if piece[-1] != 10:  # the last field has no line end where the message ends inside its header
                out[at] = bytes(piece) + b"\n"
        return out

    def _places(self) -> list[int]:
        """Positions of the new fields in ``_order``."""
        return sorted(self._order.index(~n) for n in range(len(self._new)))
