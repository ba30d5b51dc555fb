"""``fastmail import`` and ``fastmail export``: files of mail in and out, and lists of accounts at other servers."""

import mailbox
from pathlib import Path

import pytest

from fastmail.cli import transfer
from fastmail.model.errors import CannotDo
from tests.unit.cli.place import MESSAGE, USER, Place


def test_mbox_in_and_maildir_out(place: Place, tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "box")
    for name in ("one", "two"):
        box.add(MESSAGE.format(name))
    box.close()
    (row,) = place.rows("import", "mbox", str(tmp_path / "box"), USER, "--into", "Old/Mail")
    assert (row["mailbox"], row["new"], row["known"], row["problems"]) == ("Old/Mail", 2, 0, [])
    (again,) = place.rows("import", "mbox", str(tmp_path / "box"), USER, "--into", "Old/Mail")
    assert (again["new"], again["known"]) == (0, 2), "nothing comes twice"
    out = tmp_path / "out"
    assert "Old/Mail" in place.run("export", "maildir", USER, str(out))
    found = mailbox.Maildir(out / ".Old.Mail", create=False)
    assert sorted(one["Subject"] for one in found) == ["one", "two"]
    place.run("export", "mbox", USER, str(tmp_path / "boxes"))
    assert sum(path.read_text().count("Subject: ") for path in (tmp_path / "boxes").rglob("*") if path.is_file()) == 2


def test_a_maildir_comes_in_with_its_folders(place: Place, tmp_path: Path) -> None:
    other = mailbox.Maildir(tmp_path / "other")
    other.add(MESSAGE.format("first"))
    mailbox.Maildir(tmp_path / "other" / ".Work").add(MESSAGE.format("second"))
    rows = place.rows("import", "maildir", str(tmp_path / "other"), USER)
    assert {row["mailbox"]: row["new"] for row in rows} == {"INBOX": 1, "Work": 1}


def test_an_unreadable_message_stops_an_export_unless_it_may_be_left_out(place: Place, tmp_path: Path) -> None:
    place.config.write_text(place.config.read_text().replace('content = "maildir"', 'content = "segments"'))
    place.deliver("one", "two")
    (segment,) = [path for path in (place.base / "data").glob("segments-*/*") if b"body of one" in path.read_bytes()]
    segment.write_bytes(segment.read_bytes().replace(b"body of one", b"body of 0ne"))
    out = str(tmp_path / "out")
    assert "--skip-bad leaves it out" in place.run("export", "maildir", USER, out, code=1).replace("\n", " ")
    (row,) = [row for row in place.rows("export", "maildir", USER, out, "--skip-bad", code=1) if row["bad"]]
    assert (row["mailbox"], row["messages"]) == ("INBOX", 1) and row["bad"][0].startswith("UID 1: ")


def test_a_place_that_cannot_be_written_to_is_named(place: Place, tmp_path: Path) -> None:
    """What the system says is one line, not a traceback."""
    (tmp_path / "file").write_text("")
    into = str(tmp_path / "file" / "below")
    for words in (("export", "maildir", USER), ("export", "mbox", USER), ("backup",)):
        said = place.run(*words, into, code=1)
        assert f"error: {into}" in said and "Not a directory" in said


LISTS = {
    "account,host,user,password,port\na@x.test,h.test,u,p,1993\n": [("h.test", "u", "p", 1993, "a@x.test")],
    "user,password\nu@x.test,p\n": [("imap.test", "u@x.test", "p", 143, "u@x.test")],
    "account,password,port\na@x.test,p,none\n": [("imap.test", "a@x.test", "p", 143, "a@x.test")],
}


@pytest.mark.parametrize("text", LISTS)
def test_a_list_of_accounts_elsewhere(tmp_path: Path, text: str) -> None:
    file = tmp_path / "list.csv"
    file.write_text(text)
    found = transfer._csv(str(file), "starttls", True, "imap.test", 143)
    assert [(one.host, one.user, one.password, one.port, name) for one, name in found] == LISTS[text]


@pytest.mark.parametrize("text", ["account,password\na@x.test,\n", "password\np\n", "\xff\n"])
def test_a_list_that_lacks_something(tmp_path: Path, text: str) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(CannotDo):
        transfer._csv(str(file), "starttls", True, "imap.test", 143)


def test_what_is_asked_for_has_to_be_said(place: Place) -> None:
    assert "give HOST and ACCOUNT" in place.run("import", "imap", code=2)
    assert "--tls is" in place.run("import", "imap", "h.test", USER, "--tls", "perhaps", code=2)
    place.run("import", "mbox", "nowhere", USER, code=1)
