"""What every kind of test uses: markers by folder, what is skipped for want of a program, one server for journeys.

Tests do the same each time: examples that hypothesis makes up follow from the test alone, and no example has a limit of
time, which would depend on what else the machine does. ``HYPOTHESIS_PROFILE=search`` makes up others each time.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from fastmail.telemetry import log
from tests.support import needs
from tests.support.examples import DEFAULT, some
from tests.support.server import Server

TESTS = Path(__file__).parent
FOLDERS = {"journey", "integration"}  # those whose tests all have the marker of that name

hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None, max_examples=some(DEFAULT))
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
        if folder in FOLDERS:
            item.add_marker(folder)


def pytest_collection_finish() -> None:
    """What collecting made stays until the end: the garbage collector need not walk over it again and again, nor look
    so often at the little that a test makes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_runtest_setup(item: pytest.Item) -> None:
    log.setup()  # a command that ran within a test may have chosen how much is logged
    why = needs.missing(item)
    if why:
        pytest.skip(why)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server for all journeys of a process that do not break it."""
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
