"""What is read of a message for its trace."""

import pytest

from fastmail.message import submitted


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"From: a@b.test\nMESSAGE-ID : <one@b.test>\n\nbody\n", "one@b.test"),
        (b"Message-ID: <one@b.test>", "one@b.test"),
        (b"From: a@b.test\n\nForwarded:\nMessage-ID: <another@b.test>\n", ""),
        (b"\nMessage-ID: <another@b.test>\n", ""),
        (b"Subject: the Message-ID: <none@b.test>\n\n", ""),
        (b"", ""),
    ],
)
def test_the_message_id_is_one_of_the_header(text: bytes, found: str) -> None:
    assert submitted.message_id(text) == found
