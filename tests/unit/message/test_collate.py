"""The collation i;unicode-casemap (RFC 5051), over every character."""

import sys
import unicodedata

import pytest

from fastmail.message.collate import fold, titlecased


def plain(letter: str) -> str:
    """What RFC 5051 says of one character: UnicodeData's titlecase is never more than one, str.title may be."""
    title = letter.title()
    return unicodedata.normalize("NFKD", title if len(title) == 1 else letter)


def test_every_character_has_its_titlecase_taken_apart() -> None:
    for code in range(sys.maxunicode + 1):
        if not 0xD800 <= code < 0xE000:
            letter = chr(code)
            assert titlecased(letter) == plain(letter), hex(code)
            # what is equal by the collation is found by SEARCH
            assert fold(letter) == fold(plain(letter)), hex(code)


@pytest.mark.parametrize(
    ("text", "titled"),
    [
        ("Hello_World", "HELLO_WORLD"),
        ("\u01c4", "Dz\u030c"),  # the example of RFC 5051 2
        ("stra\u00dfe", "STRA\u00dfE"),
        ("\u03c3\u03c2\u03a3", "\u03a3\u03a3\u03a3"),
        ("\u0131i", "II"),
        ("a\u00dfb\u01c6c \u00e9", "A\u00dfBDz\u030cC E\u0301"),
    ],
)
def test_titlecased(text: str, titled: str) -> None:
    assert titlecased(text) == titled


@pytest.mark.parametrize(
    ("one", "two"),
    [("Stra\u00dfe", "STRASSE"), ("\ufb01n", "FIN"), ("\u0131", "I"), ("\u1d2c", "a"), ("\u00c9", "e\u0301")],
)
def test_search_takes_these_for_the_same(one: str, two: str) -> None:
    assert fold(one) == fold(two)


def test_long_texts_are_taken_apart_as_a_whole() -> None:
    for text in ("\u00e9\u0323x" * 700, "x" * 511 + "\u00e9\u0323\u0301" * 400, "\u1e69\u0307\u0323" * 600):
        assert titlecased(text) == unicodedata.normalize("NFKD", text.upper())
