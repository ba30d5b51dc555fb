"""Transfer encodings, encoded words and HTML: against the slow forms, and what mail programs make of broken ones."""

import base64 as slow_base64
import html as slow_html
import quopri
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastmail._core import decode


@given(st.binary(max_size=200), st.integers(1, 80))
def test_base64_comes_back_however_it_is_cut_into_lines(data: bytes, width: int) -> None:
    coded = slow_base64.b64encode(data)
    lines = b"\r\n".join(coded[at : at + width] for at in range(0, len(coded), width))
    assert decode.base64(lines) == (data, True)
    assert decode.base64(lines.rstrip(b"=")) == (data, True)  # padding left out


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_pieces_of_base64_one_behind_the_other(pieces: list[bytes]) -> None:
    padded = [slow_base64.b64encode(piece) for piece in pieces]
    assert decode.base64(b"\r\n".join(padded)) == (b"".join(pieces), True)


@pytest.mark.parametrize(
    ("coded", "says", "sound"),
    [
        (b"aGVsbG8=", b"hello", True),
        (b"aGVsbG8", b"hello", True),
        (b"aGVsbG8=aGVsbG8=", b"hellohello", True),
        (b"aGVs\r\nbG8=\r\n\r\nIQ==\r\n", b"hello!", True),
        (b"a!G-V.s_bG8=", b"hello", True),  # what is no digit is passed over (RFC 2045 6.8)
        (b"aGVsbG8=\r\n-- \r\nlist footer\r\n", None, False),  # text behind the end
        (b"a", b"", True),
        (b"====", b"", True),
        (b"", b"", True),
    ],
)
def test_base64_of_real_senders(coded: bytes, says: bytes | None, sound: bool) -> None:
    found, all_of_it = decode.base64(coded)
    assert all_of_it is sound
    if says is not None:
        assert found == says


@given(st.text("ab =\t\u00e4", max_size=120))
def test_quoted_printable_comes_back(text: str) -> None:
    assert decode.quoted_printable(quopri.encodestring(text.encode(), quotetabs=True)) == text.encode()


@pytest.mark.parametrize(
    ("coded", "says"),
    [
        (b"a  \r\nb\t\r\n", b"a\r\nb\r\n"),  # transport padding (RFC 2045 6.7, rule 3)
        (b"a = \t\r\nb", b"a b"),  # and behind a soft line break
        (b"a=\nb=\r\nc=", b"abc"),
        (b"end   ", b"end"),
        (b"a=20  \nb", b"a \nb"),
        (b"=c3=A4 =XY = =4", "\u00e4 =XY = =4".encode()),
        (b"a\rb \rc", b"a\rb \rc"),  # a CR alone ends no line
        (b"a  b", b"a  b"),
        (b"=3D=3D\r\n", b"==\r\n"),
    ],
)
def test_quoted_printable_of_real_senders(coded: bytes, says: bytes) -> None:
    assert decode.quoted_printable(coded) == says


def slow_words(raw: bytes) -> list[bytes | tuple[bytes, bytes]]:
    """The same by patterns. A word's text has no question mark here."""
    word = re.compile(rb"=\?([^?\s]+)\?([BbQq])\?((?:[^?])*)\?=")
    out: list[bytes | tuple[bytes, bytes]] = []
    at, after = 0, False
    for match in word.finditer(raw):
        between = raw[at : match.start()]
        if between and not (after and not between.strip(b" \t\r\n")):
            out.append(between)
        charset, kind, text = match.groups()
        if kind in b"Bb":
            out.append((charset, decode.base64(text)[0]))
        else:
            coded = re.sub(rb"=([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), text.replace(b"_", b" "))
            out.append((charset, coded))
        at, after = match.end(), True
    return [*out, raw[at:]] if raw[at:] else out


@given(st.lists(st.sampled_from([b"=?u?q?a=20b_?=", b"=?", b"?=", b"?", b"x", b" ", b"=?u*en?B?YQ==?=", b"=?v?q?", b"\t"]),
                max_size=12).map(b"".join))  # fmt: skip
@example(b"=?=?u?q?a?=")
def test_words_against_patterns(raw: bytes) -> None:
    if b"??" not in raw and not re.search(rb"\?[^=?]*\?[^=?]*\?[^=?]*\?", raw):
        assert decode.words(raw) == slow_words(raw)
    found = b"".join(one if isinstance(one, bytes) else one[1] for one in decode.words(raw))
    assert raw.count(b"x") == found.count(b"x")  # nothing is lost


def test_a_question_mark_in_a_word_is_a_question_mark() -> None:
    assert decode.words(b"=?utf-8?Q?what?_now?=") == [(b"utf-8", b"what? now")]
    assert decode.words(b"=?utf-8?Q?open =?utf-8?Q?closed?=") == [b"=?utf-8?Q?open ", (b"utf-8", b"closed")]
    assert decode.words(b"=?utf-8?Q?=41=?=") == [(b"utf-8", b"A=")]


@given(st.text("<>ab/!-&;= \u00e4", max_size=60))
def test_html_without_tags_against_patterns(text: str) -> None:
    slow = re.sub(r"<[a-zA-Z/!?][^>]*>", "", text)
    assert decode.html(text.encode(), False).decode() == slow


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<style>p{}</style>a", "a"),
        ("<STYLE\n type=x>p{}</Style >a", "a"),
        ("a<!-- <b>x</b> -->b", "a b"),
        ("a<script>if (a<b) '</p>'</script>b", "a b"),
        ("a<styles>b</styles>", "a b"),
        ("a < b > c", "a < b > c"),
        ("a<!-- open", "a"),
        ("a<style>open", "a"),
        ("a<cut off", "a"),
        ("<head><title>t</title></head>x", "x"),
    ],
)
def test_html_as_it_is_shown(page: str, words: str) -> None:
    assert " ".join(decode.html(page.encode(), True).decode().split()) == words
    assert slow_html.unescape(words) == words


@given(st.text("a\u0300\u0316b", max_size=40), st.integers(1, 6))
def test_runs_of_marks(text: str, length: int) -> None:
    bits = bytearray(0x400 // 8)
    for mark in (0x300, 0x316):
        bits[mark >> 3] |= 1 << (mark & 7)
    assert decode.has_run(text, bytes(bits), length) == bool(re.search(f"[\u0300\u0316]{{{length}}}", text))
