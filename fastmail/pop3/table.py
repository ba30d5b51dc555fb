"""Which command does what in which state (RFC 1939 3, RFC 2449, RFC 2595 4, RFC 5034, RFC
6856): the one table of the POP3
sessions.

A row has a function for the AUTHORIZATION state and one for the TRANSACTION state, which gets the view too. None is a
gap: "log in first", or "logged in already".
"""

from collections.abc import Callable
from dataclasses import dataclass

from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.enter import auth, capa, pass_, stls, user
from fastmail.pop3.language import lang, lang_inside, utf8
from fastmail.pop3.listing import list_, stat, uidl
from fastmail.pop3.reading import retr, top
from fastmail.pop3.removing import dele, leave, noop, quit_, rset
from fastmail.pop3.view import View


@dataclass(frozen=True, slots=True)
class Command:
    """What a verb does before the login and after the login."""

    before: Callable[[Dialogue, bytes], None] | None
    after: Callable[[Dialogue, View, bytes], None] | None


def _capa(session: Dialogue, view: View, rest: bytes) -> None:
    capa(session, rest)


# fmt: off
COMMANDS = {
    #                 AUTHORIZATION  TRANSACTION
    b"CAPA": Command(capa,          _capa),
    b"QUIT": Command(leave,         quit_),
    b"STLS": Command(stls,          None),
    b"AUTH": Command(auth,          None),
    b"UTF8": Command(utf8,          None),
    b"LANG": Command(lang,          lang_inside),
    b"USER": Command(user,          None),
    b"PASS": Command(pass_,         None),
    b"STAT": Command(None,          stat),
    b"LIST": Command(None,          list_),
    b"UIDL": Command(None,          uidl),
    b"RETR": Command(None,          retr),
    b"TOP":  Command(None,          top),
    b"DELE": Command(None,          dele),
    b"NOOP": Command(None,          noop),
    b"RSET": Command(None,          rset),
}
# fmt: on
