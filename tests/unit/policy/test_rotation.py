"""What becomes of keys: by the clock and by what the DNS has, in values, in the directory, and by a real resolver."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import ACTIVE, PUBLISHED, RETIRED, REVOKED, WAITING, DkimKey, Domain
from fastmail.dns.interface import Names
from fastmail.dns.memory import MemoryResolver
from fastmail.dns.resolver import Resolver
from fastmail.policy import rotation
from fastmail.policy.keyfiles import KeyTrouble
from fastmail.policy.rotation import FORGET, MISSING, MOST, OTHER, SAME, SETTLE, UNKNOWN, Rotation, Schedule
from tests.support.hosts import name_server
from tests.support.signing import key, keyed, published

DOMAIN, NOW = "example.test", 1_800_000_000.0  # 2027-01-15
DAY = 86400.0
KEEP = Schedule(keep=14 * DAY)


def row(selector: str, state: str, age: float = 0.0, kind: str = "rsa") -> DkimKey:
    return DkimKey(selector, kind, "", state, 1, int(NOW - age))


def states(known: tuple[DkimKey, ...]) -> dict[str, str]:
    return {one.selector: one.state for one in known}


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [
        ([row("a", WAITING)], {"a": MISSING}, {"a": WAITING}),
        ([row("a", WAITING)], {"a": OTHER}, {"a": WAITING}),
        ([row("a", WAITING)], {"a": UNKNOWN}, {"a": WAITING}),
        ([row("a", WAITING)], {}, {"a": WAITING}),
        ([row("a", WAITING)], {"a": SAME}, {"a": ACTIVE}),  # nothing is signed until then
        ([row("a", ACTIVE, DAY), row("b", WAITING)], {"b": SAME}, {"a": ACTIVE, "b": PUBLISHED}),
        ([row("a", ACTIVE, DAY), row("b", PUBLISHED, SETTLE - 1)], {"b": SAME}, {"a": ACTIVE, "b": PUBLISHED}),
        ([row("a", ACTIVE, DAY), row("b", PUBLISHED, SETTLE)], {"b": SAME}, {"a": RETIRED, "b": ACTIVE}),
        ([row("a", ACTIVE, DAY), row("b", PUBLISHED, SETTLE)], {"b": UNKNOWN}, {"a": ACTIVE, "b": PUBLISHED}),
        ([row("a", ACTIVE, DAY), row("b", PUBLISHED, SETTLE)], {"b": MISSING}, {"a": ACTIVE, "b": WAITING}),
        ([row("a", ACTIVE, DAY), row("e", WAITING, 0, "ed25519")], {"e": SAME}, {"a": ACTIVE, "e": ACTIVE}),
        ([row("a", RETIRED, 14 * DAY - 1)], {}, {"a": RETIRED}),
        ([row("a", RETIRED, 14 * DAY)], {}, {"a": REVOKED}),
        ([row("a", REVOKED, FORGET - 1)], {}, {"a": REVOKED}),
        ([row("a", REVOKED, FORGET)], {}, {}),
        ([row("a", ACTIVE, 1000 * DAY)], {}, {"a": ACTIVE}),
    ],
)
def test_what_becomes_of_keys(before: list[DkimKey], seen: dict[str, str], after: dict[str, str]) -> None:
    assert states(rotation.advanced(before, seen, KEEP, NOW)) == after


def test_a_state_begins_when_it_begins() -> None:
    (one,) = rotation.advanced([row("a", WAITING, DAY)], {"a": SAME}, KEEP, NOW)
    assert one.since == NOW and one.made == 1
    (same,) = rotation.advanced([row("a", ACTIVE, DAY)], {}, KEEP, NOW)
    assert same.since == NOW - DAY


def test_when_a_successor_is_made() -> None:
    yearly = Schedule(every=365 * DAY)
    old, young = row("a", ACTIVE, 365 * DAY), row("a", ACTIVE, 364 * DAY)
    assert rotation.due([old], yearly, NOW) == ["rsa"] and rotation.due([old], KEEP, NOW) == []
    assert rotation.due([young], yearly, NOW) == [] == rotation.due([row("a", RETIRED, 400 * DAY)], yearly, NOW)
    assert rotation.due([old, row("b", WAITING)], yearly, NOW) == [] == rotation.due([old] * MOST, yearly, NOW)
    assert rotation.due([old, row("e", WAITING, 0, "ed25519")], yearly, NOW) == ["rsa"]


def test_selectors_say_when_and_are_taken_once() -> None:
    known: list[str] = []
    for wanted in ("202701r", "202701r2", "202701r3"):
        known.append(rotation.selector("rsa", known, NOW))
        assert known[-1] == wanted
    assert rotation.selector("ed25519", known, NOW) == "202701e"


def test_records_for_a_zone() -> None:
    record = key().record()
    line = rotation.zone_line("gr\u00fcn.example", "s", record)
    assert line.startswith('s._domainkey.xn--grn-ioa.example. IN TXT (\n    "v=DKIM1; k=rsa; p=')
    texts = [one.strip(' ")') for one in line.splitlines()[1:]]
    assert "".join(texts) == record and len(texts) == 2 and all(len(one) <= 255 for one in texts)
    short = rotation.zone_line("a.test", "s", key(kind="ed25519").record())
    assert short == f's._domainkey.a.test. IN TXT "{key(kind="ed25519").record()}"'


def looked(names: Names) -> tuple[str, str]:
    return asyncio.run(rotation.looked(names, key()))


def test_what_the_dns_has() -> None:
    name = ("one._domainkey.example.org", "TXT")
    mine = key().record()
    assert looked(MemoryResolver(published(key()))) == (SAME, "")
    assert looked(MemoryResolver({name: ["unrelated", mine.replace("k=rsa; ", "n=note; ")]})) == (SAME, "")
    assert looked(MemoryResolver({}))[0] == MISSING
    for record, why in (
        ("v=DKIM1; k=rsa; p=", "revoked"),
        (key(kind="ed25519").record(), "another key"),
        (key(bits=1024).record(), "another key"),
        ("v=spf1 -all", "another version"),
    ):
        found = looked(MemoryResolver({name: [record]}))
        assert found[0] == OTHER and why in found[1], found
    assert "only tested" in looked(MemoryResolver({name: [mine + "; t=y"]}))[1]
    broken = MemoryResolver({})
    broken.broken.add(name[0])
    assert looked(broken)[0] == UNKNOWN


# -------------------------------------------------------------------- the directory and the files


@pytest.fixture
def place() -> MemoryDirectory:
    made = MemoryDirectory()
    made.add_domain(DOMAIN)
    return made


def known(place: MemoryDirectory) -> dict[str, str]:
    found = place.domain(DOMAIN)
    assert found is not None
    return states(found.dkim)


def add(place: MemoryDirectory, path: Path, **more: Any) -> DkimKey:
    found = place.domain(DOMAIN)
    assert found is not None
    return rotation.add(place, str(path), found, "ed25519", NOW, **more)


def test_a_key_is_on_the_disk_before_the_directory_names_it(place: MemoryDirectory, tmp_path: Path) -> None:
    change = place.change_domain

    def noting(name: str, what: Any) -> Any:
        assert (tmp_path / f"dkim/{DOMAIN}/202701e.pem").exists()
        return change(name, what)

    place.change_domain = noting  # type: ignore[method-assign,assignment]
    made = add(place, tmp_path)
    assert (made.selector, made.state, made.made) == ("202701e", WAITING, NOW) and known(place) == {"202701e": WAITING}
    text = "".join(one.text for one in place.audit())
    assert "202701e" in text and "PRIVATE" not in text


def test_what_cannot_be_added_leaves_nothing(place: MemoryDirectory, tmp_path: Path) -> None:
    add(place, tmp_path, name="a")
    with pytest.raises(DirectoryError, match="has a key with the selector a already"):
        add(place, tmp_path, name="a")
    found = place.domain(DOMAIN)
    assert found is not None
    place.remove_domain(DOMAIN)
    with pytest.raises(DirectoryError, match="no domain"):
        rotation.add(place, str(tmp_path), found, "ed25519", NOW, name="b")
    assert [one.name for one in (tmp_path / "dkim" / DOMAIN).iterdir()] == ["a.pem"]
    place.add_domain(found)
    assert add(place, tmp_path).selector == "202701e"
    place.change_domain(DOMAIN, lambda old: replace(old, dkim=()))
    assert add(place, tmp_path).selector == "202701e2", "a file is there that no row names"
    place.change_domain(DOMAIN, lambda old: replace(old, dkim=tuple(row(str(n), RETIRED) for n in range(MOST))))
    with pytest.raises(DirectoryError, match="remove one"):
        add(place, tmp_path)


def test_a_whole_life(place: MemoryDirectory, tmp_path: Path) -> None:
    """From the first key to the one that is forgotten, a round at a time."""
    names = MemoryResolver({})
    schedule = Schedule(180 * DAY, 14 * DAY, ("ed25519",))
    rotating = Rotation(place, names, str(tmp_path), schedule)

    def after(days: float) -> dict[str, str]:
        asyncio.run(rotating.round(NOW + days * DAY))
        return known(place)

    def publish(selector: str) -> None:
        found = place.domain(DOMAIN)
        assert found is not None
        mine = next(one for one in found.dkim if one.selector == selector)
        names.records[f"{selector}._domainkey.{DOMAIN}", "TXT"] = (
            rotation.record_of(str(tmp_path), DOMAIN, mine).encode(),
        )

    add(place, tmp_path)
    assert after(0) == {"202701e": WAITING}
    publish("202701e")
    assert after(1) == {"202701e": ACTIVE} == after(180)
    assert after(182) == {"202701e": ACTIVE, "202707e": WAITING} == after(190)
    publish("202707e")
    assert after(191) == {"202701e": ACTIVE, "202707e": PUBLISHED}
    assert after(191.01) == {"202701e": ACTIVE, "202707e": PUBLISHED}
    assert after(191.1) == {"202701e": RETIRED, "202707e": ACTIVE} == after(205)
    assert (tmp_path / f"dkim/{DOMAIN}/202701e.pem").exists()
    assert after(205.2) == {"202701e": REVOKED, "202707e": ACTIVE}
    assert [one.name for one in (tmp_path / "dkim" / DOMAIN).iterdir()] == ["202707e.pem"]
    found = place.domain(DOMAIN)
    assert found is not None
    assert rotation.record_of(str(tmp_path), DOMAIN, found.dkim[0]) == "v=DKIM1; k=ed25519; p="
    assert after(240) == {"202707e": ACTIVE}


def test_the_trouble_of_one_domain_stops_no_other(place: MemoryDirectory, tmp_path: Path) -> None:
    place.add_domain("a.test")
    made = keyed(place, tmp_path, "a.test", state=RETIRED), keyed(place, tmp_path, state=WAITING)
    change = place.change_domain

    def fails(name: str, what: Any) -> Any:
        if name == "a.test":
            raise OSError(28, "No space left on device")
        return change(name, what)

    place.change_domain = fails  # type: ignore[method-assign,assignment]
    asyncio.run(Rotation(place, MemoryResolver(published(*made)), str(tmp_path)).round(NOW))
    assert known(place) == {"one": ACTIVE}


def test_a_key_without_its_file_is_never_used(place: MemoryDirectory, tmp_path: Path) -> None:
    made = keyed(place, tmp_path, kind="ed25519", state=WAITING)
    (tmp_path / f"dkim/{DOMAIN}/one.pem").unlink()
    asyncio.run(Rotation(place, MemoryResolver(published(made)), str(tmp_path)).round(NOW))
    assert known(place) == {"one": WAITING}
    found = place.domain(DOMAIN)
    assert found is not None
    with pytest.raises(KeyTrouble):
        rotation.record_of(str(tmp_path), DOMAIN, found.dkim[0])


def test_by_a_real_resolver(place: MemoryDirectory, tmp_path: Path) -> None:
    made = keyed(place, tmp_path, state=WAITING)
    name = f"one._domainkey.{DOMAIN}"

    async def main() -> None:
        dns = await name_server({(DOMAIN, "TXT"): ['"v=spf1 -all"']})
        resolver = Resolver([f"127.0.0.1:{dns.port}"], trusted=False)
        rotating = Rotation(place, resolver, str(tmp_path))
        await rotating.round(NOW)
        assert known(place) == {"one": WAITING} and (name, "TXT") in dns.asked
        dns.records[name, "TXT"] = [" ".join(f'"{one}"' for one in rotation.strings(made.record()))]
        resolver.forget()
        await rotating.round(NOW)
        assert known(place) == {"one": ACTIVE}
        asked = len(dns.asked)
        await rotating.round(NOW)
        assert len(dns.asked) == asked, "what is in use is not asked for"
        resolver.close()
        dns.transport.close()

    asyncio.run(main())


def test_who_stops_waits_for_what_is_under_way(place: MemoryDirectory, tmp_path: Path) -> None:
    """The directory is closed behind it."""
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    each = place.each_domain

    def slow(after: str = "") -> Iterator[Domain]:
        begun.set()
        assert go_on.wait(10)
        done.set()
        return each(after)

    place.each_domain = slow  # type: ignore[method-assign]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(Rotation(place, MemoryResolver({}), str(tmp_path)).run())
        assert await loop.run_in_executor(None, begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        await asyncio.gather(task, return_exceptions=True)
        assert done.is_set() and task.cancelled()

    asyncio.run(main())


def test_rounds_go_on_after_trouble(place: MemoryDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "EVERY", 0.0)
    rounds: list[float] = []

    class Some(Rotation):
        async def round(self, now: float) -> None:
            rounds.append(now)
            if len(rounds) < 3:
                raise OSError(5, "the disk")
            raise asyncio.CancelledError

    async def main() -> None:
        await Some(place, MemoryResolver({}), str(tmp_path)).run()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert len(rounds) == 3
