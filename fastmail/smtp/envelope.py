"""Arguments of MAIL and RCPT (RFC 5321 4.1.1.2, 4.1.1.3) and their parameters: SIZE 1870, BODY 6152 and 3030,
SMTPUTF8 6531, AUTH 4954, RET, ENVID, NOTIFY and ORCPT 3461 and 6533, HOLDFOR and HOLDUNTIL 4865, REQUIRETLS 8689, BY
2852, MT-PRIORITY 6710. What does not fit raises Refused with the whole reply line.
"""

import re
import time
from dataclasses import dataclass
from datetime import datetime

from fastmail._core import smtp as grammar
from fastmail.message import orcpt
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress

MOST_HELD = 30 * 86400
_BY = re.compile(rb"([+-]?\d{1,9});([NR]T?)", re.IGNORECASE)
_PRIORITY = re.compile(rb"0|-?[1-9]")


class Refused(Exception):
    """str() is the reply."""


@dataclass(slots=True)
class MailParams:
    """Parameters of MAIL."""

    size: int = 0
    utf8: bool = False
    body: bytes = b"7BIT"
    ret: bytes = b""
    envid: bytes = b""
    release: int = 0  # s since 1970 when it may go out; 0 at once
    require_tls: bool = False
    by: int = 0  # s since 1970 until which it is to be delivered; 0 whenever
    by_mode: str = ""  # what happens then: N (the sender is told) or R (it is returned), T behind it for a trace
    priority: int = 0


def mail(rest: bytes, limit: int) -> tuple[str, MailParams]:
    """``FROM:<reverse-path> parameters``: (address or "", parameters)."""
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
    params = MailParams()
    seen: set[bytes] = set()
    for name, value in pairs:
        if name in seen:
            raise Refused(f"501 5.5.4 {name.decode()} was given twice")
        seen.add(name)
        _mail_param(params, name, value, limit)
    if not params.utf8 and path is not None and not b"".join(path).isascii():
        raise Refused(_syntax(text, False, "5.1.7", ValueError()))
    return _address(path, "5.1.7"), params


def _mail_param(params: MailParams, name: bytes, value: bytes, limit: int) -> None:
    if name == b"SIZE":
        if not value.isdigit() or len(value) > 20:
            raise Refused("501 5.5.4 SIZE needs a number")
        params.size = int(value)
        if params.size > limit:
            raise Refused(f"552 5.3.4 message is too big: {limit} octets is the most")
    elif name == b"BODY":
        if value.upper() not in (b"7BIT", b"8BITMIME", b"BINARYMIME"):
            raise Refused("501 5.5.4 BODY is 7BIT, 8BITMIME or BINARYMIME")
        params.body = value.upper()
    elif name == b"SMTPUTF8":
        if value:
            raise Refused("501 5.5.4 SMTPUTF8 takes no value")
        params.utf8 = True
    elif name == b"REQUIRETLS":
        if value:
            raise Refused("501 5.5.4 REQUIRETLS takes no value")
        params.require_tls = True
    elif name in (b"HOLDFOR", b"HOLDUNTIL"):
        if params.release:
            raise Refused("501 5.5.4 HOLDFOR and HOLDUNTIL do not go together")
        params.release = _release(name, value)
    elif name == b"BY":
        params.by, params.by_mode = _by(value)
    elif name == b"MT-PRIORITY":
        if not _PRIORITY.fullmatch(value):
            raise Refused("501 5.5.2 MT-PRIORITY is a number from -9 to 9")
        params.priority = int(value)
    elif name == b"RET":
        if value.upper() not in (b"FULL", b"HDRS"):
            raise Refused("501 5.5.4 RET is FULL or HDRS")
        params.ret = value.upper()
    elif name in (b"ENVID", b"AUTH"):
        if not value or len(value) > 500:
            raise Refused(f"501 5.5.4 {name.decode()} needs a value")
        try:
            text = grammar.xtext(value)
        except ValueError as error:
            raise Refused(f"501 5.5.4 {name.decode()}: {error}") from None
        if name == b"ENVID":
            if any(c < 32 or c > 126 for c in text):
                raise Refused("501 5.5.4 ENVID may have printable characters only")
            params.envid = text
    else:
        raise Refused(f"555 5.5.4 parameter {name.decode()} is not known")


def _by(value: bytes) -> tuple[int, str]:
    """When it is to be delivered, and what happens when it is not (RFC 2852 4)."""
    match = _BY.fullmatch(value)
    if match is None:
        raise Refused("501 5.5.4 BY is seconds;N or seconds;R, with T behind it for a trace")
    mode = match.group(2).decode().upper()
    seconds = int(match.group(1))
    if seconds <= 0 and mode[0] == "R":
        raise Refused("501 5.5.4 BY needs a time that is still to come for R")
    return int(time.time()) + seconds, mode


def latest() -> bytes:
    """The latest moment that HOLDUNTIL may name, for EHLO (RFC 4865 3)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + MOST_HELD)).encode()


def _release(name: bytes, value: bytes) -> int:
    """When a message may go out (RFC 4865 4)."""
    now = int(time.time())
    if name == b"HOLDFOR":
        if not value.isdigit() or not 0 < len(value) <= 9 or not int(value):
            raise Refused("501 5.5.4 HOLDFOR needs a number of seconds")
        when = now + int(value)
    else:
        try:
            moment = datetime.fromisoformat(value.decode("ascii").upper().replace("Z", "+00:00"))
        except ValueError:
            raise Refused("501 5.5.4 HOLDUNTIL needs a time such as 2027-01-31T08:00:00Z") from None
        if moment.tzinfo is None:
            raise Refused("501 5.5.4 HOLDUNTIL needs a time with its zone")
        when = int(moment.timestamp())
        if when <= now:
            raise Refused("501 5.5.4 HOLDUNTIL lies in the past")
    if when > now + MOST_HELD:
        raise Refused(f"501 5.5.4 a message can be held for {MOST_HELD} seconds at most")
    return when


@dataclass(slots=True)
class RcptParams:
    """Parameters of RCPT. ``notify`` as on the wire, ``orcpt`` as message.orcpt keeps it."""

    notify: str = ""
    orcpt: str = ""


def rcpt(rest: bytes, utf8: bool) -> tuple[str, str | None, RcptParams]:
    """``TO:<forward-path> parameters``: (local-part, domain, parameters), domain None for ``<postmaster>``."""
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
    params = RcptParams()
    try:
        pairs = grammar.parse_params(text, end)
        for name, value in pairs:
            _rcpt_param(params, name, value)
    except ValueError as error:
        raise Refused(f"501 5.5.4 {error}") from None
    local, domain = path
    return local.decode("utf-8", "replace"), _domain(domain, "5.1.3") or None, params


def _rcpt_param(params: RcptParams, name: bytes, value: bytes) -> None:
    if name == b"NOTIFY":
        words = value.upper().split(b",")
        if words != [b"NEVER"] and not set(words) <= {b"SUCCESS", b"FAILURE", b"DELAY"}:
            raise ValueError("NOTIFY is NEVER, or SUCCESS, FAILURE, DELAY with commas between")
        params.notify = ",".join(sorted(word.decode() for word in words))
    elif name == b"ORCPT":
        params.orcpt = orcpt.parse(value)
    else:
        raise Refused(f"555 5.5.4 parameter {name.decode()} is not known")


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
