"""Tag lists (RFC 6376 3.2), values taken out of them, and the two halves of a signature."""

import pytest

from fastmail._core.tags import plain, signature, tags, without


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


def test_white_space_within_a_value() -> None:
    assert plain(" a b\r\n\tc ") == "abc" and plain("abc") == "abc" and plain(" ") == ""


def test_what_signatures_of_a_signer_have_in_common() -> None:
    one = signature(b"DKIM-Signature: v=1; t=12; x= 34 ; bh=e A=\n =; d=a.test; b=\n\teA\n\t==\n")
    assert one == (b" v=1; t=; x=; bh=; d=a.test; b=", b"eA==", b"eA==", 12, 34)
    other = signature(b"dkim-signature : v=1; t=1; x=2; bh=; d=a.test; b=eHh4\n")
    assert other == (b" v=1; t=; x=; bh=; d=a.test; b=", b"eHh4", b"", 1, 2)
    assert signature(b"X: bh=;b =;x_=1; B=2") == (b" bh=;b =;x_=1; B=2", b"", b"", -1, -1)


@pytest.mark.parametrize(
    "text",
    [
        b"no colon",
        b"X: b=",
        b"X: bh=",
        b"X: b=; b=; bh=",
        b"X: b=; bh=; bh=",
        b"X: b=; bh=; t=1; t=2",
        b"X: b=; bh=; x=1; x=2",
        b"X: b=; bh=; t=",
        b"X: b=; bh=; t=1 2",
        b"X: b=; bh=; t=-1",
        b"X: b=; bh=; x=1234567890123",
        b"X: b=; bh=; x=1a",
    ],
)
def test_signatures_that_have_no_halves(text: bytes) -> None:
    """Who reads them in full says what is wrong."""
    assert signature(text) is None
