"""Mailing lists and members in batches: requests as plain data."""

from typing import Any

import pytest

from fastmail.directory.errors import DirectoryError
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.requests import perform

CREW = "crew@d.test"


@pytest.fixture
def place() -> MemoryDirectory:
    made = MemoryDirectory()
    made.add_domain("d.test")
    made.add_accounts([("a@d.test", "{PLAIN}x")])
    return made


def ask(place: MemoryDirectory, what: str, **fields: Any) -> dict[str, Any]:
    return perform(place, {"do": what, "name": CREW, "fields": fields}, lambda text: (text, ""))


def test_lists(place: MemoryDirectory) -> None:
    assert ask(place, "list.add", owners=["a@d.test"], mode="public") == {}
    assert ask(place, "list.set", tag="[c]") == {}
    shown = ask(place, "list.show")
    assert (shown["name"], shown["members"], shown["fields"]["tag"]) == (CREW, 0, "[c]")
    assert ask(place, "member.add", address="a@far.test") == {"new": 1}
    assert ask(place, "list.remove") == {"members": 1}
    with pytest.raises(DirectoryError, match="no list"):
        ask(place, "list.show")


def test_members(place: MemoryDirectory) -> None:
    ask(place, "list.add", owners=["a@d.test"])
    assert ask(place, "member.add", address="a@far.test", name="A") == {"new": 1}
    assert ask(place, "member.add", address="A@far.test") == {"new": 0}
    assert ask(place, "member.set", address="a@far.test", state="suspended") == {}
    (member,) = place.each_member(CREW)
    assert (member.address, member.name, member.state) == ("a@far.test", "A", "suspended")
    for what, fields in (
        ("add", {}),
        ("add", {"address": CREW}),
        ("add", {"address": "b@far.test", "joined": 5}),
        ("set", {"address": "b@far.test"}),
        ("set", {"address": "a@far.test", "state": "asleep"}),
        ("remove", {}),
    ):
        with pytest.raises(DirectoryError):
            ask(place, f"member.{what}", **fields)
    assert ask(place, "member.remove", address="a@far.test") == {} and place.count_members(CREW) == 0
