"""Decodes the text of a message for SEARCH: header values with their encoded words decoded (RFC 2047), bodies without
their transfer encoding and charset (RFC 2045). SEARCH then compares case-folded substrings.

The type of a part is read by the same compiled scanner that made BODYSTRUCTURE (``mime.leaf``). A broken message raises
nothing, and none of its text is left out: what is outside every part, and what cannot be decoded, is compared as it is
stored. Time is linear in the size; the long steps are compiled and run without the GIL.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from html.entities import html5

from fastmail._core import decode, fetch, mime
from fastmail._core.lines import to_crlf
from fastmail.message import charsets
from fastmail.message import summary as summaries
from fastmail.message.collate import fold
from fastmail.message.summary import LEAF, MESSAGE, MULTIPART, Part, Summary

Octets = bytes | bytearray | memoryview
ENCODINGS = ("", "7bit", "8bit", "binary", "base64", "quoted-printable")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_REFERENCE = re.compile(r"&(?:#([0-9]+)|#[xX]([0-9a-fA-F]+)|([A-Za-z][A-Za-z0-9]{1,31}));?")
_LAST_CHARACTER = 0x10FFFF
_LONGEST_NUMBER = 12  # digits; a longer number is not a character (and would take long to convert)
_DECODED_HEADER = 1 << 18  # octets of a header that are parsed and decoded; the rest is used undecoded
_REMEMBERED = 1024  # octets; the folded form of a longer header value is not cached
_ENCODED = 8 << 20  # octets of an encoded message that are read where bodies are not read whole
_ENCODED_MESSAGES = 4  # levels of messages inside encoded messages that are read


def decode_words(raw: bytes) -> str:
    """Return an unfolded header value with its RFC 2047 encoded words decoded. The octets of neighbouring words in one
    charset are decoded together, because senders split characters between words."""
    out: list[str] = []
    charset = ""
    held: list[bytes] = []
    for piece in decode.words(raw):
        name = (
            "" if isinstance(piece, bytes) else piece[0].partition(b"*")[0].decode("latin-1")
        )  # RFC 2231 5: a language
        if held and not (name and charsets.joins(charset, name)):
            out.append(charsets.decode(b"".join(held), charset))
            held = []
        if isinstance(piece, bytes):
            out.append(charsets.guess(piece))
        else:
            held.append(piece[1])
            charset = name
    if held:
        out.append(charsets.decode(b"".join(held), charset))
    return "".join(out)


def decode_value(raw: bytes) -> str:
    """Return a header value, unfolded and decoded."""
    raw = _FOLD.sub(b"", raw).strip()
    if b"=?" not in raw:
        return charsets.guess(raw)
    return decode_words(raw[:_DECODED_HEADER]) + charsets.guess(raw[_DECODED_HEADER:])


def folded_value(raw: bytes) -> str:
    """Return a header value in the form in which it is compared."""
    return _folded_value(raw) if len(raw) <= _REMEMBERED else fold(decode_value(raw))


@lru_cache(4096)
def _folded_value(raw: bytes) -> str:
    return fold(decode_value(raw))


def field_values(header: Octets, name: bytes) -> Iterator[str]:
    """Yield the values of every field of that name (lower case) in a header block with CRLF."""
    picked = fetch.header_fields(header, (name,), False)[:-2]  # without the empty line
    at = 0
    while at < len(picked):
        found = _FIELD_END.search(picked, at)
        end = found.start() if found is not None else len(picked)
        yield decode_value(picked[at:end].partition(b":")[2])
        at = end + 2


@dataclass(slots=True)
class TextPart:
    """One MIME entity as SEARCH reads it.

    ``header``: its header; ``text``: the text of a leaf of type text or message, or the text around the parts of a
    multipart (then ``main`` is empty); ``names``: its file names; ``raw``: its octets too, where the transfer encoding
    did not cover all of them."""

    header: bytes
    main: str = ""
    sub: str = ""
    text: str = ""
    attached: bool = False
    names: list[str] = field(default_factory=list)
    raw: str = ""


def text_parts(content: Octets, summary: Summary, most: int = 0) -> Iterator[TextPart]:
    """Yield each entity of a message, decoded as a reader would see it. ``most``: octets of a body to read, 0 for all;
    with it, what else is read of an entity is bounded too."""
    return _entities(content, summary, most, _ENCODED_MESSAGES)


def _entities(content: Octets, summary: Summary, most: int, deeper: int) -> Iterator[TextPart]:
    for at, part in enumerate(summary.parts):
        header = bytes(content[part.header : _end(part.header, part.body, _DECODED_HEADER if most else 0)])
        main, sub, charset, encoding, disposition, names = mime.leaf(header)
        one = TextPart(
            to_crlf(header),
            attached=disposition == b"attachment",
            names=[charsets.decode(name, of.decode("latin-1")) for of, name in names],
        )
        if part.kind != LEAF:
            if part.kind == MULTIPART:
                around = _first(_around(summary.parts, at), most)
                one.text = "\n".join(charsets.guess(bytes(content[a:b])) for a, b in around)
            yield one
            if part.kind == MESSAGE and deeper and encoding in (b"base64", b"quoted-printable"):
                # RFC 2046 5.2.1 forbids encoding a message; senders do it anyway
                end = _end(part.body, part.end, _ENCODED if most else 0)
                inner = decode_transfer(bytes(content[part.body : end]), encoding.decode())
                yield from _entities(inner, summaries.of(inner), most, deeper - 1)
            continue
        cut = main == b"multipart"  # nested too deep: the scanner left it as one part
        if main not in (b"text", b"message") and not cut:
            yield one
            continue
        body = bytes(content[part.body : _end(part.body, part.end, most)])
        data, sound = _transferred(body, encoding.decode("latin-1"))
        one.main, one.sub = ("text", "plain") if cut else (main.decode("latin-1"), sub.decode("latin-1"))
        one.text = charsets.decode(data, charset.decode("latin-1")) if charset else charsets.guess(data)
        if not sound or (summary.cut and at == len(summary.parts) - 1):
            one.raw = charsets.guess(body)
        yield one


def _end(start: int, end: int, most: int) -> int:
    """Where to end, so that at most ``most`` octets are read; 0 for any number."""
    return min(end, start + most) if most else end


def _first(ranges: Iterable[tuple[int, int]], most: int) -> Iterator[tuple[int, int]]:
    """Yield the first ``most`` octets of ranges; 0 for all."""
    left = most
    for start, end in ranges:
        end = _end(start, end, left)
        yield start, end
        if most:
            left -= end - start
            if not left:
                return


def _around(parts: list[Part], at: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a multipart that are in none of its parts: text before, between and after them, with the
    boundary lines."""
    whole = parts[at]
    done = whole.body
    for one in parts[at + 1 :]:
        if one.depth <= whole.depth:
            break
        if one.depth == whole.depth + 1:
            if one.header > done:
                yield done, one.header
            done = max(done, one.end)
    if whole.end > done:
        yield done, whole.end


def body_text(content: Octets, summary: Summary, with_headers: bool) -> list[str]:
    """Return the folded text of each part: bodies of text parts, headers of nested parts, and for TEXT the message's
    header."""
    out: list[str] = []
    if with_headers:
        out.append(fold(_plain_header(bytes(content[: summary.parts[0].body]))))
    for at, part in enumerate(text_parts(content, summary)):
        if at and part.header:
            out.append(fold(_plain_header(part.header)))
        out += [fold(text) for text in (*part.names, part.text, part.raw) if text]
        if part.main and part.sub == "html":
            out.append(fold(html_text(part.text, False)))
    return out


def html_text(text: str, shown: bool, most: int = 0) -> str:
    """Return HTML without its tags, and with its character references as characters.

    ``shown``: also without comments and what a browser does not show (see ``decode.html``). ``most``: characters, or 0
    for all; a reference may be cut at the end."""
    bare = decode.html(text.encode("utf-8", "surrogatepass"), shown).decode("utf-8", "surrogatepass")
    bare = bare[:most] if most else bare
    return _REFERENCE.sub(_character, bare) if "&" in bare else bare


def _character(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name:
        return html5.get(name + ";") or match.group(0)
    digits = decimal or hexadecimal
    number = int(digits, 10 if decimal else 16) if len(digits) <= _LONGEST_NUMBER else 0
    return chr(number) if 0 < number <= _LAST_CHARACTER and not 0xD800 <= number < 0xE000 else "\ufffd"


def transfer_encoding(header: Octets) -> str:
    """Return the Content-Transfer-Encoding of a header block, in lower case; empty when there is none."""
    return mime.leaf(header)[3].decode("latin-1")


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """Return a body without its transfer encoding; unchanged when the encoding is unknown."""
    return _transferred(data, encoding)[0]


def whole_transfer(data: bytes, encoding: str) -> bytes | None:
    """Return a body without its transfer encoding; None when the encoding is unknown, or the body does not follow it
    (RFC 3516 4.2)."""
    if encoding not in ENCODINGS:
        return None
    decoded, sound = _transferred(data, encoding)
    return decoded if sound else None


def _transferred(data: bytes, encoding: str) -> tuple[bytes, bool]:
    if encoding == "base64":
        return decode.base64(data)
    if encoding == "quoted-printable":
        return decode.quoted_printable(data), True
    return data, True


def _plain_header(raw: bytes) -> str:
    """Return all fields of a header, each decoded on its own: one may be UTF-8 and the next one not."""
    fields = [decode_value(one) for one in re.split(rb"\r?\n(?![ \t])", raw[:_DECODED_HEADER])]
    if len(raw) > _DECODED_HEADER:
        fields.append(charsets.guess(raw[_DECODED_HEADER:]))
    return "\n".join(fields)
