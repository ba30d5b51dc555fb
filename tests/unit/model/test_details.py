"""The local-part in front of a detail, with and without quotes."""

import pytest

from fastmail._core import smtp
from fastmail.model.address import without_detail


@pytest.mark.parametrize(
    ("local", "base"),
    [
        (b"me", "me"),
        (b"me+x", "me"),
        (b"me+x+y", "me"),
        (b"+x", "+x"),
        (b'"me+x y"', "me"),
        (b'"me+x"', "me"),
        (b'"a b+c d"', '"a b"'),
        (b'"a\\"b+c"', '"a\\"b"'),
        (b'"a\\\\+c d"', '"a\\\\"'),
        (b'"m.e+x y"', "m.e"),
        (b'"m..e+x"', '"m..e"'),
        (b'"+x y"', '"+x y"'),
        (b'"x y"', '"x y"'),
        ('"é+x y"'.encode(), "é"),
    ],
)
def test_the_base_of_a_local_part(local: bytes, base: str) -> None:
    parsed, _, _ = smtp.parse_mailbox(local + b"@x", 0, True)
    assert without_detail(parsed.decode()) == base
