"""``fastmail``: every command of the table is there, with a help of its own."""

import pytest
from typer.testing import CliRunner

import fastmail
from fastmail.cli.main import COMMANDS, app


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str) -> None:
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0 and "Usage" in done.stdout


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"fastmail {fastmail.__version__}\n"


def test_a_command_that_was_perhaps_meant_is_named() -> None:
    done = CliRunner().invoke(app, ["serv"], env={"COLUMNS": "200"})
    assert done.exit_code == 2 and "serve" in done.output


def test_without_words_the_help_comes() -> None:
    done = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert all(name in done.output for name in COMMANDS)
