def tags(text: str) -> dict[str, str]:
    """A tag list (RFC 6376 3.2): values by name, without the white space around them. ValueError for more than 100
    tags, for an empty one but the last, for a name that is there twice, and for a part that is no tag."""

def plain(text: str) -> str:
    """The text without white space, as base64 and lists may have it folded (RFC 6376 2.3)."""

def without(data: bytes, name: bytes) -> bytes:
    """A field whose value is a tag list, with the value of one tag removed, and the white space around that value (RFC
    6376 3.7). The tag is found as ``tags`` finds it, wherever it is. ValueError for what has no colon."""

def signature(data: bytes) -> tuple[bytes, bytes, bytes, int, int] | None:
    """The value of a signature's field in two halves: what all signatures of one signer have in common, and what each
    message's own is. The first is the value without those of b=, bh=, t= and x=; then come b= and bh= without white
    space, t= and x= (-1 for none). Two fields with the same first half have the same tags in the same order. None for a
    field without b= or bh=, with one of the four twice, or with a time that is no number."""
