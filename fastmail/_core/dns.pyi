from typing import Any

Octets = bytes | bytearray | memoryview

def wire(text: str) -> bytes:
    """A name (ASCII, without a final dot) as the DNS writes it, in lower case. ValueError."""

def text(name: bytes) -> str:
    """The name back, without a final dot; octets that are no usual signs of names as ``\\DDD``. ValueError."""

def answer(data: Octets, name: bytes, kind: int) -> tuple[int, list[Any], str, int]:
    """What a name server says to the question for ``name`` (as ``wire`` gives it) and ``kind``, the number of a type:
    (the word with flags and RCODE, records, the name at the end of all aliases, TTL).

    Records: A a text, AAAA 16 octets, MX (preference, name), PTR a name, TXT its strings joined, TLSA (usage, selector,
    matching, data), others their octets. The TTL is the least of those used, or, where there is no record, how long
    that may be kept (RFC 2308 5), -1 when it is not said. ValueError for what is no answer to that.
    """
