"""Reads who a message says it is from: the addresses of From, Sender and the Resent fields (RFC 5322 3.4, 3.6.2,
3.6.6), with groups (RFC 6854) and everything that the obsolete grammar allows (4.4): comments and folds between any two
words, routes, empty elements.

The result is used to decide things, so nothing is guessed or repaired: a field that does not follow the grammar raises
Unreadable, because another program might read a different address in it. Display names may hold anything. An address is
returned in one form: without comments and needless quotes, with upper and lower case as written.

Promise: linear in the text, which is bounded (MOST octets of fields, ADDRESSES addresses).
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastmail._core import header
from fastmail.model.domain import LONGEST, comparable

FIELDS = (b"from", b"sender", b"resent-from", b"resent-sender")
NAMES = ("From", "Sender", "Resent-From", "Resent-Sender")
MOST = 16384  # octets of all these fields together
ADDRESSES = 100  # in all these fields; a message has one or two
# One token at a time; no two of these begin alike, and none can be matched in two ways.
_TOKEN = re.compile(
    r'(?P<space>[ \t\r\n]+)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<literal>\[(?:[^\[\]\\]|\\.)*\])'
    r"|(?P<special>[<>:;@,.])|(?P<open>\()|(?P<atom>[^ \t\r\n\"\[\]<>:;@,.()\\]+)",
    re.DOTALL,
)
_COMMENT = re.compile(r"[^()\\]+|\\.|[()]", re.DOTALL)
_PLAIN = re.compile(r"[^\s\"\[\]<>:;@,.()\\]+(?:\.[^\s\"\[\]<>:;@,.()\\]+)*")
# A name that some programs may take for From: octets stand around it, within the line or in the next one, that no name
# of a field has.
_LIKE_FROM = re.compile(rb"^[^\x21-\x7e\n]*from[^\x21-\x39\x3b-\x7e]*:", re.MULTILINE | re.IGNORECASE)
ENCODED = "=?"  # an encoded word has no place in an address (RFC 2047 5), but programs decode it there
Octets = bytes | bytearray | memoryview
Token = tuple[str, str]  # kind, text; a special is its own kind


class Unreadable(ValueError):
    """The field does not follow the grammar, so programs could read it differently; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Author:
    """``field``: as it is usually written, such as "Resent-From"."""

    field: str
    address: str


def fields(content: Octets) -> list[tuple[int, bytes]]:
    """Return these fields of a message (LF) as (index into NAMES, value).

    Raises Unreadable when they are too long, or when a line of the header contains a carriage return: BINARYMIME can
    carry one, and some programs take it for the end of the line."""
    if b"\r" in bytes(content[: header.end(content)]):
        raise Unreadable("the header has a carriage return within a line")
    found = header.values(content, FIELDS, MOST)
    if found is None:
        raise Unreadable("From, Sender and Resent fields are too long")
    return found


def like_from(text: bytes) -> int:
    """Return how many lines of a header (LF) begin with From, or with what some program may take for it: with a byte
    order mark in front, a NUL, or a space of Unicode behind the name, the colon in the next line."""
    return len(_LIKE_FROM.findall(text))


def read(found: list[tuple[int, bytes]]) -> list[Author]:
    """Return everybody whom these fields name, in order. Raises Unreadable."""
    out: list[Author] = []
    for which, value in found:
        name = NAMES[which]
        try:
            addresses = list(parse(value.decode("utf-8", "surrogateescape")))
        except Unreadable as error:
            raise Unreadable(f"{name} cannot be read: {error}") from None
        if not addresses:
            raise Unreadable(f"{name} names nobody")
        out += [Author(name, address) for address in addresses]
        if len(out) > ADDRESSES:
            raise Unreadable(f"From, Sender and Resent fields name more than {ADDRESSES} addresses")
    return out


def parse(text: str) -> Iterator[str]:
    """Yield the addresses of an address list. Raises Unreadable."""
    item: list[Token] = []
    group = angle = False
    # The comma at the end makes the last address end like every other one.
    for token in [*tokens(text), (",", ",")]:
        kind = token[0]
        if kind in ("space", "comment"):
            continue
        if kind == "<" and not angle:
            angle = True
        elif kind == ">":
            angle = False
        if angle or kind not in (",", ";", ":"):
            item.append(token)
        elif kind == ":":
            if group or not item or any(one not in ("atom", "quoted", ".") for one, _ in item):
                raise Unreadable("a colon is in a wrong place")
            group, item = True, []
        else:
            if kind == ";" and not group:
                raise Unreadable("a semicolon is in a wrong place")
            if item:
                yield _mailbox(item)
            item = []
            group = group and kind != ";"
    if group or angle:
        raise Unreadable("it does not end")


def tokens(text: str) -> Iterator[Token]:
    """Yield all of a structured value as (kind, text): words, specials, literals, "space" and "comment". Raises
    Unreadable."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or "\0" in found.group():
            raise Unreadable("a character is in a wrong place")
        start, at = at, found.end()
        kind = found.lastgroup or ""
        if kind == "open":
            kind, at = "comment", _behind_comment(text, at)
        yield (found.group(), found.group()) if kind == "special" else (kind, text[start:at])


def _behind_comment(text: str, at: int) -> int:
    """Return where the comment ends whose opening bracket was just read; comments nest."""
    depth = 1
    while depth:
        found = _COMMENT.match(text, at)
        if found is None:
            raise Unreadable("a comment does not end")
        depth += {"(": 1, ")": -1}.get(found.group(), 0)
        at = found.end()
    return at


def _mailbox(item: list[Token]) -> str:
    """Return the address of ``name <address>``, or of an address alone."""
    kinds = [kind for kind, _ in item]
    if "<" not in kinds:
        return _address(item)
    start = kinds.index("<")
    if kinds[-1] != ">" or any(kind not in ("atom", "quoted", ".") for kind in kinds[:start]):
        raise Unreadable("a name and an address in angle brackets are expected")
    inner = item[start + 1 : -1]
    if inner and inner[0][0] in ("@", ","):
        inner = _behind_route(inner)
    return _address(inner)


def _behind_route(inner: list[Token]) -> list[Token]:
    """Return what follows the route ``@one,@two:`` (RFC 5322 4.4). The hosts of a route are checked and then dropped:
    they are nobody's address."""
    end = next((at for at, (kind, _) in enumerate(inner) if kind == ":"), -1)
    hosts: list[list[Token]] = [[]]
    for token in inner[: max(end, 0)]:
        if token[0] == ",":
            hosts.append([])
        else:
            hosts[-1].append(token)
    if not any(hosts) or any(host and host[0][0] != "@" for host in hosts):
        raise Unreadable("a route is malformed")
    for host in hosts:
        if host:
            _domain(host[1:])
    return inner[end + 1 :]


def _address(item: list[Token]) -> str:
    at = next((place for place, (kind, _) in enumerate(item) if kind == "@"), -1)
    if at < 0:
        raise Unreadable("an address with an @ is expected")
    local = _local(item[:at])
    return f"{local}@{_domain(item[at + 1 :])}"


def _words(item: list[Token], kinds: tuple[str, ...]) -> list[str]:
    """Return the words of a local part or domain, which must have a dot between any two."""
    if len(item) % 2 == 0 or any((kind == ".") != (at % 2 == 1) for at, (kind, _) in enumerate(item)):
        raise Unreadable("an address is malformed")
    if any(kind not in kinds for kind, _ in item[::2]):
        raise Unreadable("an address is malformed")
    words = [text for _, text in item[::2]]
    if not all(word.isprintable() for word in words):  # octets that are not UTF-8 are not printable either
        raise Unreadable("an address has a character that is not allowed")
    return words


def _local(item: list[Token]) -> str:
    """Return the local part with no more quoting than it needs."""
    words = _words(item, ("atom", "quoted"))
    plain = ".".join(re.sub(r"\\(.)", r"\1", one[1:-1]) if one[0] == '"' else one for one in words)
    if ENCODED in plain:
        raise Unreadable("an encoded word is not an address")
    if _PLAIN.fullmatch(plain):
        return plain
    return '"' + re.sub(r'(["\\])', r"\\\1", plain) + '"'


def _domain(item: list[Token]) -> str:
    if len(item) == 1 and item[0][0] == "literal":
        return item[0][1]
    return ".".join(_words(item, ("atom",)))


def domains(values: Iterable[bytes], most: int) -> list[str]:
    """Return the domains of the addresses in fields, as ``comparable`` writes them: ``most`` of them, in alphabetical
    order. A field that cannot be read, and what is too long for a domain, have none."""
    out: set[str] = set()
    for value in values:
        with contextlib.suppress(Unreadable):
            found = [one.rpartition("@")[2] for one in parse(value.decode("utf-8", "surrogateescape"))]
            out |= {comparable(one) for one in found if len(one) <= LONGEST}
    return sorted(out)[:most]
