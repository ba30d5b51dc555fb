"""``fastmail dmarc``: reports of others, files with reports, complaints."""

import gzip
import time
from pathlib import Path

import msgspec
import pytest

from fastmail.app.assembly import Assembly
from fastmail.dns.memory import MemoryResolver
from fastmail.feedback import writing
from fastmail.feedback.days import SEEN, Days, More, day_of, pack
from fastmail.feedback.taking import Taker
from tests.support.reporting import POLICY, report
from tests.unit.cli.place import USER, Place
from tests.unit.feedback.test_carrier import arf
from tests.unit.feedback.test_taking import FORGED, ROW, mail, yesterday


def taken(place: Place, *messages: bytes) -> None:
    """The server has read these."""
    days = Days(str(place.base / "data"))
    taker = Taker(days, "d@example.org", lambda domain: domain == "example.org")
    for one in messages:
        assert taker.take_now(one, "")
    days.close()


def test_who_sends_as_a_domain(place: Place) -> None:
    assert "nobody has reported about example.org" in place.run("dmarc", "reports", "example.org")
    taken(place, mail(), mail(ident="2@near.test"), mail(ident="3@far.test", org="far.test"))
    rows = place.rows("dmarc", "reports", "EXAMPLE.org")
    assert rows == [
        {"messages": 27, "source": "198.51.100.9", "from": "example.org", "aligned": "no", "disposition": "quarantine"},
        {"messages": 15, "source": "192.0.2.1", "from": "example.org", "aligned": "dkim", "disposition": "pass"},
    ]
    rows = place.rows("dmarc", "reports", "example.org", "--by-reporter", "--match", "far.test")
    assert [(row["messages"], row["reporter"]) for row in rows] == [(9, "far.test"), (5, "far.test")]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert place.rows("dmarc", "reports", "example.org", "--since", today) == []
    assert len(place.rows("dmarc", "reports", "example.org", "--since", "2d")) == 2
    assert "--since soon" in place.run("dmarc", "reports", "example.org", "--since", "soon", code=2)
    assert place.call("dmarc", "reports", "not a domain").exit_code == 2


def test_complaints(place: Place) -> None:
    assert "nobody has complained" in place.run("dmarc", "complaints")
    taken(place, arf())
    (row,) = place.rows("dmarc", "complaints")
    assert (row["messages"], row["domain"], row["sender"], row["type"]) == (
        3,
        "example.org",
        "Joe@lists.example.org",
        "abuse",
    )
    assert (
        place.rows("dmarc", "complaints", "example.net") == []
        and len(place.rows("dmarc", "complaints", "example.org")) == 1
    )


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read(place: Place, tmp_path: Path, packed: bool) -> None:
    file = tmp_path / "report"
    data = writing.xml(report((ROW, 3), (FORGED, 1), **yesterday()))
    file.write_bytes(gzip.compress(data) if packed else data)
    done = place.call("dmarc", "read", str(file), config=False)
    assert done.exit_code == 0 and "policy: p=reject" in done.stdout and "198.51.100.9" in done.stdout
    file.write_bytes(mail())
    assert "near.test" in place.call("dmarc", "read", str(file), config=False).stdout
    file.write_bytes(arf())
    assert "Joe@lists.example.org" in place.call("dmarc", "read", str(file), "--json", config=False).stdout


@pytest.mark.parametrize(
    ("data", "why"), [(b"<a/>", "domain"), (b"hello", "no report in it"), (b"\x1f\x8b", "cut short")]
)
def test_a_file_that_is_no_report(place: Place, tmp_path: Path, data: bytes, why: str) -> None:
    file = tmp_path / "report"
    file.write_bytes(data)
    done = place.call("dmarc", "read", str(file), config=False)
    assert done.exit_code == 1 and why in done.output
    assert place.call("dmarc", "read", str(tmp_path / "none"), config=False).exit_code == 1


def test_nothing_to_send(place: Place) -> None:
    assert "there is nothing to report" in place.run("dmarc", "send", "--dry-run")


def test_reports_to_addresses_of_this_server(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is for our own address of reports is read at once; the rest is queued."""
    records = {("_dmarc.example.test", "TXT"): ["v=DMARC1; p=reject"]}
    monkeypatch.setattr(Assembly, "resolver", MemoryResolver(records))
    place.run("alias", "add", "dmarc@example.test", USER)
    place.config.write_text(
        place.config.read_text() + '\n[policy]\nreports_address = "dmarc@example.test"\nkeep_reports = false\n'
    )
    rua = tuple((f"mailto:{name}@example.test", 0) for name in ("dmarc", "me", "nobody"))
    policy = msgspec.structs.replace(POLICY, domain="example.test", rua=rua)
    row = msgspec.structs.replace(ROW, header_from="example.test")
    days = Days(str(place.base / "data"))
    days.add(SEEN, {(day_of(time.time()) - 1, "example.test"): More({pack(row): 4}, about=pack(policy))})
    days.close()
    (sent,) = place.rows("dmarc", "send")
    assert (sent["state"], sent["messages"]) == ("sent", 4)
    assert sent["to"] == ["dmarc@example.test", USER] and "nobody@example.test is nobody here" in sent["why"]
    assert [one["messages"] for one in place.rows("dmarc", "reports", "example.test")] == [4]
    (queued,) = place.rows("queue", "list")
    assert queued["recipients"] == [USER] and queued["sender"] in ("", "<>")
