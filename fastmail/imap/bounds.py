"""MESSAGELIMIT (RFC 9738): bounds how many messages one command works on.

FETCH, STORE, SEARCH, SORT, THREAD and EXPUNGE work on the newest of the messages that they name, and say down to which
UID; the client continues below that. COPY and MOVE do all or nothing, and are refused.
"""

from fastmail._core.uidset import UidSet
from fastmail.imap.state import Session


def newest(session: Session, uids: UidSet) -> tuple[UidSet, bytes]:
    """Return the messages that a command may work on, and the response code for the client if that is not all of
    them."""
    most = session.service.limits.messages_per_command
    if not most or len(uids) <= most:
        return uids, b""
    kept = uids.at(UidSet.of_ranges((len(uids) - most + 1, len(uids))))
    return kept, b"[MESSAGELIMIT %d %d] " % (most, kept.first)


def too_many(session: Session, uids: UidSet) -> bytes:
    """Return the refusal of a command that does all or nothing; empty if it may run."""
    most = session.service.limits.messages_per_command
    if not most or len(uids) <= most:
        return b""
    return b"NO [MESSAGELIMIT %d] too many messages at once, try fewer" % most


def told(session: Session, code: bytes, text: bytes) -> bytes:
    """Return a command's final text with the code. If the text has a code of its own, ours is sent before it in a
    line."""
    if not code:
        return text
    if text.startswith(b"OK ["):
        session.conn.write(b"* OK " + code + b"partial results\r\n")
        return text
    return text[:3] + code + text[3:] if text.startswith(b"OK ") else text
