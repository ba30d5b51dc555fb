"""directory.reading: what is remembered, beside other threads."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from fastmail.directory import reading
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import Domain


@pytest.fixture
def place() -> MemoryDirectory:
    made = MemoryDirectory()
    made.add_domain("d.test")
    made.add_accounts([("a@d.test", "{PLAIN}x")])
    return made


def other_thread(place: MemoryDirectory, table: str, change: Callable[[], object]) -> None:
    """When a row of the table is next read, a change comes behind it, and somebody else asks something at once."""
    get = place._get

    def read(asked: str, key: bytes) -> bytes | None:
        row = get(asked, key)
        if asked == table:
            setattr(place, "_get", get)  # noqa: B010
            setattr(place._rows, "_get", get)  # noqa: B010
            change()
            place.domain("other.test")
        return row

    setattr(place, "_get", read)  # noqa: B010
    setattr(place._rows, "_get", read)  # noqa: B010


def test_a_row_that_was_read_before_a_change_is_not_remembered_after_it(place: MemoryDirectory) -> None:
    other_thread(place, "domains", lambda: place.change_domain("d.test", lambda old: replace(old, separators="-")))
    place.domain("d.test")
    assert place.domain("d.test") == Domain("d.test", separators="-")
    other_thread(place, "domains", lambda: place.add_domain("new.test"))
    place.is_local("new.test")
    assert place.is_local("new.test")


def test_destinations_that_were_found_before_a_change_are_not_remembered_after_it(place: MemoryDirectory) -> None:
    other_thread(place, "accounts", lambda: place.add_accounts([("b@d.test", "{PLAIN}x")]))
    place.destinations("b@d.test")
    assert [one.address for one in place.resolve("b@d.test")] == ["b@d.test"]


def test_there_is_a_most_of_what_is_remembered(place: MemoryDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REMEMBERED", 50)
    for number in range(500):
        place.destinations(f"x{number}@d.test")
        place.is_local(f"d{number}.test")
        assert len(place._memory) < 60
