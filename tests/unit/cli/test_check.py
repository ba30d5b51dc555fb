"""``fastmail check`` finds what is wrong and mends what it can; ``fastmail upgrade`` says what is kept how."""

from tests.unit.cli.place import USER, Place


def test_a_message_that_is_gone_is_found_and_mended(place: Place) -> None:
    place.deliver("one", "two")
    assert place.run("check") == "all is well\n"
    place.files()[0].unlink()
    (found,) = place.rows("check", code=1)
    assert found["where"] == f"{USER} INBOX" and found["mended"] == "run with --repair"
    (mended,) = place.rows("check", "--repair")
    assert mended["mended"] == "rebuilt from the files"
    assert place.run("check") == "all is well\n"


def test_an_alias_that_leads_nowhere(place: Place) -> None:
    place.run("account", "add", "gone@example.test", "--password-stdin", stdin="x\n")
    place.run("alias", "add", "team@example.test", "gone@example.test")
    place.run("account", "remove", "gone@example.test")
    (found,) = place.rows("check", code=1)
    assert found["where"] == "alias team@example.test" and "gone@example.test" in found["problem"]


def test_layouts_are_those_of_this_version(place: Place) -> None:
    place.deliver("one")
    rows = place.rows("upgrade", "--dry-run")
    assert {"directory", "index-0"} <= {row["what"] for row in rows}
    assert all(row["layout"] == row["here"] and row["then"] == "nothing to do" for row in rows)
    assert place.rows("upgrade") == rows
