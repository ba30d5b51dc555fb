"""The summary that is made of a message at delivery."""

import pytest

from fastmail._core import idents, mime
from fastmail.message import submitted, summary


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"Message-ID: <a.1@b.test>\n", b"<a.1@b.test>"),
        (b"message-id:\n <a.1@b.test>\n", b"<a.1@b.test>"),
        (b"In-Reply-To: <other@b.test>\n", b""),
        (b"", b""),
        (b"In-Reply-To: <other@b.test>\nMessage-ID: NIL\n", None),
        (b"In-Reply-To: <other@b.test>\nMessage-ID: no brackets\n", None),
        (b'Message-ID: <"quo ted"@b.test>\n', None),
        (b"Message-ID: (of mine) <a.1@b.test>\n", None),
        (b"Message-ID: <a.1@b.test> <b.2@b.test>\n", None),
        (b"Message-ID: <\xe4@b.test>\n", None),
        (b"Message-ID: <a.1@b.test>\nMessage-ID: <second@b.test>\n", b"<a.1@b.test>"),
    ],
)
def test_the_message_id_is_read_from_the_envelope(field: bytes, found: bytes | None) -> None:
    text = b"From: a@b.test\n" + field + b"\n<body@b.test>\n"
    assert idents.message_id(mime.scan(text)) == found
    if found is not None:
        assert submitted.message_id(text) == found[1:-1].decode()


NESTED = (
    b"Subject: s\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=b\n\n"
    b"--b\n\nplain\n--b--\n--b--\n"
)


def old(message: bytes, lost: bool = False) -> bytes:
    """A summary as version 1 made it; ``lost``: of a multipart of which it found no part."""
    made = bytearray(mime.scan(message))
    made[0] = 1
    if lost:
        made[-2 * 16 :] = b""  # the inner multipart's part, and what follows
        made[2:4] = (int.from_bytes(made[2:4], "little") - 2).to_bytes(2, "little")
    return bytes(made)


def test_a_summary_of_version_1_is_read() -> None:
    for message in (b"Subject: s\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\nbody\n", NESTED):
        now, before = summary.read(mime.scan(message)), summary.read(old(message))
        assert now is not None and before == now and not now.lost
        assert summary.sent_day(old(message)) == summary.sent_day(mime.scan(message))


def test_one_of_version_1_that_lost_parts_says_so() -> None:
    made = old(NESTED, lost=True)
    found = summary.read(made)
    assert found is not None and found.lost and mime.lost(made)
    assert found.header == summary.of(NESTED).header  # what is not of its parts can be used


def test_higher_versions_are_refused() -> None:
    made = b"\4" + mime.scan(NESTED)[1:]
    assert summary.read(made) is None and summary.sent_day(made) == summary.NO_DAY
