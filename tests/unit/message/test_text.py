"""Decoding for SEARCH, sections, trace fields."""

from base64 import b64encode

import pytest

from fastmail.message import sections, summary, text, trace
from fastmail.message.preview import preview
from fastmail.message.text import fold


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"=?utf-8?q?sm=C3=B6rg=C3=A5s?=", "smörgås"),
        (b"=?ISO-8859-1?B?Zm/2?= =?utf-8?Q?_x?=", "foö x"),
        (b"a =?nope?q?x=FF?= b", "a xÿ b"),
        (b" folded\r\n value ", "folded value"),
        (b"raw \xe9", "raw é"),
        (b"=?utf-8?Q?sm=C3?= =?utf-8?Q?=B6rg?=", "smörg"),  # a character over two words
        (b"=?utf-8?B?w6TD?=\r\n\t=?UTF-8*de?q?=B6?=", "äö"),  # and over two encodings
        (b"=?gb2312?B?zt4=?= =?gbk?Q?=87?= =?gb2312?Q?=90?=", "无噽"),
        (b"=?iso-2022-jp?B?GyRCRnwbKEI=?= =?iso-2022-jp?B?GyRCS1wbKEI=?=", "日本"),
        (b"=?ks_c_5601-1987?B?x9GxuQ==?=", "한국"),
        (b"=?windows-874?Q?=A1=A2?=", "กข"),
        (b"=?punycode?Q?-a?= =?utf-8?Q?x?=", "-ax"),
        (b"=?utf-8?Q?open", "=?utf-8?Q?open"),
        (b"=?utf-8?B?Z3LDvG4?=", "grün"),  # without padding
    ],
)
def test_header_values(raw: bytes, wanted: str) -> None:
    assert text.decode_value(raw) == wanted


def test_bodies() -> None:
    message = (
        b"Subject: =?utf-8?q?=C3=84?=\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html; charset=latin1\n"
        b"Content-Transfer-Encoding: quoted-printable\n\n<b>Stra=DF</b>e\n--b\nContent-Type: image/gif\n\nSTRASSE\n--b--\n"
    )
    found = text.body_text(message, summary.of(message), False)
    assert any("strasse" in part for part in found)
    assert not any("a\u0308" in part for part in found)
    assert any("a\u0308" in part for part in text.body_text(message, summary.of(message), True))


def found_in(message: bytes, with_headers: bool = False) -> str:
    return "\n".join(text.body_text(message, summary.of(message), with_headers))


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Type: text/plain; charset=koi8-r",
        b"Content-Type: text/plain (charset=utf-8); charset=koi8-r",
        b"Content-Type: text/plain; x-charset=utf-8; charset=koi8-r",
        b'Content-Type: text/plain; name="a; charset=utf-8"; charset=koi8-r',
        b'Content-Type: text/plain; name="a\\"; charset=utf-8"; charset="koi8-r"',
        b"Content-Type: text/plain; charset*=us-ascii'en'koi8%2Dr",
        b"Content-Type: text/plain; charset*1=8-r; charset*0=koi",
        b"Content-Type: text/plain;\n\tcharset =\n koi8-r (Cyrillic)",
        b"Content-Type: text / plain ; CHARSET=KOI8-R",
    ],
)
def test_the_charset_is_the_one_of_bodystructure(field: bytes) -> None:
    message = field + b"\n\n" + "привет".encode("koi8-r") + b"\n"
    assert "привет" in found_in(message)
    assert preview(message, summary.of(message)) == "привет"


@pytest.mark.parametrize(
    "field",
    [b"base64", b"BASE64;", b"base64 some text", b"base64; x=y", b" (a comment) base64", b"base64(c)", b"\n base64"],
)
def test_the_transfer_encoding_is_the_one_of_bodystructure(field: bytes) -> None:
    message = b"Content-Type: text/plain\nContent-Transfer-Encoding: " + field + b"\n\nZ3LDvG4=\n"
    found = summary.of(message)
    assert b'"base64"' in found.structure.lower()
    assert fold("grün") in found_in(message) and preview(message, found) == "grün"
    assert sections.extract(message, found, (1,), b"BINARY", ()) == "grün".encode()
    assert sections.extract(message, found, (1,), b"SIZE", ()) == b"5"


def test_names_of_files_are_found_in_any_form() -> None:
    message = (
        b"Content-Type: application/pdf; name*0*=utf-8''%C3%9Cber; name*1=sicht.pdf\n"
        b"Content-Disposition: attachment; filename*=iso-8859-1'de'gr%FCn.pdf\n\nx\n"
    )
    assert fold("Übersicht.pdf") in found_in(message) and fold("grün.pdf") in found_in(message)


def test_text_that_is_no_part_is_found() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\n\nbefore the parts\n--b with words\n\none\n--b--\nbehind them\n"
    )
    for words in ("before the parts", "with words", "one", "behind them"):
        assert words in found_in(message)


def test_a_footer_behind_base64_is_found_and_binary_says_no() -> None:
    message = b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nZ3LDvG4=\n-- \nfooter of a list\n"
    assert fold("grün") in found_in(message) and "footer of a list" in found_in(message)
    with pytest.raises(sections.UnknownEncoding):
        sections.extract(message, summary.of(message), (1,), b"BINARY", ())


def test_a_message_that_is_encoded_is_looked_into() -> None:
    inner = b64encode("Subject: tief\nContent-Type: text/plain; charset=utf-8\n\nverborgenes Wörterbuch\n".encode())
    message = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + inner
    assert fold("Wörterbuch") in found_in(message) and "tief" in found_in(message)


def test_html_is_found_without_tags_and_with_characters() -> None:
    message = b'Content-Type: text/html\n\n<p title="hint">gr&uuml;<b>n</b>er&nbsp;T&#228;e &#x65e5; 1 < 2 &#99999999999;</p>\n'
    words = found_in(message)
    assert fold("grüner") in words and fold("Täe 日") in words and "hint" in words and "1 < 2" in words


def test_fields_of_one_header_may_differ_in_charset() -> None:
    message = b"X-A: gr\xfcn\nX-B: " + "weiß".encode() + b"\n\nbody\n"
    assert fold("grün") in found_in(message, True) and fold("weiß") in found_in(message, True)


def test_what_is_too_deep_to_be_taken_apart_is_found() -> None:
    message = b"".join(b"Content-Type: multipart/mixed; boundary=x%03d\n\n--x%03d\n" % (n, n) for n in range(60))
    message += b"Content-Type: image/gif\n\nneedle\n"
    assert "needle" in found_in(message)


def test_long_values_are_not_remembered() -> None:
    before = text._folded_value.cache_info().currsize
    text.folded_value(b"x" * 5000)
    assert text._folded_value.cache_info().currsize == before


def test_sections_of_a_single_part() -> None:
    message = b"Subject: x\n\nbody\n"
    found = summary.of(message)
    assert sections.extract(message, found, (1,), b"", ()) == b"body\r\n"
    assert sections.extract(message, found, (1,), b"MIME", ()) == b"Subject: x\r\n\r\n"
    assert sections.extract(message, found, (2,), b"", ()) is None
    assert sections.extract(message, found, (1, 1), b"", ()) is None
    assert sections.extract(message, found, (1,), b"HEADER", ()) is None


def test_a_bound_holds_for_all_that_is_read_of_a_part() -> None:
    """Also for text outside of the parts, which no mail program shows, for headers, and for encoded messages."""
    long = b"x" * 70 + b"\n"
    inner = b64encode(b"Content-Type: text/plain\n\n" + long * 300_000).replace(b"=", b"")
    message = (
        b"Content-Type: multipart/mixed; boundary=b\n\n" + long * 100 + b"--b\nX: " + long * 10_000 + b" y\n\n"
        b"body\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
        + inner
        + b"\n--b--\n"
        + long * 100
    )
    cut = list(text.text_parts(message, summary.of(message), 1000))
    whole = list(text.text_parts(message, summary.of(message)))
    assert len(cut[0].text) == 1000 and len(whole[0].text) > 14_000
    assert all(len(one.text) <= 1000 and len(one.header) < 300_000 for one in cut)
    assert [one.sub for one in cut] == [one.sub for one in whole]
    assert max(len(one.text) for one in whole) > 20_000_000


def test_trace_fields_cannot_be_broken_out_of() -> None:
    field = trace.received("evil\r\nX: 1", "1.2.3.4", "mx", "ESMTP", "ID", "a>\r\nb@c")
    assert (
        field.count(b"\n") == 3 and b"\r" not in field and b"X:1" not in field.replace(b" ", b"").replace(b"?", b"\n")
    )
    assert trace.return_path("") == b"Return-Path: <>\n"
    assert len({trace.new_id() for _ in range(1000)}) == 1000
