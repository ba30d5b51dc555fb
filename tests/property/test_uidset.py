"""UidSet against Python sets, the slow and obvious form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core.uidset import UidSet

small = st.sets(st.integers(1, 300), max_size=120)
ranges = st.lists(st.integers(0, 60), max_size=20).map(lambda v: v[: len(v) // 2 * 2])


def of(values: set[int]) -> UidSet:
    return UidSet.of(sorted(values))


@given(small, small)
def test_algebra(a: set[int], b: set[int]) -> None:
    x, y = of(a), of(b)
    assert set(x) == a and len(x) == len(a) and bool(x) == bool(a)
    assert set(x.minus(y)) == a - b
    assert set(x.plus(y)) == a | b
    assert set(x.both(y)) == a & b
    assert (x == y) == (a == b)
    assert (x.first, x.last) == (min(a, default=0), max(a, default=0))


@given(small, ranges)
def test_positions(a: set[int], flat: list[int]) -> None:
    view, order = of(a), sorted(a)
    for seq, uid in enumerate(order, 1):
        assert view.seq(uid) == seq and view.uid(seq) == uid and uid in view
    assert view.uid(len(order) + 1) == 0 and view.uid(0) == 0 and view.seq(301) == 0
    numbers = UidSet.of_ranges(flat, len(order))
    assert list(view.at(numbers)) == [order[n - 1] for n in numbers if n <= len(order)]
    asked = UidSet.of_ranges(flat, view.last)
    assert list(view.seqs(asked)) == [order.index(u) + 1 for u in asked if u in a]


@given(ranges, st.integers(1, 60))
def test_ranges(flat: list[int], star: int) -> None:
    wanted: set[int] = set()
    for i in range(0, len(flat), 2):
        lo, hi = sorted((flat[i] or star, flat[i + 1] or star))
        wanted |= set(range(lo, hi + 1))
    made = UidSet.of_ranges(flat, star)
    assert set(made) == wanted
    text = made.octets().decode()
    again = [int(n) for part in text.split(",") if part for n in (part.split(":") * 2)[:2]]
    assert UidSet.of_ranges(again) == made
    assert made.numbers() == b"".join(b" %d" % n for n in sorted(wanted))


@given(small, st.integers(0, 300))
def test_pages(a: set[int], above: int) -> None:
    pages: dict[int, int] = {}
    for uid in a:
        pages[uid & ~31] = pages.get(uid & ~31, 0) | 1 << (uid & 31)
    start = UidSet.of(sorted(u for u in a if u <= above))
    assert set(start.plus_pages(sorted(pages.items()), above)) == a


def test_the_whole_range_is_one_run() -> None:
    every = UidSet.of_ranges((1, 4294967295))
    assert len(every) == 4294967295 and every.octets() == b"1:4294967295" and every.size_in_memory() < 200
    assert every.minus(UidSet.of([7])).octets() == b"1:6,8:4294967295"


def test_numbers_must_ascend() -> None:
    with pytest.raises(ValueError, match="ascend"):
        UidSet.of([2, 2])
