"""``fastmail content``: messages move to segments and back, and segments are looked at."""

import pytest

from tests.unit.cli.place import USER, Place


def test_there_and_back_again(place: Place) -> None:
    place.deliver("one", "two")
    (row,) = place.rows("content", "convert", "--to", "segments")
    assert (row["account"], row["left"]) == (USER, 0) and place.files() == []
    listed = place.rows("content", "list")
    assert listed and sum(one["octets"] for one in listed) > 0
    assert place.run("content", "check") == "all is well\n"
    place.rows("content", "convert", "--to", "maildir", USER)
    assert sorted(path.read_bytes().count(b"Subject: ") for path in place.files()) == [1, 1]
    assert place.run("check") == "all is well\n"


def test_segments_without_waste_stay(place: Place) -> None:
    place.deliver("one")
    place.run("content", "convert", "--to", "segments")
    assert place.rows("content", "compact") == []


@pytest.mark.parametrize("words", [("--to", "tape"), ("--to", "")])
def test_there_are_two_kinds(place: Place, words: tuple[str, ...]) -> None:
    assert "segments" in place.run("content", "convert", *words, code=2)
