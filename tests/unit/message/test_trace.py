"""Trace fields: what peers call themselves, addresses with quotes, address literals (RFC 5321 4.1.2, 4.1.3, 4.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.message import trace

ADDRESSES = [
    "a@b.test",
    '"a b"@c.test',
    '"a\\"b\\\\c"@d.test',
    '"(x)"@c.test',
    '"a@b"@c.test',
    '""@c.test',
    "a@[127.0.0.1]",
    "a@[IPv6:::1]",
    "josé@b.test",
    "o'neill+x=y/z@b.test",
    "a" * 64 + "@" + ".".join(["b" * 60] * 4) + ".test",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_keep_their_quotes(address: str) -> None:
    assert trace.return_path(address) == f"Return-Path: <{address}>\n".encode()
    assert trace.delivered_to(address) == f"Delivered-To: {address}\n".encode()
    assert f" for <{address}>;\n".encode() in trace.received("x", "local", "mx.test", "ESMTP", "1", address)


@pytest.mark.parametrize("text", ["a b@c", "a\nb@c", '"a\nb"@c', "a@b>\nX: y", "a\x00@b", "a@b\udce9"])
def test_what_is_no_address_starts_no_line(text: str) -> None:
    for line in (trace.return_path(text), trace.delivered_to(text)):
        assert line.count(b"\n") == 1 and b" " not in line.partition(b": ")[2].strip()


def test_no_sender() -> None:
    assert trace.return_path("") == b"Return-Path: <>\n"


@pytest.mark.parametrize(
    ("peer", "literal"),
    [
        ("192.0.2.1", "([192.0.2.1])"),
        ("::1", "([IPv6:::1])"),
        ("2001:db8::7", "([IPv6:2001:db8::7])"),
        ("fe80::1%eth0", "([IPv6:fe80::1])"),
        ("local", "(local)"),
        ("", "(local)"),
    ],
)
def test_addresses_of_hosts(peer: str, literal: str) -> None:
    assert literal.encode() in trace.received("x", peer, "mx.test", "ESMTP", "1", "")


@pytest.mark.parametrize(
    ("helo", "name"),
    [
        ("mail.test", "mail.test"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:::1]", "[IPv6:::1]"),
        ("mail.bücher.example", "mail.xn--bcher-kva.example"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("ü ü", "???"),
        ("☃.\u202e.example", "?.?.example"),
        ("a(b)c\\d", "a?b?c?d"),
        ("", "unknown"),
    ],
)
def test_names_of_hosts(helo: str, name: str) -> None:
    field = trace.received(helo, "192.0.2.1", "mx.test", "ESMTP", "1", "")
    assert field.startswith(f"Received: from {name} ([".encode()) and field.isascii()


@given(st.integers(min_value=1, max_value=1 << 70))
def test_digits_say_the_number_without_zeros_in_front(value: int) -> None:
    text = trace.digits(value)
    assert trace.undigits(text) == value and not text.startswith("0")
