"""PREVIEW texts, and identifiers of messages and threads."""

import pytest

from fastmail._core import idents, mime
from fastmail.message import identity, summary
from fastmail.message.preview import preview, scanned


def has_attachment(made: bytes | bytearray) -> bool | None:
    """What a summary says: would a mail program offer a part as a file? None where an earlier version did not look."""
    status = summary.fixed(made).status
    return bool(status & mime.Status.ATTACHED) if status & mime.Status.LOOKED else None


def shown(raw: str) -> str:
    content = raw.encode()
    return preview(content, summary.of(content))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("Subject: x\n\n  Hello,\n\n  world \n", "Hello, world"),
        ("Subject: x\n\n> quoted\nanswer\n", "answer"),
        ("Subject: x\n\n> only quoted\n", "> only quoted"),
        ("Subject: x\n\n", ""),
        ("Content-Type: image/png\n\nxyz\n", ""),
        (
            "Content-Type: text/html\n\n<html><head><title>T</title><style>p{}</style></head>"
            "<p>A&nbsp;<b>b</b> &amp; c<!-- no --></html>",
            "A b & c",
        ),
        (
            'Content-Type: multipart/alternative; boundary="b"\n\n--b\nContent-Type: text/html\n\n<i>rich</i>\n'
            "--b\nContent-Type: text/plain\n\nplain\n--b--\n",
            "plain",
        ),
        (
            'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Disposition: attachment\n\nfile\n'
            "--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nZ3LDvG4=\n--b--\n",
            "grün",
        ),
        ("Subject: x\n\n" + "a" * 500, "a" * 200),
        ("Content-Type: text/html\n\n<script>if (a < b)</script>x < y <!-- open", "x < y"),
        ("Content-Type: text/html\n\n&#" + "9" * 5000 + "; a&#0;b&#xD800;c", "\ufffd a\ufffdb\ufffdc"),
        ("Content-Type: text/html\n\n" + "<" * 300, "<" * 200),
        ("Content-Type: text/plain; charset=us-ascii\n\ngrün", "grün"),
    ],
)
def test_preview(raw: str, words: str) -> None:
    assert shown(raw) == words
    content = raw.encode()
    stored = scanned(content)
    assert idents.preview(stored) == words.encode() and summary.read(stored) == summary.of(content)


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([""], False),
        (["", "Content-Type: application/pdf\n"], True),
        (["", "Content-Type: application/pdf\nContent-Disposition: inline\n"], False),
        (["", "Content-Type: text/plain\n"], False),
        (["", "Content-Disposition: ATTACHMENT; filename=x\n"], True),
        (["", "Content-Type: message/rfc822\n\nSubject: x\n"], True),
        (["", "Content-Type: message/rfc822\nContent-Disposition: inline\n\nContent-Disposition: attachment\n"], False),
    ],
)
@pytest.mark.parametrize("kind", ["mixed", "related", "signed"])
def test_attachments_are_known(kind: str, parts: list[str], wanted: bool) -> None:
    raw = (
        f"Content-Type: multipart/{kind}; boundary=b\n\n" + "".join(f"--b\n{one}\ntext\n" for one in parts) + "--b--\n"
    )
    if kind != "mixed" and parts[-1] == "Content-Type: application/pdf\n":
        wanted = False  # shown within the text, or its signature
    assert has_attachment(mime.scan(raw.encode())) is wanted
    assert has_attachment(scanned(raw.encode())) is wanted


def test_a_message_may_be_an_attachment_as_a_whole() -> None:
    assert has_attachment(mime.scan(b"Content-Type: application/pdf\n\nx")) is True
    assert has_attachment(mime.scan(b"Content-Type: text/html\n\nx")) is False
    made = bytearray(mime.scan(b"Content-Type: application/pdf\n\nx"))
    made[1] &= 31
    assert has_attachment(made) is None, "of an earlier version"


def ids(header: str) -> tuple[bytes, bytes]:
    stored = mime.scan((header + "\n\nbody\n").encode()) + identity.fresh()
    return identity.email_id(stored), identity.thread_id(stored)


def test_replies_share_a_thread_and_no_identity() -> None:
    first, thread = ids("Message-ID: <a@x>")
    for reply in (
        "Message-ID: <b@x>\nIn-Reply-To: <a@x>",
        "Message-ID: <c@x>\nReferences: <a@x>\n <b@x>\nIn-Reply-To: <b@x>",
    ):
        one, same = ids(reply)
        assert same == thread and one != first
    assert ids("Message-ID: <other@x>")[1] != thread
    assert ids("Subject: none")[1] != ids("Subject: none")[1]


def test_a_message_without_a_mark_has_a_steady_name() -> None:
    made = mime.scan(b"Subject: old\n\nx\n")
    assert identity.email_id(made) == identity.email_id(bytes(made))


def test_first_words_that_take_long_to_find_are_left_for_later() -> None:
    part = "--b\nContent-Type: text/html\n\n<b>rich</b>\n"
    for count, words in ((64, b"rich"), (200, None)):
        content = ("Content-Type: multipart/mixed; boundary=b\n\n" + part * (count - 1) + "--b--\n").encode()
        made = scanned(content)
        assert idents.preview(made) == words and preview(content, summary.of(content)) == "rich"
