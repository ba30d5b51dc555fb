"""A server that is set up and does not run, and its commands, run in this process."""

import functools
import gc
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from fastmail.app.quickstart import quickstart
from fastmail.cli.main import app
from fastmail.model.address import Address

USER = "me@example.test"
MESSAGE = "From: you@example.org\nTo: me@example.test\nSubject: {0}\nMessage-ID: <{0}@example.org>\n\nbody of {0}\n"


@functools.cache
def _made() -> tuple["tempfile.TemporaryDirectory[str]", str]:
    """What `fastmail quickstart` makes, once for all places (it hashes a password and makes a key), and the name of its
    configuration. Its paths are relative."""
    made = tempfile.TemporaryDirectory(prefix="fastmail-place-")
    config = quickstart(made.name, Address.parse(USER), "mx.example.test", "secret", False)
    return made, os.path.relpath(config, made.name)


class Place:
    """Its files are in ``base``; one account, USER. ``like``: another one, whose files it gets."""

    def __init__(self, base: Path, like: "Place | None" = None) -> None:
        self.base = base
        made, config = _made()
        shutil.copytree(like.base if like is not None else made.name, base, dirs_exist_ok=True)
        self.config = base / config

    def call(self, *words: str, stdin: str = "", config: bool = True) -> Result:
        """Run a command. What it left open is closed, as by the end of its process."""
        done = CliRunner().invoke(app, [*words, *(["-c", str(self.config)] if config else [])], input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.output, done.exception)
        done.exc_info = done.exception = None
        gc.collect()
        gc.freeze()  # what is left lives on: the next call need not look at all of it again
        assert "Traceback" not in done.output
        return done

    def run(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """What a command says: on standard output, and where it fails on both. It ends with ``code``."""
        done = self.call(*words, stdin=stdin)
        assert done.exit_code == code, (words, done.output)
        return done.output if code else done.stdout

    def rows(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        """What a command lists."""
        done = self.call(*words, "--json")
        assert done.exit_code == code, (words, done.output)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def deliver(self, *subjects: str) -> None:
        for subject in subjects:
            self.run("deliver", USER, "-r", "you@example.org", stdin=MESSAGE.format(subject))

    @property
    def maildir(self) -> Path:
        return self.base / "data" / "mail" / "example.test" / "me"

    def files(self) -> list[Path]:
        return sorted(self.maildir.glob("[nc]*/*"))
