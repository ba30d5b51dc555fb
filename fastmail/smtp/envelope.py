"""Arguments of MAIL and RCPT (RFC 5321 4.1.1.2, 4.1.1.3) and their parameters: SIZE 1870, BODY 6152 and 3030,
SMTPUTF8 6531, AUTH 4954, RET, ENVID, NOTIFY and ORCPT 3461 and 6533, HOLDFOR and HOLDUNTIL 4865, REQUIRETLS 8689, BY
2852, MT-PRIORITY 6710. What does not fit raises Refused with the whole reply line.
"""

import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from fastmail._core import smtp as grammar
from fastmail.message import orcpt
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress
from fastmail.model.esmtp import BINARY, EIGHT_BIT, NO_OPTIONS, SEVEN_BIT, EsmtpOptions, Rcpt

MOST_HELD = 30 * 86400  # s
REMEMBERED = 1024  # paths without parameters: of who writes, and who is written to, again and again
LONGEST_REMEMBERED = 320  # octets of such a path
SPACE = ord(" ")  # looked for as a number, which is five times as quick as b" " in octets
HOLDS = (b"HOLDFOR", b"HOLDUNTIL")
_BY = re.compile(rb"([+-]?\d{1,9});([NR]T?)", re.IGNORECASE)
_PRIORITY = re.compile(rb"0|-?[1-9]")


class Refused(Exception):
    """str() is the reply."""


def mail(rest: bytes, limit: int) -> tuple[str, EsmtpOptions]:
    """``FROM:<reverse-path> parameters``: (address or "", parameters). ``limit``: octets that a message may have."""
    if SPACE not in rest and len(rest) <= LONGEST_REMEMBERED:  # no parameters: there is a space before each
        return _from(rest), NO_OPTIONS
    return _mail(rest, limit)


@lru_cache(REMEMBERED)
def _from(rest: bytes) -> str:
    """The address of MAIL without parameters."""
    return _mail(rest, 0)[0]


def _mail(rest: bytes, limit: int) -> tuple[str, EsmtpOptions]:
    if rest[:5].upper() != b"FROM:":
        raise Refused("501 5.5.4 MAIL FROM:<address> is expected")
    text = rest[5:].lstrip(b" ")
    upper = text.upper()
    utf8 = b"SMTPUTF8" in upper and b"SMTPUTF8" in upper.split()
    try:
        path, end = grammar.parse_path(text, 0, utf8)
    except ValueError as error:
        raise Refused(_syntax(text, utf8, "5.1.7", error)) from None
    try:
        pairs = grammar.parse_params(text, end)
    except ValueError as error:
        raise Refused(f"501 5.5.4 {error}") from None
    options = _options(pairs, limit) if pairs else NO_OPTIONS
    if not options.utf8 and path is not None and not b"".join(path).isascii():
        raise Refused(_syntax(text, False, "5.1.7", ValueError()))
    return _address(path, "5.1.7"), options


def _options(pairs: list[tuple[bytes, bytes]], limit: int) -> EsmtpOptions:
    """The parameters of MAIL; each is read by the function that PARAMETERS names."""
    found: dict[str, Any] = {}
    seen: set[bytes] = set()
    for name, value in pairs:
        if name in seen:
            raise Refused(f"501 5.5.4 {name.decode()} was given twice")
        seen.add(name)
        read = PARAMETERS.get(name)
        if read is None:
            raise Refused(f"555 5.5.4 parameter {name.decode()} is not known")
        if name in HOLDS and "release" in found:
            raise Refused("501 5.5.4 HOLDFOR and HOLDUNTIL do not go together")
        found.update(read(value))
        if name == b"SIZE" and found["size"] > limit:
            raise Refused(f"552 5.3.4 message is too big: {limit} octets is the most")
    return EsmtpOptions(**found)


def _size(value: bytes) -> dict[str, Any]:
    if not value.isdigit() or len(value) > 20:
        raise Refused("501 5.5.4 SIZE needs a number")
    return {"size": int(value)}


def _body(value: bytes) -> dict[str, Any]:
    body = value.upper().decode("ascii", "replace")
    if body not in (SEVEN_BIT, EIGHT_BIT, BINARY):
        raise Refused("501 5.5.4 BODY is 7BIT, 8BITMIME or BINARYMIME")
    return {"body": body}


def _utf8(value: bytes) -> dict[str, Any]:
    if value:
        raise Refused("501 5.5.4 SMTPUTF8 takes no value")
    return {"utf8": True}


def _require_tls(value: bytes) -> dict[str, Any]:
    if value:
        raise Refused("501 5.5.4 REQUIRETLS takes no value")
    return {"require_tls": True}


def _priority(value: bytes) -> dict[str, Any]:
    if not _PRIORITY.fullmatch(value):
        raise Refused("501 5.5.2 MT-PRIORITY is a number from -9 to 9")
    return {"priority": int(value)}


def _ret(value: bytes) -> dict[str, Any]:
    ret = value.upper()
    if ret not in (b"FULL", b"HDRS"):
        raise Refused("501 5.5.4 RET is FULL or HDRS")
    return {"ret": ret.decode()}


def _envid(value: bytes) -> dict[str, Any]:
    text = _xtext("ENVID", value)
    if any(c < 32 or c > 126 for c in text):
        raise Refused("501 5.5.4 ENVID may have printable characters only")
    return {"envid": text.decode()}


def _auth(value: bytes) -> dict[str, Any]:
    """Whoever wrote the message, as another host knows him (RFC 4954 5): checked, and not kept."""
    _xtext("AUTH", value)
    return {}


def _xtext(name: str, value: bytes) -> bytes:
    if not value or len(value) > 500:
        raise Refused(f"501 5.5.4 {name} needs a value")
    try:
        return grammar.xtext(value)
    except ValueError as error:
        raise Refused(f"501 5.5.4 {name}: {error}") from None


def _by(value: bytes) -> dict[str, Any]:
    """Return by when the message is to be delivered, and what to do if it is late (RFC 2852 4)."""
    match = _BY.fullmatch(value)
    if match is None:
        raise Refused("501 5.5.4 BY is seconds;N or seconds;R, with T behind it for a trace")
    mode = match.group(2).decode().upper()
    seconds = int(match.group(1))
    if seconds <= 0 and mode[0] == "R":
        raise Refused("501 5.5.4 BY needs a time that is still to come for R")
    return {"by": int(time.time()) + seconds, "by_mode": mode}


def latest() -> bytes:
    """The latest moment that HOLDUNTIL may name, for EHLO (RFC 4865 3)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + MOST_HELD)).encode()


def _hold_for(value: bytes) -> dict[str, Any]:
    """Seconds until the message may go out (RFC 4865 4)."""
    if not value.isdigit() or not 0 < len(value) <= 9 or not int(value):
        raise Refused("501 5.5.4 HOLDFOR needs a number of seconds")
    return _release(int(time.time()) + int(value))


def _hold_until(value: bytes) -> dict[str, Any]:
    """The moment from which the message may go out (RFC 4865 4)."""
    try:
        moment = datetime.fromisoformat(value.decode("ascii").upper().replace("Z", "+00:00"))
    except ValueError:
        raise Refused("501 5.5.4 HOLDUNTIL needs a time such as 2027-01-31T08:00:00Z") from None
    if moment.tzinfo is None:
        raise Refused("501 5.5.4 HOLDUNTIL needs a time with its zone")
    when = int(moment.timestamp())
    if when <= int(time.time()):
        raise Refused("501 5.5.4 HOLDUNTIL lies in the past")
    return _release(when)


def _release(when: int) -> dict[str, Any]:
    if when > int(time.time()) + MOST_HELD:
        raise Refused(f"501 5.5.4 a message can be held for {MOST_HELD} seconds at most")
    return {"release": when}


PARAMETERS: dict[bytes, Callable[[bytes], dict[str, Any]]] = {  # of MAIL: each returns fields of EsmtpOptions
    b"SIZE": _size,
    b"BODY": _body,
    b"SMTPUTF8": _utf8,
    b"RET": _ret,
    b"ENVID": _envid,
    b"AUTH": _auth,
    b"HOLDFOR": _hold_for,
    b"HOLDUNTIL": _hold_until,
    b"REQUIRETLS": _require_tls,
    b"BY": _by,
    b"MT-PRIORITY": _priority,
}


def rcpt(rest: bytes, utf8: bool, own: Callable[[], str]) -> Rcpt:
    """``TO:<forward-path> parameters``. ``own``: the domain that ``<postmaster>`` without a domain is of."""
    if SPACE not in rest and len(rest) <= LONGEST_REMEMBERED:
        address = _to(rest, utf8)
        if not address.endswith("@"):
            return Rcpt(address)
    return _rcpt(rest, utf8, own)


@lru_cache(REMEMBERED)
def _to(rest: bytes, utf8: bool) -> str:
    """The address of RCPT without parameters; one that ends in ``@`` is without a domain."""
    return _rcpt(rest, utf8, str).address


def _rcpt(rest: bytes, utf8: bool, own: Callable[[], str]) -> Rcpt:
    if rest[:3].upper() != b"TO:":
        raise Refused("501 5.5.4 RCPT TO:<address> is expected")
    text = rest[3:].lstrip(b" ")
    if text[:12].lower() == b"<postmaster>":
        path: tuple[bytes, bytes] | None = (b"postmaster", b"")
        end = 12
    else:
        try:
            path, end = grammar.parse_path(text, 0, utf8)
        except ValueError as error:
            raise Refused(_syntax(text, utf8, "5.1.3", error)) from None
    if path is None:
        raise Refused("501 5.1.3 a recipient can not be empty")
    original = notify = ""
    seen: set[bytes] = set()
    try:
        for name, value in grammar.parse_params(text, end):
            if name in seen:  # RFC 3461 4
                raise Refused(f"501 5.5.4 {name.decode()} was given twice")
            seen.add(name)
            if name == b"NOTIFY":
                notify = _notify(value)
            elif name == b"ORCPT":
                original = orcpt.parse(value)
            else:
                raise Refused(f"555 5.5.4 parameter {name.decode()} is not known")
    except ValueError as error:
        raise Refused(f"501 5.5.4 {error}") from None
    local, domain = path[0].decode("utf-8", "replace"), _domain(path[1], "5.1.3") or own()
    return Rcpt(f"{local}@{domain}", original, notify)


def _notify(value: bytes) -> str:
    words = value.upper().split(b",")
    if words != [b"NEVER"] and not set(words) <= {b"SUCCESS", b"FAILURE", b"DELAY"}:
        raise ValueError("NOTIFY is NEVER, or SUCCESS, FAILURE, DELAY with commas between")
    return ",".join(sorted(word.decode() for word in words))


def _syntax(text: bytes, utf8: bool, code: str, error: ValueError) -> str:
    if not utf8 and any(c > 127 for c in text):
        return "553 5.6.7 an address that is not ASCII needs SMTPUTF8"
    return f"501 {code} {error}"


def _address(path: tuple[bytes, bytes] | None, code: str) -> str:
    if path is None:
        return ""
    return path[0].decode("utf-8", "replace") + "@" + _domain(path[1], code)


def _domain(octets: bytes, code: str) -> str:
    """A domain in the form that the envelope has from here on: A-labels, which every host understands (RFC 6531 3.2).
    Address literals, and the empty domain of ``<postmaster>``, stay as they are."""
    text = octets.decode("utf-8", "replace")
    if not text or text.startswith("["):
        return text
    try:
        return ascii_name(text)
    except BadAddress:
        raise Refused(f"553 {code} the domain is not one that IDNA allows") from None


def vrfy(rest: bytes) -> None:
    """The argument of VRFY (RFC 5321 3.5.1, RFC 6531 3.7.4.2): text, of ASCII without the parameter SMTPUTF8."""
    words = rest.split()
    if not words:
        raise Refused("501 5.5.4 an address is expected")
    if rest.isascii():
        return
    try:
        rest.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("501 5.5.4 the address is not UTF-8") from None
    if words[-1].upper() != b"SMTPUTF8":
        raise Refused("553 5.6.7 an address that is not ASCII needs SMTPUTF8")


def printable(address: str) -> str:
    """An address for a reply line."""
    if address.isprintable():
        return address[:255]
    return "".join(c if c.isprintable() else "?" for c in address)[:255]
