"""``fastmail welcome`` names the account that its password belongs to."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastmail.auth import schemes
from fastmail.cli.main import app
from fastmail.directory.local import LocalDirectory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = str(tmp_path / "s")
    done = CliRunner().invoke(app, ["quickstart", place, "me@example.test", "--hostname", "localhost", "--generate"])
    assert done.exit_code == 0, done.output
    return tmp_path / "s"


def told(home: Path) -> tuple[str, str]:
    shown = CliRunner().invoke(app, ["welcome", "-c", str(home / "fastmail.toml")]).stdout
    account, password = (re.search(rf"(?m)^{word} +(\S+)$", shown) for word in ("Account", "Password"))
    assert account is not None and password is not None and f"--user '{account[1]}:{password[1]}'" in shown
    return account[1], password[1]


def add(home: Path, *addresses: str) -> LocalDirectory:
    place = LocalDirectory(str(home / "data"))
    place.add_accounts([(address, "{PLAIN}other") for address in addresses])
    return place


def test_the_account_of_the_password(home: Path) -> None:
    account, password = told(home)
    assert account == "me@example.test" and (home / "welcome").stat().st_mode & 0o777 == 0o600
    add(home, "aaron@example.test", "zoe@example.test").close()
    assert told(home) == (account, password)
    place = add(home)
    record = place.account(account)
    assert record is not None and schemes.verify(record.password, password.encode())
    place.set_password(account, "{PLAIN}changed")
    place.close()
    assert told(home) == ("ADDRESS", "PASSWORD")


def test_without_a_password_that_is_known(home: Path) -> None:
    (home / "welcome").unlink()
    assert told(home) == ("me@example.test", "PASSWORD")
    add(home, "aaron@example.test").close()
    assert told(home) == ("ADDRESS", "PASSWORD")


def test_as_make_run_kept_it_before(home: Path) -> None:
    account, password = told(home)
    text = f"Wrote run/fastmail.toml with the account {account}.\nPassword: {password}\nNext: fastmail serve -c x\n"
    (home / "welcome").write_text(text)
    add(home, "aaron@example.test").close()
    assert told(home) == (account, password)
