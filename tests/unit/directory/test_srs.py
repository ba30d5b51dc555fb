"""Reverse-paths of forwarded mail: made, undone, and nothing else undone."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.directory.local import LocalDirectory
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.srs import AGE, DAY, KEY_DAYS, Srs
from fastmail.model.address import Address

VIA = "info@ours.test"


def directory() -> MemoryDirectory:
    place = MemoryDirectory()
    place.add_domain("ours.test")
    return place


def srs(place: MemoryDirectory | None = None) -> Srs:
    made = Srs(place or directory())
    made.prepare()
    return made


ATOM = "AZaz09!#$%&'*+-/=?^_`{|}~"
LOCAL = st.lists(st.text(ATOM, min_size=1, max_size=9), min_size=1, max_size=2).map(".".join)


@given(LOCAL, st.sampled_from(["far.test", "a.b-c.example", "xn--fa-hia.test"]))
def test_there_and_back(local: str, domain: str) -> None:
    one = srs()
    made = one.forward(f"{local}@{domain}", VIA)
    assert made.startswith("SRS0=") and made.endswith("@ours.test") and str(Address.parse(made)) == made
    assert one.looks_like_one(made) and one.reverse(made) == f"{local}@{domain}"
    for folded in (made.lower(), made.upper()):
        assert one.reverse(folded).lower() == f"{local}@{domain}".lower(), "relays fold the case"
    found = one.destinations(made)
    assert [row.address for row in found.elsewhere] == [f"{local}@{domain}"] and found.bounces
    assert not found.elsewhere[0].owner, "nobody hears of trouble with a bounce"


def test_who_is_left_alone() -> None:
    one = srs()
    for sender in ("", "me@ours.test", "me@OURS.test"):
        assert one.forward(sender, VIA) == sender


@pytest.mark.parametrize(
    "sender", ['"a b"@far.test', "x@[192.0.2.1]", "x" * 40 + "@a-long-name.example", "ü" * 20 + "@far.test"]
)
def test_what_does_not_fit_is_the_forwarders(sender: str) -> None:
    made = srs().forward(sender, VIA)
    assert made == VIA or len(made.rpartition("@")[0].encode()) <= 64
    if sender.startswith(('"', "xxx")) or "[" in sender:
        assert made == VIA


def test_a_second_and_a_third_forwarder() -> None:
    first, second, third = srs(), srs(), srs()
    one = first.forward("user@far.test", "x@ours.test")
    two = second.forward(one.replace("ours.test", "first.test"), "y@ours.test")
    assert two.startswith("SRS1=") and "first.test" in two
    three = third.forward(two.replace("@ours.test", "@second.test"), "z@ours.test")
    assert three.startswith("SRS1=") and "second.test" not in three, "it goes back to the first one at once"
    back = third.reverse(three)
    assert back == one.replace("ours.test", "first.test")
    assert second.reverse(two) == back


def test_what_was_not_made_here_leads_to_nobody() -> None:
    one, other = srs(), srs()
    made = one.forward("user@far.test", VIA)
    assert other.reverse(made) == "" and not other.destinations(made)
    for at, c in enumerate(made.partition("@")[0]):
        harmed = made[:at] + ("b" if c.lower() == "a" else "a") + made[at + 1 :]
        assert one.reverse(harmed) in ("", "user@far.test") and (one.reverse(harmed) == "" or at < 5), harmed
    for address in (
        "SRS0=@ours.test",
        "SRS0=aaaaaa=aa=@ours.test",
        "SRS1=a=b@ours.test",
        "srs0+x@ours.test",
        "SRS0@ours.test",
    ):
        assert one.reverse(address) == "", address


def test_nothing_comes_back_to_one_of_ours() -> None:
    place = directory()
    one = srs(place)
    made = one.forward("user@far.test", VIA)
    place.add_domain("far.test")
    assert not one.destinations(made)


def test_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    one = srs()
    made = one.forward("user@far.test", VIA)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + AGE * DAY)
    assert one.reverse(made) == "user@far.test"
    monkeypatch.setattr(time, "time", lambda: now + (AGE + 1) * DAY)
    assert one.reverse(made) == ""
    monkeypatch.setattr(time, "time", lambda: now - 2 * DAY)
    assert one.reverse(made) == "", "nor from the future"


def test_keys_are_renewed_and_old_ones_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, other = LocalDirectory(str(tmp_path / "one")), MemoryDirectory()
    place.add_domain("ours.test")
    one = Srs(place)
    one.prepare()
    keys = place.srs_keys()
    one.prepare()
    assert place.srs_keys() == keys and len(keys) == 1 and len(keys[0][1]) == 32
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + KEY_DAYS * DAY - 60)
    one.prepare()
    assert place.srs_keys() == keys
    made = one.forward("user@far.test", VIA)
    monkeypatch.setattr(time, "time", lambda: now + KEY_DAYS * DAY + 60)
    one.prepare()
    assert len(place.srs_keys()) == 2 and place.srs_keys()[1] == keys[0]
    fresh = one.forward("user@far.test", VIA)
    assert made != fresh and one.reverse(made) == one.reverse(fresh) == "user@far.test"
    monkeypatch.setattr(time, "time", lambda: now + 2 * (KEY_DAYS * DAY + 120))
    one.prepare()
    assert keys[0] not in place.srs_keys() and len(place.srs_keys()) == 2
    other.renew_srs_keys(int(now))
    other.renew_srs_keys(int(now) + 1)
    assert len(other.srs_keys()) == 1, "another process did it"
