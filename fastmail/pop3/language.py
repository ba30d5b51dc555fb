"""Commands of RFC 6856: UTF8 lets messages come as they are, LANG chooses the language of replies.

A session that has not said UTF8 gets ASCII in all header fields: message.surrogate (RFC 6857). LIST keeps the sizes of
the messages themselves, as RFC 6858 4 allows. There is one language of replies, English in ASCII.
"""

from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.view import View

TAG, NAME = "en", "English"


def utf8(session: Dialogue, rest: bytes) -> None:
    """RFC 6856 2.1; only before the login."""
    if rest.strip():
        session.bad("UTF8 has no argument")
    else:
        session.utf8 = True
        session.ok("UTF-8 may be used now")


def lang(session: Dialogue, rest: bytes) -> None:
    """RFC 6856 3.2: which languages there are, or which one replies are to be in (a basic language range of RFC 4647
    2.1)."""
    asked = rest.strip().lower()
    if not asked:
        session.multi("languages", [f"{TAG} {NAME}\r\n".encode()])
    elif asked in (TAG.encode(), b"*"):
        session.ok(f"{TAG} replies are in {NAME}")
    else:
        session.bad("no such language here")


def lang_inside(session: Dialogue, view: View, rest: bytes) -> None:
    """The same in the TRANSACTION state."""
    lang(session, rest)
