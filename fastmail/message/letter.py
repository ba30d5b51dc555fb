"""The mail in which a server sends a file that another program reads: a report of RFC 8460 or RFC 9990.

One text part for people, one part with the file, and the fields that keep robots from answering (RFC 3834 5). All of it
is ASCII with LF. What is put in comes from here or has been checked by whoever puts it in: no value has a line end.
"""

import random
from base64 import encodebytes
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import unquote_to_bytes

from fastmail.model.address import Address
from fastmail.model.errors import BadAddress

LONGEST = 1000  # octets of a URI


@dataclass(frozen=True, slots=True)
class Letter:
    """``subject``: its words, folded between them; ``words``: for people; ``whole``: media type of the message with its
    parameters but the boundary; ``part``: that of the file; ``fields``: more fields of the header."""

    sender: str
    to: Sequence[str]
    subject: Sequence[str]
    words: str
    whole: str
    part: str
    name: str
    data: bytes
    fields: Sequence[str] = ()


def make(letter: Letter, ident: str, now: float) -> bytes:
    """The message. ``ident``: the Message-ID without brackets."""
    mark = f"{random.getrandbits(96):024x}"
    lines = [
        f"From: {letter.sender}",
        "To: " + ",\n ".join(letter.to),
        "Subject: " + "\n ".join(letter.subject),
        f"Date: {formatdate(now).replace('-0000', '+0000')}",
        f"Message-ID: <{ident}>",
        *letter.fields,
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: {letter.whole};\n boundary="{mark}"',
        "",
        f"--{mark}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        letter.words,
        "",
        f"--{mark}",
        f"Content-Type: {letter.part}",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment;\n filename="{letter.name}"',
        "",
    ]
    return "\n".join(lines).encode() + b"\n" + encodebytes(letter.data) + f"\n--{mark}--\n".encode()


def mailto(uri: str) -> str:
    """Return the address of a ``mailto`` URI that names exactly one (RFC 6068 2), as envelopes have it; empty for any
    other URI. Header fields that the URI proposes are ignored."""
    scheme, _, rest = uri[:LONGEST].partition(":")
    if scheme.lower() != "mailto":
        return ""
    try:
        address = str(Address.parse(unquote_to_bytes(rest.partition("?")[0]).decode("utf-8")))
    except (BadAddress, UnicodeDecodeError):
        return ""
    return address if address.isascii() else ""
