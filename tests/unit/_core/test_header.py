"""The walk over a header, against a slow and obvious one; and where a text begins without an empty line in front."""

import re
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import header

FIELD = re.compile(rb"([!-9;-~]+)([ \t]*):(.*)\Z", re.DOTALL)


def slow(data: bytes) -> tuple[int, list[tuple[int, bytes, bytes]]]:
    """(where the header ends, [(start, name, value with its line end)]): line by line."""
    at, entries = 0, []
    for line in re.findall(rb"[^\n]*\n|[^\n]+\Z", data):
        if line in (b"\n", b"\r\n"):
            break
        if entries and line[:1] in (b" ", b"\t"):
            entries[-1][1] += line
        else:
            entries.append([at, line])
        at += len(line)
    found = [(start, FIELD.match(text)) for start, text in entries]
    return at, [(start, one.group(1), one.group(3)) for start, one in found if one is not None]


PIECES = st.sampled_from(
    [
        b"To",
        b"X-A",
        b"to",
        b":",
        b": ",
        b" :",
        b"\t",
        b" ",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"no field",
        b"\xc3\xbc",
        b"\r",
        b"\0",
    ]
)


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_the_walk_finds_what_a_slow_one_finds(data: bytes) -> None:
    end, fields = slow(data)
    assert header.end(data) == end
    starts = list(array("I", header.starts(data)))
    assert starts == [start for start, _, _ in fields]
    for start, name, value in fields:
        behind_name, behind_colon, behind = header.field(data, start)
        assert (data[start:behind_name], data[behind_colon:behind]) == (name, value)
    named = [start for start, name, _ in fields if name.lower() == b"to"]
    assert list(array("I", header.starts(data, b"to"))) == named
    assert header.counts(data, (b"x-a", b"to")) == [
        sum(name.lower() == one for _, name, _ in fields) for one in (b"x-a", b"to")
    ]
    assert header.value(data, b"to", 5) == next((v[:5] for _, name, v in fields if name.lower() == b"to"), None)
    left = data[:end]
    for start, name, _ in reversed(fields):
        if name.lower() == b"to":
            left = left[:start] + left[header.field(data, start)[2] :]
    assert header.without(data, (b"to",)) == left


TEXTS = [
    # nothing but text
    (b"Paper jam in tray 2\nsecond line\n", 0),
    (b"Paper jam in tray 2\n\nsecond paragraph\n", 0),
    (b"one\ntwo\nthree\nfour\nSubject: x\n\n", 0),
    (b"Dear all,\nPrinter: the one upstairs\n", 0),  # no name that a header is known by
    (b"  indented\nmore\n", 0),
    (b"\xc3\xbcber: alles\n", 0),
    (b"x", 0),
    (b"Error: disk full\nsecond line\n", 0),  # it looks like a field, but no header has only that
    (b"Error: disk full\nsecond line\n\nthird\n", 0),
    (b"http://a.test/\n1\n2\n3\n4\n", 0),
    # a header that text follows without an empty line
    (b"Subject: x\ntext\nmore\n", 11),
    (b"Subject: x\n folded\n1\n2\n3\n4\n\n5\n", 19),
    # a header as it should be, or with broken lines in it
    (b"", -1),
    (b"\nbody", -1),
    (b"\r\nbody", -1),
    (b"A: b\n", -1),
    (b"A: b\n\nno field\n", -1),
    (b"Sub ject: x\nFrom: a@b.test\n\nbody", -1),
    (b"From: a\nSubject: this is your reminder\nabout the game\nDate: x\n\nbody", -1),  # RFC 7103 7.2
    (b"Subject: x\nabout the game\n\nbody", -1),
    (b"no field\nX-Custom: 1\n\nbody", -1),
    (b"Error: disk full\n\nmore\n", -1),
    (b"Error: disk full\n", -1),
    (b"Foo: 1\nbroken\nBar: 2\n\nbody", -1),
]


@pytest.mark.parametrize(("data", "at"), TEXTS)
def test_where_text_begins(data: bytes, at: int) -> None:
    assert header.text_start(data, 0, True) == at
    for cut in range(len(data)):  # with less of it the answer is the same, or that more is needed
        assert header.text_start(data[:cut], 0, False) in (at, -2)


def test_offsets_that_cannot_be_are_refused() -> None:
    for start in (-1, 4, 5, 99):
        with pytest.raises(ValueError, match="no field begins there"):
            header.field(b"A:b\n\nx", start)
    with pytest.raises(ValueError, match="behind"):
        header.text_start(b"", 1, True)
    with pytest.raises(ValueError, match="too many"):
        header.counts(b"", (b"x",) * 17)


def test_fields_whose_names_begin_with_a_word() -> None:
    data = b"X-Spam-Flag: NO\nx-spa: 1\nX-SPAM : 2\n folded\nFrom: a\nno field x-spam\nX-Virus: 3\n\nX-Spam: body\n"
    found = array("I", header.starting(data, (b"x-spam", b"x-virus"))).tolist()
    assert [data[at:].partition(b":")[0] for at in found] == [b"X-Spam-Flag", b"X-SPAM ", b"X-Virus"]
    assert not header.starting(data, ()) and not header.starting(b"", (b"x",))
    with pytest.raises(ValueError):
        header.starting(data, (b"x",) * 17)
