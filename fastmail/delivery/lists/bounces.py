"""Reads what comes back of a list's mail: delivery reports (RFC 3464, RFC 6522, RFC 6533), and what other programs
write.

A report is believed about the member that its address was made for (directory.list_tokens), whatever address it names
itself: members forward their mail. One of our own queue is believed about everybody whom it names. Only what failed for
good counts: action "failed", and a status of class 5 where there is one. What is no such report counts as a failure,
unless it is an automatic answer of a person's program.

Promise: linear in the message, of which MOST octets are looked at.
"""

import re
from base64 import b64decode
from dataclasses import dataclass
from quopri import decodestring

from fastmail._core import header

MOST = 1 << 18
PARTS = 20  # of a message that are looked at
NAMED = 1000  # recipients of a report
VALUE = 2048
WORDS = 200  # characters of a reason that are kept
_BOUNDARY = re.compile(rb'boundary\s*=\s*(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_STATUS = (b"message/delivery-status", b"message/global-delivery-status")
_DAEMON = re.compile(rb"(?:mailer-daemon|postmaster|mail delivery)", re.IGNORECASE)
_ENCODED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")


@dataclass(frozen=True, slots=True)
class Returned:
    """One recipient of a report: its address, empty where that cannot be read; did it fail for good; why."""

    address: str
    failed: bool
    why: str


def read(content: bytes) -> list[Returned] | None:
    """The recipients of a delivery report (LF); None where it is none."""
    found = header.value(content, b"content-type", VALUE)
    mark = _BOUNDARY.search(found) if found is not None else None
    if found is None or mark is None or not found.strip().lower().startswith(b"multipart/report"):
        return None
    body = content[header.end(content) : MOST]
    parts = body.split(b"\n--" + (mark[1] or mark[2]))[1 : PARTS + 1]
    for part in parts:
        whole = part.partition(b"\n")[2]
        kind = header.value(whole, b"content-type", VALUE) or b""
        if kind.partition(b";")[0].strip().lower() in _STATUS:
            return _recipients(_decoded(whole))
    return None


def _decoded(part: bytes) -> bytes:
    encoding = (header.value(part, b"content-transfer-encoding", VALUE) or b"").strip().lower()
    body = part[header.end(part) + 1 :]
    if encoding == b"quoted-printable":
        return decodestring(body)
    if encoding == b"base64":
        try:
            return b64decode(body).replace(b"\r\n", b"\n")
        except ValueError:
            return b""
    return body


def _recipients(text: bytes) -> list[Returned]:
    """The groups of fields behind the first, which is about the message (RFC 3464 2.1)."""
    groups = [group for group in re.split(rb"\n[ \t]*\n", text.strip(b"\n")) if group.strip()][1 : NAMED + 1]
    return [_recipient(group + b"\n\n") for group in groups]


def _recipient(group: bytes) -> Returned:
    def value(name: bytes) -> str:
        return (header.value(group, name, VALUE) or b"").decode("utf-8", "replace").strip()

    action, status = value(b"action").lower(), value(b"status")
    _, _, address = value(b"final-recipient").partition(";")
    why = value(b"diagnostic-code").partition(";")[2] or status or action
    failed = action == "failed" and not status.startswith(("2", "4"))
    return Returned(_plain(address.strip()), failed, _line(why))


def _plain(address: str) -> str:
    r"""An address of utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 3) as it is."""
    return _ENCODED.sub(lambda found: chr(min(int(found[1], 16), 0x10FFFF)), address).strip("<>")


def is_failure(content: bytes) -> bool:
    """Does a message that is no delivery report say that mail came back? A program that answers for a person (RFC 3834
    5) does not; one that calls itself a mail system does."""
    author = header.value(content, b"from", VALUE) or b""
    if _DAEMON.search(author):
        return True
    said = header.value(content, b"auto-submitted", VALUE)
    return said is None or said.partition(b";")[0].strip().lower() == b"no"


def subject(content: bytes) -> str:
    """For people, in one line."""
    return _line((header.value(content, b"subject", VALUE) or b"").decode("utf-8", "replace"))


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))[:WORDS]
