"""Index pages."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import fetch, pages
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet

ALL = (1 << 64) - 1


def page(count: int = 3, first: int = 32) -> bytes:
    made = None
    for n in range(count):
        made = pages.extend(made, pages.pack(first + n, n % 2, 10 + n, 0, 86400 * n, 100 * n, 5))
    assert made is not None
    return made


def test_records_come_back() -> None:
    assert pages.records(page(2)) == [(32, 0, 10, 0, 0, 0, 5), (33, 1, 11, 0, 86400, 100, 5)]
    assert pages.head(page(3)) == (3, 12, 0b111, 0b101)


def test_numbers_and_sizes_of_several_pages() -> None:
    some = [page(), page(2, 96)]
    records = [record for one in some for record in pages.records(one)]
    uids, sizes = (array("I", column).tolist() for column in pages.listed(some))
    assert uids == [record[0] for record in records] and sizes == [record[5] for record in records]
    assert pages.listed([]) == (b"", b"")
    with pytest.raises(ValueError):
        pages.listed([page()[:-1]])


def test_uids_must_ascend_and_fit() -> None:
    with pytest.raises(ValueError, match="ascend"):
        pages.extend(page(), pages.pack(33, 0, 1, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="can not take"):
        pages.extend(page(32), pages.pack(64, 0, 1, 0, 0, 0, 0))


@pytest.mark.parametrize("damage", [lambda p: p[:20], lambda p: b"\x09" + p[1:], lambda p: p[:-1], lambda p: b""])
def test_damaged_pages_are_told(damage: object) -> None:
    with pytest.raises(ValueError, match="index page"):
        pages.records(damage(page()))  # type: ignore[operator]


def test_update_counts_what_changes() -> None:
    made, changed, same, refused, unseen, deleted = pages.update(page(), UidSet.of([32, 33]), 1, 1 | 8, 4, 99, ALL)
    assert made is not None
    assert (changed, same, refused, unseen, deleted) == ([32, 33], [], [], -1, 2)
    assert [r[2] for r in pages.records(made)] == [99, 99, 12]
    assert pages.update(page(), UidSet.of([33]), 1, 1, 0, 99, ALL)[:3] == (None, [], [33])
    assert pages.update(page(), UidSet.of([34]), 1, 1, 0, 99, 11)[3] == [34]


def test_remove() -> None:
    left, gone, unseen, deleted, octets = pages.remove(page(), UidSet.of([32, 34]), 0)
    assert (gone, unseen, deleted, octets) == ([32, 34], 2, 0, 200)
    assert pages.head(left)[:3] == (1, 12, 0b10)


def test_search_programs() -> None:
    within = UidSet.of_ranges((1, 100))

    def run(*program: int, sets: tuple[UidSet, ...] = ()) -> list[int]:
        return pages.search([page()], within, array("q", program), list(sets))

    assert run(0, 0, 0) == [32, 33, 34]
    assert run(1, 1, 1) == [33]
    assert run(1, 1, 1, 8, 0, 0) == [32, 34]
    assert run(3, 100, 0) == [34] and run(4, 100, 0) == [32]
    assert run(5, 86400, 2 * 86400) == [33]
    assert run(6, 0, 0, 1, 1, 0, 9, 0, 0, sets=(UidSet.of([33, 34]),)) == [34]
    assert run(7, 12, 0, 1, 1, 1, 10, 0, 0) == [33, 34]
    for bad in ([], [8, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0] * 200):
        with pytest.raises(ValueError, match="search program"):
            run(*bad)


def test_fetch_names_what_it_cannot_answer() -> None:
    view = UidSet.of([32, 33, 34])
    out = Out()
    missing = fetch.page(out, page(), view, UidSet.of([33]), 1 | 32, [], None, {33: b"old"}, [], False)
    assert (missing, out.take()) == ([33], b"")
    fetch.page(out, page(), view, view, 31, [b"$A"], UidSet.of([34]), None, [], False)
    assert out.take().splitlines()[2] == (
        b'* 3 FETCH (UID 34 FLAGS (\\Recent) INTERNALDATE " 3-Jan-1970 00:00:00 +0000" RFC822.SIZE 200 MODSEQ (12))'
    )


@given(st.sets(st.integers(1, 200)), st.sets(st.integers(1, 200)), st.integers(1, 1 << 20))
def test_records_for_copies_are_those_of_the_originals(there: set[int], asked: set[int], first: int) -> None:
    every = {uid: (uid, uid % 9, 7, uid % 3, uid - 50, uid * 2, 4) for uid in sorted(there)}
    found = [
        pages.extend(None, b"".join(pages.pack(*every[uid]) for uid in sorted(there) if uid // 32 == one))
        for one in sorted({uid // 32 for uid in there})
    ]
    packed, uids, words = pages.chosen(found, UidSet.of(sorted(asked)))
    assert uids == sorted(there & asked) and words == {uid % 3 for uid in uids}
    assert packed == b"".join(pages.pack(*every[uid]) for uid in uids)
    copies = pages.copied(packed, first, 99, {0: 5, 1: 1 << 63, 2: 0}, 8)
    plain = [(first + n, uid % 9, 99, (0, 1 << 63, 0)[uid % 3], uid - 50, uid * 2, 8) for n, uid in enumerate(uids)]
    assert copies == b"".join(pages.pack(*one) for one in plain)


def test_of_damaged_pages_the_last_record_of_a_message_is_copied() -> None:
    def one(*records: tuple[int, int]) -> bytes:
        head = pages.extend(None, b"")
        return head[:2] + bytes([len(records), 0]) + head[4:] + b"".join(pages.pack(*r, 1, 0, 0, 0, 0) for r in records)

    packed, uids, _ = pages.chosen([one((40, 1), (33, 2)), one((40, 3))], UidSet.of([33, 40]))
    assert uids == [33, 40]
    assert packed == pages.pack(33, 2, 1, 0, 0, 0, 0) + pages.pack(40, 3, 1, 0, 0, 0, 0)


def test_copies_of_what_is_damaged_or_unknown_are_refused() -> None:
    with pytest.raises(ValueError, match="no records"):
        pages.copied(b"x" * 39, 1, 1, {}, 1)
    with pytest.raises(KeyError):
        pages.copied(pages.pack(1, 0, 1, 6, 0, 0, 0), 1, 1, {5: 1}, 1)
    with pytest.raises(ValueError, match="cut short"):
        pages.chosen([pages.extend(None, pages.pack(1, 0, 1, 6, 0, 0, 0))[:-1]], UidSet.of([1]))
