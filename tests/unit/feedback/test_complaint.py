"""Complaints of other servers' users (ARF, RFC 5965)."""

import pytest

from fastmail.feedback import complaint
from fastmail.feedback.complaint import Complaint
from fastmail.feedback.model import BadReport

FIELDS = b"""Feedback-Type: (it is) abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <Joe@lists.example.org>
Original-Rcpt-To: <user@far.test>
Original-Rcpt-To: other@far.test
Arrival-Date: Thu, 8 Mar 2005 14:00:00 -0400
Reporting-MTA: dns; mail.far.test
Source-IP: 192.0.2.1
Incidents: 3
Reported-Domain: example.net
Unknown-Field: x
"""
ORIGINAL = b"From: Joe <joe@example.org>\nMessage-ID: <1@example.org>\nSubject: hi\n\nbody\n"


def test_all_fields() -> None:
    found = complaint.read(FIELDS, ORIGINAL)
    assert found == Complaint(
        "abuse",
        "Joe@lists.example.org",
        ("user@far.test", "other@far.test"),
        "192.0.2.1",
        1110304800,
        3,
        "example.org",
        "1@example.org",
        ("example.net",),
        "SomeGenerator/1.0",
    )
    assert found.domain == "example.org", "the original counts first (RFC 5965 2 g)"


def test_the_domain_without_the_original() -> None:
    assert complaint.read(FIELDS, b"").domain == "lists.example.org"
    assert complaint.read(FIELDS.replace(b"<Joe@lists.example.org>", b"<>"), b"").domain == "example.net"
    assert complaint.read(b"Feedback-Type: abuse\n", b"").domain == ""
    assert complaint.read(FIELDS, b"From: a@b.test, c@d.test\n\n").domain == "lists.example.org"


@pytest.mark.parametrize(
    ("before", "after", "name", "value"),
    [
        (b"Source-IP: 192.0.2.1", b"Source-IP: [IPv6:2001:DB8::0:1]", "source", "2001:db8::1"),
        (b"Source-IP: 192.0.2.1", b"Source-IP: 192.0.2.1.9", "source", ""),
        (b"Source-IP: 192.0.2.1", b"Source-IP:", "source", ""),
        (b"Arrival-Date: Thu, 8 Mar", b"Received-Date: Thu, 8 Mar", "arrived", 1110304800),
        (b"Arrival-Date: Thu, 8 Mar 2005 14", b"Arrival-Date: soon", "arrived", 0),
        (b"2005 14:00:00 -0400", b"999999 14:00:00 -0400", "arrived", 0),
        (b"Incidents: 3", b"Incidents: -3", "incidents", 1),
        (b"Incidents: 3", b"Incidents: 99999999999", "incidents", 1),
        (b"Incidents: 3\n", b"", "incidents", 1),
        (b"Incidents: 3", b"Incidents: (about)\n 3 (or (so))", "incidents", 3),
        (b"Incidents: 3", b"Incidents: 3 4", "incidents", 1),
        (b"Source-IP: 192.0.2.1", b"Source-IP: 192.0.2.1 (mail.example.org)", "source", "192.0.2.1"),
        (b"example.net", b"example.net(ours) ", "domains", ("example.net",)),
        (b"example.net", b"example.net.", "domains", ("example.net",)),
        (b"example.net", b"example.net example.org", "domains", ()),
        (b"Arrival-Date: Thu", b"Arrival-Date: (at last) Thu", "arrived", 1110304800),
        (b"<Joe@lists.example.org>", b"(was) <joe@x.test> (said)", "sender", "joe@x.test"),
        (b"<Joe@lists.example.org>", b"<joe@x.test> (never ends", "sender", ""),
        (b"<Joe@lists.example.org>", b'<"J. @ (x) \\" Joe"@x.test>', "sender", '"J. @ (x) \\" Joe"@x.test'),
        (b"<Joe@lists.example.org>", b"<@one.test,@two.test:joe@x.test>", "sender", "joe@x.test"),
        (b"(it is) abuse", b"AUTH-Failure", "kind", "auth-failure"),
        (b"<Joe@lists.example.org>", b"joe lists.example.org", "sender", ""),
        (b"<Joe@lists.example.org>", b"<joe\x1b[2J@lists.example.org>", "sender", ""),
        (b"<Joe@lists.example.org>", b"<" + b"a" * 500 + b"@x.test>", "sender", ""),
        (b"SomeGenerator", b"Some\n\tGenerator\x07", "agent", "Some\tGenerator/1.0".replace("\t", "")),
    ],
)
def test_odd_values(before: bytes, after: bytes, name: str, value: object) -> None:
    """RFC 5965 3.2, 3.5: nearly every value may have comments in front of it and behind it."""
    assert before in FIELDS
    assert getattr(complaint.read(FIELDS.replace(before, after), b""), name) == value


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Version: 1\n",
        b"Feedback-Type:\n",
        b"Feedback-Type: (never ends\n",
        FIELDS + b"Source-IP: 192.0.2.2\n",
        FIELDS + b"feedback-type: fraud\n",
        FIELDS + b"Received-Date: Thu, 8 Mar 2005 14:00:00 -0400\n",
        b"Feedback-Type: abuse\n" + b"Original-Rcpt-To: a@b.test\n" * 5000,
    ],
)
def test_malformed_ones_are_refused(fields: bytes) -> None:
    """RFC 5965 4."""
    with pytest.raises(BadReport):
        complaint.read(fields, b"")
