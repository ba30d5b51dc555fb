"""What SEARCH and PREVIEW read of a message: encodings, charsets, HTML, folding; boundaries in pieces."""

from collections.abc import Callable

from fastmail._core import decode, idents, mime, words
from fastmail.message import charsets, sections, summary, text
from fastmail.message.collate import fold
from fastmail.message.preview import preview, scanned
from tests.support.growth import Case


def _body(head: bytes, piece: bytes) -> Callable[[int], bytes]:
    """Messages with ``piece`` over and over in their body."""
    return lambda n: head + b"\n\n" + piece * n + b"\n"


def _read(message: bytes) -> object:
    return text.body_text(message, summary.of(message), True)


def _shown(message: bytes) -> object:
    return preview(message, summary.of(message))


def _binary(message: bytes) -> object:
    return sections.extract(message, summary.of(message), (1,), b"BINARY", ())


def _value(piece: bytes) -> tuple[Callable[[int], bytes], Callable[[bytes], object]]:
    return lambda n: piece * n, text.decode_value


HTML = b"Content-Type: text/html"
QUOTED = b"Content-Transfer-Encoding: quoted-printable"
BASE64 = b"Content-Type: text/plain\nContent-Transfer-Encoding: base64"
MULTI = b"Content-Type: multipart/mixed; boundary="

CASES = [
    *(Case(f"html: {piece.decode()!r}", 4_000, _body(HTML, piece), _read)
      for piece in (b"<", b"<a ", b"<!--", b"<style>", b"</", b"&", b"&a", b"&#9", b"<a>")),
    *(Case(f"html as it is shown: {piece.decode()!r}", 4_000, lambda n, p=piece: p * n, lambda d: decode.html(d, True))
      for piece in (b"<", b"<!--", b"<style>", b"<style></", b"</style", b"<a", b"<script>x</script>")),
    Case("html: preview", 4_000, _body(HTML, b"<!-- <"), _shown),
    *(Case(f"preview: {piece!r}", 4_000, lambda n, p=piece: p * n, lambda d: words.shortened(d, 200))
      for piece in (b" ", b">\n", b"> ", b"\n", b"\xc2\xad", b">x\n ")),
    *(Case(f"preview of a message: {piece!r}", 20_000, _body(head, piece), scanned)
      for head, piece in ((b"A: b", b">\n"), (HTML, b"&"), (HTML, b"<"), (BASE64, b"A="), (QUOTED, b"=\n"))),
    *(Case(f"threads: {piece!r}", 500, lambda n, p=piece: mime.scan(b"References: " + p * n + b"\n\n"), idents.named)
      for piece in (b"<", b"<a@b>", b"<a ", b"<<a>>", b"\n <a@b>")),
    *(Case(f"words: {piece.decode()!r}", 500, *_value(piece))
      for piece in (b"=?", b"?=", b"=?a?", b"=?a?q?", b"=?a?q?x", b"=?u?b?YQ==?= ", b"=?u?q??", b"=?utf-8?q?=C3?= ",
                    b"=?iso-2022-jp?q?x?= ", b"\r\n ", b"=?a?q?x?=\r\n ")),
    Case("words: spaces between", 4_000, lambda n: b"=?a?q?x?=" + b" " * n + b"x", text.decode_value),
    Case("fields: one name over and over", 500, lambda n: b"x: y\r\n" * n + b"\r\n",
         lambda header: sum(1 for _ in text.field_values(header, b"x"))),
    *(Case(f"quoted-printable: {piece!r}", 4_000, _body(QUOTED, piece), _binary)
      for piece in (b"=", b" ", b"= ", b"=\n", b" \n", b"=4", b"\r")),
    *(Case(f"base64: {piece!r}", 4_000, _body(BASE64, piece), _read) for piece in (b"=", b"A=", b"!", b"A\n")),
    *(Case(f"charset: {name} {piece!r}", 2_000, lambda n, p=piece: p * n, lambda d, c=name: charsets.decode(d, c))
      for name, piece in (("utf-8", b"\xff"), ("utf-7", b"+A"), ("utf-7", b"+\xff"), ("gb2312", b"\x80"), ("hz", b"~{"),
                          ("iso-2022-jp", b"\x1b$B-!"), ("iso-2022-kr", b"\x0e\xff"), ("big5", b"\x81"), ("big5", b"\x87@"),
                          ("euc-jp", b"\x8f"), ("shift_jis", b"\x81"), ("utf-16", b"\xd8\x00"), ("punycode", b"-a"),
                          ("unicode_escape", b"\\N{"), ("uu", b"begin"), ("idna", b"a."))),
    Case("fold: marks that are sorted", 2_000, lambda n: "\u0300\u0316" * n, fold),
    Case("fold: characters that begin with a mark", 1_000, lambda n: "\u0344\uff9e\u0f73\u0316" * n, fold),
    Case("boundary: pieces", 200,
         lambda n: MULTI[:-1] + b"".join(b"; boundary*%d=x" % k for k in reversed(range(n))) + b"\n\n--x\n", mime.scan),
    Case("boundary: lines with dashes in a header", 4_000,
         lambda n: MULTI + b"b;" + b" a=b;" * n + b"\n" + b"--c\n" * n, mime.scan),
    Case("boundary: lines with dashes in a body", 4_000, lambda n: MULTI + b"b\n\n" + b"--c\n" * n, mime.scan),
    Case("boundary: last lines", 4_000, lambda n: MULTI + b"b\n\n" + b"--b--\n" * n, mime.scan),
    Case("boundary: the parent's", 2_000, lambda n: (MULTI + b"b\n\n--b\n") * n, mime.scan),
    Case("parts: text around them", 200,
         lambda n: MULTI + b"b\n\n" + b"--b words\n\nx\n" * n + b"--b--\n", _read),
    Case("what a header says of its part", 4_000, lambda n: b"Content-Type: text/plain" + b"; charset*9=a" * n + b"\n\n", mime.leaf),
]  # fmt: skip
