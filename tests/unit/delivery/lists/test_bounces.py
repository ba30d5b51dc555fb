"""What comes back of a list's mail is read: delivery reports in any form, and what other programs write."""

from base64 import encodebytes

import pytest

from fastmail.delivery.lists.bounces import Returned, is_failure, read, subject
from fastmail.message import dsn


def report(groups: bytes, kind: bytes = b"message/delivery-status", encoding: bytes = b"") -> bytes:
    head = b'Content-Type: multipart/report;\n\tboundary="a b"\n\n--a b\n\nsorry\n--a b\n'
    status = b"Reporting-MTA: dns; x\n\n" + groups
    if encoding:
        kind, status = kind + b"\nContent-Transfer-Encoding: " + encoding, encodebytes(status)
    return head + b"Content-Type: " + kind + b"\n\n" + status + b"\n--a b\n\nmessage\n--a b--\n"


FAILED = (
    b"Final-Recipient: rfc822; x@far.test\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no\n such user\n"
)


@pytest.mark.parametrize("kind", [b"message/delivery-status", b"Message/Global-Delivery-Status; charset=utf-8"])
@pytest.mark.parametrize("encoding", [b"", b"Base64"])
def test_a_report(kind: bytes, encoding: bytes) -> None:
    later = b"Final-Recipient: utf-8; \\x{E4}@far.test\nAction: delayed\nStatus: 4.4.1\n"
    found = read(report(FAILED + b"\n" + later, kind, encoding))
    assert found == [Returned("x@far.test", True, "550 no such user"), Returned("ä@far.test", False, "4.4.1")]


@pytest.mark.parametrize(
    ("group", "failed"),
    [
        (b"Action: Failed\n", True),
        (b"Action: failed\nStatus: 5.2.2 (full)\n", True),
        (b"Action: failed\nStatus: 4.2.2\n", False),
        (b"Action: relayed\nStatus: 2.0.0\n", False),
        (b"Action: delivered\nStatus: 5.0.0\n", False),
        (b"Status: 5.1.1\n", False),
    ],
)
def test_what_failed_for_good(group: bytes, failed: bool) -> None:
    (found,) = read(report(b"Final-Recipient: rfc822;<x@far.test>\n" + group)) or []
    assert (found.address, found.failed) == ("x@far.test", failed)


def test_our_own_reports_are_read() -> None:
    fates = [dsn.Fate(f"{name}@far.test", "", "failed", "5.1.1", "550 5.1.1 no", "mx") for name in ("x", "ä", "y")]
    about = dsn.About("crew-bounces@d.test", "N", 0, 0, b"Subject: x\n\nbody\n", True)
    found = read(dsn.report(about, fates, "mx.d.test", 0.0, "abc"))
    assert found == [Returned(fate.address, True, "550 5.1.1 no") for fate in fates]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Subject: x\n\nbody\n",
        b"Content-Type: text/plain\n\nAction: failed\n",
        b"Content-Type: multipart/report\n\nno boundary",
        b"Content-Type: multipart/report; boundary=x\n\n--x\n\ntext\n--x--\n",
    ],
)
def test_what_is_no_report(content: bytes) -> None:
    assert read(content) is None


@pytest.mark.parametrize("content", [report(b""), report(b"\n\n\n"), report(FAILED)[:-40], report(b"\xff: \xff\n" * 9)])
def test_reports_that_are_hardly_any(content: bytes) -> None:
    assert all(isinstance(one, Returned) for one in read(content) or [])


@pytest.mark.parametrize(
    ("head", "failure"),
    [
        (b"From: MAILER-DAEMON@far.test\nAuto-Submitted: auto-replied\n", True),
        (b"From: Mail Delivery Subsystem <x@far.test>\n", True),
        (b"From: anna@far.test\nAuto-Submitted: auto-replied (vacation)\n", False),
        (b"From: anna@far.test\n", True),
        (b"", True),
    ],
)
def test_other_mail(head: bytes, failure: bool) -> None:
    assert is_failure(head + b"Subject: x\n\n") == failure


def test_a_subject_for_people() -> None:
    assert (
        subject(b"Subject: a\n \x1b[2J b\xff\n\n") == "a ?[2J b\ufffd"
        and len(subject(b"Subject: " + b"x" * 999)) == 200
    )
