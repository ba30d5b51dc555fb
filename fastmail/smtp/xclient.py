"""XCLIENT: a trusted host says which client it speaks for (Postfix's extension, as its XCLIENT_README defines it;
values are xtext, RFC 3461 4).

It is for tests, and for proxies that do not speak the PROXY protocol. It is accepted only from the networks of
``[listen] xclient``. Then the session starts again, with a greeting. A login that the host vouches for needs no
password; an account that may not log in for other reasons may not log in here either.
"""

from dataclasses import dataclass

from fastmail._core import smtp as grammar
from fastmail.auth import sasl
from fastmail.auth.login import NOT_NOW
from fastmail.auth.verifier import Entry
from fastmail.model.errors import LoginRefused, TemporaryError
from fastmail.net import networks
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.greeting import greet
from fastmail.smtp.service import SUBMISSION
from fastmail.telemetry import log

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT", "REVERSE_NAME")
OFFER = b"XCLIENT " + " ".join(ATTRIBUTES).encode()
UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
NOT_ALLOWED = "550 5.7.1 XCLIENT is not allowed from your address"


@dataclass(slots=True)
class Said:
    """The attributes of one command. An attribute that was not given, or is unknown, is empty."""

    address: str = ""
    login: str = ""


def parse(rest: bytes) -> Said:
    """The command's arguments; ValueError says what is wrong, for the client."""
    said = Said()
    words = rest.split()
    if not words:
        raise ValueError("XCLIENT attribute=value is expected")
    for word in words:
        if not word.isascii():
            raise ValueError("values are in xtext, which is ASCII")
        name, equals, value = word.decode("ascii").partition("=")
        if name.upper() not in ATTRIBUTES or not equals:
            raise ValueError(f"known attributes are {', '.join(ATTRIBUTES)}")
        try:
            text = grammar.xtext(value.encode("ascii")).decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"the value of {name.upper()} is not UTF-8") from None
        if text.upper() in UNKNOWN:
            text = ""
        if not text.isprintable() or len(text) > 255:
            raise ValueError(f"the value of {name.upper()} is no text")
        if name.upper() == "ADDR" and text:
            said.address = str(networks.address(text[5:] if text.upper().startswith("IPV6:") else text))
        elif name.upper() == "LOGIN":
            said.login = text
    return said


def allowed(session: Dialogue) -> bool:
    """True if the client may say for whom it speaks."""
    return any(networks.address_in(session.conn.host, network) for network in session.service.xclient)


def xclient(session: Dialogue, rest: bytes) -> None:
    """The command."""
    if not allowed(session):
        session.bad(NOT_ALLOWED)
        return
    try:
        said = parse(rest)
    except ValueError as error:
        session.bad(f"501 5.5.4 {error}")
        return
    if said.login and session.service.kind == SUBMISSION:
        session.conn.run(_login(session, said))
    else:
        _begin_again(session, said, None)


def in_transaction(session: Dialogue, rest: bytes) -> None:
    """XCLIENT within a mail transaction."""
    under_way = "503 5.5.1 a mail transaction is under way; RSET ends it"
    session.bad(under_way if allowed(session) else NOT_ALLOWED)


async def _login(session: Dialogue, said: Said) -> None:
    """Start again as the account that LOGIN names, if that account may log in from the address in ADDR."""
    try:
        entry = await session.service.verifier.admit(sasl.Verified(said.login), said.address or session.host, "smtp")
    except LoginRefused as error:
        session.bad(f"525 5.7.13 {error}")
        return
    except TemporaryError:
        session.say(f"454 4.7.0 {NOT_NOW}")
        return
    if entry is None:
        session.bad("501 5.5.4 LOGIN names no account that may log in")
    else:
        _begin_again(session, said, entry)


def _begin_again(session: Dialogue, said: Said, entry: Entry | None) -> None:
    """Start again for another client, which is logged in as ``entry`` says or not logged in."""
    session.host = said.address or session.host
    session.user = entry.record if entry is not None else None
    session.login = entry.login if entry is not None else None
    session.hello = ""
    session.end_transaction()
    log.event("smtp.xclient", peer=session.conn.host, client=session.host, login=said.login)
    greet(session)
