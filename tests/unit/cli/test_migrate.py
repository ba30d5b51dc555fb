"""``fastmail migrate``: plans of Maildirs, what is switched and handed back, and lists of people."""

import mailbox
from pathlib import Path

import pytest
import typer

from fastmail.cli import migrate
from fastmail.model.errors import CannotDo
from tests.unit.cli.place import MESSAGE, USER, Place


def test_a_plan_for_maildirs(place: Place, tmp_path: Path) -> None:
    home = tmp_path / "mail" / "old.test" / "anna"
    home.parent.mkdir(parents=True)
    mailbox.Maildir(home).add(MESSAGE.format("one"))
    words = ("migrate", "plan", "--from", "maildir", "--mail", str(tmp_path / "mail"))
    out = tmp_path / "plan"
    done = place.call(*words, "--out", str(out), config=False)
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "mail") in (out / "fastmail.toml").read_text()
    again = place.call(*words, "--out", str(out), config=False)
    assert again.exit_code == 1 and "is there already" in again.output
    wrong = place.call("migrate", "plan", "--from", "sendmail", config=False)
    assert wrong.exit_code == 2 and "--from is dovecot, courier or maildir" in wrong.output


def test_switch_and_back(place: Place) -> None:
    for part in ("cur", "new", "tmp"):
        (place.maildir / part).mkdir(parents=True)
    (place.maildir / "cur" / "1.a.b:2,S").write_text(MESSAGE.format("one"))
    (place.maildir / "dovecot-uidlist").write_text("3 V77 N10 G0123456789abcdef0123456789abcdef\n7 :1.a.b\n")
    (row,) = place.rows("migrate", "switch")
    assert row["account"] == USER and row["messages"] == 1
    handed = place.rows("migrate", "back", USER)
    assert [row["messages"] for row in handed if row["mailbox"] == "INBOX"] == [1]
    lines = (place.maildir / "dovecot-uidlist").read_text().splitlines()
    assert lines[0].startswith("3 V77 ") and lines[1].startswith("7 ") and len(lines) == 2
    assert "there is no account" in place.run("migrate", "switch", "nobody@example.test", code=1)
    assert "--to is dovecot or courier" in place.run("migrate", "back", "--to", "sendmail", code=2)


def test_people_of_a_list(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("user,password\nanna,one\nbert,two\n")
    assert migrate._people(str(file)) == [("anna", "one"), ("bert", "two")]
    for text in ("user\nanna\n", "user,password\nanna\n"):
        file.write_text(text)
        with pytest.raises(CannotDo):
            migrate._people(str(file))
    with pytest.raises(CannotDo):
        migrate._people(str(tmp_path / "nowhere"))


def test_places_have_a_host_and_a_port() -> None:
    assert migrate._place("mail.test:143") == ("mail.test", 143) and migrate._place("::1:143") == ("::1", 143)
    for text in ("mail.test", ":143", "mail.test:imap", ""):
        with pytest.raises(typer.Exit):
            migrate._place(text)
