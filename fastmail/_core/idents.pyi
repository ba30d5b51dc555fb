Octets = bytes | bytearray | memoryview

def named(summary: Octets) -> tuple[bytes, bytes, list[bytes]]:
    """(the message's own identification, the one that names its thread by itself, those that it names: the nearest
    first). Empty where there is none."""

def rest_at(summary: Octets) -> int:
    """Where what the store keeps behind a summary begins: its length where there is nothing."""

def preview(summary: Octets) -> bytes | None:
    """The message's first words, in UTF-8; None where they were not looked for."""

def with_preview(summary: Octets, words: bytes) -> bytes:
    """The same summary with these first words, at most 1024 octets. ValueError for one that cannot have any: it is
    damaged, or ``mime.lost``."""
