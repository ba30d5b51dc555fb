"""Tags of envelope senders (BATV): made here, known again, and nobody else's."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.directory import batv
from fastmail.directory.batv import DAYS, Batv
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import REFUSE, TAG, Domain
from fastmail.directory.srs import DAY

NOW = 1_800_000_000.0
ME = "Me@example.test"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> MemoryDirectory:
    monkeypatch.setattr("time.time", lambda: NOW)
    found = MemoryDirectory()
    for row in (
        Domain("example.test", batv=REFUSE),
        Domain("tags.test", batv=TAG),
        Domain("plain.test"),
        Domain("other.test", alias_of="example.test"),
    ):
        found.add_domain(row)
    return found


def made(place: MemoryDirectory) -> Batv:
    one = Batv(place)
    one.prepare()
    return one


def test_a_tag_comes_and_goes(place: MemoryDirectory) -> None:
    one = made(place)
    tagged = one.tagged(ME)
    assert re.fullmatch(r"prvs=0[0-9]{3}[0-9a-f]{6}=Me@example\.test", tagged)
    assert one.looks_like_one(tagged) and one.untagged(tagged) == ME
    assert one.untagged(tagged.upper()).lower() == ME.lower(), "hosts change the case"
    assert made(place).untagged(tagged) == ME, "another process"


def test_what_was_not_made_here_is_nobody(place: MemoryDirectory) -> None:
    one = made(place)
    tagged = one.tagged(ME)
    digits = tagged[9:15]
    other = "000000" if digits != "000000" else "111111"
    for wrong in (
        tagged.replace("Me@", "you@"),
        tagged.replace("example.test", "plain.test"),
        tagged.replace(digits, other),
        "prvs=Me@example.test",
        f"prvs=0{'9' * 9}=Me@example.test",
        "prvs=@example.test",
        ME,
    ):
        assert one.untagged(wrong) == "", wrong


def test_a_tag_counts_for_its_days(place: MemoryDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(place)
    tagged = one.tagged(ME)
    for days, counts in ((1, True), (DAYS, True), (DAYS + 1, False), (900, False), (-1, False)):
        monkeypatch.setattr(batv.time, "time", lambda days=days: NOW + days * DAY)
        assert bool(one.untagged(tagged)) is counts, days


def test_whose_senders_are_tagged(place: MemoryDirectory) -> None:
    one = made(place)
    assert [
        one.wish(f"a@{name}") for name in ("example.test", "other.test", "tags.test", "plain.test", "far.test")
    ] == [
        REFUSE,
        REFUSE,
        TAG,
        "",
        "",
    ]
    assert one.tags(ME) and one.tags("me+x@other.test")
    for plain in ("", "a@plain.test", "a@far.test", '"a b"@tags.test', "SRS0=x=y=z=a@tags.test", one.tagged(ME)):
        assert not one.tags(plain), plain
    long = "a" * 60 + "@tags.test"
    assert one.tagged(long) == long, "there is no room for it"


@given(st.text(max_size=80))
def test_no_text_is_an_error(text: str) -> None:
    place = MemoryDirectory()
    place.add_domain(Domain("example.test", batv=TAG))
    one = made(place)
    assert one.untagged(f"prvs={text}@example.test") == ""
    tagged = one.tagged(f"{text}@example.test")
    assert not one.looks_like_one(tagged) or one.untagged(tagged) in (f"{text}@example.test", "")
