"""What a reader would see, for SEARCH: header values with encoded words decoded (RFC 2047), bodies with their transfer
encoding and charset undone (RFC 2045). Comparison is by case-folded substring.

Nothing here raises for a broken message: what can not be decoded is compared as Latin-1.
"""

import binascii
import codecs
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fastmail._core import fetch
from fastmail._core.lines import to_crlf
from fastmail.message.collate import fold
from fastmail.message.summary import LEAF, Summary

Octets = bytes | bytearray | memoryview
_WORD = re.compile(r"=\?([^?\s]+)\?([BbQq])\?([^?]*)\?=")
_BETWEEN = re.compile(r"(\?=)\s+(?==\?)")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_TYPE = re.compile(r"^\s*([^\s;/]+)/([^\s;]+)")
_CHARSET = re.compile(r'charset\*?\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_COMMENT = re.compile(r"\([^()]*\)")
_ENTITY = re.compile(r"<[^>]*>")


def decode_charset(data: bytes, charset: str) -> str:
    """Text in a charset; Latin-1 when the charset is not known, replacement characters where it does not fit."""
    try:
        if codecs.lookup(charset)._is_text_encoding:
            return data.decode(charset, "replace")
    except (LookupError, ValueError, UnicodeError):
        pass
    return data.decode("latin-1")


def decode_words(text: str) -> str:
    """RFC 2047 encoded words in a header value."""
    if "=?" not in text:
        return text

    def word(match: re.Match[str]) -> str:
        charset, kind, value = match.groups()
        charset = charset.partition("*")[0]
        raw = value.encode("latin-1", "replace")
        try:
            if kind in "Bb":
                data = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
            else:
                data = quopri.decodestring(raw, header=True)
        except (binascii.Error, ValueError):
            return match.group(0)
        return decode_charset(data, charset)

    return _WORD.sub(word, _BETWEEN.sub(r"\1", text))


def decode_value(raw: bytes) -> str:
    """A header value, unfolded and decoded."""
    raw = _FOLD.sub(b"", raw).strip()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return decode_words(text)


def folded_value(raw: bytes) -> str:
    """A header value as comparison sees it. Not remembered: a stranger decides how long it is."""
    return fold(decode_value(raw))


def field_values(header: Octets, name: bytes) -> list[str]:
    """Values of every field of that name (lower case) in a header block with CRLF."""
    picked = fetch.header_fields(header, (name,), False)
    if len(picked) <= 2:
        return []
    fields = re.split(rb"\r\n(?![ \t])", picked[:-2])
    return [decode_value(field.partition(b":")[2]) for field in fields if field]


@dataclass(slots=True)
class TextPart:
    """The header of a MIME entity and, for a leaf of type text or message, its text."""

    header: bytes
    main: str = ""
    sub: str = ""
    text: str = ""
    attached: bool = False


def text_parts(content: Octets, summary: Summary) -> Iterator[TextPart]:
    """Each entity of a message, decoded as a reader would see it."""
    for part in summary.parts:
        header = to_crlf(content[part.header : part.body])
        if part.kind != LEAF:
            yield TextPart(header)
            continue
        kind = "".join(field_values(header, b"content-type")[:1])
        match = _TYPE.match(kind)
        main, sub = (match.group(1).lower(), match.group(2).lower()) if match else ("text", "plain")
        if main not in ("text", "message"):
            yield TextPart(header)
            continue
        data = decode_transfer(bytes(content[part.body : part.end]), transfer_encoding(header))
        charset = _CHARSET.search(kind)
        text = decode_charset(data, charset.group(1) if charset else "utf-8" if _is_utf8(data) else "latin-1")
        attached = "".join(field_values(header, b"content-disposition")[:1]).lstrip().lower().startswith("attachment")
        yield TextPart(header, main, sub, text, attached)


def body_text(content: Octets, summary: Summary, with_headers: bool) -> list[str]:
    """Folded text of each part: bodies of text parts, headers of nested parts, and for TEXT the message's header."""
    out: list[str] = []
    if with_headers:
        out.append(fold(_plain_header(bytes(content[: summary.parts[0].body]))))
    for at, part in enumerate(text_parts(content, summary)):
        if at and part.header:
            out.append(fold(_plain_header(part.header)))
        if part.main:
            out.append(fold(part.text))
            if part.sub == "html":
                out.append(fold(_ENTITY.sub("", part.text)))
    return out


def transfer_encoding(header: bytes) -> str:
    """Content-Transfer-Encoding of a header block with CRLF, in lower case; empty when there is none."""
    value = "".join(field_values(header, b"content-transfer-encoding")[:1])
    return _COMMENT.sub("", value).strip().lower()


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """A body with its transfer encoding undone; as it is for one that is not known."""
    if encoding == "base64":
        return _base64(data)
    if encoding == "quoted-printable":
        return quopri.decodestring(data)
    return data


def _plain_header(raw: bytes) -> str:
    return decode_words(_BETWEEN.sub(r"\1", _FOLD.sub(b"", raw).decode("utf-8", "replace")))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def _base64(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        clean = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
        try:
            return binascii.a2b_base64(clean[: len(clean) // 4 * 4])
        except binascii.Error:
            return data
