"""BODYSTRUCTURE of text parts that do not say their charset (RFC 2046 4.1.2)."""

import pytest

from fastmail.message import summary


@pytest.mark.parametrize(
    "field, shown",
    [
        ("", b'"text" "plain" ("charset" "us-ascii")'),
        ("Content-Type: text/html\n", b'"text" "html" ("charset" "us-ascii")'),
        ("Content-Type: TEXT/plain; name=a\n", b'"TEXT" "plain" ("name" "a" "charset" "us-ascii")'),
        ("Content-Type: text/plain; Charset=utf-8\n", b'"text" "plain" ("Charset" "utf-8")'),
        ("Content-Type: text/plain; charset*=us-ascii''x\n", b'"text" "plain" ("charset*" "us-ascii\'\'x")'),
        ("Content-Type: text/plain; charsets=x\n", b'"text" "plain" ("charsets" "x" "charset" "us-ascii")'),
        ("Content-Type: image/png\n", b'"image" "png" NIL'),
    ],
)
def test_charset_is_always_said(field: str, shown: bytes) -> None:
    made = summary.of(f"From: a@b.example\n{field}\nbody\n".encode())
    assert made.structure.startswith(b"(" + shown)
