"""A server that is set up, for each test of a command."""

import functools
from pathlib import Path

import pytest
import typer.testing

from tests.unit.cli.place import Place

# Commands are made of their functions once in this process, not for each call, where it was a good part of the cost. They
# keep nothing of a call, which has a context of its own.
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")
