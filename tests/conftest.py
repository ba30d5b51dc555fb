"""Fixtures that every kind of test uses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.telemetry import log
from tests.support.server import Server


@pytest.fixture(autouse=True)
def log_as_it_begins() -> Iterator[None]:
    """A command that runs within a test may choose how much is logged: the next test starts afresh."""
    yield
    log.setup()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server for all journeys that do not break it."""
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of a test's own, not yet started."""
    mine = Server(tmp_path / "own")
    yield mine
    if mine.process is not None:
        mine.stop()
