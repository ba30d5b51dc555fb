"""What strangers can make long in signatures, records and answers of the DNS (RFC 6376, 7208, 8601, 8617, 9989)."""

from fastmail._core import dkim as core
from fastmail._core import dns, links
from fastmail._core.signed import Fields
from fastmail.message import authors, subject
from fastmail.policy import arc, dkim, dmarc, keys, macros, reported, results, sign, signer, spf_record, tags
from fastmail.policy.learning import words
from tests.support.growth import Case

US = "mx.example.org"


def _body(octets: bytes) -> int:
    made = core.Body(True, len)
    made.feed(octets)
    made.finish()
    return made.size


def _refused(call, *errors):  # type: ignore[no-untyped-def]
    def run(value: object) -> object:
        try:
            return call(value)
        except errors:
            return None

    return run


def _signatures(n: int) -> bytes:
    return b"".join(b"DKIM-Signature: v=1; d=a.test; b=x\n" for _ in range(n)) + b"From: a@b.test\n"


def _sets(n: int) -> bytes:
    return b"".join(b"ARC-Seal: i=%d; b=x\n" % (k % 60 + 1) for k in range(n))


def _alias(n: int) -> bytes:
    """A question, and n aliases that do not matter."""
    head = b"\0\0\x80\0\0\1" + n.to_bytes(2, "big") + b"\0\0\0\0" + b"\x01a\0" + b"\0\1\0\1"
    return head + b"".join(b"\x02%c%c\0\0\5\0\1\0\0\0\5\0\3\1b\0" % (97 + k % 26, 97 + k // 26 % 26) for k in range(n))


CASES = [
    Case("body: spaces", 400_000, lambda n: b" " * n, _body),
    Case("body: empty lines, then a letter", 200_000, lambda n: b"\r\n" * n + b"a", _body),
    Case("body: words", 100_000, lambda n: b"a  b " * n, _body),
    Case("body: carriage returns", 400_000, lambda n: b"\r" * n, _body),
    Case("body: one line", 800_000, lambda n: b"x" * n, _body),
    Case(
        "fields: as many as there are",
        1_000,
        lambda n: (b"X: y\n" * n, [b"x"] * n),
        lambda pair: Fields(pair[0]).canonical(pair[1], True),
    ),
    Case("fields: white space", 100_000, lambda n: b"X: " + b" \n" * n, lambda data: core.field(data, True)),
    Case("signatures: many", 1_000, _signatures, lambda data: dkim.read(dkim.Content(data))),
    Case("chain: many sets", 1_000, _sets, lambda data: arc.read(dkim.Content(data))),
    Case(
        "tags: without b",
        20_000,
        lambda n: b"X: " + b"a=1;" * n + b"b=" + b"x " * n,
        lambda one: tags.without(one, b"b"),
    ),
    Case(
        "fields: those of a usual header",
        1_000,
        lambda n: Fields(b"From: a@b.test\nSubject: a\n" + b"Subject: b\nX: y\n" * n),
        lambda fields: fields.usual(1024, 5, (b"x-spam", b"authentication-results")),
    ),
    Case("fields: many names", 1_000, lambda n: b"".join(b"X-%d: y\n" % k for k in range(n)), Fields),
    Case("tags: halves", 20_000, lambda n: b"X: " + b"a=1;" * n + b"b=" + b"x " * n + b"; bh=;", tags.signature),
    Case(
        "signatures: many, made anew",
        1_000,
        lambda n: _signatures(n) + b"\nx\n",
        lambda data: signer._without(data, {"a.test"}),
    ),
    Case(
        "signing: fields",
        1_000,
        lambda n: b"To: y\n" * n + b"\nx\n",
        lambda data: sign.names(sign.whole([data]).fields),
    ),
    Case("tags: no value", 20_000, lambda n: "a" + " " * n + "=", _refused(tags.parse, tags.BadTags)),
    Case("key: base64", 1_000, lambda n: ("p=" + "eA" * n).encode(), _refused(keys._parse.__wrapped__, keys.BadKey)),
    Case("macros: many", 1_000, lambda n: "%{d}" * n, macros.parse),
    Case("macros: delimiters", 20_000, lambda n: "%{d" + "-" * n + "}", macros.parse),
    Case("macros: digits", 20_000, lambda n: "%{d" + "1" * n, _refused(macros.parse, macros.BadMacro)),
    Case(
        "name: labels",
        10_000,
        lambda n: (macros.parse("%{l-}.x"), {"l": "a-" * n}),
        lambda pair: pair[0].name(pair[1]),
    ),
    Case(
        "spf: terms",
        1_000,
        lambda n: b"v=spf1" + b" a:b.test" * n,
        _refused(spf_record._parse.__wrapped__, spf_record.BadRecord),
    ),
    Case("spf: spaces", 40_000, lambda n: b"v=spf1" + b" " * n, spf_record._parse.__wrapped__),
    Case(
        "spf: a domain of letters",
        10_000,
        lambda n: b"v=spf1 a:" + b"a" * n,
        _refused(spf_record._parse.__wrapped__, spf_record.BadRecord),
    ),
    Case(
        "spf: a domain of hyphens",
        10_000,
        lambda n: b"v=spf1 a:x." + b"a-" * n,
        _refused(spf_record._parse.__wrapped__, spf_record.BadRecord),
    ),
    Case(
        "spf: a domain of letters behind a dot",
        10_000,
        lambda n: b"v=spf1 a:x." + b"a" * n + b"_",
        _refused(spf_record._parse.__wrapped__, spf_record.BadRecord),
    ),
    Case(
        "h=: spaces in a name",
        10_000,
        lambda n: "from:a" + " " * n + "b",
        _refused(dkim._names.__wrapped__, dkim.BadSignature),
    ),
    Case("header: lines like From", 10_000, lambda n: b"\x80\n" * n + b"from" + b"\n " * n, authors.like_from),
    Case("chain: results", 2_000, lambda n: b"X:" + b"( )" * n + b"i=1" + b"( )" * n + b";", arc._results),
    Case("dmarc: spaces in a value", 10_000, lambda n: b"v=DMARC1; p=x" + b" " * n + b"y", dmarc._parse.__wrapped__),
    Case("dmarc: tags", 4_000, lambda n: b"v=DMARC1;" + b"a=1;" * n, dmarc._parse.__wrapped__),
    Case("dmarc: spaces", 40_000, lambda n: b"v=DMARC1; p=" + b" " * n + b"x", dmarc._parse.__wrapped__),
    Case("dmarc: places", 40_000, lambda n: b"v=DMARC1; rua=" + b"mailto:a@b.c," * n, dmarc._parse.__wrapped__),
    Case("results: comments", 400, lambda n: b"(" * n + b")" * n + b" x;", results.server),
    Case(
        "results: fields",
        2_000,
        lambda n: b"Authentication-Results: mx.example.org; none\n" * n,
        lambda data: results.pieces(b"", data, results.unwanted(data, US)),
    ),
    Case("results of others: comments", 1_500, lambda n: "m; spf=pass " + "(" * n + ")" * n + "!", reported.read),
    Case(
        "results of others: a quoted value without end", 1_500, lambda n: 'm; spf=pass a.b="' + "\\a" * n, reported.read
    ),
    Case("results of others: a name of hyphens", 1_500, lambda n: "m; a" + "-" * n, reported.read),
    Case("results of others: spaces", 1_500, lambda n: "m; spf=pass a.b=c" + " \t" * n + "!", reported.read),
    Case("received-spf: comments", 200, lambda n: b"pass " + b"(" * n + b")" * n + b" receiver=x", results.receiver),
    Case("received-spf: pairs", 100, lambda n: b"pass" + b" a=b;" * n + b"receiver=x", results.receiver),
    Case("subject: fields", 2_000, lambda n: b"Subject: x\n" * n + b"\n", lambda data: subject.edits(data, "[SPAM]")),
    Case("answer: aliases", 600, _alias, lambda data: dns.answer(data, b"\x01a\0", 1)),
    Case(
        "answer: a long text",
        4_000,
        lambda n: (
            b"\0\0\x80\0\0\1\0\1\0\0\0\0\x01a\0\0\x10\0\1\xc0\x0c\0\x10\0\1\0\0\0\5"
            + (2 * n).to_bytes(2, "big")
            + b"\1x" * n
        ),
        lambda data: dns.answer(data, b"\x01a\0", 16),
    ),
    Case(
        "results: fields that a scanner removes",
        2_000,
        lambda n: b"X-Old: 1\nFrom: a\n" * n,
        lambda data: results.pieces(b"", data, results.unwanted(data, US, [(b"x-old", 0)])),
    ),
    *(
        Case(f"links: {name}", 6_000, lambda n, text=text: text * n, lambda data: links.hosts(data, 200))
        for name, text in {
            "schemes": b"http:",
            "schemes and slashes": b"http://",
            "user names": b"http://a@",
            "encoded schemes": b"http%3a%2f%2fa,",
            "names": b"http://a.test/ ",
            "addresses": b"a@b.test ",
            "dots": b"http://....",
            "percent signs": b"%3a",
            "brackets": b"http://[",
            "www": b"www.www.",
            "quoted line ends": b'"http://a\n',
            "letters": b"w",
            "www behind letters beyond ASCII": "\xe9www.".encode(),
            "www behind what nobody sees": "\xadwww.".encode(),
        }.items()
    ),
    Case("links: one long name", 100_000, lambda n: b"http://" + b"a." * n, lambda data: links.hosts(data, 200)),
    Case("links: one long user name", 100_000, lambda n: b"http://" + b"a@" * n, lambda data: links.hosts(data, 200)),
    Case("links: references", 50_000, lambda n: b"&#9;" * n, links.unreferenced),
    Case("links: zeros", 200_000, lambda n: b"&#" + b"0" * n, links.unreferenced),
    Case("links: names of none", 50_000, lambda n: b"&z" * n, links.unreferenced),
    Case("learned words: a long one", 50_000, lambda n: "a" * n + " b", lambda text: list(words._split(text))),
    Case("learned words: many", 2_500, lambda n: "ab cde'- " * n, lambda text: list(words._split(text))),
    Case("learned words: without spaces", 50_000, lambda n: "\u4eca" * n, lambda text: list(words._split(text))),
    Case("learned words: hosts", 5_000, lambda n: "http://a@http://" * n, words._HOST.findall),
]
