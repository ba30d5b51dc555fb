"""Aggregate reports as they are sent (RFC 9990 3.1, 3.5)."""

import email
import gzip
import re
from email import policy as email_policy
from xml.etree import ElementTree

import pytest

from fastmail.feedback import carrier, writing
from fastmail.feedback.model import Row
from fastmail.model.errors import TooMuch
from tests.support.reporting import BEGIN, ROW, report

SPACE = "{urn:ietf:params:xml:ns:dmarc-2.0}"


def test_the_order_of_elements() -> None:
    root = ElementTree.fromstring(writing.xml(report(error="e", generator="g")))
    assert root.tag == SPACE + "feedback"

    def below(path: str) -> list[str]:
        found = root.find("/".join(SPACE + name for name in path.split("/"))) if path else root
        assert found is not None
        return [one.tag.removeprefix(SPACE) for one in found]

    assert below("") == ["version", "report_metadata", "policy_published", "record"]
    assert below("report_metadata") == ["org_name", "email", "report_id", "date_range", "error", "generator"]
    assert below("record") == ["row", "identifiers", "auth_results"]
    assert below("record/row") == ["source_ip", "count", "policy_evaluated"]
    assert below("record/row/policy_evaluated") == ["disposition", "dkim", "spf"]
    assert below("record/auth_results") == ["dkim", "spf"]
    assert below("record/auth_results/dkim") == ["domain", "selector", "result"]
    assert root.findtext(f"{SPACE}version") == "1.0"


def test_what_is_written_is_read_again() -> None:
    made = report(
        (ROW, 7),
        (Row("2001:db8::1", "none", "fail", "fail", "example.org", reasons=(("local_policy", "a <b> & c"),)), 1),
    )
    found = carrier.read_file(writing.xml(made))
    assert found.records == made.records
    assert (found.policy.domain, found.policy.p, found.policy.method) == ("example.org", "reject", "treewalk")
    assert (found.ident, found.begin, found.end) == (made.ident, made.begin, made.end)


def test_what_strangers_wrote_ends_no_element() -> None:
    evil = Row(
        "192.0.2.1",
        "pass",
        "pass",
        "fail",
        "example.org",
        "]]>\x00\x1b\ud800</feedback>",
        signatures=(("a" * 999, "<!--&lt;", "pass"),),
    )
    text = writing.xml(report((evil, 1)))
    assert b"\x00" not in text and b"</feedback>" not in text[:-20] and len(text) < 3000
    root = ElementTree.fromstring(text)
    assert root.find(f"{SPACE}record/{SPACE}auth_results/{SPACE}dkim/{SPACE}selector").text == "<!--&lt;"


def test_the_names_of_a_report_stay_the_same() -> None:
    """One that is sent again has the same ones (RFC 9990 3.5.2)."""
    one = writing.ident("example.org", "near.test", 1, 2)
    assert one == writing.ident("example.org", "near.test", 1, 2) != writing.ident("example.org", "near.test", 1, 3)
    assert re.fullmatch(r"1\.[0-9a-f]{16}@near\.test", one)
    made = report(ident=writing.ident("example.org", "near.test", BEGIN, BEGIN + 86399))
    name = writing.file_name(made, "near.test")
    assert re.fullmatch(rf"near\.test!example\.org!{BEGIN}!{BEGIN + 86399}![0-9a-z]+\.xml\.gz", name)


def test_the_mail() -> None:
    made, data = writing.packed(report(), 1 << 20)
    text = writing.mail(made, data, "postmaster@near.test", "near.test", ["d@example.org"], BEGIN + 90000)
    assert text.isascii() and b"\r" not in text
    message = email.message_from_bytes(text, policy=email_policy.default)
    subject = " ".join(message["Subject"].split())
    assert subject == f"Report Domain: example.org Submitter: near.test Report-ID: <{made.ident}>"
    assert message["Auto-Submitted"] == "auto-generated" and message["Message-ID"] == f"<{made.ident}>"
    words, file = message.iter_parts()
    assert words.get_content_type() == "text/plain" and file.get_content_type() == "application/gzip"
    assert file.get_filename() == writing.file_name(made, "near.test")
    assert gzip.decompress(file.get_content()) == writing.xml(made)
    assert carrier.read(text).reports[0].records == made.records


def test_a_report_that_is_too_large_keeps_the_rows_with_most_messages() -> None:
    rows = [
        (Row(f"10.{a}.{b}.1", "none", "fail", "fail", f"{a * 256 + b}.example.org"), a * 256 + b + 1)
        for a in range(4)
        for b in range(256)
    ]
    made = report(*rows)
    whole = writing.packed(made, 1 << 20)[1]
    shorter, data = writing.packed(made, len(whole) // 3)
    assert len(data) <= len(whole) // 3 and len(shorter.records) == 256
    assert [messages for _, messages in shorter.records] == list(
        range(1024, 768, -1)
    ) and "768 records" in shorter.error
    with pytest.raises(TooMuch):
        writing.packed(made, 100)
