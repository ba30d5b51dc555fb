"""Puts a footer under the text of a message (RFC 2045, RFC 2046): plain text under its text/plain bodies, HTML at the
end of its text/html bodies.

The bodies are what a reader sees first: the message's own text, each form of a multipart/alternative, the first part of
any other multipart. Attachments and enclosed messages stay as they are. A body keeps its charset and its transfer
encoding where these can say the footer; otherwise it becomes UTF-8, in quoted-printable. Lines of format=flowed text
stay lines (RFC 3676 4.4). Every octet outside these bodies, and outside two of their fields, stays.

What is signed or encrypted is never touched: multipart/signed, multipart/encrypted, application/pkcs7-mime (RFC 8551),
and text with OpenPGP in it (RFC 9580 6.2). DKIM signatures that the message has already are of another body then.

Promise: the work grows with the size of the message alone. Fails never: a message where there is no such body, or
one that is not what it says, stays as it is.
"""

import base64
import binascii
import html
import re
from collections.abc import Iterator

from fastmail._core import mime
from fastmail.message import charsets, summary
from fastmail.message.header import Octets
from fastmail.message.summary import LEAF, MESSAGE, MULTIPART, Part, Summary
from fastmail.message.text import whole_transfer

_PGP = b"-----BEGIN PGP "
_SEALED = {(b"multipart", b"signed"), (b"multipart", b"encrypted")}
_SEALED_LEAVES = {b"pkcs7-mime", b"x-pkcs7-mime", b"pgp-encrypted", b"pgp-signature"}
_FIELD = rb"^%s[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)"
_TYPE = re.compile(_FIELD % rb"content-type", re.I | re.M)
_ENCODING = re.compile(_FIELD % rb"content-transfer-encoding", re.I | re.M)
_CHARSET = re.compile(rb";\s*charset\*?(?:\d+\*?)?\s*=\s*(?:\"[^\"\n]*\"|[^;\s]*)", re.I)
_FLOWED = re.compile(rb"format\s*=\s*\"?flowed", re.I)
_END = re.compile(rb"</(?:body|html)\s*>", re.I)
_TAIL = 65536  # octets at the end of HTML in which </body> is looked for
_PLAIN = ("", "7bit", "8bit")
_ASCII = (b"", b"us-ascii", b"ascii")
MOST_BODIES = 50  # bodies of one message that get the footer, so that the result stays bounded


def added(content: Octets, plain: str, rich: str) -> list[Octets] | None:
    """Return the message (LF) in pieces, with the footers; None if it stays unchanged. If only ``plain`` is given, HTML
    bodies get it too."""
    found = summary.of(content)
    bodies = _bodies(content, found)
    if not bodies:
        return None
    out: list[Octets] = []
    done = 0
    for part in bodies:
        made = _with_footer(content, part, plain, rich or _as_html(plain))
        if made is None:
            continue
        out += [content[done : part.header], *made]
        done = part.end
    return [*out, content[done:]] if out else None


def _as_html(plain: str) -> str:
    return "<p>" + html.escape(plain.strip("\n")).replace("\n", "<br>\n") + "</p>" if plain else ""


# ---------------------------------------------------------------- which bodies


def _bodies(content: Octets, found: Summary) -> list[Part]:
    """The parts that a reader sees first; empty where anything in the message is signed or encrypted."""
    if found.cut or any(_is_sealed(content, part) for part in _own(found.parts)):
        return []
    out = list(_shown(content, found.parts, 0))[:MOST_BODIES]
    return [] if any(_has_pgp(content, part) for part in out) else out


def _own(parts: list[Part]) -> Iterator[Part]:
    """Return all parts except those of enclosed messages."""
    depth = -1  # of the enclosed message that the walk is in
    for part in parts:
        if 0 <= depth < part.depth:
            continue
        depth = part.depth if part.kind == MESSAGE else -1
        yield part


def _is_sealed(content: Octets, part: Part) -> bool:
    main, sub, *_ = mime.leaf(content[part.header : part.body])
    return (main, sub) in _SEALED or (main == b"application" and sub in _SEALED_LEAVES)


def _has_pgp(content: Octets, part: Part) -> bool:
    body = bytes(content[part.body : part.end])
    if _PGP in body:
        return True
    encoding = mime.leaf(content[part.header : part.body])[3].decode("latin-1")
    return encoding == "base64" and _PGP in (whole_transfer(body, encoding) or b"")


def _shown(content: Octets, parts: list[Part], at: int) -> Iterator[Part]:
    """The bodies in the part with that index. Not deeper than the scanner's own bound on depth."""
    part = parts[at]
    main, sub, _, _, disposition, names = mime.leaf(content[part.header : part.body])
    if part.kind == MULTIPART:
        inside = _children(parts, at)
        for child in inside if sub == b"alternative" else inside[:1]:
            yield from _shown(content, parts, child)
        return
    shown = main == b"text" and sub in (b"plain", b"html") and disposition != b"attachment" and not names
    if part.kind == LEAF and shown:
        yield part


def _children(parts: list[Part], at: int) -> list[int]:
    depth = parts[at].depth
    out = []
    for index in range(at + 1, len(parts)):
        if parts[index].depth <= depth:
            break
        if parts[index].depth == depth + 1:
            out.append(index)
    return out


# ---------------------------------------------------------------- one body


def _with_footer(content: Octets, part: Part, plain: str, rich: str) -> list[bytes] | None:
    """Return header and body of a part with its footer; None if the part stays unchanged."""
    header, body = bytes(content[part.header : part.body]), bytes(content[part.body : part.end])
    _, sub, charset, coding, *_ = mime.leaf(header)
    footer = rich if sub == b"html" else plain
    encoding = coding.decode("latin-1")
    data = body if encoding in _PLAIN else whole_transfer(body, encoding)
    if not footer or data is None:
        return None
    data = data.replace(b"\r\n", b"\n")
    if sub == b"plain" and _FLOWED.search(header):
        footer = "\n".join(map(_flowed, footer.split("\n")))
    words = _encoded(footer, charset)
    if words is not None:
        whole = _joined(data, words, sub == b"html")
        if encoding in ("", "7bit") and body.isascii() and not words.isascii():
            return [_fields(header, b"quoted-printable"), _quoted(whole)]
        coded = _coded(whole, encoding)
        return [header, coded if body.endswith(b"\n") else coded.rstrip(b"\n")]
    text = _decoded(data, charset)
    if text is None or "\ufffd" in text:  # something would be lost
        return None
    whole = _joined(text.encode(), footer.encode(), sub == b"html")
    return [_fields(header, b"quoted-printable", sub), _quoted(whole)]


def _flowed(line: str) -> str:
    """A line that is fixed, and is no quote (RFC 3676 4.1, 4.4); the line before a signature stays (4.3)."""
    if line == "-- ":
        return line
    line = line.rstrip(" ")
    return " " + line if line.startswith((" ", ">", "From ")) else line


def _encoded(footer: str, charset: bytes) -> bytes | None:
    """The footer in the charset of a body; None where that cannot say it."""
    name = charset.lower()
    if footer.isascii() and name in _ASCII:
        return footer.encode("ascii")
    return charsets.encode(footer, name.decode("latin-1")) if name not in _ASCII else None


def _decoded(data: bytes, charset: bytes) -> str | None:
    """Return the body as text; None if its encoding or charset is not known."""
    name = charset.lower()
    if name in _ASCII:
        try:
            return data.decode("utf-8")  # most often what octets of no charset are
        except UnicodeDecodeError:
            return None
    return charsets.decode(data, name.decode("latin-1")) if charsets.known(name.decode("latin-1")) else None


def _joined(data: bytes, footer: bytes, is_html: bool) -> bytes:
    """Text and footer, in one charset."""
    if is_html:
        at = max(0, len(data) - _TAIL)
        found = _END.search(data, at)
        if found is not None:
            return data[: found.start()] + footer + b"\n" + data[found.start() :]
    ended = data.endswith(b"\n")  # the line end in front of a boundary is not of the part (RFC 2046 5.1.1)
    return data + (b"" if ended or not data else b"\n") + footer.rstrip(b"\n") + (b"\n" if ended else b"")


def _coded(data: bytes, encoding: str) -> bytes:
    """Return the body in the transfer encoding that it had."""
    if encoding == "base64":
        return base64.encodebytes(data.replace(b"\n", b"\r\n"))
    return _quoted(data) if encoding == "quoted-printable" else data


def _quoted(data: bytes) -> bytes:
    return binascii.b2a_qp(data, istext=True)


def _fields(header: bytes, encoding: bytes, sub: bytes = b"") -> bytes:
    """The header with another transfer encoding, and with ``sub`` as text in UTF-8. Other parameters stay."""
    found = _TYPE.search(header)
    kind = _CHARSET.sub(b"", found.group()).rstrip(b"; \t\n") if found is not None else b"Content-Type: text/" + sub
    clean = _ENCODING.sub(b"", header)
    out = b""
    if sub:
        clean = _TYPE.sub(b"", clean)
        out += kind + b"; charset=utf-8\n"
    out += b"Content-Transfer-Encoding: " + encoding + b"\n"
    if not re.search(rb"^mime-version[ \t]*:", clean, re.I | re.M) and re.search(rb"^from[ \t]*:", clean, re.I | re.M):
        out += b"MIME-Version: 1.0\n"
    return clean[:-1] + out + b"\n" if clean.endswith(b"\n\n") or clean == b"\n" else clean + out
