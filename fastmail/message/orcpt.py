r"""Original recipients as senders give them (RFC 3461 4.2) and as reports show them (RFC 3464 2.3.1, RFC 6533 3).

They are stored as ``type;address`` with the address decoded: from xtext, or for the type utf-8 from ``\x{...}``.
Whoever passes one on chooses the encoding that the other side can read.
"""

import re

from fastmail._core import smtp as grammar

LONGEST = 500  # characters (RFC 3461 5.4 allows 500 for the parameter)
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


def parse(value: bytes) -> str:
    """Read the value of the ORCPT parameter of RCPT. ValueError says what is wrong, in words for the client."""
    kind, semicolon, rest = value.partition(b";")
    if not semicolon or not rest or len(value) > LONGEST or not _KIND.fullmatch(kind.decode("utf-8", "replace")):
        raise ValueError("ORCPT is type;address")
    if kind.lower() == b"utf-8":
        address = _embedded(rest)
    else:
        try:
            address = grammar.xtext(rest).decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("ORCPT has octets that are not text") from None
    if not address.isprintable():
        raise ValueError("ORCPT has a control character")
    return f"{kind.decode()};{address}"


def _embedded(rest: bytes) -> str:
    """Decode utf-8-addr-xtext and utf-8-addr-unitext."""
    try:
        text = rest.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("ORCPT is not UTF-8") from None
    if "\\" in _EMBEDDED.sub("", text) or "+" in text or "=" in text:
        raise ValueError(r"ORCPT of type utf-8 has \, + and = only as \x{...}")

    def point(match: re.Match[str]) -> str:
        number = int(match.group(1), 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise ValueError("ORCPT has a number that is not a character")
        return chr(number)

    return _EMBEDDED.sub(point, text)


def _escaped(address: str, plain: bool) -> str:
    r"""Return the address with ``\x{...}`` for characters that may not stand for themselves; ``plain``: so that the
    result is ASCII."""
    return "".join(
        f"\\x{{{ord(c):02X}}}" if c in "\\+=" or not c >= "\x21" or c == "\x7f" or (plain and c > "\x7e") else c
        for c in address
    )


def wire(kept: str, utf8: bool) -> str:
    """Return the value for RCPT; ``utf8``: the message is sent with SMTPUTF8."""
    kind, _, address = kept.partition(";")
    if kind.lower() == "utf-8":
        return f"{kind};{_escaped(address, not utf8)}"
    return f"{kind};{grammar.to_xtext(address.encode()).decode()}"


def shown(kept: str, utf8: bool) -> str:
    """Return the value for a report; ``utf8``: the report has the types of RFC 6533. Otherwise the result is ASCII,
    because message/delivery-status allows nothing else (RFC 6533 3)."""
    kind, _, address = kept.partition(";")
    if not address.isascii() and kind.lower() == "rfc822":
        kind = "utf-8"  # RFC 5322 addresses are ASCII, so utf-8 is what the sender meant
    if kind.lower() == "utf-8":
        return f"{kind};{address if utf8 else _escaped(address, True)}"
    return kept if kept.isascii() else f"{kind};{grammar.to_xtext(address.encode()).decode()}"


def final(address: str, utf8: bool) -> str:
    """Return the Final-Recipient value of a report."""
    if address.isascii():
        return f"rfc822;{address}"
    return shown(f"utf-8;{address}", utf8)
