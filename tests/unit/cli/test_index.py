"""``fastmail index``: it is compared with the files, made anew from them, and filled with texts."""

import shutil

from tests.unit.cli.place import USER, Place


def test_an_index_that_is_lost_is_made_anew(place: Place) -> None:
    place.deliver("one", "two", "three")
    (row,) = [row for row in place.rows("index", "check") if row["mailbox"] == "INBOX"]
    assert (row["messages"], row["problems"]) == (3, 0)
    shutil.rmtree(place.base / "data" / "index-0")
    found = {row["mailbox"]: row["messages"] for row in place.rows("index", "rebuild", USER)}
    assert found["INBOX"] == 3
    assert all(row["problems"] == 0 for row in place.rows("index", "check"))


def test_a_file_that_is_gone_is_a_problem(place: Place) -> None:
    place.deliver("one")
    place.files()[0].unlink()
    assert sum(row["problems"] for row in place.rows("index", "check", code=1)) == 1


def test_texts_of_every_message(place: Place) -> None:
    place.deliver("one", "two")
    assert place.rows("index", "fulltext", USER) == [{"account": USER, "messages": 2}]
    assert place.rows("index", "fulltext", USER) == [{"account": USER, "messages": 0}]
    assert place.rows("index", "fulltext", USER, "--anew") == [{"account": USER, "messages": 2}]
