from collections.abc import Callable, Sequence

Octets = bytes | bytearray | memoryview

class Body:
    """The canonical form of a body, as it comes (RFC 6376 3.4.3, 3.4.4). ``update`` takes its octets, as that of a hash
    does; it gets a view that is void when it returns. ``size``: octets that it got."""

    size: int
    def __init__(self, relaxed: bool, update: Callable[[memoryview], object]) -> None: ...
    def feed(self, data: Octets) -> None:
        """More of the body, cut anywhere."""
    def finish(self) -> None:
        """All of it has come; ``update`` gets what is left."""

def field(data: Octets, relaxed: bool) -> bytes:
    """One header field in its canonical form (RFC 6376 3.4.1, 3.4.2), with CRLF. ValueError for what has no colon."""

class Fields:
    """The fields of a header (LF or CRLF; the empty line and what is behind it do not count). ``count``: how many;
    ``end``: where the header ends; ``broken``: some line of it is no field, or there are more than 10,000 of them;
    ``cr``: there is a CR in it. Names are given in lower case."""

    count: int
    end: int
    broken: bool
    cr: bool
    def __init__(self, data: bytes) -> None: ...
    def named(self, name: bytes) -> list[bytes]:
        """All fields of that name, whole and in order."""
    def values(self, name: bytes, most: int) -> list[bytes] | None:
        """Their values, from behind the colon on; None where these fields have more than ``most`` octets."""
    def number(self, name: bytes) -> int:
        """How many there are."""
    def numbers(self, names: tuple[bytes, ...], most: int) -> tuple[int, ...]:
        """How many there are of each name, ``most`` at most."""
    def canonical(self, names: Sequence[bytes], relaxed: bool) -> bytes:
        """The fields that a signature covers, in canonical form: for each of the names the next one from the bottom up;
        nothing where there is none left (RFC 6376 5.4.2)."""
    def signed(self, names: Sequence[bytes], relaxed: bool, field: bytes, unsigned: bytes) -> bytes:
        """What the signature in ``field`` is of: these fields, of which it is none itself (RFC 6376 3.5), then
        ``unsigned``, the same without the value of b=, without the line end (3.7). ValueError where ``unsigned`` has no
        colon."""
