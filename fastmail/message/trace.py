"""Makes the trace fields that delivery puts before a message (RFC 5321 4.4, RFC 3848 for the protocol word).

Values from peers are reduced to printable ASCII before they are used, addresses to what RFC 5321 and RFC 6531 allow:
nothing that a peer says can begin a line of its own.
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
REMEMBERED = 1024  # addresses whose form in a field is kept: those of who gets mail now come again and again
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # two digits at a time


def new_id() -> str:
    """Return an id for logs, Received fields and replies: time, process and count in base 32."""
    # The last two digits are the low 10 bits of the count. The rest changes rarely and is cached.
    number = next(_numbers)
    return _beginning(int(time.time()), number >> 10 & 1023) + _ALPHABET[number >> 5 & 31] + _ALPHABET[number & 31]


@lru_cache(16)
def _beginning(second: int, thousands: int) -> str:
    return digits((second << 26) | ((os.getpid() & 0xFFFF) << 10) | thousands)


os.register_at_fork(after_in_child=_beginning.cache_clear)


@lru_cache(16)
def digits(value: int) -> str:
    """Return a number in base 32."""
    out = ""
    while value >= 32:
        out = _PAIRS[value & 1023] + out
        value >>= 10
    return _ALPHABET[value] + out if value else out


def undigits(text: str) -> int:
    """Return the number that ``digits`` wrote; ValueError when the text is not one."""
    value = 0
    for letter in text:
        value = value << 5 | _ALPHABET.index(letter)
    return value


def clean(text: str) -> str:
    """Return a peer's word in a form that is safe in a header field: no controls, spaces, parentheses or backslashes,
    at most 255 characters."""
    return _UNSAFE.sub("?", text)[:255]


@lru_cache(REMEMBERED)
def mailbox(address: str) -> str:
    """Return an address for a header field. One that RFC 5321 4.1.2 allows stays the same, with its quotes; anything
    else is cleaned like any other word of a peer."""
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
    """Return the name that a peer gives itself, in ASCII: with A-labels where it is an internationalized domain
    name."""
    if not name.isascii():
        try:
            return ascii_name(name)
        except BadAddress:
            name = name.encode("ascii", "replace").decode()
    return clean(name) or "unknown"


@lru_cache(64)
def _client(helo: str, peer: str, host: str) -> str:
    """Return who a message comes from, as Received fields say it; the same for all messages of a session."""
    where = _literal(peer) if peer and peer != "local" else "local"
    where = f"{_host(host)} {where}" if host else where
    return f"{_host(helo)} ({where})"


def _literal(peer: str) -> str:
    """Return an IP address as RFC 5321 4.1.3 writes it. Its zone is left out, because it means something only on this
    host."""
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
    """Return a ``Received:`` field with LF.

    ``priority``: added as RFC 6710 7 says; ``now``: the time it shows, 0 for the current time; ``host``: the client's
    name by the DNS, if it is known."""
    who = f" for <{mailbox(recipient)}>" if recipient else ""
    if priority:
        who += f"\n\tPRIORITY {priority}"
    return (
        f"Received: from {_client(helo, peer, host)}\n\tby {hostname} with {protocol} id {number}{who};\n"
        f"\t{_date(int(now or time.time()))}\n"
    ).encode()


@lru_cache(REMEMBERED)
def return_path(sender: str) -> bytes:
    """Return a ``Return-Path:`` field with LF; empty brackets for the null reverse-path."""
    return f"Return-Path: <{mailbox(sender)}>\n".encode()


@lru_cache(REMEMBERED)
def delivered_to(address: str) -> bytes:
    return f"Delivered-To: {mailbox(address)}\n".encode()
