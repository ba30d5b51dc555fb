"""Writes an aggregate report (RFC 9990): its XML, its file name, and the mail that carries it. Pure functions.

Everything that a stranger can have an influence on (names, selectors) gets into the XML escaped and without what XML
does not allow, cut to VALUE characters. The order of elements is that of RFC 9990's schema.
"""

import gzip
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from xml.sax.saxutils import escape

import fastmail
from fastmail.feedback.model import Policy, Report, Row
from fastmail.message import letter
from fastmail.model.errors import TooMuch

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
VALUE = 255  # characters
GENERATOR = f"fastmail {fastmail.__version__}"
CUT = "{} records with few messages are left out, because the report would be too large"
_UNSAFE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def ident(domain: str, submitter: str, begin: int, end: int) -> str:
    """The Report-ID without brackets: the same whenever the same report is sent (RFC 9990 3.5.1)."""
    digits = hashlib.sha256(f"{domain}\0{submitter}\0{begin}\0{end}".encode()).hexdigest()[:16]
    return f"{begin}.{digits}@{submitter}"


def _text(name: str, value: object, deep: int) -> str:
    words = escape(_UNSAFE.sub("?", str(value)[:VALUE]))
    return f"{'  ' * deep}<{name}>{words}</{name}>\n"


def _present(deep: int, pairs: Sequence[tuple[str, object]]) -> str:
    return "".join(_text(name, value, deep) for name, value in pairs if value != "")


def _policy(policy: Policy) -> str:
    return _present(
        2,
        [
            ("domain", policy.domain),
            ("p", policy.p),
            ("sp", policy.sp),
            ("np", policy.np),
            ("adkim", policy.adkim),
            ("aspf", policy.aspf),
            ("discovery_method", policy.method),
            ("fo", policy.fo),
            ("testing", policy.testing),
        ],
    )


def _record(row: Row, messages: int) -> str:
    """RFC 9990 3.1.1.7."""
    out = ["  <record>\n    <row>\n", _text("source_ip", row.source, 3), _text("count", messages, 3)]
    out += ["      <policy_evaluated>\n", _text("disposition", row.disposition, 4)]
    out += [_text("dkim", row.dkim, 4), _text("spf", row.spf, 4)]
    for kind, words in row.reasons:
        out += ["        <reason>\n", _present(5, [("type", kind), ("comment", words)]), "        </reason>\n"]
    out += ["      </policy_evaluated>\n    </row>\n    <identifiers>\n", _text("header_from", row.header_from, 3)]
    out += [_text("envelope_from", row.envelope_from, 3), "    </identifiers>\n    <auth_results>\n"]
    for domain, selector, result in row.signatures:
        fields = [("domain", domain), ("selector", selector), ("result", result)]
        out += ["      <dkim>\n", *(_text(name, value, 4) for name, value in fields), "      </dkim>\n"]
    if row.spf_result:
        fields = [("domain", row.spf_domain), ("scope", "mfrom"), ("result", row.spf_result)]
        out += ["      <spf>\n", *(_text(name, value, 4) for name, value in fields), "      </spf>\n"]
    out.append("    </auth_results>\n  </record>\n")
    return "".join(out)


def _pieces(report: Report) -> Iterator[str]:
    yield f'<?xml version="1.0" encoding="UTF-8"?>\n<feedback xmlns="{NAMESPACE}">\n  <version>1.0</version>\n'
    yield "  <report_metadata>\n"
    yield _present(2, [("org_name", report.org), ("email", report.email), ("report_id", report.ident)])
    yield "    <date_range>\n" + _text("begin", report.begin, 3) + _text("end", report.end, 3) + "    </date_range>\n"
    yield _present(2, [("error", report.error), ("generator", report.generator)])
    yield "  </report_metadata>\n  <policy_published>\n"
    yield _policy(report.policy)
    yield "  </policy_published>\n"
    for row, messages in report.records:
        yield _record(row, messages)
    yield "</feedback>\n"


def xml(report: Report) -> bytes:
    """The report as a file (RFC 9990 3.1.1, Appendix A)."""
    return "".join(_pieces(report)).encode()


def packed(report: Report, most: int) -> tuple[Report, bytes]:
    """The report in at most so many octets, gzip, and what is in it: where it is too large, the records with the fewest
    messages are left out. TooMuch where not even one of them finds room."""
    records = sorted(report.records, key=lambda one: -one[1])
    keep = len(records)
    while keep:
        error = CUT.format(len(records) - keep) if keep < len(records) else report.error
        shorter = replace(report, records=tuple(records[:keep]), error=error)
        data = gzip.compress(xml(shorter), mtime=0)
        if len(data) <= most:
            return shorter, data
        keep //= 2
    raise TooMuch(f"a report about {report.policy.domain} has more than {most} octets")


def file_name(report: Report, submitter: str) -> str:
    """RFC 9990 3.5.2."""
    unique = report.ident.partition("@")[0].rpartition(".")[2]
    return f"{submitter}!{report.policy.domain}!{report.begin}!{report.end}!{unique}.xml.gz"


def mail(report: Report, data: bytes, sender: str, submitter: str, to: Sequence[str], now: float) -> bytes:
    """The message that carries a report, with LF (RFC 9990 3.5.2). ``data``: the report, packed; ``sender``: whom it is
    from."""
    domain = report.policy.domain
    return letter.make(
        letter.Letter(
            f"DMARC reports <{sender}>",
            to,
            [f"Report Domain: {domain}", f"Submitter: {submitter}", f"Report-ID: <{report.ident}>"],
            f"What {submitter} saw of mail from {domain}.",
            "multipart/mixed",
            "application/gzip",
            file_name(report, submitter),
            data,
        ),
        report.ident,
        now,
    )
