Octets = bytes | bytearray | memoryview

def shortened(text: Octets, most: int, quotes: bool = False, whole: bool = True) -> tuple[bytes | None, int]:
    """(the first words of a text in UTF-8, of at most so many characters; how many characters). Lines that begin with
    ``>`` are left out, unless there is nothing else in the ``whole`` text, or ``quotes`` are wanted. (None, 0) for what
    is no UTF-8."""

def first(content: Octets, summary: Octets, most: int) -> bytes | None:
    """The first words of a stored message whose summary (``mime.scan``) this is, in UTF-8: of its first text/plain part
    that is no attachment, empty where it has no text at all. None where it takes more than a short look at such a
    part: HTML, other charsets, many quoted lines, none among the first 64 parts."""
