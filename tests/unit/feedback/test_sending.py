"""Reports are sent once, to those who agree (RFC 9990 3.5, 4)."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from fastmail.dns.interface import Answer, Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.feedback import carrier, sending
from fastmail.feedback.days import SEEN, Days, More, pack
from fastmail.feedback.model import Row
from fastmail.feedback.sending import Sender, Sent
from fastmail.model.errors import TemporaryError
from tests.support.reporting import BEGIN, DAY, POLICY, ROW

NOW = BEGIN + 86400 + 5 * 3600.0
RECORD = "v=DMARC1; p=reject"


class World:
    """A sender with a DNS in memory, and what it posts."""

    def __init__(self, path: Path, records: Mapping[str, str] | None = None) -> None:
        self.days = Days(str(path))
        txt = {"_dmarc.example.org": RECORD, **(records or {})}
        self.names = MemoryResolver({(name, "TXT"): [text] for name, text in txt.items()})
        self.posted: list[tuple[str, bytes]] = []
        self.broken: set[str] = set()
        self.sender = Sender(self.days, self.names, "near.test", "postmaster@near.test", self._post)

    async def _post(self, address: str, content: bytes) -> None:
        if address in self.broken:
            raise TemporaryError("the queue is full")
        self.posted.append((address, content))

    def seen(
        self,
        *rua: str,
        domain: str = "example.org",
        day: int = DAY,
        rows: Mapping[Row, int] | None = None,
        most: int = 0,
    ) -> None:
        policy = msgspec.structs.replace(POLICY, domain=domain, rua=tuple((uri, most) for uri in rua))
        counts = {pack(row): messages for row, messages in (rows or {ROW: 3}).items()}
        self.days.add(SEEN, {(day, domain): More(counts, about=pack(policy))})

    def send(
        self, now: float = NOW, today: bool = False, dry: bool = False, spread: bool = False, most: int = 0
    ) -> list[Sent]:
        return asyncio.run(self.sender.send(now, today, dry, spread, most))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_report_is_sent_once(world: World) -> None:
    world.seen("mailto:a@example.org", "mailto:b@mail.example.org?subject=x", "mailto:a@example.org")
    (due,) = world.send(dry=True)
    assert (due.state, due.to, world.posted) == ("due", ("a@example.org", "b@mail.example.org"), [])
    (sent,) = world.send()
    assert (sent.state, sent.messages, sent.records, sent.to) == (
        "sent",
        3,
        1,
        due.to,
    ) and sent.octets == due.octets > 100
    assert [address for address, _ in world.posted] == ["a@example.org", "b@mail.example.org"]
    (report,) = carrier.read(world.posted[0][1]).reports
    assert (report.begin, report.end, report.records) == (BEGIN, BEGIN + 86399, ((ROW, 3),))
    assert report.org == "near.test" and report.policy.domain == "example.org"
    assert world.send() == [] and world.days.keys(SEEN) == []


def test_a_day_that_is_not_over_waits(world: World) -> None:
    world.seen("mailto:a@example.org")
    assert world.send(BEGIN + 7200.0) == []
    (sent,) = world.send(BEGIN + 7200.0, today=True)
    (first,) = carrier.read(world.posted[0][1]).reports
    assert sent.state == "sent" and (first.begin, first.end) == (BEGIN, BEGIN + 7200)
    world.seen("mailto:a@example.org")
    world.send()
    (second,) = carrier.read(world.posted[1][1]).reports
    assert (second.begin, second.end) == (BEGIN + 7201, BEGIN + 86399), "periods do not overlap (RFC 9990 3.1.1.4)"
    assert first.ident != second.ident


def test_domains_are_spread_over_some_hours(world: World) -> None:
    for number in range(20):
        world.names.records[(f"_dmarc.d{number}.test", "TXT")] = (RECORD,)
        world.seen(f"mailto:a@d{number}.test", domain=f"d{number}.test")
    assert world.send(BEGIN + 86400.0, spread=True) == []
    early = len(world.send(BEGIN + 86400 + 2 * 3600.0, spread=True))
    assert 0 < early < 20
    assert len(world.send(NOW, spread=True, most=3)) == 3
    assert len(world.send(NOW, spread=True)) == 20 - early - 3


EXTERNAL = "example.org._report._dmarc.far.test"


@pytest.mark.parametrize(
    ("rua", "records", "to"),
    [
        ("mailto:a@far.test", {}, ()),
        ("mailto:a@far.test", {EXTERNAL: "v=DMARC1"}, ("a@far.test",)),
        ("mailto:a@far.test", {EXTERNAL: "v=DMARC1;"}, ("a@far.test",)),
        ("mailto:a@far.test", {EXTERNAL: "v=DMARC2"}, ()),
        ("mailto:a@far.test", {"*._report._dmarc.far.test": "v=DMARC1"}, ()),
        (
            "mailto:a@far.test",
            {EXTERNAL: "v=DMARC1; rua=mailto:b@far.test,mailto:c@far.test"},
            ("b@far.test", "c@far.test"),
        ),
        ("mailto:a@far.test", {EXTERNAL: "v=DMARC1; rua=mailto:b@victim.test"}, ()),
        ("mailto:a@far.test", {EXTERNAL: "v=DMARC1; rua=https://far.test/x"}, ()),
        ("mailto:a@sub.example.org", {}, ("a@sub.example.org",)),
        ("mailto:a@sub.example.org", {"_dmarc.sub.example.org": "v=DMARC1; p=none; psd=n"}, ()),
        ("mailto:a@" + ".".join(["l" * 60] * 4), {}, ()),
        ("https://example.org/reports", {}, ()),
        ("mailto:", {}, ()),
        ("mailto:a@example.org,b@example.org", {}, ()),
        ("mailto:a@[192.0.2.1]", {}, ()),
    ],
)
def test_who_gets_a_report(tmp_path: Path, rua: str, records: dict[str, str], to: tuple[str, ...]) -> None:
    world = World(tmp_path, records)
    world.seen(rua)
    (sent,) = world.send()
    assert sent.to == to == tuple(address for address, _ in world.posted)
    assert sent.state == ("sent" if to else "unwanted") and bool(sent.refused) is not bool(to)
    assert world.days.keys(SEEN) == [], "it is let go of either way"


def test_trouble_is_tried_again_and_then_forgotten(world: World) -> None:
    world.seen("mailto:a@example.org")
    world.broken.add("a@example.org")
    assert [one.state for one in world.send(NOW)] == ["failed"]
    assert world.send(NOW + 60) == [], "not so soon"
    world.names.broken.add("_dmarc.example.org")
    assert [one.state for one in world.send(NOW + 3700)] == ["failed"]
    world.names.broken.clear()
    assert [one.state for one in world.send(NOW + 7400)] == ["failed"]
    world.broken.clear()
    assert world.send(NOW + 99999) == [] and world.days.keys(SEEN) == [] and world.posted == []


def test_one_address_in_trouble_keeps_nothing_from_the_others(world: World) -> None:
    world.seen("mailto:a@example.org", "mailto:b@example.org")
    world.broken.add("a@example.org")
    (sent,) = world.send()
    assert (sent.state, sent.to) == ("sent", ("b@example.org",)) and sent.refused[0][0] == "a@example.org"


def test_a_report_has_no_more_octets_than_its_reader_takes(world: World) -> None:
    rows = {
        Row(f"10.0.{a}.{b}", "none", "fail", "fail", f"{a}.{b}.example.org"): a + 1
        for a in range(4)
        for b in range(200)
    }
    world.seen("mailto:a@example.org", rows=rows, most=2000)
    (sent,) = world.send()
    assert sent.octets <= 2000
    (report,) = carrier.read(world.posted[0][1]).reports
    assert 0 < len(report.records) < 800 and report.records[0][1] == 4 and "left out" in report.error


def test_damaged_counts_are_let_go_of(world: World) -> None:
    world.days.add(SEEN, {(DAY, "example.org"): More({b"\xc1": 1}, about=b"\xc1")})
    assert [one.state for one in world.send()] == ["unwanted"]
    assert world.days.keys(SEEN) == []


def test_a_round_of_housekeeping(world: World) -> None:
    old, late = sending.day_of(time.time()) - sending.OLD - 1, sending.day_of(time.time()) - 2
    world.seen("mailto:a@example.org", day=old)
    world.seen("mailto:a@example.org", day=late)
    assert asyncio.run(world.sender.send_due()) == 1
    assert world.days.keys(SEEN) == []


def test_a_slow_name_server_holds_up_no_other_report(world: World) -> None:
    for number in range(12):
        world.names.records[(f"_dmarc.d{number}.test", "TXT")] = (RECORD,)
        world.seen(f"mailto:a@d{number}.test", domain=f"d{number}.test")
    ask, let = world.names.ask, asyncio.Event()

    async def slow(name: str, kind: str, budget: Budget | None = None) -> Answer:
        if name == "_dmarc.d0.test":
            await let.wait()
        return await ask(name, kind, budget)

    world.names.ask = slow  # type: ignore[method-assign]

    async def main() -> list[Sent]:
        task = asyncio.create_task(world.sender.send(NOW))
        for _ in range(2000):
            if len(world.posted) == 11:
                break
            await asyncio.sleep(0.005)
        assert len(world.posted) == 11 and not task.done()
        let.set()
        return await task

    sent = asyncio.run(main())
    assert [one.domain for one in sent] == sorted(f"d{n}.test" for n in range(12)) and len(world.posted) == 12
    assert {one.state for one in sent} == {"sent"} and world.days.keys(SEEN) == []
