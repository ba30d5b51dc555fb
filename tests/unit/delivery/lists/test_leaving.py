"""A member leaves a list, by whichever way."""

from fastmail.delivery.lists.leaving import leave
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import List, Member
from fastmail.directory.rows import member_key

CREW, YOU = "crew@d.test", "you@far.test"


def test_leaving_is_done_once_and_noted_once() -> None:
    place = MemoryDirectory()
    place.add_domain("d.test")
    place.put_list(List(CREW, owners=("a@far.test",)), [Member(YOU), Member("me@far.test")])
    assert leave(place, CREW, "You@FAR.test") and not leave(place, CREW, YOU)
    assert [one.address for one in place.each_member(CREW)] == ["me@far.test"]
    assert [change.what for change in place.audit()].count("list member remove") == 1
    assert not leave(place, CREW, "nobody@far.test") and not leave(place, "none@d.test", YOU)


def test_a_member_whose_row_is_damaged_leaves_too() -> None:
    place = MemoryDirectory()
    place.add_domain("d.test")
    place.put_list(List(CREW, owners=("a@far.test",)), [Member(YOU)])
    with place._tables.write() as txn:
        (key,) = [key for key, _ in txn.items("list_members")]
        assert key == member_key(place._list_key(CREW), YOU)
        txn.put("list_members", key, b"\xff")
    assert leave(place, CREW, YOU) and place.count_members(CREW) == 0
