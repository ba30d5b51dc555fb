"""A server that is set up, for each test of a command."""

from pathlib import Path

import pytest

from tests.unit.cli.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")
