from collections.abc import Sequence

Octets = bytes | bytearray | memoryview

class Body:
    """The canonical form of a body, as it comes (RFC 6376 3.4.3, 3.4.4). ``size``: octets of it that came out."""

    size: int
    def __init__(self, relaxed: bool) -> None: ...
    def feed(self, data: Octets) -> bytes:
        """The next octets of the canonical form, for a hash; none while only empty lines or white space came."""
    def finish(self) -> bytes:
        """Its last octets."""

def field(data: Octets, relaxed: bool) -> bytes:
    """One header field in its canonical form (RFC 6376 3.4.1, 3.4.2), with CRLF. ValueError for what has no colon."""

def tags(text: str) -> dict[str, str]:
    """A tag list (RFC 6376 3.2): values by name, without the white space around them. ValueError for more than 100
    tags, for an empty one but the last, for a name that is there twice, and for a part that is no tag."""

def plain(text: str) -> str:
    """The text without white space, as base64 and lists may have it folded (RFC 6376 2.3)."""

def without(data: bytes, name: bytes) -> bytes:
    """A field whose value is a tag list, with the value of one tag removed, and the white space around that value (RFC
    6376 3.7). The tag is found as ``tags`` finds it, wherever it is. ValueError for what has no colon."""

class Fields:
    """The fields of a header (LF or CRLF; the empty line and what is behind it do not count). ``count``: how many;
    ``broken``: some line of it is no field, or there are more than 10,000 of them."""

    count: int
    broken: bool
    def __init__(self, data: bytes) -> None: ...
    def named(self, name: bytes) -> list[bytes]:
        """All fields of that name (in lower case), whole and in order."""
    def number(self, name: bytes) -> int:
        """How many there are."""
    def names(self) -> list[bytes]:
        """The names that there are, in lower case."""
    def canonical(self, names: Sequence[bytes], relaxed: bool) -> bytes:
        """The fields that a signature covers, in canonical form: for each of the names (in lower case) the next one
        from the bottom up; nothing where there is none left (RFC 6376 5.4.2)."""
