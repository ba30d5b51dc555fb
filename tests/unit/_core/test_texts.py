"""The compiled text search against a loop of ``in``."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import texts

SOME = st.text("ab\u00e4", max_size=12)


def packed(parts: list[tuple[str, str]]) -> tuple["array[int]", bytes]:
    ends, data = array("I"), b""
    for name, (head, body) in enumerate(parts, 7):
        data += head.encode() + b"\1"
        middle = len(data)
        data += body.encode()
        ends.extend((name, middle, len(data)))
        data += b"\0"
    return ends, data


@given(st.lists(st.tuples(SOME, SOME), max_size=12), st.text("ab\u00e4", min_size=1, max_size=4), st.booleans())
def test_same_as_a_loop(parts: list[tuple[str, str]], needle: str, whole: bool) -> None:
    ends, data = packed(parts)
    wanted = [n for n, (head, body) in enumerate(parts, 7) if needle in body or (whole and needle in head)]
    assert texts.find(ends, data, needle.encode(), whole) == wanted


@pytest.mark.parametrize("ends", [[1, 5, 99], [1, 5, 3], [1, 2, 4, 2, 1, 6]])
def test_ends_that_do_not_fit(ends: list[int]) -> None:
    with pytest.raises(ValueError):
        texts.find(array("I", ends), b"12345678", b"5", True)


def test_nothing_to_look_at() -> None:
    assert texts.find(array("I"), b"", b"x", True) == []
    assert texts.find(array("I", [1, 0, 1]), b"x", b"", True) == []
