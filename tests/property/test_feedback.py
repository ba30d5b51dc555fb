"""Reports and complaints of strangers: whatever comes, the readers answer or say that it is no report, within bounds."""

import gzip
import io
import zipfile
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail.feedback import carrier, complaint, reading, unpacking, writing
from fastmail.feedback.model import OVERRIDES, RESULTS, BadReport, Report, Row
from fastmail.feedback.reading import SIGNATURES, VALUE
from tests.support.examples import some
from tests.support.reporting import report
from tests.unit.feedback.test_carrier import arf, message
from tests.unit.feedback.test_complaint import FIELDS, ORIGINAL
from tests.unit.feedback.test_reading import OLD

NAMES = st.sampled_from(["example.org", "a.example.org", "xn--fa-hia.example", "x" * 63 + ".test"])
WORDS = st.text(max_size=60)
ROWS = st.builds(
    Row,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.sampled_from(["none", "pass", "quarantine", "reject"]),
    st.sampled_from(["pass", "fail"]),
    st.sampled_from(["pass", "fail"]),
    NAMES,
    st.one_of(st.just(""), NAMES),
    st.lists(st.tuples(st.sampled_from(OVERRIDES), st.just("")), max_size=3).map(tuple),
    st.lists(
        st.tuples(NAMES, st.from_regex(r"[a-z0-9.]{1,20}", fullmatch=True), st.sampled_from(RESULTS)), max_size=4
    ).map(tuple),
    NAMES,
    st.sampled_from(RESULTS),
)
REPORTS = st.lists(st.tuples(ROWS, st.integers(1, 1 << 30)), min_size=1, max_size=5).map(lambda rows: report(*rows))
PIECES = st.sampled_from(
    ["<feedback>", "</feedback>", "<record>", "</record>", "<row>", "<count>", "9", "</count>", "<!DOCTYPE a>", "<![CDATA[", "]]>", "&amp;", "&#x0;",
     "&a;", "<!--", "-->", "<?xml?>", "<e:row xmlns:e='u'>", "\x00", "ä", "</", "'", '"', "<a b='", "<dkim>", "</dkim>", "\ufeff"]
)  # fmt: skip


def spoilt(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """With octets put over others here and there."""
    for at, put in changes:
        at %= len(data) + 1
        data = data[:at] + put + data[at + len(put) // 2 :]
    return data


CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.one_of(st.binary(max_size=6), PIECES.map(str.encode))), max_size=6
)


def check(found: Report) -> None:
    """What every report that is read promises."""
    assert found.policy.domain and found.ident and 0 < found.begin <= found.end and found.records
    for row, messages in found.records:
        assert messages > 0 and row.source and row.header_from and len(row.signatures) <= SIGNATURES
        assert row.dkim in ("pass", "fail") and row.spf in ("pass", "fail")
        assert all(len(value) <= VALUE for signature in row.signatures for value in signature)


@settings(max_examples=some(60), deadline=None)
@given(REPORTS)
def test_what_is_written_is_read_again(made: Report) -> None:
    assert reading.read([writing.xml(made)]).records == made.records
    shorter, data = writing.packed(made, 1 << 20)
    mail = writing.mail(shorter, data, "postmaster@near.test", "near.test", ["d@example.org"], 0.0)
    (again,) = carrier.read(mail).reports
    assert sorted(map(repr, again.records)) == sorted(map(repr, made.records)) and again.ident == made.ident


@settings(max_examples=some(200), deadline=None)
@given(WORDS, WORDS)
def test_text_of_strangers_stays_text(selector: str, sender: str) -> None:
    row = Row(
        "192.0.2.1", "none", "fail", "fail", "example.org", sender, signatures=(("example.org", selector, "fail"),)
    )
    root = ElementTree.fromstring(writing.xml(report((row, 1))))
    assert [one.tag.rpartition("}")[2] for one in root] == ["version", "report_metadata", "policy_published", "record"]


@settings(max_examples=some(400), deadline=None)
@given(CHANGES, st.integers(1, 200))
def test_spoilt_xml(changes: list[tuple[int, bytes]], step: int) -> None:
    data = spoilt(OLD.encode(), changes)
    outcomes = []
    for size in (step, len(data) or 1):
        try:
            found = reading.read([data[at : at + size] for at in range(0, len(data), size)])
            check(found)
            outcomes.append(repr(found))
        except BadReport:
            outcomes.append("bad")
    assert outcomes[0] == outcomes[1], "pieces make no difference"


@settings(max_examples=some(200), deadline=None)
@given(st.lists(PIECES, max_size=40))
def test_xml_of_pieces(pieces: list[str]) -> None:
    try:
        check(reading.read([piece.encode() for piece in pieces]))
    except BadReport:
        pass


def _zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.xml", OLD)
    return out.getvalue()


PACKED = [gzip.compress(OLD.encode(), mtime=0), _zipped()]


@settings(max_examples=some(400), deadline=None)
@given(st.sampled_from(PACKED), CHANGES)
def test_spoilt_packages(data: bytes, changes: list[tuple[int, bytes]]) -> None:
    room = unpacking.Room(1 << 20)
    try:
        out = sum(len(piece) for piece in unpacking.pieces(spoilt(data, changes), room))
        assert out <= 1 << 20
    except BadReport:
        pass


@settings(max_examples=some(300), deadline=None)
@given(CHANGES, CHANGES)
def test_spoilt_complaints(changes: list[tuple[int, bytes]], original: list[tuple[int, bytes]]) -> None:
    try:
        found = complaint.read(spoilt(FIELDS, changes), spoilt(ORIGINAL, original))
    except BadReport:
        return
    assert found.kind and found.incidents > 0 and found.arrived >= 0
    for text in (found.kind, found.sender, found.agent, found.domain, *found.recipients):
        assert text.isprintable() and len(text) <= 320


@settings(max_examples=some(300), deadline=None)
@given(
    st.sampled_from(
        [
            arf(),
            message(("Content-Type: application/gzip", PACKED[0])),
            message(("Content-Type: text/xml", OLD.encode())),
        ]
    ),
    CHANGES,
)
def test_spoilt_messages(data: bytes, changes: list[tuple[int, bytes]]) -> None:
    found = carrier.read(spoilt(data, changes))
    for one in found.reports:
        check(one)
    assert len(found.reports) + len(found.complaints) <= carrier.REPORTS + 1
