"""Aggregate reports of DMARC from one server to another: mail comes in, is counted, reported, and read by the reader of
the domain that it was about. NSD serves the zones."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.test_queue import until
from tests.journey.test_trust import Nsd, send, text
from tests.support.server import Server
from tests.support.signing import MESSAGE, key, signed

READER = "dmarc@example.org"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Server]:
    """The mail host of example.org, which reads what others report."""
    server = Server(tmp_path / "far", f'\n[policy]\nreports_address = "{READER}"\n', workers=1)
    server.cli("domain", "add", "example.org")
    server.cli("account", "add", READER, "--password-stdin", stdin=server.password + "\n")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def near(tmp_path: Path, far: Server) -> Iterator[Server]:
    """Who gets mail from example.org, and from those who say so."""
    (tmp_path / "dns").mkdir()
    zone = f"""@ IN TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc IN TXT "v=DMARC1; p=reject; rua=mailto:{READER}!1m,mailto:spy@far.test; ruf=mailto:{READER},mailto:spy@far.test"
one._domainkey IN TXT {text(key().record())}
mail IN A 192.0.2.1
"""
    zones = {
        "example.org": zone,
        "2.0.192.in-addr.arpa": "1 IN PTR mail.example.org.",
        "far.test": "",
        "org": "",
        "test": "",
        "100.51.198.in-addr.arpa": "",
    }
    dns = Nsd(tmp_path / "dns", zones)
    extra = f"""
[relay]
dns_servers = ["127.0.0.1:{dns.port}"]
dnssec = false
routes = ["example.org smtp:127.0.0.1:{far.ports["smtp"]}"]
[policy]
lookup_time = 5
send_reports = true
"""
    server = Server(tmp_path / "near", extra, workers=1)
    server.config.write_text(server.config.read_text().replace("[listen]", '[listen]\nxclient = ["127.0.0.0/8"]', 1))
    try:
        yield server
    finally:
        server.stop()
        dns.stop()


def test_a_report_arrives_and_is_read(near: Server, far: Server, tmp_path: Path) -> None:
    near.start()
    for _ in range(2):
        assert send(near, signed()).startswith("250")
    assert send(near, MESSAGE, "198.51.100.9", "far.test").startswith("250")
    near.stop()  # which writes down what was counted
    assert near.cli("dmarc", "send").stdout == "there is nothing to report\n", "the day is not over"
    (due,) = json.loads(near.cli("dmarc", "send", "--today", "--dry-run", "--json").stdout)
    assert (due["domain"], due["state"], due["messages"], due["to"]) == ("example.org", "due", 3, [READER])
    assert "far.test does not say that it takes reports about example.org" in due["why"]
    (sent,) = json.loads(near.cli("dmarc", "send", "--today", "--json").stdout)
    assert sent["state"] == "sent" and sent["records"] == 2
    assert near.cli("dmarc", "send", "--today").stdout == "there is nothing to report\n"
    near.start()  # which empties the queue

    def arrived() -> list[Path]:
        return [path for path in (far.maildir(READER) / "new").glob("*") if path.is_file()]

    until(arrived, 60.0)
    (found,) = json.loads(far.cli("dmarc", "read", str(arrived()[0]), "--json", config=False).stdout)
    assert found["org"] == "example.test" and found["domain"] == "example.org" and found["policy"]["p"] == "reject"
    assert found["end"] <= time.time()
    shown = {one["source"]: one for one in found["records"]}
    good, bad = shown["192.0.2.1"], shown["198.51.100.9"]
    assert (good["messages"], good["disposition"], good["dkim"], good["spf"]) == (2, "pass", "pass", "pass")
    assert good["signatures"] == ["example.org one pass"]
    assert (bad["messages"], bad["disposition"], bad["dkim"], bad["reasons"]) == (1, "none", "fail", ["local_policy"])
    rows = json.loads(far.cli("dmarc", "reports", "example.org", "--json").stdout)
    assert [(row["messages"], row["source"], row["aligned"]) for row in rows] == [
        (2, "192.0.2.1", "dkim+spf"),
        (1, "198.51.100.9", "no"),
    ]
    assert "198.51.100.9" in far.cli("dmarc", "reports", "example.org", "--by-reporter", "--since", "2d").stdout
    assert "nobody has complained" in far.cli("dmarc", "complaints").stdout


def test_a_failure_report_arrives_and_is_read(near: Server, far: Server) -> None:
    """Only where a setting says so; about forged messages, alike ones once, and to those who agree."""
    more = 'send_reports = true\nfailure_reports = true\nfailure_shows = "redacted"'
    near.config.write_text(near.config.read_text().replace("send_reports = true", more))
    near.start()
    assert send(near, signed()).startswith("250")
    for _ in range(3):
        assert send(near, MESSAGE, "198.51.100.9", "far.test").startswith("250")

    def arrived() -> list[Path]:
        return [path for path in (far.maildir(READER) / "new").glob("*") if path.is_file()]

    until(arrived, 120.0)  # alike ones are collected for a while
    (path,) = arrived()
    content = path.read_bytes()
    assert b"\nFeedback-Type: auth-failure\n" in content and b"\nAuth-Failure: dmarc\n" in content
    assert b"\nIncidents: 3\n" in content and b"\nSource-IP: 198.51.100.9\n" in content
    assert b"\nSPF-DNS: txt : far.test" not in content and b"\nReported-Domain: example.org\n" in content
    assert b"joe@" not in content and b"text/rfc822-headers" in content
    (row,) = json.loads(far.cli("dmarc", "complaints", "--json").stdout)
    assert (row["type"], row["messages"], row["domain"]) == ("auth-failure", 3, "example.org")
    near.stop()
    assert "spy" not in near.cli("queue", "list").stdout
