"""``fastmail learn``: messages of files and mailboxes, for an account and for everybody."""

from pathlib import Path

from tests.unit.cli.place import MESSAGE, USER, Place


def test_files_and_what_is_known(place: Place, tmp_path: Path) -> None:
    assert place.run("learn", "status").strip() == "nothing was learned yet"
    files = []
    for n in range(3):
        files.append(str(tmp_path / str(n)))
        Path(files[-1]).write_text(MESSAGE.format(n))
    assert place.run("learn", "spam", *files).strip() == "3 learned"
    assert place.run("learn", "spam", *files[:2], "-", stdin=MESSAGE.format(9)).strip() == "1 learned, 2 known"
    assert place.run("learn", "ham", files[0], "--account", USER).strip() == "1 learned"
    assert place.run("learn", "ham", files[0]).strip() == "1 learned", "it is called the other thing now"
    assert place.run("learn", "forget", files[1], str(tmp_path / "2")).strip() == "2 taken back"
    assert place.rows("learn", "forget", files[1]) == [{"learned": 0, "known": 0, "taken_back": 0, "unknown": 1}]
    rows = place.rows("learn", "status")
    assert [(row["who"], row["spam"], row["ham"], row["enough"]) for row in rows] == [
        ("everybody", 1, 1, False),
        (USER, 0, 1, False),
    ]


def test_a_mailbox(place: Place) -> None:
    place.deliver("one", "two")
    words = ("learn", "ham", "--account", USER, "--mailbox", "INBOX")
    assert place.run(*words).strip() == "2 learned"
    assert place.run(*words).strip() == "2 known"
    assert place.run(*words, "--everybody").strip() == "2 learned"
    assert [(row["who"], row["ham"]) for row in place.rows("learn", "status")] == [("everybody", 2), (USER, 2)]
    place.run("learn", "forget", "--everything", "--account", USER)
    assert [row["who"] for row in place.rows("learn", "status")] == ["everybody"]
    assert "has no mailbox Nowhere" in place.run("learn", "ham", "--account", USER, "--mailbox", "Nowhere", code=1)


def test_what_cannot_be_done(place: Place, tmp_path: Path) -> None:
    assert "name files" in place.run("learn", "spam", code=2)
    assert "--mailbox needs --account" in place.run("learn", "spam", "--mailbox", "INBOX", code=2)
    assert "there is no account" in place.run("learn", "spam", "--account", "no@example.test", "-", code=67)
    assert "No such file" in place.run("learn", "spam", str(tmp_path / "none"), code=1)
    assert "goes without messages" in place.run("learn", "forget", "--everything", "x", code=2)
