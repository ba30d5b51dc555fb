"""``fastmail index``: it is compared with the files, made anew from them, and filled with texts."""

from tests.unit.cli.place import USER, Place


def test_an_index_is_made_anew_from_the_files(place: Place) -> None:
    place.deliver("one", "two", "three")
    (row,) = [row for row in place.rows("index", "check") if row["mailbox"] == "INBOX"]
    assert (row["messages"], row["problems"]) == (3, 0)
    place.files()[0].unlink()
    assert sum(row["problems"] for row in place.rows("index", "check", code=1)) == 1
    found = {row["mailbox"]: row["messages"] for row in place.rows("index", "rebuild", USER)}
    assert found["INBOX"] == 2
    assert all(row["problems"] == 0 for row in place.rows("index", "check"))


def test_texts_of_every_message(place: Place) -> None:
    place.deliver("one", "two")
    assert place.rows("index", "fulltext", USER) == [{"account": USER, "messages": 2}]
    assert place.rows("index", "fulltext", USER) == [{"account": USER, "messages": 0}]
    assert place.rows("index", "fulltext", USER, "--anew") == [{"account": USER, "messages": 2}]
