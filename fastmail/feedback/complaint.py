"""Reads a feedback report (ARF: RFC 5965, RFC 6650): a user of another server complains about a message from here.

Type, sender, recipients, address and time come from its second part. Author and Message-ID come from its third, the
original message or its header, and count first (RFC 5965 2 g). What it says is not proved (RFC 5965 3), and much of it
may be left out for the sake of privacy (RFC 6650). Promise: linear in what is looked at, which is bounded.

BadReport for what lacks a type, or has a field twice that may be there once (RFC 5965 3.2, 4).
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from fastmail._core import header
from fastmail.feedback.model import BadReport
from fastmail.feedback.reading import name_of, number
from fastmail.message.submitted import message_id
from fastmail.policy import dmarc
from fastmail.policy.results import behind_cfws

FIELDS = 65536  # octets of the fields of a report
ONCE = (
    b"feedback-type",
    b"user-agent",
    b"version",
    b"original-envelope-id",
    b"original-mail-from",
    b"arrival-date",
    b"reporting-mta",
    b"source-ip",
    b"incidents",
    b"received-date",
)
MANY = (b"original-rcpt-to", b"reported-domain")
RECIPIENTS = 100
VALUE = 320  # characters: an address in brackets
HEADER = 65536  # octets of the original header that are looked at
INCIDENTS = (1 << 32) - 1
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,40}")
# a route in front of the address is obsolete (RFC 5321 4.1.2) and no part of it
_ADDRESS = re.compile(r'<?(?:@[^\s<>():"]{1,255}:)?((?:"(?:[^"\\]|\\.){1,62}"|[^\s<>()@"]{1,64})@[^\s<>()@"]{1,255})>?')
_LITERAL = re.compile(r"\[?(?:IPv6:)?([0-9A-Fa-f.:]{2,45})\]?", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]+")
_DOMAIN = re.compile(r"[^\s()]+")


@dataclass(frozen=True, slots=True)
class Complaint:
    """``kind``: in lower case, usually one that IANA has registered: abuse, auth-failure, fraud, miscategorized,
    not-spam, opt-out, other, virus; ``sender``: MAIL FROM; ``recipients``: as far as they are told;
    ``source``: the address that the message came from; ``arrived``: seconds since 1970, 0 where it does not say;
    ``incidents``: how many messages it stands for; ``author``: the domain of the original's From; ``ident``: its
    Message-ID. Empty is what is not told, or cannot be read."""

    kind: str
    sender: str = ""
    recipients: tuple[str, ...] = ()
    source: str = ""
    arrived: int = 0
    incidents: int = 1
    author: str = ""
    ident: str = ""
    domains: tuple[str, ...] = ()
    agent: str = ""

    @property
    def domain(self) -> str:
        """Whose message it was: of the author, else of MAIL FROM, else what the report names; empty for nobody's."""
        return next(filter(None, (self.author, name_of(self.sender.rpartition("@")[2]), *self.domains)), "")


def read(fields: bytes, original: bytes) -> Complaint:
    """``fields``: the part message/feedback-report; ``original``: the part behind it, or its beginning; both with LF.
    BadReport."""
    found = header.values(fields, ONCE + MANY, FIELDS)
    if found is None:
        raise BadReport("the fields of the complaint are too long")
    told: dict[bytes, list[str]] = {}
    for at, raw in found:
        told.setdefault((ONCE + MANY)[at], []).append(_unfolded(raw))
    twice = [name for name in ONCE if len(told.get(name, ())) > 1]
    if twice or (b"arrival-date" in told and b"received-date" in told):
        raise BadReport(f"the complaint has {(twice or [b'arrival-date'])[0].decode()} twice")

    def one(name: bytes) -> str:
        return told.get(name, [""])[0]

    kind = _TOKEN.match(_plain(one(b"feedback-type")))
    if kind is None:
        raise BadReport("the complaint does not say of which type it is")
    return Complaint(
        kind.group().lower(),
        _address(one(b"original-mail-from")),
        tuple(filter(None, map(_address, told.get(b"original-rcpt-to", [])[:RECIPIENTS]))),
        _source(one(b"source-ip")),
        _moment(one(b"arrival-date") or one(b"received-date")),
        number(_told(one(b"incidents"), _DIGITS), INCIDENTS) or 1,
        _author(original),
        message_id(original[:HEADER]),
        tuple(filter(None, (name_of(_told(text, _DOMAIN)) for text in told.get(b"reported-domain", [])[:10]))),
        "".join(c for c in one(b"user-agent")[:100] if c.isprintable()),
    )


def _unfolded(raw: bytes) -> str:
    return re.sub(r"[\r\n]+", "", raw[: 4 * VALUE].decode("utf-8", "replace")).strip()


def _plain(text: str) -> str:
    """What is behind comments and white space in front."""
    at = behind_cfws(text, 0)
    return text[at:] if at >= 0 else ""


def _told(text: str, form: re.Pattern[str]) -> str:
    """A value of that form, which may have comments on both sides (RFC 5965 3.5), or its group; empty for another."""
    at = behind_cfws(text, 0)
    found = form.match(text, at) if at >= 0 else None
    if found is None or behind_cfws(text, found.end()) != len(text):
        return ""
    return found.group(form.groups)


def _address(text: str) -> str:
    """As in SMTP, with or without its brackets; empty for the null sender, and for what is none."""
    address = _told(text, _ADDRESS)
    return address if address.isprintable() else ""


def _source(text: str) -> str:
    try:
        return str(ipaddress.ip_address(_told(text, _LITERAL)))
    except ValueError:
        return ""


def _moment(text: str) -> int:
    try:
        when = parsedate_to_datetime(_plain(text[:VALUE]))
        return max(0, int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0


def _author(original: bytes) -> str:
    head = original[:HEADER]
    try:
        return dmarc.author(head[: header.end(head)])
    except dmarc.NoAuthor:
        return ""
