"""The collation i;unicode-casemap (RFC 5051), over every character."""

import sys
import unicodedata
from collections.abc import Iterator

import pytest

from fastmail.message.collate import fold, titlecased
from tests.support.examples import FEW


def plain(letter: str) -> str:
    """What RFC 5051 says of one character: UnicodeData's titlecase is never more than one, str.title may be."""
    title = letter.title()
    return unicodedata.normalize("NFKD", title if len(title) == 1 else letter)


def letters() -> Iterator[str]:
    """Every character; in `make check` all that have another case or can be taken apart, and some of the others."""
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        if 0xD800 <= code < 0xE000:
            continue
        same = letter.title() == letter.casefold() == letter and not unicodedata.decomposition(letter)
        if not FEW or not same or code % 100 == 0:
            yield letter


def test_every_character_has_its_titlecase_taken_apart() -> None:
    for letter in letters():
        assert titlecased(letter) == plain(letter), ascii(letter)
        # what is equal by the collation is found by SEARCH
        assert fold(letter) == fold(plain(letter)), ascii(letter)


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


def test_runs_of_marks_are_folded_in_linear_time() -> None:
    marks = "\u0300\u0316" * 200_000  # normalized at once, this takes minutes
    folded = fold("a" + marks)
    assert folded.startswith("a\u0316") and len(folded) > len(marks)
    assert fold("\u1e69") == fold("s\u0307\u0323")  # a few marks are sorted as before


def test_a_long_text_is_folded_as_a_short_one() -> None:
    words = "Straße \u1e69 \uff76\uff9e " * 10_000
    assert fold(words) == unicodedata.normalize("NFKD", words.casefold())
