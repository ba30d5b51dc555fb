"""The summary that is made of a message at delivery."""

import pytest

from fastmail._core import mime
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
    assert summary.message_id(mime.scan(text)) == found
    if found is not None:
        assert submitted.message_id(text) == found[1:-1].decode()
