class Element:
    """Places of the elements of an ENVELOPE (RFC 9051 7.5.2); their numbers are in envelope.pxd."""

    DATE: int
    SUBJECT: int
    FROM: int
    SENDER: int
    REPLY_TO: int
    TO: int
    CC: int
    BCC: int
    IN_REPLY_TO: int
    MESSAGE_ID: int

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
