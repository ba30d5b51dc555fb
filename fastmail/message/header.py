"""The header of a message, read and changed field by field (RFC 5322 2.2, 3.6.8; RFC 7103 7.2).

Promise: what is not asked for stays as it is, octet for octet and where it is: other fields, lines that are no fields,
and the body. A message without an empty line behind its header gets one, so that no reader takes its text for header.
All of it is linear in the header, which may be as long as the message.
"""

import asyncio
import re
from array import array
from collections import deque
from collections.abc import Iterator

from fastmail._core import header

Octets = bytes | bytearray | memoryview
ON_LOOP = 262144  # octets of a header that are looked at without leaving the event loop
# The line in front of a message in an mbox file. A text may begin with "From ", so its date must be there too.
_MBOX = re.compile(
    rb">?From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +"
    rb"(?:(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d\d?|\d\d? +[A-Z][a-z]{2}) [^\n]{4,60}\r?(?:\n|\Z)"
)
_MBOX_LINE = 512


def mbox_line(content: Octets) -> int:
    """Octets of the mbox separator in front of a message; 0 where there is none."""
    if content[:1] not in (b"F", b">"):
        return 0
    found = _MBOX.match(bytes(content[:_MBOX_LINE]))
    return found.end() if found is not None else 0


async def with_end(content: Octets) -> Octets:
    """The message (LF), with the empty line behind its header put in where it is missing; usually the same object."""
    skip = mbox_line(content)
    at = header.text_start(content[:ON_LOOP], skip, len(content) <= ON_LOOP) if len(content) else -1
    if at == -1:
        return content
    loop = asyncio.get_running_loop()
    if at == -2:
        at = await loop.run_in_executor(None, header.text_start, content, skip, True)
        if at < 0:
            return content
    if len(content) <= ON_LOOP:
        return ended(content, at)
    return await loop.run_in_executor(None, ended, content, at)


def ended(content: Octets, at: int) -> bytes:
    """The message with an empty line at the offset ``at``, the start of a line."""
    return b"".join((content[:at], b"\n", content[at:]))


class Edited:
    """The header of a message (LF) while a filter changes it.

    A field is known by a number that it keeps: the offset of one that the message came with, ``~n`` for the n-th new
    one. So a change costs no more than finding the field, however many fields there are.
    """

    def __init__(self, content: Octets) -> None:
        self.content = content
        self.end = header.end(content)  # the offset of the empty line
        self._order = array("q", array("I", header.starts(content)))
        self._new: list[bytes] = []
        self._changed: dict[int, bytes] = {}  # what became of a field; b"" when it was removed
        self._removed = False
        self._same: dict[bytes, deque[int]] = {}  # by name: fields that are there, in order

    @property
    def body(self) -> int:
        """Where the body begins."""
        return min(self.end + 1, len(self.content))

    @property
    def changed(self) -> bool:
        return bool(self._changed or self._new)

    def fields(self) -> Iterator[tuple[bytes, bytes]]:
        """Names and values of the fields that the message came with; a value has its white space and its folding."""
        for start in self._order:
            name, value, end = header.field(self.content, start)
            yield bytes(self.content[start:name]), bytes(self.content[value:end]).removesuffix(b"\n")

    def add(self, name: bytes, value: bytes) -> None:
        """Behind all fields. ``value`` has no line end."""
        self._insert(len(self._order), name, value)

    def insert(self, index: int, name: bytes, value: bytes) -> None:
        """So that ``index`` fields are in front of it, or all there are."""
        at = min(index, len(self._order))
        if self._removed:  # those have a place in the order still
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
        """The value of the ``index``-th field (from 1) of that name; an empty value removes it. False when there is no
        such field."""
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
        """The header as it is now, without its empty line."""
        cuts: list[tuple[int, int, int, bytes]] = []  # where, which of those there, where it goes on, what is there now
        for number, text in self._changed.items():
            if number >= 0:
                cuts.append((number, 1, header.field(self.content, number)[2], text))
        before = None
        for at in reversed(self._places()):
            if at + 1 == len(self._order):
                before = self.end
            elif self._order[at + 1] >= 0:
                before = self._order[at + 1]
            assert before is not None  # the field behind this one was looked at in the turn before
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
            if piece[-1] != 10:  # the last field of a message that ends inside its header has no line end
                out[at] = bytes(piece) + b"\n"
        return out

    def _places(self) -> list[int]:
        """Positions of the new fields."""
        return sorted(self._order.index(~n) for n in range(len(self._new)))
