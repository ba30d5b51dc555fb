"""Names of mailboxes between client and store (RFC 3501 5.1, RFC 6855 3, RFC 9051 5.1): modified UTF-7, or UTF-8 once
the client enabled that; the client's separator, or "/" as the store has it. Where a name leads is in ``places``.
"""

from fastmail._core.imap import Reader, quote
from fastmail.imap import places
from fastmail.imap.state import Session
from fastmail.model.errors import CannotDo
from fastmail.model.mailbox_name import decode_utf7, encode_utf7


def read_name(session: Session, reader: Reader) -> str:
    """A mailbox name from the client; CannotDo for one that can not exist."""
    return places.full_name(session, decode_name(session, reader.astring()))


def decode_name(session: Session, raw: bytes) -> str:
    """A name as it was sent: modified UTF-7, or UTF-8 once the client enabled that (RFC 9051 5.1, RFC 6855 3)."""
    if not session.utf8:
        return decode_utf7(raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotDo("mailbox name is not UTF-8") from None


def wire(session: Session, name: str) -> bytes:
    """A stored name in a response."""
    return wire_text(session, name.replace("/", session.service.separator))


def wire_text(session: Session, name: str) -> bytes:
    """The same for a name that has the client's separator."""
    if not session.utf8 or name.isascii():
        return quote(name.encode() if session.utf8 else encode_utf7(name))
    return b'"' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


def quoted(sep: str) -> bytes:
    """The separator as a quoted string."""
    return b'"' + sep.encode() + b'"'
