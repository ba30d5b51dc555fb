"""Finds the octets of a stored message that BODY[section] (RFC 3501 6.4.5) or BINARY[part] (RFC 3516) names."""

from itertools import takewhile

from fastmail._core import fetch
from fastmail._core.lines import to_crlf
from fastmail.message import text as decoded
from fastmail.message.summary import LEAF, MESSAGE, MULTIPART, Part, Summary
from fastmail.model.errors import CannotDo

Octets = bytes | bytearray | memoryview


def find(summary: Summary, path: tuple[int, ...]) -> int | None:
    """Return the index of the part that the part numbers name; None when there is no such part (RFC 3501 6.4.5).

    Numbers count the parts of a multipart. After a message/rfc822 part they count inside its message. Part 1 of a
    message that is not a multipart is its body, and no more numbers can follow it."""
    at = 0
    parts = summary.parts
    for position, number in enumerate(path):
        if position and parts[at].kind == LEAF:
            return None
        if position and parts[at].kind == MESSAGE:
            at += 1
        if parts[at].kind == MULTIPART:
            found = _child(parts, at, number)
            if found is None:
                return None
            at = found
        elif number != 1:
            return None
    return at


def _child(parts: list[Part], at: int, number: int) -> int | None:
    depth = parts[at].depth + 1
    for index in range(at + 1, len(parts)):
        if parts[index].depth < depth:
            return None
        if parts[index].depth == depth:
            number -= 1
            if number == 0:
                return index
    return None


def extract(
    content: Octets, summary: Summary, path: tuple[int, ...], text: bytes, names: tuple[bytes, ...]
) -> bytes | None:
    """Return the section as it is served, with CRLF; for BINARY and SIZE without its transfer encoding. None when the
    message has no such part."""
    if text in (b"BINARY", b"SIZE"):
        found = _decoded(content, summary, path)
        return b"%d" % len(found or b"") if text == b"SIZE" else found
    if not path:
        root = summary.parts[0]
        if not text:
            return to_crlf(content)
        if text == b"TEXT":
            return to_crlf(content[root.body :])
        return _header(content[: root.body], text, names)
    at = find(summary, path)
    if at is None:
        return None
    part = summary.parts[at]
    if not text:
        return to_crlf(content[part.body : part.end])
    if text == b"MIME":
        return to_crlf(content[part.header : part.body])
    if part.kind != MESSAGE or at + 1 >= len(summary.parts):
        return None
    inner = summary.parts[at + 1]
    if text == b"TEXT":
        return to_crlf(content[inner.body : inner.end])
    return _header(content[inner.header : inner.body], text, names)


class UnknownEncoding(CannotDo):
    """The transfer encoding of a part is unknown, or the body does not follow it (RFC 3516 4.2)."""


def _decoded(content: Octets, summary: Summary, path: tuple[int, ...]) -> bytes | None:
    if not path:
        return to_crlf(content)
    at = find(summary, path)
    if at is None:
        return None
    part = summary.parts[at]
    body = to_crlf(content[part.body : part.end])
    if part.kind == MULTIPART:
        return body
    found = decoded.whole_transfer(body, decoded.transfer_encoding(content[part.header : part.body]))
    if found is None:
        raise UnknownEncoding("the transfer encoding of a part is not known")
    return found


def _header(raw: Octets, text: bytes, names: tuple[bytes, ...]) -> bytes:
    header = to_crlf(raw)
    if text == b"HEADER":
        return header
    return fetch.header_fields(header, names, text == b"HEADER.FIELDS.NOT")


def structure_of(summary: Summary, path: tuple[int, ...]) -> bytes | None:
    """Return the BODYSTRUCTURE of the part that ``find`` finds; None when there is no such part."""
    item = _parse(summary.structure)
    for position, number in enumerate(path):
        if position and not isinstance(item[0], list):
            inner = _inner(item)
            if inner is None:
                return None
            item = inner
        children = list(takewhile(lambda one: isinstance(one, list), item))
        if children:
            if number > len(children):
                return None
            item = children[number - 1]  # type: ignore[assignment]
        elif number != 1:
            return None
    return _join(item)


def _inner(item: list[object]) -> list[object] | None:
    """Return the structure of the message in a message/rfc822 part; None for other parts."""
    kind, sub = _join(item[0]).lower(), _join(item[1]).lower()
    if kind == b'"message"' and sub in (b'"rfc822"', b'"global"'):
        assert isinstance(item[8], list)
        return item[8]
    return None


def body_of_structure(structure: bytes) -> bytes:
    """Return BODY (the non-extensible form) from BODYSTRUCTURE: the same without extension data (RFC 3501 7.4.2)."""
    return _strip(_parse(structure))


def decoded_structure(structure: bytes, octets: bytes) -> bytes:
    """Return the BODYSTRUCTURE of a part whose data are given without their transfer encoding: ``octets`` (RFC 5524
    3.2). Only leaves have a transfer encoding; others are returned unchanged."""
    item = _parse(structure)
    if isinstance(item[0], list) or _join(item[0]).lower() == b'"message"':
        return structure
    item[5] = b'"BINARY"' if 0 in octets else b'"8BIT"' if not octets.isascii() else b'"7BIT"'
    item[6] = b"%d" % len(octets)
    if _join(item[0]).lower() == b'"text"':
        item[7] = b"%d" % octets.count(b"\n")
    return _join(item)


def _parse(data: bytes) -> list[object]:
    """Return the wire strings as nested lists."""
    stack: list[list[object]] = [[]]
    i = 0
    n = len(data)
    while i < n:
        c = data[i]
        if c == 40:
            stack.append([])
            i += 1
        elif c == 41:
            done = stack.pop()
            stack[-1].append(done)
            i += 1
        elif c == 32:
            i += 1
        elif c == 34:
            j = i + 1
            while data[j] != 34:
                j += 2 if data[j] == 92 else 1
            stack[-1].append(data[i : j + 1])
            i = j + 1
        elif c == 123:
            j = data.index(b"}", i)
            end = j + 3 + int(data[i + 1 : j])
            stack[-1].append(data[i:end])
            i = end
        else:
            j = i
            while j < n and data[j] not in b" ()":
                j += 1
            stack[-1].append(data[i:j])
            i = j
    first = stack[0][0]
    assert isinstance(first, list)
    return first


def _join(item: object) -> bytes:
    if isinstance(item, list):
        if item and all(isinstance(x, list) for x in item):
            return b"(" + b"".join(map(_join, item)) + b")"
        return b"(" + b" ".join(map(_join, item)) + b")"
    assert isinstance(item, bytes)
    return item


def _strip(item: list[object]) -> bytes:
    if isinstance(item[0], list):
        children = [x for x in item if isinstance(x, list)]
        kids = []
        for x in item:
            if not isinstance(x, list):
                subtype = x
                break
            kids.append(x)
        else:
            subtype = children[-1]
        return b"(" + b"".join(map(_strip, kids)) + b" " + _join(subtype) + b")"
    kind = _join(item[0]).lower()
    keep = [_join(x) for x in item[:7]]
    if kind == b'"text"':
        keep.append(_join(item[7]))
    elif (inner := _inner(item)) is not None:
        keep += [_join(item[7]), _strip(inner), _join(item[9])]
    return b"(" + b" ".join(keep) + b")"
