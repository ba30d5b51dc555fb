# places of an ENVELOPE's elements (RFC 9051 7.5.2): date 0, subject 1, from 2, sender 3, reply-to 4, to 5, cc 6, bcc 7,
# in-reply-to 8, message-id 9

Parts = tuple[bytes | None, bytes | None, bytes | None, bytes | None]

def addresses(summary: bytes, which: int, most: int = -1) -> list[Parts] | None:
    """(name, route, mailbox, host) of each address of an element of the summary's ENVELOPE, None for NIL; at most
    ``most``. A group begins with its name as mailbox and no host, and ends with all NIL. None when the summary is
    damaged."""

def string(summary: bytes, which: int) -> bytes | None:
    """A string of the summary's ENVELOPE without its quoting; None for NIL, for a list and in a damaged summary."""

def line(summary: bytes, which: int) -> bytes:
    """The addresses of an element as SEARCH looks through them, ``name <mailbox@host>, group: <mailbox@host>;``, with
    encoded words as they are; empty when there are none."""
