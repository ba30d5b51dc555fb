"""Messages with binary parts (RFC 3516 4.4): what came in as it is, with every octet of such parts, is put into base64,
so that it can be kept and served like any other message.
"""

import re
from base64 import encodebytes

from fastmail._core import mime
from fastmail._core.lines import to_lf
from fastmail.message import summary, text
from fastmail.message.summary import LEAF

_FIELD = re.compile(
    rb"^(content-transfer-encoding[ \t]*:)[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*", re.IGNORECASE | re.MULTILINE
)


def without_binary(raw: bytes) -> bytes:
    """The message with LF and without NUL: parts with the transfer encoding ``binary`` in base64."""
    parsed = summary.read(mime.scan(raw))
    assert parsed is not None
    out: list[bytes] = []
    done = 0
    for part in parsed.parts:
        header = raw[part.header : part.body]
        if part.kind != LEAF or text.transfer_encoding(_crlf(header)) != "binary":
            continue
        out += [to_lf(raw[done : part.header]), to_lf(_FIELD.sub(rb"\1 base64", header))]
        out.append(encodebytes(raw[part.body : part.end]).rstrip(b"\n"))
        done = part.end
    out.append(to_lf(raw[done:]))
    return b"".join(out)


def _crlf(header: bytes) -> bytes:
    return to_lf(header).replace(b"\n", b"\r\n")
