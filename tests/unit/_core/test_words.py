"""First words of texts and messages, against the plain way: regular expressions over decoded text."""

import base64
import quopri
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import mime, words

QUOTE = re.compile(r"^>.*$", re.MULTILINE)
SPACE = re.compile(r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff\u00ad\u034f]+")
TEXT = st.text(st.sampled_from("ab>> \n\r\t\u00a0\u200b\u2029\u3000\ufeffäé€𝄞\x00\x1f"), max_size=60)


def plain(text: str, most: int, quotes: bool) -> str:
    def shorten(words: str) -> str:
        return SPACE.sub(" ", words).strip()[:most].strip()

    return shorten(text) if quotes else shorten(QUOTE.sub("", text)) or shorten(text)


@given(TEXT, st.integers(1, 12), st.booleans())
def test_shortened(text: str, most: int, quotes: bool) -> None:
    found, count = words.shortened(text.encode(), most, quotes)
    assert found is not None and found.decode() == plain(text, most, quotes)
    assert count == most or len(found.decode()) == count


@given(st.binary(max_size=12))
def test_what_is_no_utf8_has_no_words(raw: bytes) -> None:
    try:
        text: str | None = raw.decode()
    except UnicodeDecodeError:
        text = None
    found, _ = words.shortened(raw, 1000, True)
    assert (found is None) == (text is None)


def first(raw: bytes) -> bytes | None:
    return words.first(raw, mime.scan(raw), 200)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"Subject: x\n\n Hello,\n\n world \n", b"Hello, world"),
        (b"Subject: x\n\n", b""),
        (b"Content-Type: image/png\n\nxyz\n", b""),
        (b"Content-Type: text/html\n\n<b>x</b>\n", None),
        (b"Content-Type: text/plain; charset=koi8-r\n\nx\n", None),
        (b"Content-Type: text/plain; charset=iso-8859-1\n\nplain\n", b"plain"),
        (b"Content-Type: text/plain; charset=iso-8859-1\n\ngr\xfcn\n", None),
        (b"Content-Type: text/plain; charset=utf-8\n\ngr\xc3\xbcn\n", "grün".encode()),
        (b"Content-Transfer-Encoding: base64\n\n" + base64.b64encode("grün".encode()), "grün".encode()),
        (b"Content-Transfer-Encoding: quoted-printable\n\n" + quopri.encodestring("grün".encode()), "grün".encode()),
        (b"Subject: x\n\n" + b"> quoted\n" * 2000 + b"answer\n", None),
        (b"Subject: x\n\n" + b"a" * 9000, b"a" * 200),
        (b"Content-Type: message/rfc822\n\nSubject: y\n\ninner\n", b"inner"),
        (b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeQoKaW5uZXI=\n", None),
    ],
)
def test_first_words(raw: bytes, wanted: bytes | None) -> None:
    assert first(raw) == wanted


def test_a_summary_of_another_message_reads_nothing_beyond_the_end() -> None:
    made = mime.scan(b"Subject: x\n\n" + b"word " * 100)
    for end in range(40):
        assert words.first((b"Subject: x\n\n" + b"word " * 100)[:end], made, 200) is None
    for end in range(len(made)):
        words.first(b"Subject: x\n\n" + b"word " * 100, made[:end], 200)
