"""The words of a message: the same wherever it lies, bounded, and of what a reader sees."""

import base64

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail.policy.learning import words
from fastmail.policy.learning.words import MOST, read
from tests.support.examples import some

MESSAGE = (
    b"From: Joe <joe@Example.org>\nTo: me@example.test\nSubject: =?utf-8?q?Cheap_Caf=C3=A9?=\n"
    b"Date: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <1@mail.example.org>\n\nDinner's ready, at $100 per person.\n"
)
TRACE = (
    b"Return-Path: <joe@example.org>\nDelivered-To: me@example.test\nReceived: from x (y)\n\tby z;\n\tMon, 2 Nov 2026\n"
    b"Authentication-Results: mx.example.test; spf=pass\nX-Spam-Status: Yes, score=9\n\ttests=cheap\n"
)


def test_what_a_reader_sees() -> None:
    found = read(MESSAGE).words
    assert {"subject:cheap", "subject:café", "dinner's", "ready", "$100", "person", "id:mail.example.org"} <= found
    assert {"from:joe", "from:joe@example.org"} <= found
    assert not {"at", "me@example.test", "to:me@example.test"} & found, "short words, and what says nothing"


def test_trace_fields_do_not_count() -> None:
    assert read(TRACE + MESSAGE) == read(MESSAGE)
    assert read((TRACE + MESSAGE).replace(b"\n", b"\r\n")) == read(MESSAGE)
    assert read(memoryview(TRACE + MESSAGE)) == read(MESSAGE)


def test_long_parts_are_cut_at_the_same_place() -> None:
    long = MESSAGE + b"".join(b"word%d and more\n" % n for n in range(60_000))
    assert read(long) == read(TRACE + long) == read((TRACE + long).replace(b"\n", b"\r\n"))
    assert len(read(long).words) == MOST


def test_messages_are_told_apart() -> None:
    for other in (
        MESSAGE.replace(b"<1@", b"<2@"),
        MESSAGE.replace(b"10:00", b"10:01"),
        MESSAGE.replace(b"ready", b"over"),
    ):
        assert read(other).digest != read(MESSAGE).digest


def test_html_encodings_files_and_hosts() -> None:
    html = '<p>Buy&nbsp;<b>now</b> <a href="https://u:p@Shop.Example.net./x?y">here</a><!-- secretly --><script>run()</script>'
    body = b"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(
        html.encode()
    )
    whole = (
        b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n'
        + body
        + b"\n--b\nContent-Type: application/zip; name=bill.EXE\n\nx\n--b--\n"
    )
    found = read(whole).words
    assert {"url:shop.example.net", "here", "now", "part:text/html", "file:exe", "type:mixed"} <= found
    assert "type:boundary" not in found
    assert "secretly" not in found and "run" not in found


def test_scripts_without_spaces() -> None:
    found = read("Subject: x\n\n今すぐ購入 สวัสดี 한국어\n".encode()).words
    assert {"今す", "すぐ", "ぐ購", "購入", "สว", "한국어"} <= found


def test_long_words_are_counted_by_their_length() -> None:
    found = read(b"Subject: x\n\n" + b"a" * 35 + b" " + b"b" * 60_000 + b"\n").words
    assert {"long:a3", "long:b100"} <= found and max(map(len, found)) < 60


@settings(max_examples=some(200), deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_nothing_raises_and_words_stay_words(content: bytes) -> None:
    found = read(b"Subject: " + content)
    assert len(found.words) <= MOST and len(found.digest) == words.DIGEST
    assert all(0 < len(word) <= 120 and "\n" not in word for word in found.words)
