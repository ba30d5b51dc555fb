"""Part numbers lead where BODYSTRUCTURE says, and nowhere else; BINARY says all of a part, or nothing."""

import pytest

from fastmail.message import sections, summary

DEEP = (
    b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nfirst\n--b\nContent-Type: message/rfc822\n\n"
    b"Subject: inner\n\ninner text\n--b\nContent-Type: message/rfc822\n\nSubject: two\n"
    b"Content-Type: multipart/alternative; boundary=c\n\n--c\n\none\n--c\nContent-Type: text/html\n\ntwo\n--c--\n--b--\n"
)


def section(message: bytes, path: tuple[int, ...], text: bytes = b"") -> bytes | None:
    return sections.extract(message, summary.of(message), path, text, ())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ((1,), b"first"),
        ((2, 1), b"inner text"),
        ((3, 1), b"one"),
        ((3, 2), b"two"),
        ((1, 1), None),
        ((1, 1, 1), None),
        ((2, 1, 1), None),
        ((2, 1, 1, 1), None),
        ((2, 2), None),
        ((3, 1, 1), None),
        ((3, 3), None),
        ((4,), None),
    ],
)
def test_part_numbers(path: tuple[int, ...], body: bytes | None) -> None:
    assert section(DEEP, path) == body
    assert (sections.structure_of(summary.of(DEEP), path) is None) == (body is None)
    if body is None:
        for text in (b"MIME", b"HEADER", b"TEXT", b"BINARY"):
            assert section(DEEP, path, text) is None


def test_headers_of_parts() -> None:
    assert section(DEEP, (2, 1), b"MIME") == b"Subject: inner\r\n\r\n"
    assert section(DEEP, (2,), b"HEADER") == b"Subject: inner\r\n\r\n"
    assert section(DEEP, (2,), b"TEXT") == b"inner text"
    assert section(DEEP, (2, 1), b"TEXT") is None
    assert section(DEEP, (3, 1), b"HEADER") is None


def test_a_message_that_is_no_multipart() -> None:
    plain = b"Subject: x\nContent-Type: text/plain\n\nbody\n"
    assert section(plain, (1,), b"MIME") == b"Subject: x\r\nContent-Type: text/plain\r\n\r\n"
    holder = b"Subject: out\nContent-Type: message/rfc822\n\n" + plain
    assert section(holder, (1,), b"MIME") == b"Subject: out\r\nContent-Type: message/rfc822\r\n\r\n"
    assert section(holder, (1,), b"TEXT") == b"body\r\n"
    assert section(holder, (1, 1)) == b"body\r\n"
    assert section(holder, (1, 1), b"MIME") == b"Subject: x\r\nContent-Type: text/plain\r\n\r\n"
    assert section(holder, (1, 1, 1)) is None


def test_the_structure_of_a_report_part_is_not_taken_for_a_message() -> None:
    report = b"Content-Type: message/delivery-status\nContent-Disposition: attachment\n\nReporting-MTA: dns; x\n"
    assert sections.structure_of(summary.of(report), (1,)) is not None
    assert sections.structure_of(summary.of(report), (1, 1)) is None


def coded(encoding: bytes, body: bytes, kind: bytes = b"application/octet-stream") -> bytes:
    return b"Content-Type: " + kind + b"\nContent-Transfer-Encoding: " + encoding + b"\n\n" + body


@pytest.mark.parametrize(
    ("message", "octets"),
    [
        (coded(b"base64", b"aGVsbG8"), b"hello"),
        (coded(b"base64", b"aGVsbG8=\naGVsbG8=\n"), b"hellohello"),
        (coded(b"quoted-printable", b"a  \nb = \nc=20\n"), b"a\r\nb c \r\n"),
        (coded(b"7bit", b"a\nb\n"), b"a\r\nb\r\n"),
        (coded(b"base64", b"U3ViamVjdDogeAoKYm9keQo=\n", b"message/rfc822"), b"Subject: x\n\nbody\n"),
    ],
)
def test_binary_says_all_of_it_and_its_size(message: bytes, octets: bytes) -> None:
    assert section(message, (1,), b"BINARY") == octets
    assert section(message, (1,), b"SIZE") == b"%d" % len(octets)


@pytest.mark.parametrize("encoding", [b"x-uuencode", b"base65"])
def test_an_encoding_that_is_not_known(encoding: bytes) -> None:
    for text in (b"BINARY", b"SIZE"):
        with pytest.raises(sections.UnknownEncoding):
            section(coded(encoding, b"x"), (1,), text)
