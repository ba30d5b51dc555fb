"""Refusals of IMAP commands, and the tagged reply that each error deserves (RFC 3501 7.1, RFC 5530 3).

    ParseError            BAD: the command does not fit the grammar
    ClientError           NO: the client asks for what cannot be
      CannotDo              [CANNOT], or
        UseRefused            [USEATTR] (RFC 6154 6)
        NoSuchRoot            [NONEXISTENT]: no such quota root (RFC 9208)
        BadUrl                a URL of CATENATE names nothing; APPEND answers with [BADURL] (RFC 4469 4)
      TooMuch               [LIMIT], or
        TooBig                [TOOBIG] (RFC 7889)
        EntryTooBig           [METADATA MAXSIZE n] (RFC 5464 4.3)
        TooManyEntries        [METADATA TOOMANY]
    MailError, OSError    NO [UNAVAILABLE]: our fault, it may pass; the log has the reason, the client has not

Everything else is a bug: it ends the session.
"""

from fastmail._core.imap import ParseError
from fastmail.message.sections import UnknownEncoding
from fastmail.model.errors import (
    CannotDo,
    ClientError,
    MailboxExists,
    MailError,
    NoPermission,
    NoSuchMailbox,
    OverQuota,
    StorageFull,
    TemporaryError,
    TooMuch,
)
from fastmail.telemetry import log

LONGEST_ENTRY = 65536  # octets of the value of an annotation


class UseRefused(CannotDo):
    """A special use that is not supported, or that another mailbox has already (RFC 6154 6)."""


class NoSuchRoot(CannotDo):
    """There is no quota root of this name, or the client may not see it."""


class BadUrl(CannotDo):
    """A URL in a CATENATE does not name anything (RFC 4469 4)."""

    def __init__(self, url: bytes) -> None:
        super().__init__("a URL names nothing")
        self.url = url


class TooBig(TooMuch):
    """A message with more octets than allowed."""


class EntryTooBig(TooMuch):
    """An annotation with a value of more than LONGEST_ENTRY octets."""


class TooManyEntries(TooMuch):
    """More annotations than a mailbox may have."""


# The first row whose class matches an error gives its response code, so a class comes before its base.
CODES: tuple[tuple[type[MailError], bytes], ...] = (
    (UseRefused, b"[USEATTR] "),
    (UnknownEncoding, b"[UNKNOWN-CTE] "),
    (TooBig, b"[TOOBIG] "),
    (OverQuota, b"[OVERQUOTA] "),
    (NoPermission, b"[NOPERM] "),
    (NoSuchRoot, b"[NONEXISTENT] "),
    (EntryTooBig, b"[METADATA MAXSIZE %d] " % LONGEST_ENTRY),
    (TooManyEntries, b"[METADATA TOOMANY] "),
    (NoSuchMailbox, b"[NONEXISTENT] "),
    (MailboxExists, b"[ALREADYEXISTS] "),
    (CannotDo, b"[CANNOT] "),
    (TooMuch, b"[LIMIT] "),
)


def refusal(error: Exception) -> bytes:
    """Return the text of the tagged reply, from NO on. Raises the error again if it is a bug.

    A ParseError does not belong here: it is a BAD, and counts against the client (``Command.fail``)."""
    if isinstance(error, ClientError):
        code = next((text for kind, text in CODES if isinstance(error, kind)), b"")
        return b"NO %b%b" % (code, str(error).encode("utf-8", "replace"))
    if isinstance(error, StorageFull):
        log.event("imap.full", "warning", error=error)
        return b"NO [UNAVAILABLE] not enough storage, try again later"
    if isinstance(error, TemporaryError | MailError | OSError):
        log.event("imap.failed", "warning", error=repr(error))
        return b"NO [UNAVAILABLE] not possible now, try again later"
    raise error


def expected(error: ParseError) -> str:
    """Return the text of a BAD for a command that does not fit the grammar."""
    return f"{error.expected} expected at octet {error.offset}"
