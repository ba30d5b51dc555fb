"""DKIM signatures for what we send (RFC 6376 5, RFC 8301, RFC 8463).

A signature covers all of its message: never ``l=``. The fields of OVERSIGNED are named once more than they are there,
so that nobody can add one; those of SIGNED as often as they are there. Both canonical forms are relaxed, because
relays change white space. A message can have a signature of each kind of key, RSA first: it is the one that everybody
verifies.

Promise: what comes out is a field (LF) of printable ASCII, folded below 80 characters, that this server's own
verifier takes. The message is not changed.
"""

import time
from base64 import b64encode
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fastmail._core import dkim as core
from fastmail._core import header as scanner
from fastmail._core import sha256
from fastmail._core.signed import Fields
from fastmail.message.header import Octets
from fastmail.policy.dkim import HEADER, Content

OVERSIGNED = (
    *(b"from", b"to", b"subject", b"date", b"message-id", b"cc", b"reply-to"),
    # a second one, or one where there was none, has programs read another message in the signed text
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
    *(b"list-id", b"list-help", b"list-subscribe", b"list-post", b"list-owner", b"list-archive"),
    *(b"list-unsubscribe", b"list-unsubscribe-post"),
)
SIGNED = (
    *(b"sender", b"in-reply-to", b"references", b"content-id", b"content-description", b"feedback-id"),
    *(b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id"),
    *(b"tls-report-domain", b"tls-report-submitter"),  # RFC 8460 5.3
)
NAMED = (*SIGNED, *OVERSIGNED)
LIFETIME = 14 * 86400  # s until a signature expires: longer than a queue keeps its messages
LINE = 72
MOST_NAMED = 100  # instances of one name in h=
REMEMBERED = 512  # lists of fields: what users send has the same ones each time
RSA, ED25519 = "rsa-sha256", "ed25519-sha256"
_PKCS1, _HASHED = PKCS1v15(), Prehashed(SHA256())


@dataclass(frozen=True, slots=True)
class SigningKey:
    """``domain`` with A-labels; the public half is published at ``selector``._domainkey.``domain``. ``algorithm``: the
    key's, kept because asking an object of the library what it is takes long."""

    domain: str
    selector: str
    private: RSAPrivateKey | Ed25519PrivateKey
    algorithm: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", RSA if isinstance(self.private, RSAPrivateKey) else ED25519)

    def record(self) -> str:
        """What to publish (RFC 6376 3.6.1, RFC 8463 4.2)."""
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return f"v=DKIM1; k=rsa; p={b64encode(octets).decode()}"
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={b64encode(octets).decode()}"

    def sign(self, data: bytes) -> bytes:
        """RFC 8463 3 signs the digest with Ed25519, as a message of its own."""
        digest = sha256.digest(data)
        if self.algorithm == RSA:
            return cast(RSAPrivateKey, self.private).sign(digest, _PKCS1, _HASHED)
        return cast(Ed25519PrivateKey, self.private).sign(digest)


def names(fields: Fields) -> list[bytes]:
    """What h= says for a message."""
    return list(_covered(numbers(fields))[0])


def numbers(fields: Fields) -> tuple[int, ...]:
    """How many fields of each name of NAMED there are, MOST_NAMED at most."""
    return fields.numbers(NAMED, MOST_NAMED)


def coverable(found: tuple[int, ...]) -> bool:
    """Can h= name all fields of a message that it should? Where it names only some of very many, others could be added
    to the signed message. ``found``: its ``numbers``."""
    return max(found) < MOST_NAMED


@lru_cache(REMEMBERED)
def _covered(found: tuple[int, ...]) -> tuple[tuple[bytes, ...], str]:
    """The names of h= of a header that has so many fields, and its lines (LF)."""
    out: list[bytes] = []
    for name, number in zip(NAMED, found, strict=True):
        out += [name] * (number + (name in OVERSIGNED))
    return tuple(out), "\n".join(listed(out))


def message(content: bytes | memoryview, keys: Sequence[SigningKey], lifetime: int = LIFETIME) -> bytes:
    """The signatures of a whole message (LF or CRLF), to be put in front of it: one field for each key."""
    return b"".join(fields(whole([content]), keys, lifetime))


def whole(pieces: Sequence[Octets]) -> Content:
    """A message (LF or CRLF) that comes in pieces, its relaxed body hashed. Each piece begins at the start of a line
    until the empty line has come; what is hashed is not copied."""
    made, body = _begun(pieces)
    made.want(True)
    for piece in body:
        made.feed(piece)
    made.finish()
    return made


def _begun(pieces: Sequence[Octets]) -> tuple[Content, list[Octets]]:
    """A message whose header has come, and its body in pieces."""
    first = pieces[0] if pieces else b""
    if isinstance(first, bytes) and len(first) <= HEADER:  # the walk over the fields of a header finds its end too
        made = Content(first)
        end = made.fields.end
        if end < len(first):
            return made, [memoryview(first)[_behind(first, end) :], *pieces[1:]]
    header, body = split(pieces)
    return Content(header), body


def behind(content: Octets) -> Callable[[bytes], Content]:
    """Hash the body of a message (LF) once, for many copies with different header fields in front of it. Returns a
    function that gets these fields and returns the copy as signatures see it."""
    header, _ = split([content])
    digest = whole([content]).body_hash(True)

    def made(front: bytes) -> Content:
        found = Content(front + header)
        found.know(True, digest)
        return found

    return made


def split(pieces: Sequence[Octets]) -> tuple[bytes, list[Octets]]:
    """The header of a message, without its empty line, and its body in pieces."""
    header: list[bytes] = []
    for at, piece in enumerate(pieces):
        end = scanner.end(piece) if len(piece) else 0
        header.append(bytes(piece[:end]))
        if end < len(piece):
            return b"".join(header), [memoryview(piece)[_behind(piece, end) :], *pieces[at + 1 :]]
    return b"".join(header), []


def _behind(content: Octets, end: int) -> int:
    """Where the body begins, behind the empty line at ``end``."""
    return end + (2 if content[end : end + 2] == b"\r\n" else 1)


def fields(
    content: Content, keys: Iterable[SigningKey], lifetime: int = LIFETIME, found: tuple[int, ...] | None = None
) -> list[bytes]:
    """The same for a message whose body was hashed while it came: ``content`` is finished, and its relaxed body was
    wanted. ``found``: its ``numbers``, where they are known."""
    now = int(time.time())
    covered, named = _covered(numbers(content.fields) if found is None else found)
    data = content.fields.canonical(covered, True)
    digest = b2a_base64(content.body_hash(True), newline=False)
    return [_field(key, data, named, digest, now, lifetime) for key in keys]


def _field(key: SigningKey, data: bytes, named: str, digest: bytes, now: int, lifetime: int) -> bytes:
    text, form = _start(key.algorithm, key.domain, key.selector, named, now, lifetime)
    signature = _folded(key.sign(b"%b%b%b; b=" % (data, form, digest)))
    return b"%b%b;\n\tb=%b\n" % (text, digest, signature)


@lru_cache(REMEMBERED)
def _start(algorithm: str, domain: str, selector: str, named: str, now: int, lifetime: int) -> tuple[bytes, bytes]:
    """A signature field up to the value of bh=, and the canonical form of that: the same for all messages that a key
    signs within a second and that have the same fields."""
    times = f"t={now}; x={now + lifetime};" if lifetime else f"t={now};"
    text = (
        f"DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed;\n"
        f"\td={domain};\n\ts={selector}; {times}\n{named}\n\tbh="
    ).encode("ascii")
    return text, core.field(text, True)[:-2]


def completed(text: str, data: bytes, key: SigningKey) -> bytes:
    """A signature field (LF) that begins with these lines, with b= behind them; ``data``: what is signed in front of
    the field."""
    unsigned = f"{text}\n\tb=".encode("ascii")
    return b"%b%b\n" % (unsigned, _folded(key.sign(data + core.field(unsigned, True)[:-2])))


def _folded(signature: bytes) -> bytes:
    """The value of b=, in lines."""
    text = b2a_base64(signature, newline=False)
    return b"\n\t".join(map(text.__getitem__, _lines(len(text))))


@lru_cache(REMEMBERED)
def _lines(size: int) -> tuple[slice, ...]:
    """Where the lines of a text of that many octets are."""
    return tuple(slice(at, at + LINE) for at in range(0, size, LINE))


def listed(covered: list[bytes]) -> list[str]:
    """h=, folded behind a colon."""
    lines = ["\th="]
    for at, name in enumerate(covered):
        word = name.decode("ascii") + (":" if at + 1 < len(covered) else ";")
        if len(lines[-1]) + len(word) > LINE:
            lines.append("\t ")
        lines[-1] += word
    return lines
