"""XCLIENT: a trusted host says for whom it speaks (Postfix's extension, as its XCLIENT_README has it; values are xtext,
RFC 3461 4).

For tests, and for proxies that speak no PROXY protocol. Taken from the networks of ``[listen] xclient`` and nobody
else. The session then begins anew, with a greeting. A login that is vouched for needs no password; everything else that
keeps an account out keeps it out here too.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmail._core import smtp as grammar
from fastmail.auth import sasl
from fastmail.model.errors import LoginRefused, TemporaryError
from fastmail.net import networks

if TYPE_CHECKING:
    from fastmail.smtp.session import SmtpSession

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT", "REVERSE_NAME")
OFFER = b"XCLIENT " + " ".join(ATTRIBUTES).encode()
UNKNOWN = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")


@dataclass(slots=True)
class Said:
    """Empty is what was not said, or is not known."""

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


async def login(session: "SmtpSession", said: Said) -> None:
    """Begin anew as the account that LOGIN names, if it may log in from the address that ADDR says."""
    try:
        entry = await session.service.verifier.admit(sasl.Verified(said.login), said.address or session.host, "smtp")
    except LoginRefused as error:
        session.bad(f"525 5.7.13 {error}")
        return
    except TemporaryError:
        session.say("454 4.7.0 logins cannot be checked now, try again later")
        return
    if entry is None:
        session.bad("501 5.5.4 LOGIN names no account that may log in")
    else:
        session.begin_again(said, entry)
