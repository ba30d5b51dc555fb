"""Aggregate reports of others, by RFC 9990 and by RFC 7489, and hostile ones."""

import pytest

from fastmail.feedback import reading, writing
from fastmail.feedback.model import BadReport, Report, Row
from tests.support.reporting import BEGIN, ROW, report

OLD = f"""<?xml version="1.0"?>
<feedback>
 <report_metadata><org_name>Big Mail</org_name><email>r@big.test</email><report_id>77</report_id>
  <date_range><begin>{BEGIN}</begin><end>{BEGIN + 86400}</end></date_range></report_metadata>
 <policy_published><domain>Example.ORG</domain><adkim>r</adkim><p>Reject</p><pct>100</pct></policy_published>
 <record>
  <row><source_ip> 2001:DB8:0::1 </source_ip><count>2</count>
   <policy_evaluated><disposition>quarantine</disposition><dkim>fail</dkim><spf>pass</spf>
    <reason><type>forwarded</type><comment>hm</comment></reason><reason><type>new</type></reason></policy_evaluated></row>
  <identifiers><header_from>example.org.</header_from></identifiers>
  <auth_results><spf><domain>example.org</domain><result>PASS</result></spf><spf><domain>x.test</domain></spf></auth_results>
 </record>
</feedback>"""


def read(text: str | bytes, step: int = 0) -> Report:
    data = text.encode() if isinstance(text, str) else text
    return reading.read([data[at : at + step] for at in range(0, len(data), step)] if step else [data])


def test_a_report_of_before() -> None:
    found = read(OLD)
    assert (found.org, found.email, found.ident, found.policy.domain, found.policy.p) == (
        "Big Mail",
        "r@big.test",
        "77",
        "example.org",
        "reject",
    )
    ((row, messages),) = found.records
    assert messages == 2
    assert row == Row(
        "2001:db8::1",
        "quarantine",
        "fail",
        "pass",
        "example.org",
        "",
        (("forwarded", "hm"), ("other", "")),
        (),
        "example.org",
        "pass",
    )


@pytest.mark.parametrize("step", [1, 7, 100])
def test_pieces_make_no_difference(step: int) -> None:
    assert read(OLD, step) == read(OLD)
    new = writing.xml(report((ROW, 5), error="e"))
    assert read(new, step) == read(new)


@pytest.mark.parametrize(
    "text",
    [
        OLD.replace("<feedback>", '<feedback xmlns="http://dmarc.org/dmarc-xml/0.1">'),
        OLD.replace("<feedback>", '<feedback xmlns:e="urn:e">').replace(
            "</record>", "<e:row><e:count>9</e:count></e:row></record>"
        ),
        OLD.replace("<record>", "<extension><record><row>x</row></record></extension><record>", 1),
        OLD.replace("<row>", "<e:row xmlns:e='urn:e'><count>7</count></e:row><row>", 1),
        OLD.replace("<", "<d:")
        .replace("<d:/", "</d:")
        .replace("<d:?", "<?")
        .replace("<d:feedback>", '<d:feedback xmlns:d="u">'),
        OLD.replace('<?xml version="1.0"?>', '<?xml version="1.0" encoding="ISO-8859-1"?><!-- ä -->')
        .encode("latin-1")
        .decode("latin-1"),
    ],
)
def test_namespaces_and_extensions(text: str) -> None:
    data = text.encode("latin-1") if "8859" in text else text
    assert read(data).records == read(OLD).records


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no XML"),
        ("hello", "no XML"),
        (OLD[:-5], "no XML"),
        (OLD.replace("<feedback>", '<!DOCTYPE feedback [<!ENTITY a "b">]><feedback>'), "document type"),
        (OLD.replace("<feedback>", '<!DOCTYPE feedback SYSTEM "file:///etc/passwd"><feedback>'), "document type"),
        (OLD.replace("77", "&a;"), "no XML"),
        ("<a>" * 50, "nested"),
        ("<html><body>no</body></html>", "domain"),
        (OLD.replace("Example.ORG", "not a domain"), "domain"),
        (OLD.replace("<report_id>77</report_id>", ""), "report_id"),
        (OLD.replace(str(BEGIN), "soon"), "time"),
        (OLD.replace(str(BEGIN), "-5"), "time"),
        (OLD.replace(str(BEGIN), "9" * 5000), "time"),
        (OLD.replace(str(BEGIN + 86400), str(BEGIN - 1)), "time"),
        (OLD.replace(str(BEGIN + 86400), str(BEGIN + 99 * 86400)), "time"),
        (OLD.replace("<count>2</count>", "<count>many</count>"), "record"),
        (OLD.replace("<count>2</count>", "<count>99999999999</count>"), "record"),
        (OLD.replace("2001:DB8:0::1", "nowhere"), "record"),
        (OLD.replace("example.org.", "-..-"), "record"),
        (OLD.replace("<record>", "<recrod>").replace("</record>", "</recrod>"), "record"),
        (f"<feedback><a x='{'y' * (3 << 20)}", "tag|XML"),
    ],
)
def test_what_is_no_report(text: str, why: str) -> None:
    with pytest.raises(BadReport, match=why):
        read(text, 65536 if len(text) > 65536 else 0)


def test_a_record_that_makes_no_sense_is_left_out() -> None:
    start, end = OLD.index("<record>"), OLD.index("</feedback>")
    bad = OLD[start:end].replace("<count>2", "<count>x")
    found = read(OLD[:start] + bad + OLD[start:end] + bad + OLD[end:])
    assert (len(found.records), found.left_out) == (1, 2)


def test_values_are_cut_and_lists_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    long = read(OLD.replace("Big Mail", "x" * 100_000))
    assert len(long.org) == reading.VALUE
    many = "<dkim><domain>a.test</domain><selector>s</selector><result>pass</result></dkim>" * 500
    ((row, _),) = read(OLD.replace("<auth_results>", "<auth_results>" + many)).records
    assert len(row.signatures) == reading.SIGNATURES and row.spf_result == "pass"
    monkeypatch.setattr(reading, "RECORDS", 3)
    start, end = OLD.index("<record>"), OLD.index("</feedback>")
    with pytest.raises(BadReport, match="more than 3 records"):
        read(OLD[:start] + OLD[start:end] * 4 + OLD[end:])


def test_the_first_of_several_values_counts() -> None:
    ((_, messages),) = read(OLD.replace("<count>2</count>", "<count>2</count><count>9</count>")).records
    assert messages == 2


@pytest.mark.parametrize("name", ["UDF-8", "big5", "utf-7", "base64", "rot13", "x", "idna"])
def test_an_encoding_that_cannot_be_read(name: str) -> None:
    """RFC 9990 wants UTF-8; what a report calls its encoding raises nothing else."""
    text = f'<?xml version="1.0" encoding="{name}"?>' + OLD.partition("?>")[2]
    for size in (1, len(text)):
        with pytest.raises(BadReport):
            reading.read([text.encode()[at : at + size] for at in range(0, len(text), size)])
