"""TLS reports: what is counted, by which policy, and whom a domain wants them sent to (RFC 8460)."""

import asyncio
import gzip
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fastmail.directory.memory import MemoryDirectory
from fastmail.dns.resolver import Resolver
from fastmail.net import web
from fastmail.policy.signer import Signer
from fastmail.queue import routes
from fastmail.queue.spool import Spool
from fastmail.relay import tlsreport
from fastmail.relay.tlsreport import PLACES, Reporter, wishes
from fastmail.smtp.client import Target
from tests.support.hosts import name_server
from tests.support.signing import keyed, published, verify

TLSA = Target("mail.far.test", "198.51.100.7", policy="tlsa")
STS = Target("mail.far.test", "198.51.100.7", policy="sts")
NONE = Target("mail.far.test", "198.51.100.7", policy="no-policy-found")
POLICY = "version: STSv1\nmode: testing\nmx: *.far.test\nmx: other.test\nmax_age: 86400"


def reported(path: Path, counted: Any, signer: Signer | None = None) -> list[dict[str, Any]]:
    """The policies of the report about a day in which ``counted`` told a Reporter what happened."""
    return told_of(path, counted, signer)[0]


def told_of(path: Path, counted: Any, signer: Signer | None = None) -> tuple[list[dict[str, Any]], bytes]:
    """The same, and the message."""

    async def main() -> tuple[list[dict[str, Any]], bytes]:
        dns = await name_server({("_smtp._tls.far.test", "TXT"): ['"v=TLSRPTv1; rua=mailto:r@far.test"']})
        spool = Spool(str(path), 1 << 26)
        destinations = routes.Destinations(routes.parse([], []), lambda domain: False)
        resolver = Resolver([f"127.0.0.1:{dns.port}"])
        reporter = Reporter(spool, destinations.of, resolver, "mx.near.test", Counter(), signer=signer)
        counted(reporter)
        await reporter.write()
        assert await reporter.send(time.time() + 86400) == 1
        ((item, _),) = spool.jobs()
        text = (await spool.content(item)).decode()
        import email

        message = email.message_from_string(text)
        told = json.loads(gzip.decompress(message.get_payload()[1].get_payload(decode=True)))  # type: ignore
        assert spool.facts.counts() == {} and spool.facts.policies() == []
        with spool.env.read() as txn:
            assert txn.stat(spool.env.db["policy"])["entries"] == 0, "what policies said goes with the counts"
        await spool.close()
        dns.transport.close()
        return told["policies"], text.encode()

    return asyncio.run(main())


def test_a_report_is_signed(tmp_path: Path) -> None:
    """RFC 8460 3: by a domain that the host's name is in; its own fields are covered (5.3)."""
    place = MemoryDirectory()
    place.add_domain("near.test")
    key = keyed(place, tmp_path, "near.test")
    signer = Signer(place, str(tmp_path))
    _, content = told_of(tmp_path / "spool", lambda reporter: reporter.note("far.test", NONE, True), signer)
    assert [(one.result, one.domain) for one in verify(content, published(key))] == [("pass", "near.test")]
    for field in (b"TLS-Report-Domain: far.test", b"TLS-Report-Submitter: mx.near.test"):
        assert verify(content.replace(field, field + b"s"), published(key))[0].result == "fail"


def test_failures_by_policy(tmp_path: Path) -> None:
    def counted(reporter: Reporter) -> None:
        reporter.told("far.test", "tlsa", "", "mail.far.test", "3 1 1 00\n3 1 1 01")
        reporter.told("far.test", "sts", "", "", POLICY)
        for _ in range(3):
            reporter.note("far.test", TLSA, True)
        reporter.note("far.test", TLSA, False, "mail.far.test[198.51.100.7]:25: its certificate fits no TLSA record")
        reporter.note("far.test", STS, True)
        reporter.note("far.test", STS, False, "mail.far.test[198.51.100.7]:25 offers no STARTTLS")
        reporter.told("far.test", "sts", "sts-policy-fetch-error", "", "HTTP status 500")
        reporter.told("far.test", "tlsa", "dnssec-invalid", "mail.far.test", "SERVFAIL")
        reporter.note("far.test", NONE, True)
        reporter.note("far.test", NONE, False)  # TLS was neither had nor wanted

    none, of_sts, tlsa = reported(tmp_path, counted)
    assert none["policy"] == {"policy-type": "no-policy-found", "policy-domain": "far.test"}
    assert none["summary"] == {"total-successful-session-count": 1, "total-failure-session-count": 0}
    assert of_sts["policy"]["policy-string"] == POLICY.splitlines()
    assert of_sts["policy"]["mx-host"] == ["*.far.test", "other.test"]
    assert of_sts["summary"] == {"total-successful-session-count": 1, "total-failure-session-count": 2}
    kinds = {one["result-type"]: one for one in of_sts["failure-details"]}
    assert set(kinds) == {"starttls-not-supported", "sts-policy-fetch-error"}
    assert kinds["sts-policy-fetch-error"]["failure-reason-code"] == "HTTP status 500"
    assert "receiving-ip" not in kinds["sts-policy-fetch-error"]
    assert tlsa["policy"]["policy-string"] == ["3 1 1 00", "3 1 1 01"] and "mx-host" not in tlsa["policy"]
    assert tlsa["summary"] == {"total-successful-session-count": 3, "total-failure-session-count": 2}
    assert {one["result-type"] for one in tlsa["failure-details"]} == {"tlsa-invalid", "dnssec-invalid"}


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("offers no STARTTLS", "starttls-not-supported"),
        ("answers STARTTLS with 454 4.7.0 not now", "starttls-not-supported"),
        (": [SSL] certificate verify failed: Hostname mismatch, certificate is not valid", "certificate-host-mismatch"),
        (": certificate verify failed: certificate has expired", "certificate-expired"),
        (": certificate verify failed: self-signed certificate", "certificate-not-trusted"),
        (": its chain leads to no TLSA record", "tlsa-invalid"),
        (": a certificate of its chain is out of date", "certificate-expired"),
        ("does not answer after STARTTLS", "validation-failure"),
    ],
)
def test_kinds_of_failure(tmp_path: Path, words: str, kind: str) -> None:
    """The host's own name is no word about the failure."""
    target = Target("expired.starttls.test", "198.51.100.7", policy="sts")
    gap = "" if words.startswith(":") else " "
    (policy,) = reported(tmp_path, lambda one: one.note("far.test", target, False, f"{target.shown}{gap}{words}"))
    assert [one["result-type"] for one in policy["failure-details"]] == [kind]


def test_names_that_are_longer_than_a_key(tmp_path: Path) -> None:
    long = ".".join(["a" * 60] * 4)

    def counted(reporter: Reporter) -> None:
        reporter.note("far.test", NONE, True)
        reporter.note(long, Target(f"m.{long}", "198.51.100.7", policy="sts"), False, "x" * 300)

    assert len(reported(tmp_path, counted)) == 1


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ("v=TLSRPTv1; rua=mailto:a@b.test", (["a@b.test"], [])),
        ("v=TLSRPTv1;rua=mailto:a@b.test,https://c.test/x?y=1", (["a@b.test"], ["https://c.test/x?y=1"])),
        ("v=TLSRPTv1; rua=https://x.test/, mailto:a@b.test!10m ;", (["a@b.test"], ["https://x.test/"])),
        ("v=TLSRPTv1; rua=MAILTO:a@b.test", (["a@b.test"], [])),
        ("v=TLSRPTv1; rua=http://x.test/,ftp://y.test,mailto:nobody,mailto:@b.test,mailto:a b@c.test", ([], [])),
        ("v=TLSRPTv1; x=y", ([], [])),
        ("v=TLSRPTv2; rua=mailto:a@b.test", ([], [])),
        ("", ([], [])),
    ],
)
def test_whom_a_domain_wants_reports_sent_to(record: str, found: tuple[list[str], list[str]]) -> None:
    assert wishes([record, "v=spf1 -all"]) == found
    assert wishes([record, record]) == ([], []), "which of them counts, nobody knows"


def test_a8_a_record_of_64_kib_is_read_at_once() -> None:
    begun = time.process_time()
    for text in ("mailto:" * 9000, "mailto:a@b.test," * 4000, "https://" * 8000, "a=b;" * 16000, "rua=" * 16000):
        addresses, places = wishes(["v=TLSRPTv1; rua=" + text])
        assert len(addresses) <= PLACES and len(places) <= PLACES
    assert time.process_time() - begun < 1.0


def test_s43_a_web_server_that_never_answers_holds_up_no_other_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def never(wanted: web.Request, resolve: object = None, seconds: float = 0.0) -> web.Answer:
        asked.append(wanted.url)
        if "good" not in wanted.url:
            await asyncio.sleep(60)
        return web.Answer(201, "", b"")

    monkeypatch.setattr(web, "ask", never)
    monkeypatch.setattr(tlsreport, "PATIENCE", 0.3)

    async def main() -> None:
        names = [*(f"bad{n}.test" for n in range(12)), "good.test"]
        rua = {("_smtp._tls." + name, "TXT"): [f'"v=TLSRPTv1; rua=https://{name}/in"'] for name in names}
        dns = await name_server(rua)
        spool = Spool(str(tmp_path), 1 << 26)
        destinations = routes.Destinations(routes.parse([], []), lambda domain: False)
        reporter = Reporter(spool, destinations.of, Resolver([f"127.0.0.1:{dns.port}"]), "mx.near.test", Counter())
        for name in names:
            reporter.note(name, NONE, True)
        await reporter.write()
        begun = time.monotonic()
        assert await reporter.send(time.time() + 86400) == 1
        assert time.monotonic() - begun < 3.0 and sorted(asked) == sorted(f"https://{name}/in" for name in names)
        assert len(reporter.waiting) == 12 and len(spool.facts.counts()) == 12
        await spool.close()
        dns.transport.close()

    asyncio.run(main())
