Octets = bytes | bytearray | memoryview

def end(data: Octets) -> int:
    """Where the header ends: the offset of the empty line, or the length of the data."""

def text_start(data: Octets, start: int, whole: bool) -> int:
    """Where the text begins although no empty line is in front of it; -1 when the header ends as it should (or never).

    ``start``: an offset in front of which nothing is looked at. ``whole``: this is all of the message; otherwise -2
    says that more of it is needed. Up to three broken lines in a row belong to the header when a field is behind them;
    where no field is in front of them, it must have a known name or one with a hyphen (RFC 7103 7.2). Behind such a
    field they also belong to the header when the empty line is behind them. Where text follows lines that look like
    fields, none of them with such a name, all of it is text.
    """

def starts(data: Octets, name: bytes | None = None) -> bytes:
    """Where the fields begin, or those of one name (in lower case): numbers of 4 octets, as ``array("I")`` has them."""

def starting(data: Octets, names: tuple[bytes, ...]) -> bytes:
    """The same for the fields whose names begin with one of these (in lower case; 16 at most)."""

def field(data: Octets, start: int) -> tuple[int, int, int]:
    """The field that begins at ``start``: offsets behind its name, behind its colon and behind its last line."""

def counts(data: Octets, names: tuple[bytes, ...]) -> list[int]:
    """How many fields of each name (in lower case; 16 names at most) there are."""

def value(data: Octets, name: bytes, most: int) -> bytes | None:
    """The value of the first field of that name (in lower case), as it is folded, cut behind ``most`` octets."""

def values(data: Octets, names: tuple[bytes, ...], most: int) -> list[tuple[int, bytes]] | None:
    """All fields of these names (in lower case; 16 at most), in order: which name, and the value as it is folded. None
    when they have more than ``most`` octets together."""

def without(data: Octets, names: tuple[bytes, ...]) -> bytes:
    """The header, without its empty line, and without the fields of these names (in lower case)."""
