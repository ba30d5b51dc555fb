"""Which failures a domain hears of (RFC 9989 4.7, RFC 9991 2), and what a failure report says (RFC 6591, RFC 9991 4)."""

import email
import email.policy
from collections.abc import Sequence
from dataclasses import replace
from email.message import EmailMessage

import pytest
from msgspec import structs

from fastmail.feedback import carrier
from fastmail.feedback.failure import DMARC, SIGNATURE, SPF, Failure, Incident, failed, mail
from fastmail.feedback.redaction import Hide
from fastmail.policy import verdict
from fastmail.policy.dkim import Signed
from fastmail.policy.received import Received
from fastmail.policy.spf import Checked
from tests.support.reporting import received

RUF = "v=DMARC1; p=reject; ruf=mailto:f@example.org"
GOOD = Signed("pass", domain="example.org", selector="one", identity="@example.org")
BAD = Signed("fail", "the body changed", "mail.example.org", "two", "@mail.example.org", shown="abc")
FOREIGN = Signed("fail", "", "list.test", "l", "@list.test")
BOTH = (("dkim", "example.org"), ("spf", "example.org"))
HEAD = b"From: Joe Doe <joe@example.org>\nTo: me@near.test\nSubject: secret plans\n"


def seen(fo: str = "", spf: str = "fail", **about: object) -> Received:
    found = received(**{"record": RUF + (f"; fo={fo}" if fo else ""), **about})  # type: ignore[arg-type]
    checks = structs.replace(found.checks, sender=Checked(spf, "mailfrom", "bounce.example.net"))
    return structs.replace(found, checks=checks)


@pytest.mark.parametrize(
    ("fo", "result", "aligned", "signed", "spf", "kind"),
    [
        ("", "fail", (), (), "fail", DMARC),
        ("0", "fail", (), (BAD,), "pass", DMARC),
        ("0", "pass", BOTH[:1], (GOOD,), "fail", ""),
        ("1", "pass", BOTH[:1], (GOOD,), "fail", DMARC),
        ("1", "pass", BOTH, (GOOD,), "pass", ""),
        ("d", "pass", BOTH, (GOOD, BAD), "pass", SIGNATURE),
        ("d", "fail", (), (), "fail", ""),
        ("d", "pass", BOTH, (GOOD,), "pass", ""),
        ("s", "pass", BOTH[:1], (GOOD,), "fail", SPF),
        ("s", "pass", BOTH[:1], (GOOD,), "neutral", ""),
        ("d:s", "pass", BOTH[:1], (GOOD,), "softfail", SPF),
        ("1:d:s", "fail", (), (BAD,), "fail", DMARC),
        (" D : S ", "pass", BOTH, (GOOD, FOREIGN), "pass", SIGNATURE),
        ("x", "fail", (), (), "fail", DMARC),
        ("2:", "pass", BOTH[:1], (GOOD,), "fail", ""),
    ],
)
def test_options(
    fo: str, result: str, aligned: tuple[tuple[str, str], ...], signed: tuple[Signed, ...], spf: str, kind: str
) -> None:
    found = failed(seen(fo, spf, result=result, aligned=aligned, signed=signed), "192.0.2.1")
    assert (found.kind if found is not None else "") == kind


@pytest.mark.parametrize(
    "about",
    [
        {"record": "v=DMARC1; p=reject; rua=mailto:f@example.org"},
        {"record": RUF + "; psd=y"},
        {"result": "temperror"},
        {"action": verdict.LATER},
    ],
    ids=["nobody asks", "of a public suffix", "not sure", "it comes again"],
)
def test_nobody_hears(about: dict[str, str]) -> None:
    assert failed(seen(**{"result": "fail", **about}), "192.0.2.1") is None  # type: ignore[arg-type]
    assert failed(seen(result="fail"), "192.0.2.1") is not None


def test_whose_signature_and_what_was_done() -> None:
    found = failed(seen(result="fail", signed=(FOREIGN, BAD), action=verdict.REFUSE), "192.0.2.1")
    assert found is not None and found.signature == ("mail.example.org", "@mail.example.org", "two")
    assert (found.done, found.unaligned, found.spf) == ("reject", ("dkim", "spf"), "bounce.example.net")
    found = failed(seen(result="fail", signed=(FOREIGN,), action=verdict.JUNK), "192.0.2.1")
    assert found is not None and found.signature[0] == "list.test" and found.done == "spam"
    watched = failed(seen(result="fail", action=verdict.REFUSE, enforce=False), "192.0.2.1")
    assert watched is not None and watched.done == "delivered"


def test_one_kind_of_failure_is_one_value() -> None:
    one, two = (failed(seen(result="fail", signed=(BAD,)), "192.0.2.1") for _ in range(2))
    assert one == two and one is not None and hash(one) == hash(two)
    assert failed(seen(result="fail", signed=(BAD,)), "192.0.2.2") != one


def made(
    failure: Failure,
    shown: bytes = HEAD,
    whole: bool = False,
    records: Sequence[str] = (),
    incidents: int = 1,
    hide: Hide | None = None,
    sender: str = "joe@example.net",
) -> tuple[bytes, EmailMessage]:
    one = Incident(failure, sender, 1_750_000_000, shown, whole)
    octets = mail(one, "mx.near.test", "dmarc@near.test", "f@example.org", records, incidents, hide, 1_750_000_100.0)
    found = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(found, EmailMessage) and not found.defects
    return octets, found


def fields(found: EmailMessage) -> EmailMessage:
    text = found.get_payload(1).get_payload(0)  # type: ignore[union-attr]
    assert isinstance(text, EmailMessage)
    return text


def a_failure(**about: object) -> Failure:
    found = failed(seen(result="fail", signed=(BAD,), **about), "2001:db8::1")  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_report() -> None:
    octets, found = made(a_failure(), records=['v=spf1 "x" -all'], incidents=3)
    assert found.get_content_type() == "multipart/report" and found.get_param("report-type") == "feedback-report"
    assert found["From"] == "DMARC failure reports <dmarc@near.test>" and found["To"] == "f@example.org"
    assert found["Auto-Submitted"] == "auto-generated" and "example.org" in found["Subject"]
    text, report, original = found.iter_parts()
    assert isinstance(text, EmailMessage) and "3 messages" in text.get_content()
    assert report.get_content_type() == "message/feedback-report"
    assert dict(fields(found)) == {
        "Feedback-Type": "auth-failure",
        "User-Agent": fields(found)["User-Agent"],
        "Version": "1",
        "Auth-Failure": "dmarc",
        "Authentication-Results": "mx.near.test; dmarc=fail header.from=example.org",
        "Identity-Alignment": "dkim, spf",
        "Original-Mail-From": "<joe@example.net>",
        "Arrival-Date": "Sun, 15 Jun 2025 15:06:40 +0000",
        "Source-IP": "IPv6:2001:db8::1",
        "Reported-Domain": "example.org",
        "Delivery-Result": "delivered",
        "DKIM-Domain": "mail.example.org",
        "DKIM-Identity": "@mail.example.org",
        "DKIM-Selector": "two",
        "SPF-DNS": 'txt : bounce.example.net : "v=spf1 \\"x\\" -all"',
        "Incidents": "3",
    }
    assert original.get_content_type() == "text/rfc822-headers"
    assert HEAD in octets
    (complaint,) = carrier.read(octets).complaints  # our own reader of such reports
    assert (complaint.kind, complaint.source, complaint.incidents) == ("auth-failure", "2001:db8::1", 3)
    assert complaint.domain == "example.org"


def test_none_where_all_methods_are_aligned() -> None:
    failure = failed(seen("d", "pass", result="pass", aligned=BOTH, signed=(GOOD, BAD)), "192.0.2.1")
    assert failure is not None
    found = fields(made(failure)[1])
    assert found["Identity-Alignment"] == "none" and found["Auth-Failure"] == "signature"
    assert "dkim=fail" in found["Authentication-Results"] and "SPF-DNS" not in found
    failure = failed(seen("s", "softfail", result="pass", aligned=BOTH[:1], signed=(GOOD,)), "192.0.2.1")
    assert failure is not None
    found = fields(made(failure)[1])
    assert found["Auth-Failure"] == "spf" and "spf=softfail" in found["Authentication-Results"]
    assert found["Identity-Alignment"] == "spf" and "DKIM-Domain" not in found


def test_the_whole_message() -> None:
    octets, found = made(a_failure(), HEAD + b"\nB\xc3\xb6dy\n", whole=True)
    original = found.get_payload(2)
    assert original.get_content_type() == "message/rfc822"  # type: ignore[union-attr]
    assert b"Content-Transfer-Encoding: 8bit" in octets and b"\n\nB\xc3\xb6dy\n" in octets
    octets, _ = made(a_failure(), HEAD + b"X: \xff\n")
    assert octets.isascii(), "a part with a header has 7-bit content (RFC 6522 4)"


def test_what_strangers_write_starts_no_field() -> None:
    nasty = "x\r\nPass: yes\n\n--b\x00\u20ac\u2028"
    failure = replace(
        a_failure(), author=nasty, source=nasty, signature=(nasty, nasty, nasty), spf=nasty, results=nasty
    )
    octets, found = made(failure, records=[nasty], sender=nasty)
    assert b"\nPass" not in octets and len(found.get_payload()) == 3


def test_a_redacted_report_names_nobody() -> None:
    octets, found = made(a_failure(), hide=Hide(b"k" * 32))
    assert b"joe" not in octets and b"Joe" not in octets and b"secret plans" not in octets and b"<me@" not in octets
    assert fields(found)["Original-Mail-From"].endswith("@example.net>")
    signed = replace(a_failure(), signature=("example.org", "joe@example.org", "one"))
    octets, found = made(signed, hide=Hide(b"k" * 32))
    assert b"joe" not in octets and fields(found)["DKIM-Identity"].endswith("@example.org")
