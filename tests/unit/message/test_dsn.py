"""Reports: types and encodings by who gets them, quoting, and lines that are never too long."""

import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest

from fastmail.message import dsn
from fastmail.message.dsn import About, Fate
from fastmail.model.esmtp import EsmtpOptions

PLAIN = b"From: a@b.test\nSubject: x\n\nbody\n"
UTF8 = "From: josé@b.test\nSubject: für dich\n\nbödy\n".encode()


def made(sender: str, content: bytes, *fates: Fate, utf8: bool = False, full: bool = True, envid: str = "") -> bytes:
    about = About(sender, "1", 0, 0, content, full, EsmtpOptions(envid=envid, utf8=utf8))
    told = list(fates) or [Fate("x@y.test", "", "failed", "5.1.1", "no such user", "mx")]
    return dsn.report(about, told, "mx.test", 1e9, "a1" * 12)


def parts(text: bytes) -> list[Any]:
    assert max(map(len, text.split(b"\n"))) <= 998
    message = email.message_from_bytes(text, policy=email.policy.default)
    assert isinstance(message, EmailMessage) and not message.defects
    assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "delivery-status"
    return list(message.iter_parts())


def status(text: bytes) -> bytes:
    """The part for programs, unfolded."""
    found = re.search(rb"Content-Type: message/(?:global-)?delivery-status\n(.*?)\n--", text, re.DOTALL)
    assert found is not None
    return found.group(1).replace(b"\n ", b" ")


TYPES = [
    ("a@b.test", PLAIN, False, True, "message/delivery-status", "message/rfc822", ""),
    ("a@b.test", PLAIN, True, True, "message/delivery-status", "message/rfc822", ""),
    ("a@b.test", PLAIN, True, False, "message/delivery-status", "text/rfc822-headers", ""),
    ("a@b.test", PLAIN + b"\xff", False, True, "message/delivery-status", "message/rfc822", "8bit"),
    ("a@b.test", UTF8, True, True, "message/delivery-status", "message/global", "base64"),
    ("a@b.test", UTF8, True, False, "message/delivery-status", "message/global-headers", "base64"),
    ("a@b.test", b"Subject: \xff\n\nx", True, True, "message/delivery-status", "message/rfc822", "8bit"),
    ("josé@b.test", PLAIN, True, True, "message/global-delivery-status", "message/rfc822", ""),
    ("josé@b.test", UTF8, True, True, "message/global-delivery-status", "message/global", "8bit"),
    ("josé@b.test", UTF8, True, False, "message/global-delivery-status", "message/global-headers", "8bit"),
]


@pytest.mark.parametrize(("sender", "content", "utf8", "full", "kind", "returned", "encoding"), TYPES)
def test_types(sender: str, content: bytes, utf8: bool, full: bool, kind: str, returned: str, encoding: str) -> None:
    text = made(
        sender, content, Fate("jürgen@y.test", "", "failed", "5.1.1", "gibt’s nicht", "mx"), utf8=utf8, full=full
    )
    _, told, back = parts(text)
    assert (told.get_content_type(), back.get_content_type()) == (kind, returned)
    assert back.get("content-transfer-encoding", "") == encoding
    assert status(text).isascii() != (kind == "message/global-delivery-status")
    sent = content if full else content.partition(b"\n\n")[0]
    if encoding == "base64":
        block = text.partition(b"encoding: base64\n\n".replace(b"e", b"E", 1))[2].partition(b"\n--")[0]
        assert dsn.encodebytes(sent if full else sent + b"\n").strip() == block.strip()
    else:
        assert sent.rstrip(b"\n") in text


@pytest.mark.parametrize("address", ['"a b"@c.test', '"a\\"b"@c.test', "a@[IPv6:::1]", '"a  b"@c.test'])
def test_addresses_keep_their_quotes(address: str) -> None:
    text = made(address, PLAIN, Fate(address, f"rfc822;{address}", "failed", "5.1.1", "no"))
    assert f"Final-Recipient: rfc822;{address}\n".encode() in text
    assert f"Original-Recipient: rfc822;{address}\n".encode() in text
    assert f"To: <{address}>\n".encode() in text and f"\n<{address}>\n".encode() in text


RECIPIENTS = [
    ("josé@y.test", "", rb"Final-Recipient: utf-8;jos\x{E9}@y.test"),
    ('"jos\u00e9 x"@y.test', "", rb'Final-Recipient: utf-8;"jos\x{E9}\x{20}x"@y.test'),
    ("x@y.test", "rfc822;josé@y.test", rb"Original-Recipient: utf-8;jos\x{E9}@y.test"),
    ("x@y.test", "utf-8;a\\b@y.test", rb"Original-Recipient: utf-8;a\x{5C}b@y.test"),
    ("x@y.test", "x400;é", b"Original-Recipient: x400;+C3+A9"),
]


@pytest.mark.parametrize(("address", "asked", "line"), RECIPIENTS)
def test_recipients_in_ascii(address: str, asked: str, line: bytes) -> None:
    told = status(made("a@b.test", UTF8, Fate(address, asked, "failed", "5.1.1", "no"), utf8=True))
    assert line + b"\n" in told and told.isascii()


@pytest.mark.parametrize(
    "words",
    ["x" * 5000, "é" * 5000, "\U0001f600" * 3000, "word " * 2000, "wörd " * 2000, "\x01\x85 " * 900, "", "a\r\nb\nc"],
    ids=range(8),
)
@pytest.mark.parametrize("sender", ["a@b.test", "josé@b.test"])
def test_no_line_is_too_long(words: str, sender: str) -> None:
    long = "utf-8;" + "é" * 250 + "@y.test"
    fates = [Fate("é" * 32 + "@y.test", long, "failed", "5.0.0", words, "mx.far.test[192.0.2.1]")] * 3
    text = made(sender, PLAIN, *fates, utf8=True, envid="e" * 500)
    assert len(parts(text)) == 3
    assert status(text).count(b"\nFinal-Recipient: ") == status(text).count(b"\nDiagnostic-Code: smtp; ") == 3


def test_a_reply_is_told_whole_where_it_fits() -> None:
    words = "550 5.7.1 " + " ".join(f"word{n}" for n in range(60))
    text = made("a@b.test", PLAIN, Fate("x@y.test", "", "failed", "5.7.1", words, "mx"))
    assert f"Diagnostic-Code: smtp; {words}\n".encode() in status(text)
    assert all(len(line) <= dsn.WIDTH for line in text.split(b"\n") if b"word" in line)


def test_a_long_header_is_cut_at_the_end_of_a_line() -> None:
    content = b"X-A: " + b"y" * 60 + b"\n"
    text = made("a@b.test", content * 5000 + b"\nbody\n", full=False)
    back = text.partition(b"Content-Type: text/rfc822-headers\n\n")[2].partition(b"\n\n--")[0] + b"\n"
    assert 65_000 < len(back) <= 65_536 and back == content * (len(back) // len(content))
