"""What SEARCH, SORT and ESEARCH are asked to return: RETURN options (RFC 4731, RFC 5182, RFC 5267 3, RFC 6203), and the
range of PARTIAL (RFC 9394, RFC 5267 5).
"""

from dataclasses import dataclass

from fastmail._core.imap import ParseError, Reader
from fastmail._core.uidset import UidSet

RETURNS = (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"RELEVANCY")


@dataclass(slots=True)
class Wanted:
    """What is to be returned (RFC 4731, 5182, 9394): names, and the range of PARTIAL.

    ``names`` None: a plain SEARCH. ``update``: later changes too (RFC 5267 4.3); ``hints``: UPDATE or CONTEXT was
    given."""

    names: list[bytes] | None = None
    partial: tuple[int, int] | None = None
    label: bytes = b""
    update: bool = False
    hints: bool = False

    @property
    def silent(self) -> bool:
        """True if nothing is to be sent now. SAVE alone is the only option without an answer (RFC 5182 2.1); a client
        that asks for updates gets at least an answer that its search was made."""
        return self.names is not None and set(self.names) == {b"SAVE"} and self.partial is None and not self.hints


def read_return(reader: Reader) -> Wanted:
    """Read ``RETURN (...)`` and the space after it, if present."""
    wanted = Wanted()
    if not reader.skip(b"RETURN "):
        return wanted
    wanted.names = []
    reader.open()
    while reader.peek() != 41:
        at = reader.pos
        name = reader.atom().upper()
        if name == b"PARTIAL" and wanted.partial is None and b"ALL" not in wanted.names:
            reader.sp()
            wanted.partial, wanted.label = read_partial(reader)
        elif name in (b"UPDATE", b"CONTEXT"):
            wanted.update = wanted.update or name == b"UPDATE"
            wanted.hints = True
        elif name not in RETURNS or (name == b"ALL" and wanted.partial is not None):
            raise ParseError("MIN, MAX, ALL, COUNT, SAVE or PARTIAL range", at)
        else:
            wanted.names.append(name)
        if reader.peek() != 32:
            break
        reader.sp()
    reader.close()
    reader.sp()
    if not wanted.names and wanted.partial is None and not wanted.hints:
        wanted.names = [b"ALL"]
    return wanted


def read_partial(reader: Reader) -> tuple[tuple[int, int], bytes]:
    """Read ``1:100`` or ``-1:-100`` (RFC 9394 3.1). Returns both ends, and the text for the answer with the nearer end
    first: ``4:2`` is ``2:4`` (RFC 5267 5)."""
    at = reader.pos
    ends = []
    signs = []
    for position in range(2):
        if position and not reader.skip(b":"):
            raise ParseError("a range such as 1:100", reader.pos)
        signs.append(reader.skip(b"-"))
        ends.append(reader.number(True))
    if signs[0] != signs[1]:
        raise ParseError("both ends of the range of one sign", at)
    low, high = min(ends), max(ends)
    sign = b"-" if signs[0] else b""
    label = b"%b%d:%b%d" % (sign, low, sign, high)
    return ((-high, -low) if signs[0] else (low, high)), label


def narrowed(partial: tuple[int, int], count: int) -> tuple[int, int]:
    """Return the positions, from 1, that a PARTIAL range names; low is above high if there are none."""
    low, high = partial
    if low < 0:
        low, high = count + 1 + low, count + 1 + high
    return max(1, low), min(high, count)


def part_of(wanted: tuple[int, int], found: UidSet) -> UidSet:
    """Return those of ``found`` that a PARTIAL range names."""
    low, high = narrowed(wanted, len(found))
    return found.at(UidSet.of_ranges((low, high))) if low <= high else UidSet()


def head(tag: bytes, by_uid: bool) -> bytes:
    """Return ``* ESEARCH`` up to where its results begin (RFC 4466 2.6.2)."""
    return b'* ESEARCH (TAG "' + tag + b'")' + (b" UID" if by_uid else b"")
