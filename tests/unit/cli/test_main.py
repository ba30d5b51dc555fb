"""``fastmail``: every command of the table is there, with a help of its own; and one loads no more than it needs."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import rich_utils
from typer.main import get_command
from typer.testing import CliRunner

import fastmail
from fastmail.cli.examples import EXAMPLES
from fastmail.cli.main import COMMANDS, app
from fastmail.directory.local import LocalDirectory


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str) -> None:
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0 and "Usage" in done.stdout


def commands(name: str) -> Iterator[tuple[list[str], Any]]:
    """A command and those below it, with the words that call each."""
    group: Any = get_command(app)
    todo: list[tuple[list[str], Any]] = [([name], group.get_command(None, name))]
    while todo:
        words, found = todo.pop()
        yield words, found
        todo += [([*words, below], one) for below, one in getattr(found, "commands", {}).items()]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_stands_in_brackets_is_shown(name: str) -> None:
    """Names of parts of the configuration, and of tables in files, look like markup to what prints help."""
    for words, command in commands(name):
        texts = [command.help or "", *(getattr(one, "help", None) or "" for one in command.params)]
        bracketed = [one for text in texts for one in re.findall(r"\\(\[[^\]]*\])", text)]
        if bracketed:
            done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "400"})
            assert [one for one in bracketed if one not in done.stdout] == [], words


EVERY = [(" ".join(words), one) for name in COMMANDS for words, one in commands(name) if not hasattr(one, "commands")]


def test_what_lists_writes_tables_for_programs_too() -> None:
    for words, command in EVERY:
        options = {name for one in command.params for name in one.opts}
        if {"--match", "--limit"} <= options or words.endswith(" list"):
            assert {"--json", "--csv"} <= options, words


def test_every_command_has_an_example_and_no_other() -> None:
    assert set(EXAMPLES) == {words for words, _ in EVERY}


@pytest.mark.parametrize(("words", "command"), EVERY, ids=[words for words, _ in EVERY])
def test_examples_are_commands(words: str, command: Any) -> None:
    """Each is one for a shell, and the command takes its options and arguments."""
    shown = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "200"}).stdout
    for line in EXAMPLES[words]:
        assert line in shown
        mine = next(one for one in re.split(r"[|<>]", line) if one.strip().startswith("fastmail "))
        first = ["fastmail", *words.split()]
        typed = shlex.split(mine)
        assert typed[: len(first)] == first
        command.make_context(words, typed[len(first) :])


@pytest.mark.parametrize("words", [(), ("account", "list"), ("queue",)])
def test_a_narrow_terminal_shows_whole_names(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", None)
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "12"}).stdout
    found: Any = get_command(app)
    for word in words:
        found = found.get_command(None, word)
    names = [*(one.opts[0] for one in found.params), *(found.list_commands(None) if hasattr(found, "commands") else [])]
    assert names and [name for name in names if f" {name} " not in shown] == []


def test_examples_fit_a_terminal() -> None:
    assert [line for lines in EXAMPLES.values() for line in lines if len(line) > 97] == []


def test_a_part_of_the_configuration_is_named() -> None:
    done = CliRunner().invoke(app, ["account", "quota", "--help"], env={"COLUMNS": "200"})
    assert "[limits]" in done.stdout
    done = CliRunner().invoke(app, ["apply", "--help"], env={"COLUMNS": "200"})
    assert '[domains."example.org"]' in done.stdout
    done = CliRunner().invoke(app, ["migrate", "--help"], env={"COLUMNS": "200"})
    assert "[bold]" not in done.stdout and "In order: plan" in done.stdout


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"fastmail {fastmail.__version__}\n"


def test_a_command_that_was_perhaps_meant_is_named() -> None:
    done = CliRunner().invoke(app, ["serv"], env={"COLUMNS": "200"})
    assert done.exit_code == 2 and "serve" in done.output


def test_without_words_the_help_comes() -> None:
    done = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert all(name in done.output for name in COMMANDS)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("fastmail acc", {"account"}), ("fastmail account sh", {"show"}), ("fastmail ba", {"backup", "bans", "batch"})],
)
def test_a_shell_completes_commands(typed: str, wanted: set[str]) -> None:
    env = {"_FASTMAIL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert set(CliRunner().invoke(app, [], env=env).stdout.split()) == wanted


# what takes long to import, and what commands about accounts and domains have no use for
HEAVY = {"asyncio", "concurrent.futures", "cryptography", "email", "http", "logging", "pydantic", "rich", "ssl"}
SERVER = {"app.assembly", "auth.schemes", "dns", "imap", "policy", "pop3", "queue", "relay", "smtp", "store"}
LOOK = """
import sys
from fastmail.cli.main import main
try:
    main()
finally:
    print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("words", "module", "shown"),
    [
        (("account", "show", "me@d.test"), "accounts", "me@d.test"),
        pytest.param(("account", "list"), "accounts", "me@d.test", marks=pytest.mark.slow),
        (("domain", "list"), "domains", "d.test"),
        pytest.param(("alias", "list"), "aliases", "none", marks=pytest.mark.slow),
        (("audit",), "audit", "domain add"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_a_command_loads_what_it_needs(words: tuple[str, ...], module: str, shown: str, tmp_path: Path) -> None:
    """Most of the time that a short command takes is spent importing modules."""
    (tmp_path / "fastmail.toml").write_text('[server]\ndata_dir = "data"\n')
    place = LocalDirectory(str(tmp_path / "data"))
    place.add_domain("d.test")
    place.add_accounts([("me@d.test", "{PLAIN}x")])
    place.close()
    command = [sys.executable, "-c", LOOK, *words, "-c", str(tmp_path / "fastmail.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & HEAVY == set()
    assert loaded & {f"fastmail.{one}" for one in SERVER} == set()
    small = {"fastmail.cli.renaming"}  # what accounts and domains share
    assert {one for one in loaded if one.startswith("fastmail.cli.")} - small == {
        "fastmail.cli.main", "fastmail.cli.common", f"fastmail.cli.{module}",
    }  # fmt: skip
