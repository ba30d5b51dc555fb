"""What a command says about a configuration that still has an old name, and what it does not."""

from pathlib import Path

import pytest

from fastmail.cli.renaming import warn_of_settings
from tests.unit.cli.place import USER, Place


@pytest.mark.parametrize(
    ("line", "old", "found"),
    [
        ('admins = ["anna@example.net"]', "example.net", True),
        ('admins = ["anna@example.net"]', "anna@example.net", True),
        ('admins = ["Anna@Example.NET"]', "anna@example.net", True),
        ('send_as = ["@example.net *"]', "example.net", True),
        ('arc_seal = "example.net"', "example.net", True),
        ('routes = ["* smtp:smarthost.example.net"]', "example.net", False),
        ('routes = ["* smtp:example.net.example"]', "example.net", False),
        ('admins = ["joanna@example.net"]', "anna@example.net", False),
        ('# admins = ["anna@example.net"]', "example.net", False),
    ],
)
def test_lines_with_the_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, old: str, found: bool
) -> None:
    path = tmp_path / "fastmail.toml"
    path.write_text(f"[auth]\n{line}\n")
    warn_of_settings(str(path), old)
    assert ("in line 2" in capsys.readouterr().err) is found


def test_a_rename_says_one_thing(place: Place) -> None:
    done = place.call("account", "rename", USER, "you@example.test")
    assert (done.exit_code, done.stderr) == (0, "") and done.stdout.startswith("renamed")
