"""What sources say of accounts beside passwords: rows of a database, lines of a passwd-file, entries of LDAP."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fastmail.directory import fields
from fastmail.directory.external import AccountSync, PasswdFile, Source, parse
from fastmail.directory.ldap import Ldap, Settings
from fastmail.directory.local import LocalDirectory
from fastmail.directory.sources import _ldap_fields
from fastmail.directory.sql import Sql, Statements
from fastmail.directory.told import FIELDS, told
from fastmail.model.errors import ConfigError

ANNA = "anna@one.test"


def test_values_come_in_many_forms() -> None:
    given = {
        "name": "Anna A.",
        "sends": 0,
        "receives": b"1",
        "keeps": True,
        "forward": "x@far.test, y@far.test",
        "notes": None,
        "uid": 1000,
        "enabled": 0,
        "quota_storage": "1G",
    }
    assert dict(told(ANNA, given)) == {
        "name": "Anna A.",
        "sends": False,
        "receives": True,
        "keeps": True,
        "forward": ("x@far.test", "y@far.test"),
    }


@pytest.mark.parametrize("given", [{"name": "a\nb"}, {"sends": "perhaps"}, {"forward": "no address"}, {"role": "king"}])
def test_what_cannot_be_read_says_nothing(given: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    (value,) = given.values()
    assert told(ANNA, {**given, "language": "de"}) == (("language", "de"),)
    assert value not in capsys.readouterr().err


def test_every_field_is_one_of_an_account() -> None:
    assert set(fields.ACCOUNT) > FIELDS and "role" in FIELDS and "password" not in FIELDS


def follow(path: Path, source: Source) -> tuple[LocalDirectory, Any]:
    directory = LocalDirectory(str(path / "data"))
    follower = AccountSync(directory, source)
    return directory, lambda: asyncio.run(follower.take_in())


def test_columns(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "base")
    base.execute("CREATE TABLE users (address, password, quota, name, forward, keeps, suspended)")
    base.execute("INSERT INTO users VALUES (?, '{PLAIN}x', 1024, 'Anna', 'x@far.test', 1, NULL)", [ANNA])
    base.commit()
    source = Sql(f"sqlite:{tmp_path / 'base'}", Statements("SELECT * FROM users"), "one.test", 1.0)
    directory, take_in = follow(tmp_path, source)
    assert take_in() == 1
    directory.change_account(ANNA, lambda old: fields.changed(old, {"notes": "mine", "suspended": "unpaid"}))
    found = directory.account(ANNA)
    assert found is not None and (found.name, found.forward, found.quota.octets) == ("Anna", ("x@far.test",), 1024)
    base.execute("UPDATE users SET name = 'Anna B.', forward = ''")
    base.commit()
    assert take_in() == 1
    found = directory.account(ANNA)
    assert found is not None and (found.name, found.forward, found.notes, found.suspended) == (
        "Anna B.", (), "mine", "unpaid"), "what it does not say is kept here"  # fmt: skip
    base.execute("UPDATE users SET suspended = ''")
    base.commit()
    assert take_in() == 1 and (found := directory.account(ANNA)) is not None and not found.suspended
    directory.close()


def test_a_third_column_may_be_a_field(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "base")
    base.execute("CREATE TABLE users (address, password, name)")
    base.execute("INSERT INTO users VALUES (?, '{PLAIN}x', 'Anna')", [ANNA])
    base.commit()
    directory, take_in = follow(
        tmp_path, Sql(f"sqlite:{tmp_path / 'base'}", Statements("SELECT * FROM users"), "", 1.0)
    )
    assert take_in() == 1
    found = directory.account(ANNA)
    assert found is not None and found.name == "Anna" and not found.quota
    directory.close()


def test_extra_fields_of_a_passwd_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(
        f"{ANNA}:{{PLAIN}}x::::::fastmail_name=Anna%20A. fastmail_forward=x@far.test other=1 forward=y@z.test\n"
    )
    directory, take_in = follow(tmp_path, PasswdFile(str(path), "one.test"))
    assert take_in() == 1 and take_in() == 0
    found = directory.account(ANNA)
    assert found is not None and (found.name, found.forward) == ("Anna A.", ("x@far.test",))
    directory.close()


def test_attributes() -> None:
    settings = Settings(
        "ldap://127.0.0.1",
        base="dc=x",
        fields=_ldap_fields("ldap_fields", ["name=cn", "forward = fwd", "sends=mayMail"], FIELDS),
    )
    place = Ldap(settings, "one.test", 1.0)
    entry = {"raw_attributes": {"mail": [ANNA.encode()], "userPassword": [b"{PLAIN}x"], "cn": [b"Anna"],
                                "fwd": [b"x@far.test", b"y@far.test"], "mayMail": [b"FALSE"]}}  # fmt: skip
    line, _ = place._line(entry)
    place.end()
    assert line is not None and dict(line.told) == {
        "name": "Anna",
        "forward": ("x@far.test", "y@far.test"),
        "sends": False,
    }


@pytest.mark.parametrize("word", ["name", "name=", "=cn", "password=cn", "quota_storage=q"])
def test_what_names_no_field(word: str) -> None:
    with pytest.raises(ConfigError, match="field=attribute"):
        _ldap_fields("ldap_fields", [word], FIELDS)


def test_no_source_lets_an_account_send_that_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"{ANNA}:{{PLAIN}}x::::::fastmail_sends=yes\n")
    directory, take_in = follow(tmp_path, PasswdFile(str(path), "one.test"))
    assert take_in() == 1
    assert directory.stop_sending(ANNA, "spam") is not None
    path.write_text(f"{ANNA}:{{PLAIN}}y::::::fastmail_sends=yes fastmail_name=Anna\n")
    assert take_in() == 1
    found = directory.account(ANNA)
    assert found is not None and (found.sends, found.stopped, found.name) == (False, "spam", "Anna")
    path.write_text(f"{ANNA}:{{PLAIN}}y::::::fastmail_sends=yes fastmail_name=Anna other=1\n")
    assert take_in() == 0, "nothing else changed"
    directory.close()


def test_a_row_that_cannot_be_kept_stops_no_other(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "base")
    base.executescript(
        "CREATE TABLE users (address, password, quota); CREATE TABLE aliases (address, target);"
        f"INSERT INTO users VALUES ('{ANNA}', '{{PLAIN}}x', 'a lot');"
        f"INSERT INTO aliases VALUES ('info@one.test', '{ANNA}'), ('@one.test', '{ANNA}'), ('', '{ANNA}'),"
        f" ('@', '{ANNA}'), ('noat', '{ANNA}'), ('x@-bad..test', '{ANNA}'), ('{'a' * 600}@one.test', '{ANNA}')"
    )
    source = Sql(f"sqlite:{tmp_path / 'base'}", Statements("SELECT * FROM users", "SELECT * FROM aliases"), "", 1.0)
    directory, take_in = follow(tmp_path, source)
    assert take_in() == 3
    assert [one.address for one in directory.aliases()] == ["@one.test", "info@one.test"]
    assert [one.address for one in directory.each_account()] == [ANNA]
    assert [one.name for one in directory.each_domain()] == ["one.test"]
    directory.close()


def test_a_name_ends_no_line_of_a_passwd_file() -> None:
    """What Unicode takes for the end of a line would bring in an account that nobody wrote there."""
    for sign in ("\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\r"):
        text = f"{ANNA}:{{PLAIN}}x:::A name{sign}boss@one.test:{{PLAIN}}mine:::\r\nbert@one.test:{{PLAIN}}y\n"
        assert [one.address for one in parse(text, "one.test")] == [ANNA, "bert@one.test"]
