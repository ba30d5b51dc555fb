"""What a reader would see, for SEARCH: header values with encoded words decoded (RFC 2047), bodies with their transfer
encoding and charset undone (RFC 2045). Comparison is by case-folded substring.

Nothing here raises for a broken message: what can not be decoded is compared as Latin-1.
"""

import binascii
import codecs
import quopri
import re
from functools import lru_cache

from fastmail._core import fetch
from fastmail._core.lines import to_crlf
from fastmail.message.summary import LEAF, Summary

Octets = bytes | bytearray | memoryview
_WORD = re.compile(r"=\?([^?\s]+)\?([BbQq])\?([^?]*)\?=")
_BETWEEN = re.compile(r"(\?=)\s+(?==\?)")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_TYPE = re.compile(r"^\s*([^\s;/]+)/([^\s;]+)")
_CHARSET = re.compile(r'charset\*?\s*=\s*"?([^\s";]+)', re.IGNORECASE)
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


@lru_cache(4096)
def folded_value(raw: bytes) -> str:
    """A header value as comparison sees it."""
    return fold(decode_value(raw))


def field_values(header: Octets, name: bytes) -> list[str]:
    """Values of every field of that name (lower case) in a header block with CRLF."""
    picked = fetch.header_fields(header, (name,), False)
    if len(picked) <= 2:
        return []
    fields = re.split(rb"\r\n(?![ \t])", picked[:-2])
    return [decode_value(field.partition(b":")[2]) for field in fields if field]


def fold(text: str) -> str:
    return text.casefold()


def body_text(content: Octets, summary: Summary, with_headers: bool) -> list[str]:
    """Folded text of each part: bodies of text parts, headers of nested parts, and for TEXT the message's header."""
    out: list[str] = []
    root = summary.parts[0]
    if with_headers:
        out.append(fold(_plain_header(bytes(content[: root.body]))))
    for at, part in enumerate(summary.parts):
        header = to_crlf(content[part.header : part.body])
        if at and part.header != part.body:
            out.append(fold(_plain_header(header)))
        if part.kind != LEAF:
            continue
        kind = "".join(field_values(header, b"content-type")[:1])
        match = _TYPE.match(kind)
        main, sub = (match.group(1).lower(), match.group(2).lower()) if match else ("text", "plain")
        if main not in ("text", "message"):
            continue
        encoding = "".join(field_values(header, b"content-transfer-encoding")[:1]).strip().lower()
        data = bytes(content[part.body : part.end])
        if encoding == "base64":
            data = _base64(data)
        elif encoding == "quoted-printable":
            data = quopri.decodestring(data)
        charset = _CHARSET.search(kind)
        text = decode_charset(data, charset.group(1) if charset else "utf-8" if _is_utf8(data) else "latin-1")
        out.append(fold(text))
        if sub == "html":
            out.append(fold(_ENTITY.sub("", text)))
    return out


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
