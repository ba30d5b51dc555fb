"""tests.support.commands: a command of a forked child is to its caller what one of a new process is."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import commands

pytestmark = pytest.mark.slow  # they import the program again and again, and no quick test needs what they test


def started(*args: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*commands.CLI, *args], input=stdin, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("args", [("config-reference",), ("trace", "x", "-c", "not/there"), ("no-such-command",)])
def test_output_and_exit_status_are_the_same(args: tuple[str, ...]) -> None:
    one, other = commands.run(*args, timeout=60), started(*args)
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)


def test_it_reads_its_input_in_the_present_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = commands.run("quickstart", "new", "me@example.test", "--password-stdin", stdin="a word\n", timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "fastmail.toml").exists()


def test_another_environment_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands.FORKER.usable()
    monkeypatch.setenv("FASTMAIL_CONFIG", "elsewhere")
    assert not commands.FORKER.usable()
    assert "elsewhere" in commands.run("trace", "x", timeout=60).stderr


def test_one_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "fastmail.toml"
    os.mkfifo(fifo)
    with pytest.raises(subprocess.TimeoutExpired):
        commands.run("trace", "x", "-c", str(fifo), timeout=0.5)
