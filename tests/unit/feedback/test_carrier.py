"""Messages that carry reports or complaints."""

import base64
import gzip

import pytest

from fastmail.feedback import carrier, writing
from fastmail.feedback.model import BadReport
from tests.support.reporting import ROW, report
from tests.unit.feedback.test_complaint import FIELDS, ORIGINAL

XML = writing.xml(report())


def message(*parts: tuple[str, bytes], whole: str = "multipart/mixed") -> bytes:
    """Parts with their headers' first line."""
    out = f'From: r@near.test\nSubject: x\nMIME-Version: 1.0\nContent-Type: {whole}; boundary="b"\n\n'.encode()
    for head, data in parts:
        out += f"--b\n{head}\nContent-Transfer-Encoding: base64\n\n".encode() + base64.encodebytes(data) + b"\n"
    return out + b"--b--\n"


def arf(original: str = "message/rfc822") -> bytes:
    out = b'From: fbl@far.test\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary="b"\n\n'
    out += b"--b\n\nhello\n--b\nContent-Type: message/feedback-report\n\n" + FIELDS
    return out + b"--b\nContent-Type: " + original.encode() + b"\n\n" + ORIGINAL + b"--b--\n"


@pytest.mark.parametrize(
    "head",
    [
        "Content-Type: application/gzip",
        "Content-Type: application/x-gzip; name=x",
        "Content-Type: application/zip",
        'Content-Type: application/octet-stream; name="a!b!1!2.xml.gz"',
        'Content-Type: text/plain\nContent-Disposition: attachment; filename="A.XML.GZ"',
    ],
)
def test_a_part_is_known_by_its_type_or_its_name(head: str) -> None:
    found = carrier.read(message(("Content-Type: text/plain", b"hello"), (head, gzip.compress(XML))))
    assert [one.records for one in found.reports] == [((ROW, 3),)] and not found.faults and not found.complaints


def test_a_message_that_is_the_report() -> None:
    text = b"From: r@near.test\nContent-Type: text/xml\n\n" + XML
    assert carrier.read(text).reports[0].records == ((ROW, 3),)


def test_other_messages_carry_nothing() -> None:
    for text in (b"", b"\n", b"From: a@b.test\n\nhello\n", message(("Content-Type: image/png", b"x"))):
        found = carrier.read(text)
        assert not found and not found.faults


def test_a_part_that_is_broken_hides_no_other() -> None:
    bad = ("Content-Type: application/gzip", gzip.compress(XML)[:40])
    found = carrier.read(message(bad, ("Content-Type: text/xml", XML)))
    assert len(found.reports) == 1 and found.faults == ["its packed form is cut short"]


def test_reports_of_a_message_are_bounded() -> None:
    found = carrier.read(message(*[("Content-Type: text/xml", XML)] * 30))
    assert len(found.reports) == carrier.REPORTS
    bomb = ("Content-Type: application/gzip", gzip.compress(b"<a>" + bytes(range(48, 122)) * 30_000))
    found = carrier.read(message(*[bomb] * 9))
    assert not found.reports and len(found.faults) == 9


@pytest.mark.parametrize("original", ["message/rfc822", "text/rfc822-headers"])
def test_a_complaint(original: str) -> None:
    (one,) = carrier.read(arf(original)).complaints
    assert (one.kind, one.domain, one.ident, one.incidents) == ("abuse", "example.org", "1@example.org", 3)


def test_a_complaint_that_is_malformed() -> None:
    found = carrier.read(arf().replace(b"Incidents: 3", b"Version: 2"))
    assert not found and found.faults == ["the complaint has version twice"]


def test_files() -> None:
    for data in (XML, b"\xef\xbb\xbf" + XML, gzip.compress(XML), arf(), arf().replace(b"\n", b"\r\n")):
        assert carrier.from_file(data)
    with pytest.raises(BadReport):
        carrier.from_file(b"<feedback/>")
    assert not carrier.from_file(b"hello")
    with pytest.raises(BadReport, match="too large"):
        carrier.read_file(b"<" + bytes(carrier.PACKED))
