"""Messages become rows of an aggregate report (RFC 9990 3.1.1.7 to 3.1.1.14)."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from fastmail.feedback import counting
from fastmail.feedback.counting import WATCHED, Tally, evaluated
from fastmail.feedback.days import SEEN, Days
from fastmail.feedback.model import Policy, Row
from fastmail.policy import verdict
from fastmail.policy.dkim import Signed
from fastmail.policy.reasons import Reason
from tests.support.reporting import received

IP, SENDER = "192.0.2.1", "joe@bounce.example.net"


def row(**about: object) -> Row:
    found = evaluated(received(**about), IP, SENDER)  # type: ignore[arg-type]
    assert found is not None
    return found[1]


def test_a_message_that_passes() -> None:
    found = evaluated(received(), IP, SENDER)
    assert found is not None
    policy, one = found
    assert policy.domain == "example.org" and policy.rua == (("mailto:d@example.org", 0),)
    assert (policy.p, policy.sp, policy.np, policy.adkim, policy.testing) == ("reject", "reject", "reject", "r", "n")
    assert (one.source, one.header_from, one.envelope_from) == (IP, "example.org", "bounce.example.net")
    assert (one.disposition, one.dkim, one.spf, one.reasons) == ("pass", "pass", "fail", ())
    assert one.signatures == (("example.org", "one", "pass"),)
    assert (one.spf_domain, one.spf_result) == ("bounce.example.net", "fail")
    assert row(policy="none").disposition == "none"


def test_sizes_of_the_places_are_kept() -> None:
    found = evaluated(
        received(record="v=DMARC1; p=none; rua=mailto:a@b.test!10m,mailto:c@d.test!5,mailto:e@f.test"), IP, ""
    )
    assert found is not None
    assert found[0].rua == (("mailto:a@b.test", 10 << 20), ("mailto:c@d.test", 5), ("mailto:e@f.test", 0))
    assert found[1].envelope_from == "", "of a null sender"
    large = evaluated(received(record="v=DMARC1; p=none; rua=mailto:a@b.test!999999999999999t"), IP, "")
    assert large is not None and msgspec.msgpack.encode(large[0])


@pytest.mark.parametrize(
    ("about", "disposition", "reasons"),
    [
        ({"action": verdict.REFUSE}, "reject", ()),
        ({"action": verdict.JUNK, "override": "local_policy"}, "quarantine", (("local_policy", ""),)),
        ({"action": verdict.JUNK, "override": "mailing_list"}, "quarantine", (("mailing_list", ""),)),
        ({"action": verdict.ACCEPT, "override": "trusted_forwarder"}, "none", (("trusted_forwarder", ""),)),
        ({"action": verdict.JUNK, "policy": "quarantine"}, "quarantine", ()),
        ({"action": verdict.REFUSE, "policy": "quarantine"}, "quarantine", ()),
        ({"action": verdict.REFUSE, "policy": "none"}, "none", ()),
        (
            {"action": verdict.JUNK, "policy": "quarantine", "published": "reject", "override": "policy_test_mode"},
            "quarantine",
            (("policy_test_mode", ""),),
        ),
        ({"action": verdict.JUNK, "enforce": False, "override": "local_policy"}, "none", (("local_policy", WATCHED),)),
        ({"action": verdict.ACCEPT, "enforce": False, "policy": "none"}, "none", ()),
        ({"action": verdict.ACCEPT}, "none", (("local_policy", ""),)),
    ],
)
def test_what_a_failure_led_to(about: dict[str, object], disposition: str, reasons: object) -> None:
    """A reason is there whenever it is not what the domain wants (RFC 9990 3.1.1.9)."""
    one = row(result="fail", **about)
    assert (one.disposition, one.reasons, one.dkim, one.spf) == (disposition, reasons, "fail", "fail")


def test_a_result_that_could_not_be_known() -> None:
    one = row(result="temperror")
    assert one.disposition == "none" and one.reasons[0][0] == "other"


@pytest.mark.parametrize(
    "about",
    [
        {"record": "v=DMARC1; p=reject"},  # nobody wants a report
        {"result": "none"},
        {"action": verdict.LATER, "result": "fail"},  # it comes again
    ],
)
def test_messages_that_are_not_counted(about: dict[str, object]) -> None:
    assert evaluated(received(**about), IP, SENDER) is None  # type: ignore[arg-type]


def test_signatures_that_say_most_come_first() -> None:
    signed = (
        Signed("fail", domain="z.test", selector="a"),
        Signed("pass", domain="list.test", selector="b"),
        Signed("pass", domain="mail.example.org", selector="c"),
        Signed("pass", domain="example.org", selector="d"),
        Signed("permerror", why="no d= at all"),
    )
    one = row(signed=signed, aligned=(("dkim", "mail.example.org"), ("dkim", "example.org"), ("spf", "example.org")))
    assert [selector for _, selector, _ in one.signatures] == ["d", "c", "b", "a"]
    assert (one.dkim, one.spf) == ("pass", "pass")


def test_workers_counts_are_summed(tmp_path: Path) -> None:
    async def main() -> None:
        days = Days(str(tmp_path))
        one, other = Tally(days), Tally(days)
        for _ in range(3):
            one.note(received(), IP, SENDER)
        one.note(received(), "192.0.2.2", SENDER)
        other.note(received(), IP, SENDER)
        other.note(received(record="v=DMARC1; p=none"), IP, SENDER)
        other.note(received(domain="www.example.org"), IP, SENDER)
        await asyncio.gather(one.close(), other.close())
        ((day, domain),) = days.keys(SEEN)
        head, rows = days.rows(SEEN, day, domain)
        assert domain == "example.org" and head.rows == 3
        assert msgspec.msgpack.decode(head.about, type=Policy).p == "reject"
        assert sorted(messages for _, messages in rows) == [1, 1, 4]
        assert {msgspec.msgpack.decode(packed, type=Row).header_from for packed, _ in rows} == {
            "example.org",
            "www.example.org",
        }
        days.close()

    asyncio.run(main())


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST", 4)

    async def main() -> None:
        days = Days(str(tmp_path))
        tally = Tally(days)
        for number in range(20):
            tally.note(received(), f"192.0.2.{number}", SENDER)
        tally.note(received(found="example.net"), IP, SENDER)
        await tally.close()
        ((day, domain),) = days.keys(SEEN)
        head, rows = days.rows(SEEN, day, domain)
        assert (domain, len(rows), head.left_out) == ("example.org", 3, 17)
        days.close()

    asyncio.run(main())


def test_a_disk_that_takes_nothing_stops_no_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "feedback").write_text("in the way")

    async def main() -> None:
        tally = Tally(Days(str(tmp_path)))
        tally.note(received(), IP, SENDER)
        await tally.close()
        tally.note(received(), IP, SENDER)
        await tally.close()

    asyncio.run(main())


def test_a_sealer_that_vouches_is_named() -> None:
    """RFC 9990 3.1.1.9: who is told sees why its wish was not followed."""
    one = received(result="fail", override=verdict.FORWARDER)
    why = Reason("arc.vouched", 0.0, "forward.test says dmarc=pass")
    found = evaluated(replace(one, verdict=replace(one.verdict, reasons=(why,))), IP, SENDER)
    assert found is not None and found[1].disposition == "none"
    assert found[1].reasons == (("trusted_forwarder", "forward.test says dmarc=pass"),)
