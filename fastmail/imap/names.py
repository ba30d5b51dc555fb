"""Names of mailboxes between client and store (RFC 3501 5.1, RFC 6855 3, RFC 9051 5.1): modified UTF-7, or UTF-8 once
the client enabled it; the client's separator, or "/" as the store has it. ``places`` decides where a name leads.
"""

from fastmail._core.imap import Reader, quote
from fastmail.imap import places
from fastmail.imap.state import Session
from fastmail.model.errors import CannotDo
from fastmail.model.mailbox_name import decode_utf7, encode_utf7


def read_name(session: Session, reader: Reader) -> str:
    """Read a mailbox name from the client; CannotDo for one that cannot exist."""
    return places.full_name(session, decode_name(session, reader.astring()))


def decode_name(session: Session, raw: bytes) -> str:
    """Decode a name as it was sent: modified UTF-7, or UTF-8 once the client enabled it (RFC 9051 5.1, RFC 6855 3)."""
    if not session.utf8:
        return decode_utf7(raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotDo("mailbox name is not UTF-8") from None


def wire(session: Session, name: str) -> bytes:
    """Return a stored name for a response."""
    return wire_text(session, name.replace("/", session.service.separator))


def wire_text(session: Session, name: str) -> bytes:
    """Return a name that has the client's separator for a response."""
    if not session.utf8 or name.isascii():
        return quote(name.encode() if session.utf8 else encode_utf7(name))
    return b'"' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


def quoted(sep: str) -> bytes:
    """Return the separator as a quoted string."""
    return b'"' + sep.encode() + b'"'
