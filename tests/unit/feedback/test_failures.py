"""Failure reports are sent to those who agree, few of them, and never about reports (RFC 9991 2, 5, 8.1)."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from fastmail.dns.interface import Answer, Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.feedback import carrier, failures
from fastmail.feedback.failures import MESSAGE, Failures, Rules, about
from fastmail.model.errors import TemporaryError
from fastmail.policy.spf import Checked
from fastmail.queue.rates import Charge
from fastmail.queue.spool import Spool
from tests.support.reporting import received

RUF = "v=DMARC1; p=reject; ruf=mailto:f@example.org"
TEXT = b"From: joe@example.org\nSubject: x\n\nbody\n"
EXTERNAL = "example.org._report._dmarc.far.test"


class World:
    """A DNS in memory, and what is posted. ``spool``: counts what is sent, as the queue does."""

    def __init__(self, path: Path, rules: Rules | None = None, records: Mapping[str, str] | None = None) -> None:
        txt = {"_dmarc.example.org": RUF, "bounce.example.net": "v=spf1 -all", **(records or {})}
        self.names = MemoryResolver({(name, "TXT"): [text] for name, text in txt.items()})
        self.posted: list[tuple[str, bytes]] = []
        self.spool = Spool(str(path), 1 << 26)
        self.broken = False
        self.failures = Failures(
            self.names, "mx.near.test", "d@near.test", rules or Rules(), self.spool.over, self._post, 0.001
        )

    async def _post(self, address: str, content: bytes, charges: Sequence[Charge]) -> None:
        if self.broken:
            raise TemporaryError("the queue is full")
        await self.spool.charge(charges)
        self.posted.append((address, content))

    def note(self, ip: str = "192.0.2.1", sender: str = "joe@example.net", content: bytes = TEXT, **more: str) -> None:
        found = received("fail", **{"record": RUF, **more})  # type: ignore[arg-type]
        checks = structs.replace(found.checks, sender=Checked("fail", "mailfrom", "bounce.example.net"), dkim=())
        self.failures.note(structs.replace(found, checks=checks), ip, sender, content)

    async def close(self) -> None:
        await self.failures.close()
        await self.spool.close()


async def until(world: World, count: int) -> None:
    for _ in range(2000):
        if len(world.posted) >= count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(world.posted)


def test_alike_failures_are_one_report(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        for _ in range(4):
            world.note()
        await until(world, 1)
        ((to, content),) = world.posted
        (told,) = carrier.read(content).complaints
        assert to == "f@example.org" and (told.kind, told.incidents, told.source) == ("auth-failure", 4, "192.0.2.1")
        assert b'SPF-DNS: txt : bounce.example.net : "v=spf1 -all"\n' in content and b"body" not in content
        world.note()
        world.note(ip="192.0.2.2")
        await until(world, 2)
        assert carrier.read(world.posted[1][1]).complaints[0].source == "192.0.2.2", "the first is quiet for an hour"
        await world.close()

    asyncio.run(main())


def test_what_came_meanwhile_is_in_the_next_report(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        world.note()
        await until(world, 1)
        world.note()
        world.note()
        for quiet in world.failures._quiet.values():
            quiet.until = 0.0
        world.note()
        await until(world, 2)
        assert carrier.read(world.posted[1][1]).complaints[0].incidents == 3
        await world.close()

    asyncio.run(main())


def test_so_many_an_hour_about_a_domain_and_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmail.queue.rates.HOUR", 1 << 40)

    async def main() -> None:
        names = {f"_dmarc.d{n}.test": "v=DMARC1; p=none" for n in range(9)}

        async def sent(one: World) -> list[str]:
            one.failures.pause = 100.0  # nobody else sends them
            for n in range(4):
                one.note(ip=f"192.0.2.{n + 1}")
            for n in range(9):
                own = f"v=DMARC1; p=reject; ruf=mailto:f@d{n}.test"
                one.note(record=own, found=f"d{n}.test", domain=f"d{n}.test")
            await one.failures.send()
            return [address for address, _ in one.posted]

        wide = World(tmp_path / "wide", Rules(of_domain=2, in_all=100), names)
        to = await sent(wide)
        assert to.count("f@example.org") == 2 and len(to) == 2 + 9
        await wide.close()
        world = World(tmp_path, Rules(of_domain=2, in_all=5), names)
        to = await sent(world)
        assert to.count("f@example.org") <= 2 and len(to) == 5, "exactly, though all are on their way at once"
        other = World(tmp_path / "x", Rules(of_domain=2, in_all=5), names)  # another process over the same queue
        await other.spool.close()
        other.spool = world.spool
        other.failures.over = world.spool.over
        other.note(ip="192.0.2.99")
        await other.failures.send()
        assert other.posted == []
        await other.failures.close()
        await world.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("record", "records", "to"),
    [
        (RUF, {}, ["f@example.org"]),
        ("v=DMARC1; p=none; ruf=mailto:a@example.org,mailto:b@mail.example.org!10k", {}, ["a@example.org", "b@mail.example.org"]),
        ("v=DMARC1; p=none; ruf=mailto:a@far.test", {}, []),
        ("v=DMARC1; p=none; ruf=mailto:a@far.test", {EXTERNAL: "v=DMARC1"}, ["a@far.test"]),
        (
            "v=DMARC1; p=none; ruf=mailto:a@far.test",
            {EXTERNAL: "v=DMARC1; ruf=mailto:b@far.test; rua=mailto:c@far.test"},
            ["b@far.test"],
        ),
        ("v=DMARC1; p=none; ruf=mailto:a@far.test", {EXTERNAL: "v=DMARC1; ruf=mailto:b@victim.test"}, []),
        ("v=DMARC1; p=none; ruf=https://example.org/x", {}, []),
    ],
)  # fmt: skip
def test_who_gets_reports(tmp_path: Path, record: str, records: dict[str, str], to: list[str]) -> None:
    async def main() -> None:
        world = World(tmp_path, None, records)
        world.note(record=record)
        await world.failures.send()
        assert [address for address, _ in world.posted] == to
        await world.close()

    asyncio.run(main())


def test_no_report_is_made_about_reports() -> None:
    assert about("joe@example.org", TEXT)
    assert not about("", TEXT)
    assert not about("joe@example.org", b"Content-type:\n MULTIPART/Report; report-type=x\n" + TEXT)
    assert not about("joe@example.org", b"Content-Type: multipart/report\n" + TEXT)


def test_what_a_report_shows(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path, Rules(MESSAGE))
        world.note()
        await world.failures.send()
        assert b"message/rfc822" in world.posted[0][1] and b"\n\nbody\n" in world.posted[0][1]
        await world.close()

    asyncio.run(main())


def test_memory_and_trouble_are_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        world.failures.pause = 100.0
        for n in range(failures.WAITING + 50):
            world.note(ip=f"10.0.{n >> 8}.{n & 255}", content=b"X: " + b"x" * 200_000 + b"\n\n")
        waiting = world.failures._waiting
        assert len(waiting) == failures.WAITING
        assert all(len(one.incident.shown) <= failures.HEADER + 1 for one in waiting.values())
        world.broken = True
        assert await world.failures.send() == 0 and world.posted == [] and not world.failures._waiting
        await world.close()

    asyncio.run(main())


def test_dns_trouble_sends_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        world = World(tmp_path)
        world.names.broken.add(EXTERNAL)
        world.note(record="v=DMARC1; p=none; ruf=mailto:a@far.test")
        assert await world.failures.send() == 0
        await world.close()

    asyncio.run(main())


def test_a_slow_name_server_holds_up_no_other_report(tmp_path: Path) -> None:
    """And so many are on their way at once, whatever waits."""

    async def main() -> None:
        names = {f"_dmarc.d{n}.test": "v=DMARC1; p=none" for n in range(40)}
        world = World(tmp_path, Rules(in_all=1000), names)
        world.failures.pause = 100.0
        let, asking, most = asyncio.Event(), 0, 0
        ask = world.names.ask

        async def slow(name: str, kind: str, budget: Budget | None = None) -> Answer:
            nonlocal asking, most
            if name == "_dmarc.d0.test" or (let.is_set() and name.startswith("_dmarc.d")):
                asking += 1
                most = max(most, asking)
                await (let.wait() if not let.is_set() else asyncio.sleep(0))
                asking -= 1
            return await ask(name, kind, budget)

        world.names.ask = slow  # type: ignore[method-assign]
        for n in range(40):
            world.note(record=f"v=DMARC1; p=reject; ruf=mailto:f@d{n}.test", found=f"d{n}.test", domain=f"d{n}.test")
        sending = asyncio.create_task(world.failures.send())
        await until(world, 39)
        assert not sending.done()
        let.set()
        assert await sending == 40
        for n in range(40):
            world.note(
                "192.0.2.2",
                record=f"v=DMARC1; p=reject; ruf=mailto:f@d{n}.test",
                found=f"d{n}.test",
                domain=f"d{n}.test",
            )
        assert await world.failures.send() == 40 and 1 < most <= failures.AT_ONCE
        await world.close()

    asyncio.run(main())
