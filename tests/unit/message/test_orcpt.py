"""Original recipients, from RCPT to reports and to the next host."""

import pytest

from fastmail.message import orcpt


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"rfc822;a@b.test", "rfc822;a@b.test"),
        (b"rfc822;a+2Bb@c.test", "rfc822;a+b@c.test"),
        (b"x400;/S=a".replace(b"=", b"+3D"), "x400;/S=a"),
        (rb"utf-8;Andr\x{E9}@b.test", "utf-8;André@b.test"),
        (rb"UTF-8;a\x{5C}b\x{2B}\x{3D}@b.test", "UTF-8;a\\b+=@b.test"),
        ("utf-8;我@例子.测试".encode(), "utf-8;我@例子.测试"),
        (rb"utf-8;\x{1F600}@b.test", "utf-8;\U0001f600@b.test"),
    ],
)
def test_from_the_wire(value: bytes, kept: str) -> None:
    assert orcpt.parse(value) == kept


@pytest.mark.parametrize(
    "value",
    [
        *(b"a@b.test", b"rfc822;", b";a@b", b"rfc822;a+2", b"rfc822;a=b", b"rfc822;a+0Ab", b"rf c;a", b"-x;a"),
        *(b"utf-8;a+2Bb", rb"utf-8;a\x{}b", rb"utf-8;\x{D800}", rb"utf-8;\x{110000}", rb"utf-8;\x{0A}", b"utf-8;\xff"),
        *(b"rfc822;" + b"a" * 600, b"rfc822;+FF", rb"utf-8;a\b"),
    ],
)
def test_what_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="ORCPT|hexadecimal|xtext"):
        orcpt.parse(value)


@pytest.mark.parametrize("address", ["plain@b.test", "a+b=c\\d@b.test", "André@b.test", "我@例子.测试", "a b@c.test"])
@pytest.mark.parametrize("utf8", [False, True])
@pytest.mark.parametrize("kind", ["utf-8", "rfc822"])
def test_to_the_next_host_and_back(address: str, utf8: bool, kind: str) -> None:
    """What is passed on means the same, and is ASCII where the other side knows no more."""
    wire = orcpt.wire(f"{kind};{address}", utf8)
    assert orcpt.parse(wire.encode()) == f"{kind};{address}"
    assert wire.isascii() or (utf8 and kind == "utf-8")
    assert " " not in wire


def test_in_reports() -> None:
    assert orcpt.shown("rfc822;a+b@c.test", False) == "rfc822;a+b@c.test"
    assert orcpt.shown("utf-8;André@c.test", True) == "utf-8;André@c.test"
    assert orcpt.shown("utf-8;André@c.test", False) == r"utf-8;Andr\x{E9}@c.test"
    assert orcpt.final("a@b.test", True) == "rfc822;a@b.test"
    assert orcpt.final("é@b.test", False) == r"utf-8;\x{E9}@b.test"
