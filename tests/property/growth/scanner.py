"""The compiled scanner: a message's ENVELOPE, BODYSTRUCTURE and header cache."""

from collections.abc import Callable

from fastmail._core import fetch, mime
from tests.support.growth import Case


def _nested(n: int) -> bytes:
    """Multiparts inside multiparts, each with a boundary of its own."""
    out = [b"Content-Type: multipart/mixed; boundary=b0\n\n"]
    out += [b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (k, k + 1) for k in range(n)]
    return b"".join(out)


BODY = b"a line of a body, and -- some dashes\n"


def _body_in(messages: int) -> Callable[[int], bytes]:
    """A body within so many messages, each in the one before it."""
    return lambda n: b"Content-Type: message/rfc822\n\n" * messages + b"Subject: x\n\n" + BODY * n


def _field(name: bytes, piece: bytes, before: bytes = b"") -> tuple[Callable[[int], bytes], Callable[[bytes], object]]:
    """``make`` and ``call`` of a header field whose value is ``piece`` over and over."""
    return lambda n: name + b": " + before + piece * n + b"\n\ntext\n", mime.scan


CASES = [
    Case("scan: short lines", 20_000, lambda n: b"a: b\n" * n + b"\n", mime.scan),
    Case("scan: lines without a colon", 20_000, lambda n: b"a\n" * n, mime.scan),
    Case("scan: folded lines of one field", 20_000, lambda n: b"Subject: x\n" + b" y\n" * n + b"\n", mime.scan),
    Case("scan: names of spaces", 50_000, lambda n: b"a" + b" " * n + b"\n", mime.scan),
    Case("scan: opened comments", 16_000, *_field(b"From", b"(")),
    Case("scan: comments in comments", 8_000, lambda n: b"To: " + b"(" * n + b")" * n + b" a@b\n\n", mime.scan),
    Case("scan: addresses", 4_000, *_field(b"To", b"a@b,")),
    Case("scan: groups", 4_000, *_field(b"Cc", b"g:a@b;")),
    Case("scan: words and no address", 16_000, *_field(b"From", b"a ")),
    Case("scan: opened angles", 16_000, *_field(b"From", b"<")),
    Case("scan: signs for at", 16_000, *_field(b"From", b"a@b<")),
    Case("scan: quotes", 16_000, *_field(b"From", b'"')),
    Case("scan: backslashes", 16_000, *_field(b"From", b"\\")),
    Case("scan: parameters", 16_000, *_field(b"Content-Type", b"; a=b", b"text/plain")),
    Case("scan: parameters without values", 16_000, *_field(b"Content-Type", b"; a (", b"text/plain")),
    Case("scan: languages", 16_000, *_field(b"Content-Language", b"a, ")),
    Case("scan: multiparts in multiparts", 2_000, _nested, mime.scan),
    Case("scan: one boundary over and over", 20_000,
         lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * n, mime.scan),
    Case("scan: lines that nearly are boundaries", 20_000,
         lambda n: b"Content-Type: multipart/mixed; boundary=" + b"-" * 60 + b"\n\n" + b"-" * 61 * n, mime.scan),
    Case("scan: messages in messages", 2_000,
         lambda n: b"Content-Type: message/rfc822\n\n" * n + b"text", mime.scan),
    Case("scan: a body in one message", 20_000, _body_in(1), mime.scan),
    Case("scan: a body in 47 messages", 20_000, _body_in(47), mime.scan),
    Case("header fields by name", 5_000, lambda n: b"a: b\r\n" * n + b"\r\n",
         lambda header: fetch.header_fields(header, (b"a", b"x"), False)),
]  # fmt: skip
