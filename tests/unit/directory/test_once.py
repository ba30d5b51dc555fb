"""directory.once: a complaint is logged once, however often a source is read, and there are not too many of them."""

from collections.abc import Iterator

import pytest

from fastmail.directory import once
from fastmail.telemetry import counters


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    once.forget()
    yield
    once.forget()


def counted() -> int:
    return counters.snapshot().get("directory.bad_rows", 0)


def test_each_is_logged_once_and_counted_always(capsys: pytest.CaptureFixture[str]) -> None:
    before = counted()
    for _ in range(3):
        once.event("directory.line", user="a", why="bad")
        once.event("directory.line", user="b", why="bad")
        once.event("directory.field", user="a", why="bad")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all("level=warning" in line for line in lines) and counted() - before == 9


def test_there_are_not_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(once.MOST + 50):
        once.event("directory.line", user=number)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == once.MOST + 1 and "directory.more" in lines[-1] and len(once._said) == once.MOST + 1
