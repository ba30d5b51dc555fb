"""SMTP paths and parameters."""

import pytest

from fastmail._core import smtp


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (b"<>", None),
        (b"<a.b@EXAMPLE.org>", (b"a.b", b"example.org")),
        (b'<"a.b"@x>', (b"a.b", b"x")),
        (b'<"a b"@x>', (b'"a b"', b"x")),
        (b'<"a\\"b"@x>', (b'"a\\"b"', b"x")),
        (b"<@r.example,@s:a@x>", (b"a", b"x")),
        (b"<a@[127.0.0.1]>", (b"a", b"[127.0.0.1]")),
        (b"<a@[IPv6:::1]>", (b"a", b"[ipv6:::1]")),
        (b"<a+b=c@x-y.z>", (b"a+b=c", b"x-y.z")),
        (b"<" + b"a" * 252 + b"@b>", (b"a" * 252, b"b")),
        (b'<"' + b"a" * 249 + b' "@b>', (b'"' + b"a" * 249 + b' "', b"b")),
    ],
)
def test_paths(path: bytes, wanted: object) -> None:
    assert smtp.parse_path(path, 0, False) == (wanted, len(path))


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"a@b", b"<a>", b"<a@b", b"<.a@b>", b"<a.@b>", b"<a..b@c>", b"<@b>", b"<a@b..c>", b"<a@.b>", b'<"a@b>',
        b"<a b@c>", b"<a@b c>", b"<\x00@b>", b'<"\n"@b>', b"<a@>", b"<" + b"a" * 253 + b"@b>", b"<a@" + b"b" * 64 + b".c>",
        b"<a@" + b"b." * 150 + b"c>", b"<\xc3\xa9@b>", b"<a@[1 2]>", b"<a@b>>"[:0] + b"<<a@b>>",
    ],
)  # fmt: skip
def test_bad_paths(bad: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        smtp.parse_path(bad, 0, False)


def test_the_longest_mailbox() -> None:
    longest = b"a" * 318 + b"@b"
    assert smtp.parse_mailbox(longest, 0, False) == (b"a" * 318, b"b", len(longest))
    with pytest.raises(ValueError, match="address is longer than 320 octets"):
        smtp.parse_mailbox(b"a" + longest, 0, False)


def test_space_behind_a_command() -> None:
    for line in (b"NOOP", b"NOOP ", b"NOOP\t", b"noop \t \t"):
        assert smtp.next_command(line + b"\r\n", 0) == (len(line) + 2, b"NOOP", b"")
    line = b"RCPT TO:<a@b> NOTIFY=NEVER\t \r\n"
    assert smtp.next_command(line, 0) == (len(line), b"RCPT", b"TO:<a@b> NOTIFY=NEVER")
    assert smtp.next_command(b" \r\n", 0) == (3, b"", b"")


def test_utf8_paths_when_allowed() -> None:
    assert smtp.parse_path("<é@ü>".encode(), 0, True)[0] == ("é".encode(), "ü".encode())


def test_params() -> None:
    assert smtp.parse_params(b" SIZE=3 body=8BITMIME SMTPUTF8", 0) == [
        (b"SIZE", b"3"),
        (b"BODY", b"8BITMIME"),
        (b"SMTPUTF8", b""),
    ]
    for bad in (b"X", b" =1", b" A= ", b" A=b=c", b" A=\x01"):
        with pytest.raises(ValueError, match="expected"):
            smtp.parse_params(bad, 0)


def test_xtext() -> None:
    assert smtp.xtext(b"a+2Bb+3D") == b"a+b="
    for bad in (b"+", b"+2", b"+2g", b"a b", b"a=b"):
        with pytest.raises(ValueError, match="."):
            smtp.xtext(bad)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"NOOP\r\n", (b"NOOP", b"")),
        (b"mail FROM:<a@b> X\r\n", (b"MAIL", b"FROM:<a@b> X")),
        (b"rset \r\n", (b"RSET", b"")),
        (b"x" * 40 + b" word\r\n", (b"x" * 40, b"word")),
        (b"\r\n", (b"", b"")),
        (b"\n", (None, b"")),
        (b"NOOP\n", (None, b"")),
        (b"NO\rOP\r\n", (None, b"")),
        (b"NO\0OP\r\n", (None, b"")),
        (b"NOOP\r\r\n", (None, b"")),
    ],
)
def test_command_lines(line: bytes, wanted: tuple[bytes | None, bytes]) -> None:
    for before in (b"", b"QUIT\r\n", b"\r"):
        for behind in (b"", b"N", b"QUIT\r\n", b"\n"):
            data, start = before + line + behind, len(before)
            assert smtp.next_command(data, start) == (start + len(line), *wanted)
            assert smtp.next_command(memoryview(data), start) == (start + len(line), *wanted)
    for size in range(len(line)):
        assert smtp.next_command(line[:size], 0) is None, "its line end has not come"
    assert smtp.next_command(line, len(line)) is None
    assert smtp.next_command(line, -1) is None
