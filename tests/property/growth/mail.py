"""Mail that comes in: headers walked, completed and changed, trace fields, reports, logins."""

from collections.abc import Callable
from contextlib import suppress

from fastmail._core import header as walk
from fastmail.auth import sasl
from fastmail.message import authors, dsn, header, submitted, surrogate, trace
from fastmail.message.dsn import About, Fate
from tests.support.growth import Case


def _completed(content: bytes) -> object:
    return b"".join(submitted.complete(content, "a@b.test", "mx.test"))


def _read(content: bytes) -> None:
    submitted.hops(content)
    submitted.does_without_tls(content)
    submitted.message_id(content)
    header.mbox_line(content)


def _authors(content: bytes) -> None:
    """Without the bound."""
    for _, value in walk.values(content, authors.FIELDS, len(content)) or ():
        _addresses(value.decode())


def _addresses(text: str) -> None:
    with suppress(authors.Unreadable):
        list(authors.parse(text))


def _end(content: bytes) -> int:
    return walk.text_start(content, 0, True)


def _from_the_front(content: bytes) -> None:
    """What a filter does that removes all fields of a name."""
    one = header.Edited(content)
    while one.change(b"a", 1, b""):
        pass
    one.add(b"X", b" y")
    one.pieces()


def _from_the_back(content: bytes) -> None:
    one = header.Edited(content)
    for index in range(content.count(b"a:"), 0, -1):
        one.change(b"a", index, b" new")
    one.pieces()


def _reported(content: bytes) -> bytes:
    about = About("a@b.test", "1", 0, 0, content, False)
    return dsn.report(
        about, [Fate("x@y.test", "", "failed", "5.0.0", content.decode("latin-1"))], "mx.test", 1e9, "a1" * 12
    )


def _told(count: int) -> bytes:
    about = About("a@b.test", "1", 0, 0, b"Subject: x\n\n", False)
    fates = [Fate(f"x{n}@y.test", f"rfc822;x{n}@y.test", "failed", "5.0.0", "no such user") for n in range(count)]
    return dsn.report(about, fates, "mx.test", 1e9, "a1" * 12)


def _refused(step: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def call(response: bytes) -> None:
        try:
            step(response)
        except sasl.SaslError:
            pass

    return call


CASES = [
    *(
        Case(f"surrogate: {name}", 400, made, surrogate.of)
        for name, made in {
            "many fields": lambda n: b"S: \xc3\xbc\n" * n,
            "a long text": lambda n: b"S:" + b" \xc3\xbc a" * n,
            "a long word": lambda n: b"S: " + b"\xc3\xbc" * n,
            "many addresses": lambda n: b"To: " + b"\xc3\xbc <a@\xc3\xbc.test>, " * n,
            "a long name": lambda n: b"To: " + b"\xc3\xbc " * n + b"<a@b.test>",
            "members of a group": lambda n: b"To: a: " + b"\xc3\xbc@b.test, " * n + b";",
            "comments": lambda n: b"Date: " + b"(\xc3\xbc)" * n,
            "brackets": lambda n: b"Date: \xc3\xbc" + b"(" * n,
            "parameters": lambda n: b"Content-Type: a/b" + b"; x=\xc3\xbc" * n,
            "a long parameter": lambda n: b"Content-Type: a/b; x=" + b"\xc3\xbc" * n,
            "quotes": lambda n: b'Content-Type: a/b; x=\xc3\xbc' + b'""' * n,
            "Received": lambda n: b"Received: " + b"for \xc3\xbc@x " * n,
        }.items()
    ),
    Case("header: text and no header", 40_000, lambda n: b"some text\n" * n, _end),
    Case("header: folded lines of no field", 40_000, lambda n: b"some text\n" + b" x\n" * n, _end),
    Case("header: broken lines between fields", 20_000, lambda n: b"A: b\nbroken\n" * n, _end),
    Case("header: a name and no colon", 200_000, lambda n: b"a" * n, _end),
    Case("header: blanks and no colon", 200_000, lambda n: b"a" + b" " * n, _end),
    Case("header: read", 20_000, lambda n: b"a: b\n" * n + b"\n", _read),
    Case("header: authors in many fields", 600, lambda n: b"From: a@b\nX: y\n" * n + b"\n", _authors),
    Case("header: authors behind many fields", 20_000, lambda n: b"a: b\n" * n + b"From: a@b\n\n", _authors),
    *(Case(f"authors: {part!r}", 800, lambda n, part=part: part * n, _addresses)  # type: ignore[misc]
      for part in ("(", "(a)", '"', '"a"', ",", "<", "a ", "a.", "a@b,", ":", "a:;", "@", "[", "\\", "=?", "<@a,")),
    Case("header: Message-IDs that are none", 20_000, lambda n: b"Message-ID: " + b"<a " * n + b"\n\n", _read),
    Case("submission: many fields to remove", 20_000, lambda n: b"Bcc: b\nA: c\n" * n + b"\n", _completed),
    Case("submission: a long field", 100_000, lambda n: b"To: " + b"a,\n " * n + b"\nBcc: b\n\n", _completed),
    Case("filter: fields removed from the front", 3_000, lambda n: b"a: b\nb: c\n" * n + b"\n", _from_the_front),
    Case("filter: fields changed from the back", 3_000, lambda n: b"a: b\nb: c\n" * n + b"\n", _from_the_back),
    Case("filter: fields that are shown", 3_000, lambda n: b"a: b\n" * n, lambda c: list(header.Edited(c).fields())),
    Case("report: long words", 100_000, lambda n: b"x" * n, _reported),
    Case("report: short words", 50_000, lambda n: b"x " * n, _reported),
    Case("report: recipients", 300, lambda n: n, _told),
    Case("trace: a quoted address", 20_000, lambda n: '"' + "\\" * n + '"@c.test', trace.return_path),
    Case("trace: a name of a host", 20_000, lambda n: "é." * n,
         lambda name: trace.received(name, "::1", "mx.test", "ESMTP", "1", "")),
    Case("login: PLAIN", 50_000, lambda n: b"\0" * n, _refused(sasl.Plain().step)),
    Case("login: a token", 20_000, lambda n: b"n,,\x01" + b"a=b\x01" * n, _refused(lambda r: sasl.Bearer("OAUTHBEARER", b"").step(r))),
    Case("login: base64", 30_000, lambda n: b"QUJD" * (n // 4), _refused(sasl.decode)),
]  # fmt: skip
