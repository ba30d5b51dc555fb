"""Trace fields that delivery puts in front of a message (RFC 5321 4.4, RFC 3848 for the protocol word).

Values from peers are cut down to printable ASCII before they get in, addresses to what RFC 5321 and RFC 6531 allow:
nothing that a peer says can start a line of its own.
"""

import itertools
import os
import re
import time
from email.utils import formatdate
from functools import lru_cache

from fastmail._core import smtp as grammar
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress

_UNSAFE = re.compile(r"[^\x21-\x27\x2a-\x5b\x5d-\x7e\u00a0-\U0010ffff]")
_PLAIN = re.compile(r"[A-Za-z0-9._+=-]{1,64}@[A-Za-z0-9.-]{1,255}")
_numbers = itertools.count(1)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id() -> str:
    """An id for logs, Received fields and replies: time, process and count in base 32."""
    number = next(_numbers)
    return _beginning(int(time.time()), number >> 10 & 1023) + _ALPHABET[number >> 5 & 31] + _ALPHABET[number & 31]


@lru_cache(16)
def _beginning(second: int, thousands: int) -> str:
    return digits((second << 26) | ((os.getpid() & 0xFFFF) << 10) | thousands)


os.register_at_fork(after_in_child=_beginning.cache_clear)


@lru_cache(16)
def digits(value: int) -> str:
    """A number in base 32."""
    out = ""
    while value:
        out = _ALPHABET[value & 31] + out
        value >>= 5
    return out


def undigits(text: str) -> int:
    """The same back; ValueError when it is none."""
    value = 0
    for letter in text:
        value = value << 5 | _ALPHABET.index(letter)
    return value


def clean(text: str) -> str:
    """A word of a peer, fit for a header field: no controls, spaces, parentheses or backslashes, 255 characters at
    most."""
    return _UNSAFE.sub("?", text)[:255]


def mailbox(address: str) -> str:
    """An address for a header field. One that RFC 5321 4.1.2 allows stays as it is, with its quotes; anything else is
    cut down like any word of a peer."""
    if _PLAIN.fullmatch(address):  # nearly every one
        return address
    octets = address.encode("utf-8", "replace")
    try:
        whole = grammar.parse_mailbox(octets, 0, True)[2] == len(octets)
    except ValueError:
        whole = False
    text = octets.decode()
    return text if whole else clean(text)


def _host(name: str) -> str:
    """What a peer calls itself: with A-labels where it is a name that has them; ASCII in any case."""
    if not name.isascii():
        try:
            return ascii_name(name)
        except BadAddress:
            name = name.encode("ascii", "replace").decode()
    return clean(name) or "unknown"


def _literal(peer: str) -> str:
    """An IP address as RFC 5321 4.1.3 writes it; one without its zone, which means something to this host only."""
    return f"[IPv6:{peer.partition('%')[0]}]" if ":" in peer else f"[{peer}]"


@lru_cache(4)
def _date(second: int) -> str:
    return formatdate(second, localtime=False).replace("-0000", "+0000")


def received(
    helo: str,
    peer: str,
    hostname: str,
    protocol: str,
    number: str,
    recipient: str,
    priority: int = 0,
    now: float = 0.0,
    host: str = "",
) -> bytes:
    """``Received:`` with LF; ``priority`` as RFC 6710 7 adds it; ``now``: when, 0 for the time of day; ``host``: the
    client's name by the DNS, where it is known."""
    where = _literal(peer) if peer and peer != "local" else "local"
    where = f"{_host(host)} {where}" if host else where
    who = f" for <{mailbox(recipient)}>" if recipient else ""
    if priority:
        who += f"\n\tPRIORITY {priority}"
    return (
        f"Received: from {_host(helo)} ({where})\n\tby {hostname} with {protocol} id {number}{who};\n"
        f"\t{_date(int(now or time.time()))}\n"
    ).encode()


def return_path(sender: str) -> bytes:
    """``Return-Path:`` with LF; empty brackets for the null reverse-path."""
    return f"Return-Path: <{mailbox(sender)}>\n".encode()


def delivered_to(address: str) -> bytes:
    return f"Delivered-To: {mailbox(address)}\n".encode()
