"""``domain``, ``account`` and ``alias``: what they change, and what they refuse to."""

from pathlib import Path

import pytest

from fastmail.auth import schemes
from fastmail.directory.interface import AccountRecord
from fastmail.directory.local import LocalDirectory
from tests.unit.cli.place import USER, Place


def record(place: Place, address: str) -> AccountRecord | None:
    directory = LocalDirectory(str(place.base / "data"))
    try:
        return directory.account(address)
    finally:
        directory.close()


def test_a_domain_comes_and_goes(place: Place) -> None:
    place.run("domain", "add", "Other.Test")
    assert [row["domain"] for row in place.rows("domain", "list")] == ["example.test", "other.test"]
    place.run("account", "add", "a@other.test", "--password-stdin", stdin="x\n")
    place.run("domain", "remove", "other.test", code=1)
    place.run("account", "remove", "a@other.test")
    place.run("domain", "remove", "other.test")
    assert [row["domain"] for row in place.rows("domain", "list")] == ["example.test"]


def test_nobody_is_asked_for_the_password_of_an_account_that_cannot_be(place: Place) -> None:
    said = place.run("account", "add", "bob@elsewhere.test", code=1)  # nothing is on standard input
    assert "`fastmail domain add elsewhere.test`" in said
    assert "first line of standard input" in place.run("account", "add", "bob@example.test", code=2)


def test_a_password_is_hashed_and_changed(place: Place) -> None:
    place.run("account", "add", "you@example.test", "--password-stdin", stdin="first\n")
    made = record(place, "you@example.test")
    assert made is not None and "first" not in made.password and schemes.verify(made.password, b"first")
    assert "is empty" in place.run("account", "passwd", "you@example.test", "--password-stdin", code=2)
    place.run("account", "passwd", "you@example.test", "--password-stdin", stdin="second\n")
    changed = record(place, "you@example.test")
    assert changed is not None and changed.id == made.id and schemes.verify(changed.password, b"second")
    assert not schemes.verify(changed.password, b"first") and changed.scram != made.scram


def test_limits_are_shown_as_they_were_given(place: Place) -> None:
    wanted: dict[str, object] = {"address": USER, "storage": "default", "messages": "default", "mailboxes": "default"}
    assert place.rows("account", "quota", USER) == [wanted]
    wanted |= {"storage": 5 << 30, "messages": "none"}
    assert place.rows("account", "quota", USER, "--storage", "5 GiB", "--messages", "none") == [wanted]
    assert place.rows("account", "quota", USER, "--mailboxes", "7") == [wanted | {"mailboxes": 7}]
    assert "is not a limit" in place.run("account", "quota", USER, "--storage", "plenty", code=2)
    assert place.rows("account", "quota", USER, "--storage", "default")[0]["storage"] == "default"


def test_tables_say_yes_and_no_as_what_is_shown_of_one_does(place: Place) -> None:
    place.run("account", "add", "off@example.test", "--password-stdin", stdin="x\n")
    place.run("account", "disable", "off@example.test")
    for address, word in ((USER, "yes"), ("off@example.test", "no")):
        line = next(one for one in place.run("account", "list").splitlines() if one.startswith(address))
        assert word in line.split() and not {"True", "False"} & set(line.split())
        assert ["enabled", word] in [one.split() for one in place.run("account", "show", address).splitlines()]
    assert [row["enabled"] for row in place.rows("account", "list")] == [True, False]  # JSON and CSV are for programs
    enabled = [one.split(",")[2] for one in place.run("account", "list", "--csv").splitlines()]
    assert enabled == ["enabled", "True", "False"]


def test_an_account_is_switched_off_and_on(place: Place) -> None:
    assert place.run("account", "disable", USER) == f"switched off {USER}\n"
    assert [row["enabled"] for row in place.rows("account", "list")] == [False]
    place.run("account", "enable", USER)
    assert [row["enabled"] for row in place.rows("account", "list")] == [True]


@pytest.mark.parametrize("delete", [False, True])
def test_mail_of_a_removed_account_stays_unless_it_is_to_go(place: Place, delete: bool) -> None:
    place.deliver("kept")
    said = place.run("account", "remove", USER, *(["--delete-mail"] if delete else []))
    assert place.maildir.exists() is not delete and ("its mail stays in" in said) is not delete
    assert record(place, USER) is None and "no account" in place.run("account", "passwd", USER, code=67)


def test_many_at_once(place: Place, tmp_path: Path) -> None:
    kept = schemes.hash_password("hashed")
    file = tmp_path / "accounts"
    file.write_text(
        f"# a comment\n\nplain@example.test:secret\nhash@example.test:{kept}\nclear@example.test:{{PLAIN}}x\n"
        "barred@example.test:secret\tnologin reason=moved\n"
    )
    assert place.run("account", "import", str(file)) == "4 accounts, 4 new\n"
    found = {name: record(place, f"{name}@example.test") for name in ("plain", "hash", "clear", "barred")}
    assert found["plain"] is not None and schemes.verify(found["plain"].password, b"secret") and found["plain"].scram
    assert found["hash"] is not None and found["hash"].password == kept and not found["hash"].scram
    assert found["clear"] is not None and found["clear"].password == "{PLAIN}x" and found["clear"].scram
    assert found["barred"] is not None and found["barred"].nologin
    file.write_text("plain@example.test:changed\n")
    assert "already" in place.run("account", "import", str(file), code=1)
    assert place.run("account", "import", "--replace", str(file)) == "1 account, 0 new\n"
    again = record(place, "plain@example.test")
    assert again is not None and schemes.verify(again.password, b"changed")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nobody", "address:password is expected"),
        ("a@example.test:", "address:password is expected"),
        ("a@example.test:{ROT13}x", "{ROT13} is not a scheme"),
        ("a b@example.test:x", "accounts:2"),
        ("a@elsewhere.test:x", "elsewhere.test"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_nothing_is_made(place: Place, tmp_path: Path, line: str, why: str) -> None:
    file = tmp_path / "accounts"
    file.write_text(f"fine@example.test:x\n{line}\n")
    assert why in place.run("account", "import", str(file), code=1).replace("\n", "")
    assert [row["address"] for row in place.rows("account", "list")] == [USER]
    place.run("account", "import", str(tmp_path / "nowhere"), code=1)


def test_an_alias_comes_and_goes(place: Place) -> None:
    place.run("alias", "add", "team@example.test", USER)
    place.run("alias", "add", "@example.test", USER)
    listed = {row["alias"]: row["targets"] for row in place.rows("alias", "list")}
    assert listed["team@example.test"] == listed["@example.test"] == [USER]
    place.run("alias", "remove", "team@example.test")
    place.run("alias", "remove", "team@example.test", code=67)
    assert "team@example.test" not in {row["alias"] for row in place.rows("alias", "list")}


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("recipients_per_hour=many", "a number is expected, or none"),
        ("recipients_per_hour=" + "9" * 5000, "a number is expected, or none"),
        ("answer_begins=tomorrow", "a date is expected, such as 2027-01-31"),
        ("answer_ends=2027-13-01", "a date is expected, such as 2027-01-31"),
        ("junk_score=high", "a score of at most"),
        ("nets=10.0.0.0/33", "is no network such as"),
    ],
)
def test_a_value_that_is_none_is_answered_in_words(place: Place, field: str, says: str) -> None:
    assert says in place.run("account", "set", USER, field, code=2)


def test_a_domain_that_is_full_says_what_to_do(place: Place) -> None:
    place.run("domain", "set", "example.test", "most_accounts=1", "most_lists=1")
    said = place.run("account", "add", "b@example.test", "--password-stdin", stdin="x\n", code=1)
    assert "`fastmail domain set example.test most_accounts=NUMBER` allows more" in said
    place.run("list", "add", "team@example.test", f"owners={USER}")
    assert "most_lists=NUMBER" in place.run("list", "add", "crew@example.test", f"owners={USER}", code=1)
    listed = [row["list"] for row in place.rows("list", "list", "--domain", "example.test")]
    assert listed == [row["list"] for row in place.rows("list", "list", "example.test")] == ["team@example.test"]
    assert place.rows("list", "list", "--domain", "other.test") == []
