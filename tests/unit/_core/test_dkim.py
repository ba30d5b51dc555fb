"""Canonical forms (RFC 6376 3.4), with the RFC's own examples, and which fields a signature takes."""

import hashlib
import itertools
from base64 import b64encode

import pytest

from fastmail._core.dkim import Body, Fields, field, tags, without

HEADER = b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
BODY = b" C \r\nD \t E\r\n\r\n\r\n"


def canonical(body: bytes, relaxed: bool, *cuts: int) -> bytes:
    made = Body(relaxed)
    places = [0, *cuts, len(body)]
    out = b"".join(made.feed(body[a:b]) for a, b in itertools.pairwise(places)) + made.finish()
    assert made.size == len(out)
    return out


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
    assert fields.named(b"x") == [b"X: 1\n", b"x: 2\n", b"X : 3\n"]


def test_lines_that_are_no_fields_are_noticed() -> None:
    assert Fields(b"From: a\nno field\n\n").broken
    assert Fields(b"From x Mon\nFrom: a\n\n").broken
    assert not Fields(b"\n").broken
    many = Fields(b"X: 1\n" * 10_001)
    assert many.broken and many.count == 10_000


def test_one_field() -> None:
    assert field(b"Subject: a\n  b \n", True) == b"subject:a b\r\n"
    assert field(b"Subject: a\r\n  b \r\n", False) == field(b"Subject: a\n  b \n", False) == b"Subject: a\r\n  b \r\n"
    assert field(b"Subject:a", False) == b"Subject:a\r\n"
    for none in (b"", b"no colon"):
        with pytest.raises(ValueError):
            field(none, True)


def test_tag_lists() -> None:
    """RFC 6376 3.2."""
    assert tags(" v = 1 ;\r\n\tb=a b=\r\n ; d=\u00e4.test; ") == {"v": "1", "b": "a b=", "d": "\u00e4.test"}
    assert tags("") == tags(" \r\n") == {}
    assert len(tags("".join(f"a{n}=;" for n in range(100)))) == 100


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (";", "an empty tag"),
        ("a=1;;b=2", "an empty tag"),
        ("a", "a part is no tag"),
        ("=1", "a part is no tag"),
        ("1a=1", "a part is no tag"),
        ("_a=1", "a part is no tag"),
        ("a b=1", "a part is no tag"),
        ("\u00e4=1", "a part is no tag"),
        ("a=1; b=2; a=3", "a= is there twice"),
        ("".join(f"a{n}=;" for n in range(101)), "more than 100 tags"),
    ],
)
def test_what_is_no_tag_list(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        tags(text)


def test_a_value_is_taken_out() -> None:
    """RFC 6376 3.7: the line end of the field is none of it."""
    assert without(b"X: v=1;\n b = e A ;\n bh=47; z=b=1\n", b"b") == b"X: v=1;\n b =;\n bh=47; z=b=1\n"
    for end in (b"", b"\n", b"\r\n"):
        assert without(b"X: a=1; b=eA==" + end, b"b") == b"X: a=1; b=" + end
        assert without(b"X: a=1; b=" + end, b"b") == b"X: a=1; b=" + end
        assert without(b"X: a=1; b" + end, b"b") == b"X: a=1; b" + end
    with pytest.raises(ValueError):
        without(b"no colon", b"b")
