"""Decoding for SEARCH, sections, trace fields."""

import pytest

from fastmail.message import sections, summary, text, trace


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"=?utf-8?q?sm=C3=B6rg=C3=A5s?=", "smörgås"),
        (b"=?ISO-8859-1?B?Zm/2?= =?utf-8?Q?_x?=", "foö x"),
        (b"a =?nope?q?x=FF?= b", "a xÿ b"),
        (b" folded\r\n value ", "folded value"),
        (b"raw \xe9", "raw é"),
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


def test_sections_of_a_single_part() -> None:
    message = b"Subject: x\n\nbody\n"
    found = summary.of(message)
    assert sections.extract(message, found, (1,), b"", ()) == b"body\r\n"
    assert sections.extract(message, found, (1,), b"MIME", ()) == b"Subject: x\r\n\r\n"
    assert sections.extract(message, found, (2,), b"", ()) is None
    assert sections.extract(message, found, (1, 1), b"", ()) is None
    assert sections.extract(message, found, (1,), b"HEADER", ()) is None


def test_trace_fields_cannot_be_broken_out_of() -> None:
    field = trace.received("evil\r\nX: 1", "1.2.3.4", "mx", "ESMTP", "ID", "a>\r\nb@c")
    assert (
        field.count(b"\n") == 3 and b"\r" not in field and b"X:1" not in field.replace(b" ", b"").replace(b"?", b"\n")
    )
    assert trace.return_path("") == b"Return-Path: <>\n"
    assert len({trace.new_id() for _ in range(1000)}) == 1000
