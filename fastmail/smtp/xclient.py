"""XCLIENT: a trusted host says for whom it speaks (Postfix's extension, as its XCLIENT_README has it; values are xtext,
RFC 3461 4).

For tests, and for proxies that speak no PROXY protocol. Taken from the networks of ``[listen] xclient`` and nobody
else. The session then begins anew, with a greeting.
"""

from dataclasses import dataclass

from fastmail._core import smtp as grammar
from fastmail.net import networks

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
