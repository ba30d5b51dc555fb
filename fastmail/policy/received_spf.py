"""Received-SPF (RFC 7208 9.1): the results of SPF in a field of their own, for programs that read no
Authentication-Results.

The fields stand where that one stands, in front of the message as it came and behind our own Received. Promise: nothing
of a sender or of the DNS gets in as it is. A value is a dot-atom, or a quoted string of printable ASCII, cut at VALUE
characters; a comment has neither brackets nor backslashes. So nobody can end a value, or begin a field or a line.
"""

import re

from fastmail.policy import results
from fastmail.policy.spf import Checked

_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
SAYS = {
    "pass": "may send for",
    "fail": "may not send for",
    "softfail": "may probably not send for",
    "neutral": "is neither allowed nor forbidden to send for",
    "none": "was not looked for: there is no record of",
    "temperror": "could not be looked for: the DNS did not answer about",
    "permerror": "could not be looked for: the record cannot be used of",
}


def fields(hostname: str, ip: str, helo: str, sender: str, checked: Checked | None, greeted: Checked | None) -> bytes:
    """The fields (LF) of both identities, that of MAIL FROM first, as far as they were checked. ``sender``: MAIL FROM,
    empty for a report; ``greeted``: what the HELO identity came to."""
    found = [one for one in (checked, greeted) if one is not None and (one is checked or one.result != "none")]
    return b"".join(_field(one, hostname, ip, helo, sender) for one in found)


def _field(one: Checked, hostname: str, ip: str, helo: str, sender: str) -> bytes:
    comment = results.comment(f"{hostname}: {ip} {SAYS[one.result]} {one.domain}")
    pairs = [
        ("client-ip", ip),
        ("envelope-from", sender if one.identity == "mailfrom" else ""),
        ("helo", helo),
        ("identity", one.identity),
        ("mechanism", one.mechanism),
        ("problem", one.why),
        ("receiver", hostname),
    ]
    lines = [f"{name}={value(text)}" for name, text in pairs if text]
    listed = ";\n\t".join(lines)
    return f"Received-SPF: {one.result} {comment}\n\t{listed}\n".encode("ascii")


def value(text: str) -> str:
    """A value: a dot-atom, or quoted (RFC 7208 9.1); an IPv6 address is no dot-atom."""
    cut = text[: results.VALUE]
    return cut if _DOT_ATOM.fullmatch(cut) else results.quoted(cut)
