"""Mail that carries a file for a program, and mailto URIs."""

import email
from email import policy

import pytest

from fastmail.message.letter import Letter, mailto, make


def test_a_letter() -> None:
    one = Letter(
        "Reports <a@b.test>",
        ["c@d.test", "e@f.test"],
        ["One:", "Two"],
        "For people.",
        "multipart/mixed",
        "application/gzip",
        "f.gz",
        bytes(300),
        ["X: y"],
    )
    text = make(one, "1@b.test", 0.0)
    assert b"\r" not in text and max(map(len, text.splitlines())) < 80
    found = email.message_from_bytes(text, policy=policy.default)
    assert found["Subject"] == "One: Two" and found["To"] == "c@d.test, e@f.test" and found["X"] == "y"
    assert found["Date"] == "Thu, 01 Jan 1970 00:00:00 +0000" and found["Auto-Submitted"] == "auto-generated"
    words, file = found.iter_parts()
    assert words.get_content() == "For people.\n"
    assert (file.get_content(), file.get_filename(), file.get_content_type()) == (
        bytes(300),
        "f.gz",
        "application/gzip",
    )


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("mailto:a@b.test", "a@b.test"),
        ("MAILTO:a%2Bx@B.test?subject=hi&to=c@d.test", "a+x@b.test"),
        ("mailto:a@b.test%0d%0aBcc:c@d.test", ""),
        ("mailto:a@b.test,c@d.test", ""),
        ("mailto:%ff@b.test", ""),
        ("mailto:ä@b.test", ""),
        ("mailto:", ""),
        ("mailto", ""),
        ("https://b.test", ""),
        ("mailto:" + "a" * 5000 + "@b.test", ""),
    ],
)
def test_the_address_of_a_uri(uri: str, address: str) -> None:
    assert mailto(uri) == address
