"""fastmail: SMTP, LMTP, IMAP and POP3 over a Maildir with a compiled core and an LMDB index."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmail.maildir import Maildir as Maildir

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``fastmail.Maildir``, loaded when it is asked for: a server has no use for it."""
    if name == "Maildir":
        from fastmail.maildir import Maildir

        return Maildir
    raise AttributeError(name)
