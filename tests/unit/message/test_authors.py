"""Whom a header names: every form of RFC 5322 3.4 and 4.4, and what is refused because programs differ about it."""

import time

import pytest

from fastmail._core import header
from fastmail.message.authors import ADDRESSES, FIELDS, MOST, Unreadable, domains, fields, like_from, parse, read

READ: list[tuple[str, list[str]]] = [
    ("me@x.test", ["me@x.test"]),
    (" me@x.test\r\n", ["me@x.test"]),
    ("Me <me@x.test>", ["me@x.test"]),
    ("<me@x.test>", ["me@x.test"]),
    ('"boss@y.test" <me@x.test>', ["me@x.test"]),
    ('"a, b <boss@y.test>" <me@x.test>', ["me@x.test"]),
    ('"a \\" <boss@y.test>, \\"" <me@x.test>', ["me@x.test"]),
    ("=?utf-8?q?boss=40y=2Etest?= <me@x.test>", ["me@x.test"]),
    ("(boss@y.test) me@x.test", ["me@x.test"]),
    ("me(a(b)c)@(d)x(e).(f)test(g)", ["me@x.test"]),
    ("me (\\( boss@y.test, \\)) @x.test", ["me@x.test"]),
    ("(a\\)) <me@x.test> (trailing)", ["me@x.test"]),
    ("Me\n <me@x\n .test>\n", ["me@x.test"]),
    ("a@x.test, b@y.test", ["a@x.test", "b@y.test"]),
    ("A <a@x.test>,B <b@y.test>", ["a@x.test", "b@y.test"]),
    (",, a@x.test ,, b@y.test,", ["a@x.test", "b@y.test"]),
    ("We: a@x.test, B <b@y.test>;", ["a@x.test", "b@y.test"]),
    ('"We, us": a@x.test;, c@z.test', ["a@x.test", "c@z.test"]),
    ("We: a@x.test; <c@z.test>", ["a@x.test", "c@z.test"]),
    ("<@one.test,@two.test:me@x.test>", ["me@x.test"]),
    ("<@one.test:boss@y.test>", ["boss@y.test"]),
    ("Me <@one.test , , @two.test : me@x.test>", ["me@x.test"]),
    ('"me"@x.test', ["me@x.test"]),
    ('"m\\e"@x.test', ["me@x.test"]),
    ('"a b"@x.test', ['"a b"@x.test']),
    ('"a\\"b"@x.test', ['"a\\"b"@x.test']),
    ('first."last"@x.test', ["first.last@x.test"]),
    ("first . last @ x . test", ["first.last@x.test"]),
    ("John Q. Public <me@x.test>", ["me@x.test"]),
    ("me@[192.0.2.1]", ["me@[192.0.2.1]"]),
    ("jörg@fähre.test", ["jörg@fähre.test"]),
    ("\udcff\udcfe <me@x.test>", ["me@x.test"]),
    ("\x1b$B <me@x.test>", ["me@x.test"]),
    ("", []),
    (" (nobody) ", []),
    ("Nobody:;", []),
]


@pytest.mark.parametrize(("text", "addresses"), READ)
def test_what_is_read(text: str, addresses: list[str]) -> None:
    assert list(parse(text)) == addresses


UNREADABLE = [
    *("me", "boss", "<me>", "<>", "Me <>", "a b@x.test", "me@x.test you@y.test", "me@x.test <boss@y.test>"),
    *("<me@x.test> boss@y.test", "<me@x.test> <boss@y.test>", "<me@x.test", "me@x.test>", "<<me@x.test>>"),
    *("me@", "@x.test", "me@@x.test", "me@x@y.test", "me@x..test", "me..you@x.test", ".me@x.test", "me.@x.test"),
    *("me@x.test.", "me@.x.test", "(me@x.test", "me@x.test)", '"me@x.test', "me@[x", "me\\@x.test", "me@x.test\\"),
    *("A: B: me@x.test;;", "A: me@x.test", "me@x.test;", ": me@x.test;", "A <b:c>: me@x.test;", "me@x.test:"),
    *("<@one.test me@x.test>", "<:me@x.test>", "<@:me@x.test>", "<one.test:me@x.test>", "<@a@b:me@x.test>"),
    *("=?utf-8?q?boss=40y.test?=", "=?utf-8?q?boss?=@x.test", "me+=?utf-8?q?=40?=@x.test", '"=?utf-8?q?b?="@x.test'),
    *(
        "me\x00@x.test",
        "Me\x00 <me@x.test>",
        "me\x01@x.test",
        "m\udcffe@x.test",
        "me@x\u200b.test",
        "me\u00a0you@x.test",
    ),
    *("me@x.test, boss", "We: me@x.test, boss;", "me@[x]y", "me@[x][y]", '"a""b"@x.test', "me[x]@y.test"),
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_programs_may_differ_about_is_nobodys(text: str) -> None:
    with pytest.raises(Unreadable):
        list(parse(text))


def test_every_field_of_every_spelling_counts() -> None:
    message = (
        b"fRoM: a@x.test\nSubject: s\nFrom : b@x.test\nSender\t:\n c@x.test\nRESENT-FROM:d@x.test\n"
        b"Resent-Sender: e@x.test\nnonsense\nFrom: f@x.test\nX-From: g@x.test\nReply-To: h@x.test\n\nFrom: i@x.test\n"
    )
    assert [(one.field, one.address[0]) for one in read(fields(message))] == [
        *(("From", "a"), ("From", "b"), ("Sender", "c"), ("Resent-From", "d"), ("Resent-Sender", "e"), ("From", "f")),
    ]


def test_what_is_too_much_is_refused() -> None:
    many = b"From: " + b",".join(b"a%d@x.test" % n for n in range(ADDRESSES + 1)) + b"\n\n"
    with pytest.raises(Unreadable, match="more than 100"):
        read(fields(many))
    with pytest.raises(Unreadable, match="too long"):
        fields(b"From: a@x.test\n" * (MOST // 15 + 1) + b"\n")
    with pytest.raises(Unreadable, match="names nobody"):
        read(fields(b"From: a@x.test\nSender:\n\n"))


@pytest.mark.parametrize(
    "part", [",", "(", "(a)", '"', '"a"', "<", "a ", "\\", ":", "a:;", "@", "[", ".", "<@a,", "\n "]
)
def test_the_cost_is_bounded(part: str) -> None:
    text = part * (MOST // len(part))
    begun = time.process_time()
    for _ in range(2):
        try:
            list(parse(text))
        except Unreadable:
            pass
    assert time.process_time() - begun < 0.8


def test_the_scanner_gives_values_and_stops_at_its_bound() -> None:
    data = b"From: a\n b\nSender: c\n\nFrom: d\n"
    assert header.values(data, FIELDS, 21) == [(0, b" a\n b\n"), (1, b" c\n")]
    assert header.values(data, FIELDS, 20) is None
    assert header.values(b"", FIELDS, 0) == [] and header.values(b"From", FIELDS, 9) == []
    assert header.values(b"To: x\nFrom:", FIELDS, 9) == [(0, b"")]


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"From: x",
            b"fRoM\t: x",
            b"From\0: x",
            b"From\xc2\xa0: x",
            b"From\n : x",
            b"\xef\xbb\xbfFrom: x",
            b"\0From: x",
        ),
        *(b" From: x", b"From:"),
    ],
)
def test_what_programs_may_take_for_from(line: bytes) -> None:
    assert like_from(b"To: a\n" + line + b"\nFrom: me@x.test\n") == 2


@pytest.mark.parametrize("line", [b"From x Mon Jan", b"X-From: x", b"Subject: From: x", b"From\nTo: x", b"Fromage: x"])
def test_what_nobody_takes_for_from(line: bytes) -> None:
    assert like_from(b"To: a\n" + line + b"\nFrom: me@x.test\n") == 1


def test_domains_of_fields() -> None:
    """They are kept by what they are, so a stranger does not choose how many, or how long."""
    assert domains([b"Me <a@X.test>, b@x.test", b"broken <", "c@b\xfccher.test".encode()], 9) == [
        "x.test",
        "xn--bcher-kva.test",
    ]
    assert domains([b", ".join(b"a@d%d.test" % n for n in range(50))], 3) == ["d0.test", "d1.test", "d10.test"]
    assert domains([b"a@" + b"x." * 4000 + b"test"], 3) == domains([], 3) == []
