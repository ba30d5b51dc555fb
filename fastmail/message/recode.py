"""Changes the transfer encoding of a message's parts (RFC 2045 6): binary parts to base64, so that they can be stored
and served like others (RFC 3516 4.4), and 8-bit parts to quoted-printable for hosts that take only 7 bits (RFC 6152 3).

Only the bodies of leaf parts and their Content-Transfer-Encoding fields change; everything else stays the same.
"""

import re
from base64 import encodebytes
from binascii import b2a_qp
from collections.abc import Callable

from fastmail._core import mime
from fastmail._core.lines import to_lf
from fastmail.message import summary, text
from fastmail.message.summary import LEAF, Part

_FIELD = re.compile(rb"^content-transfer-encoding[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*(?:\r?\n|\Z)", re.I | re.M)
Coder = Callable[[bytes, str, int], tuple[bytes, bytes] | None]


def without_binary(raw: bytes) -> bytes:
    """Return the message with LF and without NUL: parts with the transfer encoding ``binary`` become base64."""

    def coder(body: bytes, encoding: str, kind: int) -> tuple[bytes, bytes] | None:
        if kind != LEAF or encoding != "binary":
            return None
        return b"base64", encodebytes(body).rstrip(b"\n")

    return _recoded(raw, coder)


def without_eight_bits(raw: bytes) -> bytes:
    """Return the message (LF) with all bodies in 7 bits: 8-bit parts become quoted-printable."""

    def coder(body: bytes, encoding: str, kind: int) -> tuple[bytes, bytes] | None:
        if kind != LEAF:
            return (b"7bit", body) if encoding in ("8bit", "binary") else None
        if body.isascii():
            return (b"7bit", body) if encoding == "8bit" else None
        return b"quoted-printable", b2a_qp(body, istext=True)

    return _recoded(raw, coder)


def _recoded(raw: bytes, coder: Coder) -> bytes:
    parsed = summary.read(mime.scan(raw))
    assert parsed is not None
    out: list[bytes] = []
    done = 0
    for part in parsed.parts:
        header = to_lf(raw[part.header : part.body])
        encoding = text.transfer_encoding(header)
        body = raw[part.body : part.end] if part.kind == LEAF else b""
        found = coder(body, encoding, part.kind)
        if found is None:
            continue
        out += [to_lf(raw[done : part.header]), _with_encoding(header, found[0])]
        if part.kind == LEAF:
            out.append(found[1])
        done = _behind(part)
    out.append(to_lf(raw[done:]))
    return b"".join(out)


def _behind(part: Part) -> int:
    return part.end if part.kind == LEAF else part.body


def _with_encoding(header: bytes, encoding: bytes) -> bytes:
    """Return the header (LF, with the empty line if it has one) with another Content-Transfer-Encoding."""
    clean = _FIELD.sub(b"", header)
    field = b"Content-Transfer-Encoding: " + encoding + b"\n"
    if clean.endswith(b"\n\n"):
        return clean[:-1] + field + b"\n"
    return field + clean if clean == b"\n" else clean + field
