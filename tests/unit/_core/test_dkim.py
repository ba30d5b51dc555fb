"""Canonical forms (RFC 6376 3.4), with the RFC's own examples, and which fields a signature takes."""

import hashlib
import itertools
from base64 import b64encode

import pytest

from fastmail._core.dkim import Body, field
from fastmail._core.signed import Fields

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


def test_fields_are_taken_from_the_bottom_up() -> None:
    """RFC 6376 5.4.2; names without regard to case, and nothing where none is left."""
    fields = Fields(b"X: 1\nFrom: a\nx: 2\nX : 3\n\nX: body\n")
    assert fields.canonical([b"x", b"x", b"from", b"x", b"x", b"nowhere"], True) == b"x:3\r\nx:2\r\nfrom:a\r\nx:1\r\n"
    assert (fields.count, fields.number(b"x"), fields.broken) == (4, 3, False)
    assert fields.named(b"x") == [b"X: 1\n", b"x: 2\n", b"X : 3\n"] and fields.named(b"nowhere") == []
    assert fields.values(b"x", 16) == [b" 1\n", b" 2\n", b" 3\n"] and fields.values(b"x", 15) is None
    assert fields.numbers((b"x", b"nowhere", b"from"), 2) == (2, 0, 1)
    assert fields.canonical((b"x",), False) == fields.canonical((b"x",), False) == b"X : 3\r\n"


def test_what_a_signature_is_of() -> None:
    """RFC 6376 3.7: its own field comes last, without a line end."""
    fields = Fields(b"X: 1\nFrom: a\n")
    own = b"S : v=1;\n b=x\n"
    assert fields.signed([b"from"], True, own, b"S : v=1;\n b=\n") == b"from:a\r\ns:v=1; b="
    assert fields.signed([b"from"], False, own, b"S : v=1;\n b=\n") == b"From: a\r\nS : v=1;\r\n b="
    assert fields.signed([], True, b"S:", b"S:") == b"s:"
    with pytest.raises(ValueError):
        fields.signed([], True, own, b"no colon")


@pytest.mark.parametrize("which", range(3))
def test_a_signature_is_none_of_the_fields_that_it_covers(which: int) -> None:
    """RFC 6376 3.5: h= may name others of its kind, from the bottom up, wherever it stands itself."""
    own = [b"S: 1\n", b"s : 2\n", b"S: 3\n"]
    others = [number for number in (b"3", b"2", b"1") if number != b"%d" % (which + 1)]
    fields = Fields(b"From: a\n" + b"X: y\n".join(own))
    covered = b"".join(b"s:" + number + b"\r\n" for number in others)
    assert fields.signed([b"s"] * 4, True, own[which], b"S:") == covered + b"s:"
    assert fields.signed([b"s"], True, own[which], b"S:") == covered[:5] + b"s:"
    assert fields.signed([b"s"], True, b"S: another\n", b"S:") == b"s:3\r\ns:"


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


def test_lines_that_are_no_fields_are_noticed() -> None:
    assert Fields(b"From: a\nno field\n\n").broken
    assert Fields(b"From x Mon\nFrom: a\n\n").broken
    assert not Fields(b"\n").broken
    many = Fields(b"X: 1\n" * 10_001)
    assert many.broken and many.count == 10_000 == many.number(b"x")


def test_where_a_header_ends() -> None:
    """In front of its empty line, or where the data does."""
    for text, end in ((b"", 0), (b"\n", 0), (b"\r\nA: b\n", 0), (b"A: b\n\nC: d\n", 5), (b"A: b\r\n c\r\n\r\n", 10)):
        assert Fields(text).end == end
    for text in (b"A: b", b"A: b\n", b"A: b\n\r", b"A: b\n \n", b"no field\n"):
        assert Fields(text).end == len(text)


def test_many_names() -> None:
    fields = Fields(b"".join(b"X-%d: %d\nx-%d: b\n" % (n, n, n) for n in range(4_000)))
    assert not fields.broken and fields.count == 8_000
    for n in (0, 1, 2_047, 3_999):
        assert fields.named(b"x-%d" % n) == [b"X-%d: %d\n" % (n, n), b"x-%d: b\n" % n]
    assert fields.number(b"x-4000") == fields.number(b"x") == fields.number(b"") == 0


def test_one_field() -> None:
    assert field(b"Subject: a\n  b \n", True) == b"subject:a b\r\n"
    assert field(b"Subject: a\r\n  b \r\n", False) == field(b"Subject: a\n  b \n", False) == b"Subject: a\r\n  b \r\n"
    assert field(b"Subject:a", False) == b"Subject:a\r\n"
    for none in (b"", b"no colon"):
        with pytest.raises(ValueError):
            field(none, True)
