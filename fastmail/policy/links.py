"""Domains that the content of a message names: hosts of URLs, and of mail addresses in its text. For lists of those
that spam leads to (policy.lists).

All text parts count as a reader sees them, without transfer encoding and charset; of HTML its attributes too. What a
browser undoes is undone (``_core.links``).

Promise: the same message gives the same names wherever it lies. Work is linear in the message and bounded: PARTS parts,
TEXT octets of each. At most URLS and ADDRESSES names are looked up, which bounds the questions of a message. Where more
are named, those at the beginning and at the end count, and ``many`` says so: who hides a name among others may put it
at either end. Only names near the ends are brought into the form of the DNS, because that takes long for letters beyond
ASCII. Nothing raises for what a message holds.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Sequence
from typing import TypeVar

import msgspec

from fastmail._core import links
from fastmail._core.lines import to_lf
from fastmail.message import summary as summaries
from fastmail.message import text
from fastmail.message.header import Octets
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress
from fastmail.net.address_rules import literal, numeric

PARTS = 40
TEXT = 131072  # octets of a part's body
FOUND = 4000  # different names of a kind that are noted in a part
URLS, ADDRESSES = 20, 10
LOOKED_AT = 2  # times as many are looked at, because some hosts are no names
ON_LOOP = 16384  # octets of a message that is read at once, and not on a helper thread

T = TypeVar("T")


class Links(msgspec.Struct, frozen=True):
    """``urls``: hosts of URLs, domains with A-labels or IP addresses; ``addresses``: domains of mail addresses that are
    none of these; ``many``: there were more."""

    urls: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    many: bool = False


async def find(content: Octets) -> Links:
    """The names in a message (LF or CRLF)."""
    if len(content) <= ON_LOOP:
        return read(content)
    return await asyncio.get_running_loop().run_in_executor(None, read, content)


def read(content: Octets) -> Links:
    """The same, at once."""
    if isinstance(content, bytes) and b"\r\n" in content:
        content = to_lf(content)  # or a long part would be cut elsewhere
    urls: dict[bytes, None] = {}
    addresses: dict[bytes, None] = {}
    many = False
    for number, part in enumerate(text.text_parts(content, summaries.of(content), TEXT)):
        if number >= PARTS:
            many = True
            break
        if not part.text:
            continue
        data = part.text.encode("utf-8", "surrogatepass")
        if part.sub == "html":
            data = links.unreferenced(data)
        hosts, domains, more = links.hosts(data, FOUND)
        many = many or more
        urls.update(dict.fromkeys(hosts))
        addresses.update(dict.fromkeys(domains))
    own, more_urls = _names(urls, URLS)
    rest, more_addresses = _names({one: None for one in addresses if one not in urls}, ADDRESSES)
    rest = [name for name in rest if name not in own]
    many = many or more_urls or more_addresses
    return Links(_ends(own, URLS), _ends(rest, ADDRESSES), many)


def _names(found: Collection[bytes], most: int) -> tuple[list[str], bool]:
    """(the names near the ends, each once; are there more than ``most``?)."""
    near = _ends(list(found), LOOKED_AT * most)
    names = list(dict.fromkeys(name for raw in near if (name := host(raw))))
    return names, len(names) > most or len(near) < len(found)


def _ends(names: Sequence[T], most: int) -> tuple[T, ...]:
    """``most`` of them: half from the beginning, half from the end."""
    if len(names) <= most:
        return tuple(names)
    return (*names[: most // 2], *names[-(most - most // 2) :])


def host(raw: bytes) -> str:
    """A host as the scanner found it, in the form of the DNS: a domain name, or an IP address. Empty for what is
    neither, and for an address that nobody on the Internet has."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    if name.startswith("["):
        return _public(literal(name))
    if not name.isascii():
        name = _without_text(name)
    try:
        name = ascii_name(name)
    except BadAddress:
        return ""
    if numeric(name):
        return _public(_as_browsers_do(name))
    return name if "." in name else ""


def _without_text(name: str) -> str:
    """The name without text that follows it without a space, as in Chinese: no top-level domain has both scripts."""
    head, dot, last = name.rpartition(".")
    size = next((at for at, letter in enumerate(last) if not letter.isascii()), len(last))
    return f"{head}{dot}{last[:size]}" if size else name


def _as_browsers_do(name: str) -> str:
    """An IPv4 address that is written in any of the forms of the C library (0x7f.1, 2130706433)."""
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return ""


def _public(address: str) -> str:
    try:
        return address if address and ipaddress.ip_address(address).is_global else ""
    except ValueError:
        return ""
