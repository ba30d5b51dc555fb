"""Names of copies: the quick way for names that this server made, against taking a name apart and putting it together."""

import os
import re
from itertools import count
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.model.flags import FLAGGED, SEEN
from fastmail.store.local.maildir.names import FileName, NameMaker, given_sizes

NOW = 1_700_000_000_000_001_000
SIZES = st.sampled_from(["0", "7", "1234", "007", "5x", "", "-1", "9" * 30])
BASES = st.one_of(
    st.builds(lambda size, served: f"1.M2P3I01234567Q8.host,S={size},W={served}", SIZES, SIZES),
    st.builds(lambda served, size: f"1.host,W={served},S={size}", SIZES, SIZES),
    st.sampled_from(["1.host", "", "1,S=1,S=2,W=3", "1,S=1,W=2,x", "1.h\xe4,S=1,W=2", "1\n,S=1,W=2\n", ",S=1,W=2"]),
)
INFOS = st.sampled_from(["", ":", ":2", ":2,", ":2,S", ":2,FSab", ":2,TX", ":2,S,more", ":1,S", ":2,S:2,F", ":2,S\n"])


def plainly(maker: NameMaker, old: bytes) -> tuple[bytes, int]:
    parsed = FileName.parse(old)
    size, served = given_sizes(parsed.base)
    base = maker.make(size, served, True) if size >= 0 else maker.make(0, 0, True).partition(b",")[0]
    parsed.base = os.fsdecode(base)
    return parsed.with_flags(parsed.flags, 0), parsed.flags


@given(BASES, INFOS)
def test_a_copy_is_named_as_its_original(base: str, info: str) -> None:
    maker, other = NameMaker("0123abcd"), NameMaker("0123abcd")
    with patch("time.time_ns", return_value=NOW):
        found, wanted = maker.linked(os.fsencode(base + info)), plainly(other, os.fsencode(base + info))
    assert found == wanted


@pytest.mark.parametrize("size", [10, 0])
def test_copies_have_names_of_their_own(size: int) -> None:
    maker = NameMaker("0123abcd")
    old = maker.make(size, 12) + b":2,FSab"
    one, two = maker.linked(old), maker.linked(old)
    assert one[0] != two[0] and one[1] == FLAGGED | SEEN
    assert one[0].endswith(b",S=%d,W=12:2,FS" % size) and NameMaker.is_copy(one[0]) and maker.under_way(one[0])


@pytest.mark.parametrize("micro", [0, 7, 99_999, 100_000, 999_999])
def test_a_name_has_six_digits_of_microseconds(micro: int) -> None:
    maker = NameMaker("0123abcd")
    with patch("time.time_ns", return_value=1_700_000_000 * 10**9 + micro * 1000 + 999):
        for name in (maker.make(1, 2), maker.make(1, 2, copy=True), maker.make(1, 2, source=255)):
            assert name.startswith(b"1700000000.M%06dP" % micro) and maker.under_way(name)
            assert NameMaker.is_copy(name) == (b"C" in name.partition(b".")[2].partition(b".")[0])


def test_copies_are_counted_with_all_names() -> None:
    maker = NameMaker("0123abcd")
    maker._count = count(41)
    names = [maker.make(1, 2), maker.linked(b"1.x,S=1,W=2")[0], maker.linked(b"1.x")[0]]
    assert [re.findall(rb"Q(\d+)", name) for name in names] == [[b"41"], [b"42"], [b"43"]]
