"""Reports of others: who is believed, and what is kept of them."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from fastmail.feedback import taking, writing
from fastmail.feedback.days import COMPLAINTS, TOLD, Days, day_of
from fastmail.feedback.model import Row
from fastmail.feedback.taking import Complained, Taker, Told, author_of
from fastmail.policy.dkim import Signed
from fastmail.policy.spf import Checked
from tests.support.reporting import ROW, received, report
from tests.unit.feedback.test_carrier import arf

FORGED = Row("198.51.100.9", "quarantine", "fail", "fail", "example.org")


def today() -> int:
    """Asked again by each test: a day may end while all of them run."""
    return day_of(time.time())


def yesterday() -> dict[str, object]:
    """The time that a report covers."""
    begin = (today() - 1) * 86400
    return {"begin": begin, "end": begin + 86399}


@pytest.fixture
def taker(tmp_path: Path) -> Taker:
    return Taker(Days(str(tmp_path)), "DMARC@example.org", {"example.org"}.__contains__)


def mail(**about: object) -> bytes:
    made = report((ROW, 3), (replace_row(ROW, "x"), 2), (FORGED, 9), **{**yesterday(), **about})
    return writing.mail(
        made, writing.packed(made, 1 << 20)[1], "postmaster@near.test", "near.test", ["dmarc@example.org"], 0.0
    )


def replace_row(row: Row, selector: str) -> Row:
    return msgspec.structs.replace(row, signatures=(("example.org", selector, "pass"),))


def rows(taker: Taker) -> dict[tuple[str, str], int]:
    found = taker.days.of(TOLD, "example.org", today() - 9, today())
    told = [
        (msgspec.msgpack.decode(packed, type=Told), messages)
        for _, _, packed_rows in found
        for packed, messages in packed_rows
    ]
    return {(one.reporter, one.source): messages for one, messages in told}


def test_who_the_mail_is_for(taker: Taker) -> None:
    assert taker.is_for("dmarc@EXAMPLE.org") and not taker.is_for("dmarc@example.net")


def test_a_report_is_summed_once(taker: Taker) -> None:
    async def main() -> None:
        assert await taker.take(mail(), None)
        assert await taker.take(mail(), None), "it is read again, and counts no more"
        assert rows(taker) == {("near.test", "192.0.2.1"): 5, ("near.test", "198.51.100.9"): 9}
        assert await taker.take(mail(ident="2@near.test"), None)
        assert rows(taker) == {("near.test", "192.0.2.1"): 10, ("near.test", "198.51.100.9"): 18}

    asyncio.run(main())


def test_the_reporter_is_whom_dmarc_vouches_for(taker: Taker) -> None:
    vouched = received(domain="big.test", aligned=(("dkim", "big.test"),))
    assert asyncio.run(taker.take(mail(), vouched))
    assert {reporter for reporter, _ in rows(taker)} == {"big.test"}
    assert author_of(None) == "" and author_of(vouched) == "big.test"


@pytest.mark.parametrize("result", ["fail", "temperror", "permerror"])
def test_forged_reports_do_not_count(taker: Taker, result: str) -> None:
    assert not asyncio.run(taker.take(mail(), received(result)))
    assert rows(taker) == {}


def test_a_reporter_without_a_record() -> None:
    """Its own name must be vouched for."""
    mine = (Signed("pass", domain="big.test"),)
    assert author_of(received("none", domain="big.test", signed=mine)) == "big.test"
    assert author_of(received("none", domain="big.test")) is None
    for mechanism, author in (("ip4:192.0.2.1", "big.test"), ("+all", None)):
        found = received("none", domain="big.test", signed=())
        spf = Checked("pass", "mailfrom", "big.test", mechanism)
        assert author_of(replace(found, checks=replace(found.checks, sender=spf))) == author, "anybody may send for it"
    unchecked = received()
    assert author_of(replace(unchecked, checks=replace(unchecked.checks, dmarc=None))) == ""
    assert author_of(replace(unchecked, checks=replace(unchecked.checks, dmarc=None, nobody="two"))) is None


@pytest.mark.parametrize(
    "about",
    [
        {"policy": msgspec.structs.replace(report().policy, domain="example.net")},
        {"begin": (today() - 400) * 86400, "end": (today() - 399) * 86400},
        {"begin": (today() + 9) * 86400, "end": (today() + 10) * 86400},
    ],
)
def test_reports_about_others_or_of_other_times_do_not_count(taker: Taker, about: dict[str, object]) -> None:
    assert not asyncio.run(taker.take(mail(**about), None))
    assert taker.days.keys(TOLD) == []


def test_a_domain_below_ours_is_ours(taker: Taker) -> None:
    below = msgspec.structs.replace(report().policy, domain="news.example.org")
    assert asyncio.run(taker.take(mail(policy=below), None))
    assert [name for _, name in taker.days.keys(TOLD)] == ["news.example.org"]


def test_a_complaint_is_summed_once(taker: Taker) -> None:
    before = today()
    for _ in range(2):
        assert asyncio.run(taker.take(arf(), None))
    (key,) = taker.days.keys(COMPLAINTS)
    assert before <= key[0] <= today() and key[1] == "example.org"
    ((packed, messages),) = taker.days.rows(COMPLAINTS, *key)[1]
    assert messages == 3
    one = msgspec.msgpack.decode(packed, type=Complained)
    assert one == Complained("SomeGenerator/1.0", "abuse", "Joe@lists.example.org", "192.0.2.1", "far.test")
    assert not asyncio.run(taker.take(arf().replace(b"example.org", b"example.net"), None))


def test_other_mail_and_trouble(taker: Taker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not asyncio.run(taker.take(b"From: a@b.test\n\nwhat are these reports?\n", None))
    monkeypatch.setattr(taking, "WAITING", 0)
    assert not asyncio.run(taker.take(mail(), None)), "too many wait"
    monkeypatch.undo()
    (tmp_path / "file").write_text("in the way")
    taker.days = Days(str(tmp_path / "file"))
    assert not asyncio.run(taker.take(mail(), None))
