"""Hides in a message who wrote to whom (RFC 6590), for reports about it.

The local part of every address is replaced by a keyed hash of it: the same one gives the same hash, so a reader sees
that several reports are about one person, and not about whom. Fields that are people's own words lose their value, and
address fields their names. What programs need to find out why a message failed stays: trace fields, signatures,
results, ids and dates. Promise: linear in the octets of the header, which the caller bounds.
"""

import hashlib
import hmac
import re
from base64 import b32encode
from dataclasses import dataclass

from fastmail._core import header as scanner
from fastmail.message import authors

HIDDEN = b"(hidden)"
DIGITS = 12  # characters of a hash
ADDRESSES = frozenset((b"from", b"sender", b"reply-to", b"to", b"cc", b"return-path", b"errors-to", b"delivered-to"))
KEPT = frozenset(  # with their values, but for the local parts of addresses in them
    (
        b"received",
        b"received-spf",
        b"authentication-results",
        b"dkim-signature",
        b"arc-seal",
        b"arc-message-signature",
        b"arc-authentication-results",
        b"date",
        b"message-id",
        b"in-reply-to",
        b"references",
        b"mime-version",
        b"content-type",
        b"content-transfer-encoding",
        b"list-id",
        b"precedence",
        b"auto-submitted",
    )
)
# what is before an @ that a domain follows: in quotes, or what may stand there without
_QUOTED, _PLAIN = rb'"(?:[^"\\\n]|\\[^\n]){1,128}"', rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]{1,128}"
# the name of a tag in front of it (i=, smtp.mailfrom=) is no part of it, though it could be
_TAG = rb"(?:(?<=[;\s])[A-Za-z.]{1,20}=)?"
_LOCAL = re.compile(rb"(" + _TAG + rb")(" + _QUOTED + rb"|" + _PLAIN + rb")@(?=[A-Za-z0-9\x80-\xff\[])")
# a value in quotes may have semicolons
_PARAMETERS = re.compile(
    rb';[ \t\n]*(?:file)?name\*?[0-9]*\*?[ \t\n]*=[ \t\n]*(?:"(?:[^"\\]|\\.)*")?[^;]*', re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Hide:
    """``key``: secret, and the same in all processes."""

    key: bytes

    def local(self, text: bytes) -> bytes:
        """What stands for a local part."""
        digest = hmac.digest(self.key, text.strip(b'"').lower(), hashlib.sha256)
        return b32encode(digest)[:DIGITS].lower()

    def address(self, text: str) -> str:
        """An address without its local part; the null sender, and an identity without one, stay what they are."""
        local, _, domain = text.rpartition("@")
        return f"{self.local(local.encode('utf-8', 'surrogateescape')).decode()}@{domain}" if local else text

    def header(self, content: bytes) -> bytes:
        """The header of a message (LF)."""
        out = []
        end = scanner.end(content)
        starts = memoryview(scanner.starts(content)).cast("I").tolist()
        for start in starts:
            if start >= end:
                break
            name, behind, stop = scanner.field(content, start)
            word = content[start:name].strip().lower()
            out.append(content[start:name] + b":" + self._value(word, content[behind:stop].rstrip(b"\n")) + b"\n")
        return b"".join(out)

    def _value(self, name: bytes, value: bytes) -> bytes:
        if name in ADDRESSES:
            try:
                found = list(authors.parse(value.decode("utf-8", "surrogateescape")))
            except authors.Unreadable:
                return b" " + HIDDEN
            shown = [self.address(one).encode("utf-8", "surrogateescape") for one in found]
            return b" " + b",\n ".join(b"<%b>" % one for one in shown) if shown else b" " + HIDDEN
        if name not in KEPT:
            return b" " + HIDDEN
        if name == b"content-type":  # names of files are words of people
            value = _PARAMETERS.sub(b"", value)
        return _LOCAL.sub(lambda found: found.group(1) + self.local(found.group(2)) + b"@", value)
