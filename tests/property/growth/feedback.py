"""Reports and complaints that strangers send (RFC 9990, RFC 5965)."""

import gzip

from fastmail.feedback import carrier, complaint, reading, unpacking
from fastmail.feedback.model import BadReport
from fastmail.feedback.redaction import Hide
from tests.support.growth import Case

HIDE = Hide(b"k" * 32)
HEAD = b"<feedback><report_metadata><report_id>1</report_id></report_metadata><record>"


def _read(data: bytes) -> object:
    try:
        return reading.read([data[at : at + unpacking.PIECE] for at in range(0, len(data), unpacking.PIECE)])
    except BadReport:
        return None


def _complaint(fields: bytes) -> object:
    try:
        return complaint.read(fields, b"")
    except BadReport:
        return None


def _message(n: int) -> bytes:
    parts = b"".join(b"--b\nContent-Type: text/xml\n\n<feedback/>\n" for _ in range(n))
    return b"Content-Type: multipart/mixed; boundary=b\n\n" + parts + b"--b--\n"


CASES = [
    Case("aggregate: records", 500, lambda n: HEAD + b"</record><record>" * n, _read),
    Case(
        "aggregate: signatures",
        500,
        lambda n: HEAD + b"<auth_results>" + b"<dkim><domain>a.b</domain></dkim>" * n,
        _read,
    ),
    Case(
        "aggregate: a long name, many elements", 2_000, lambda n: b"<feedback><" + b"a" * n + b">" + b"<b/>" * n, _read
    ),
    Case("aggregate: a long namespace", 2_000, lambda n: b"<feedback xmlns='" + b"a" * n + b"'>" + b"<b/>" * n, _read),
    Case(
        "aggregate: attributes",
        1_000,
        lambda n: b"<feedback " + b" ".join(b"a%d='1'" % k for k in range(n)) + b">",
        _read,
    ),
    Case("aggregate: one long value", 20_000, lambda n: HEAD + b"<row><count>" + b"1" * n, _read),
    Case("aggregate: references", 4_000, lambda n: HEAD + b"<row><count>" + b"&#49;" * n, _read),
    Case(
        "aggregate: packed",
        20_000,
        lambda n: gzip.compress(b"<feedback>" + b"<a/>" * n, mtime=0),
        lambda data: sum(map(len, unpacking.pieces(data, unpacking.Room()))),
    ),
    Case("aggregate: parts", 20, _message, carrier.read),
    Case(
        "complaint: recipients",
        500,
        lambda n: b"Feedback-Type: abuse\n" + b"Original-Rcpt-To: a@b.test\n" * n,
        _complaint,
    ),
    Case("complaint: brackets", 8_000, lambda n: b"Feedback-Type: " + b"(" * n, _complaint),
    Case("complaint: folds", 4_000, lambda n: b"Feedback-Type: abuse\nUser-Agent: x\n" + b" y\n" * n, _complaint),
    Case("redaction: fields", 200, lambda n: b"To: a@b.test\nX: y\n" * n + b"\n", HIDE.header),
    Case(
        "redaction: addresses in one field", 400, lambda n: b"References:" + b" <a@b.test>" * n + b"\n\n", HIDE.header
    ),
    Case("redaction: no address", 5_000, lambda n: b"References: " + b"a=b;" * n + b"\n\n", HIDE.header),
    Case("redaction: quotes", 5_000, lambda n: b"References: " + b'"' * n + b"\n\n", HIDE.header),
    Case("redaction: names of files", 1_000, lambda n: b"Content-Type: a/b" + b'; name="x"' * n + b"\n\n", HIDE.header),
]
