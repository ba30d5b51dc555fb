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


def test_a_field_by_which_complaints_are_counted() -> None:
    whole = b"From: a@b.test\nDate: x\nMessage-ID: <1@b.test>\n\nbody\n"
    told = "17:b.test:user:example1"
    assert (
        b"".join(submitted.complete(whole, "a@b.test", "mx.test", told))
        == b"Feedback-ID: " + told.encode() + b"\n" + whole
    )
    own = b"feedback-id: a:b:c:another\n" + whole
    assert b"".join(submitted.complete(own, "a@b.test", "mx.test", told)) == own
    assert b"".join(submitted.complete(whole, "a@b.test", "mx.test")) == whole
