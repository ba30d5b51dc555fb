"""Canonical forms (RFC 6376 3.4), with the RFC's own examples, and which fields a signature takes."""

import hashlib
import itertools
import re
from base64 import b64encode
from collections.abc import Iterator

import pytest

from fastmail._core.dkim import Body, field, use, ways
from fastmail._core.signed import Fields
from tests.support.examples import FEW

HEADER = b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
BODY = b" C \r\nD \t E\r\n\r\n\r\n"


def canonical(body: bytes, relaxed: bool, *cuts: int) -> bytes:
    out = bytearray()
    made = Body(relaxed, out.extend)
    for a, b in itertools.pairwise([0, *cuts, len(body)]):
        made.feed(body[a:b])
    made.finish()
    assert made.size == len(out)
    return bytes(out)


def test_the_example_relaxed() -> None:
    """RFC 6376 3.4.5, example 1."""
    fields = Fields(HEADER)
    assert fields.canonical([b"a", b"b"], True) == b"a:X\r\nb:Y Z\r\n"
    assert canonical(BODY, True) == b" C\r\nD E\r\n"


def test_the_example_simple() -> None:
    """RFC 6376 3.4.5, example 2."""
    assert Fields(HEADER).canonical([b"a", b"b"], False) == HEADER
    assert canonical(BODY, False) == b" C \r\nD \t E\r\n"


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_empty_bodies(body: bytes) -> None:
    """RFC 6376 3.4.3 and 3.4.4 give their hashes."""
    simple, relaxed = (hashlib.sha256(canonical(body, one)).digest() for one in (False, True))
    assert b64encode(simple) == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    assert b64encode(relaxed) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a\n\n", b"a\r\n", b"a\r\n"),
        (b" \r\n\t\r\n", b" \r\n\t\r\n", b""),
        (b" ", b" \r\n", b""),
        (b"a\r\n \r\n", b"a\r\n \r\n", b"a\r\n"),
        (b"a\rb\r\n", b"a\rb\r\n", b"a\rb\r\n"),
        (b"a\r", b"a\r\r\n", b"a\r\r\n"),
        (b"\ra", b"\ra\r\n", b"\ra\r\n"),
        (b"a\r\r\nb", b"a\r\r\nb\r\n", b"a\r\r\nb\r\n"),
        (b"\r\n\r\na  b\t\r\n", b"\r\n\r\na  b\t\r\n", b"\r\n\r\na b\r\n"),
        (b"a \x0b b\x0c\r\n", b"a \x0b b\x0c\r\n", b"a \x0b b\x0c\r\n"),
    ],
)
def test_bodies_however_they_are_cut(body: bytes, simple: bytes, relaxed: bytes) -> None:
    for form, wanted in ((False, simple), (True, relaxed)):
        assert canonical(body, form) == wanted
        assert canonical(body, form, *range(1, len(body))) == wanted
        for at in range(len(body)):
            assert canonical(body, form, at) == wanted


def by_lines(body: bytes, relaxed: bool) -> bytes:
    """RFC 6376 3.4.3 and 3.4.4, line by line."""
    lines = re.split(rb"\r?\n", body)
    if relaxed:
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines) or (b"" if relaxed else b"\r\n")


@pytest.fixture(params=range(ways()))
def way(request: pytest.FixtureRequest) -> Iterator[int]:
    use(request.param)
    yield request.param
    use(ways() - 1)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize(
    "mark",
    [
        *(
            b"\n",
            b"\r\n",
            b"\r",
            b"\r\r\n",
            b"\n\n\n",
            b"\r\n\r\n",
            b"\n\r",
            b" ",
            b"\t",
            b"  ",
            b" \t ",
            b" \n",
            b"\t\r\n",
        ),
        *(
            b"\n ",
            b"\n  \n",
            b" \r",
            b" \rb",
            b"\r \r\n",
            b" \x1f",
            b" \xa0",
            b"\x89",
            b"\x8a",
            b"\x8d",
            b"\xa0 ",
            b"  \n\t\n \n  c",
        ),
        *(b" " * 70, b"\n" * 70, b"\r" * 70, b"\r\n" * 70, b"b \t" * 30, b" " * 200, b"\n " * 80),
    ],
    ids=repr,
)
def test_each_place_in_the_steps_that_a_body_is_copied_in(mark: bytes, relaxed: bool) -> None:
    """A mark at each octet of a step, in a text that is long enough for steps, and cut within the mark. In `make check`
    each mark is at a quarter of them, another one for the next mark."""
    for at in range(sum(mark) % 4, 130, 4) if FEW else range(130):
        body = b"x" * at + mark + b"y" * (140 - at) + mark + b"z" * 200
        assert canonical(body, relaxed) == by_lines(body, relaxed), at
        assert canonical(body, relaxed, at + len(mark) // 2) == by_lines(body, relaxed), at
        assert canonical(body[: at + len(mark)], relaxed) == by_lines(body[: at + len(mark)], relaxed), at


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("relaxed", [False, True])
def test_each_octet_is_itself_but_for_white_space(relaxed: bool) -> None:
    for one, other in itertools.product(range(256), (0, 9, 10, 13, 31, 32, 33, 127, 128, 138, 160, 255)):
        body = b"word " * 14 + bytes((97, one, other, 98)) + b"text" * 60
        assert canonical(body, relaxed) == by_lines(body, relaxed)


@pytest.mark.parametrize("number", [-1, ways()])
def test_a_way_that_is_not_there(number: int) -> None:
    with pytest.raises(ValueError, match="no such way"):
        use(number)


def test_a_view_of_a_body_is_void_afterwards() -> None:
    kept: list[memoryview] = []
    made = Body(True, kept.append)
    made.feed(b"x\n" * 20_000)
    made.finish()
    assert len(kept) > 1
    for one in kept:
        with pytest.raises(ValueError, match="released"):
            bytes(one)


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("last", [b"a", b" a", b"\r", b"\ra", b"", b" ", b"\r\n"])
def test_a_hundred_thousand_empty_lines(last: bytes, relaxed: bool) -> None:
    """They are given on a few at a time, once a character follows."""
    sizes: list[int] = []
    body = b"a\n" + b"\n" * 100_000 + last
    out = bytearray()
    made = Body(relaxed, lambda view: (sizes.append(len(view)), out.extend(view)))
    for at in range(0, len(body), 1000):
        made.feed(body[at : at + 1000])
    made.finish()
    tail = {b"a": b"a\r\n", b" a": b" a\r\n", b"\r": b"\r\r\n", b"\ra": b"\ra\r\n"}.get(last, b"")
    tail = b" \r\n" if last == b" " and not relaxed else tail
    assert bytes(out) == b"a\r\n" + (b"\r\n" * 100_000 + tail if tail else b"")
    assert max(sizes) < 64 << 10


def test_one_field() -> None:
    assert field(b"Subject: a\n  b \n", True) == b"subject:a b\r\n"
    assert field(b"Subject: a\r\n  b \r\n", False) == field(b"Subject: a\n  b \n", False) == b"Subject: a\r\n  b \r\n"
    assert field(b"Subject:a", False) == b"Subject:a\r\n"
    for none in (b"", b"no colon"):
        with pytest.raises(ValueError):
            field(none, True)
