"""Keys of base subjects, dates and addresses (RFC 5256 2, RFC 5957 3)."""

import pytest

from fastmail._core import envelope, mime, order
from fastmail.message import order as keys


@pytest.mark.parametrize(
    ("raw", "base", "reply"),
    [
        (b" hello", "HELLO", False),
        (b"Re: hello", "HELLO", True),
        (b"RE:  Fwd: [list] re: Hello  World", "HELLO WORLD", True),
        (b"[list] hello", "HELLO", False),
        (b"[list]", "[LIST]", False),
        (b"[a][b]", "[B]", False),
        (b"[a] [fwd: b]", "B", True),
        (b"hello (fwd) (FWD)", "HELLO", True),
        (b"[Fwd: Re: hello]", "HELLO", True),
        (b"[fwd: hello", "[FWD: HELLO", False),
        (b"Re[2]: hello", "HELLO", True),
        (b"Re [2] : hello", "HELLO", True),
        (b"=?utf-8?q?Re=3A_gr=C3=BC=C3=9Fe?=", "GRU\u0308\u00dfE", True),
        (b"regarding: x", "REGARDING: X", False),
        (b"folded\r\n\tsubject", "FOLDED SUBJECT", False),
        (b"", "", False),
    ],
)
def test_base_subject(raw: bytes, base: str, reply: bool) -> None:
    assert keys.subject_key(raw) == (base.encode(), reply)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b" Mon, 7 Feb 1994 21:52:25 -0800 (PST)", 760686745),
        (b"Mon Feb  7 21:52:25 1994", 760657945),
        (b"7-Feb-94 21:52:25 PST", 760686745),
        (b"(a (b) \\) c) 7 Feb 1994 (x) 21:52", 760657920),
        (b"7 Feb 1994 21:52 +9999", 760657920),  # the zone is wrong: UTC
        (b"7 Feb 1994 25:52:25 -0100", 760582800),  # the time is wrong: 00:00:00
        (b"7 Feb 1994", 760579200),
        (b"1 Jan 00 00:00:00 GMT", 946684800),
        (b"yesterday", None),
        (b"32 Jan 2000 00:00:00 GMT", None),
        (b"", None),
        (b"(" * 5000 + b"7 Feb 1994", None),
    ],
)
def test_sent_dates(raw: bytes, wanted: int | None) -> None:
    assert order.sent_date(raw) == wanted


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"<a@b> <c@d>", [b"a@b", b"c@d"]),
        (b'<"01KF8JCEOCBS0045PS"@xxx.yyy.com>', [b"01KF8JCEOCBS0045PS@xxx.yyy.com"]),  # the example of RFC 5256 3
        (b"Your mail of <a\r\n b@c> (x)<<d@e>>", [b"ab@c", b"d@e"]),
        (b"<> a > b <c", []),
    ],
)
def test_message_ids(raw: bytes, wanted: list[bytes]) -> None:
    assert order.message_ids(raw) == wanted


def compared(field: bytes, name: bytes) -> bytes:
    """What SORT compares of a message with this header field."""
    made = mime.scan(field + b"\n\nx\n")
    found, undecoded, missing = order.values([1], [(1, made)], order.NAMES[name])
    assert not missing
    for place, octets, otherwise in undecoded:
        found[place] = keys.subject_key(octets)[0] if name == b"SUBJECT" else keys.text_key(octets, otherwise)
    assert isinstance(found[0], bytes)
    return found[0]


@pytest.mark.parametrize(
    ("name", "field", "wanted"),
    [
        (b"FROM", b'From: "Doe, Jane" <Jane.Doe@x.example>, b@c', b"JANE.DOE"),
        (b"DISPLAYFROM", b'From: "Doe, Jane" <Jane.Doe@x.example>, b@c', b"DOE, JANE"),
        (b"DISPLAYFROM", b"From: b@c.example", b"B@C.EXAMPLE"),
        (b"DISPLAYFROM", b"From: b@c.example (Jane Doe)", b"JANE DOE"),
        (b"DISPLAYFROM", b"From: =?utf-8?q?=C3=A4b?= <b@c.example>", "A\u0308B".encode()),
        (b"DISPLAYFROM", b"From: =?utf-8?q??= <b@c.example>", b"B@C.EXAMPLE"),
        (b"CC", b"Cc: team: a@b, c@d;", b"TEAM"),
        (b"DISPLAYTO", b"To: team: a@b, c@d;", b"TEAM"),
        (b"FROM", b"From: jane (the (old) one) . doe (x) @ x . example", b"JANE.DOE"),
        (b"TO", b"To: (c) <jane(c)@(d)x.example>", b"JANE"),
        (b"FROM", b"From: " + b"(" * 480, b""),
        (b"DISPLAYFROM", b"From: <<<>>>", b"<<@"),
        (b"TO", b"From: a@b", b""),
        (b"SUBJECT", b"Subject: " + b"x" * 3000, None),
    ],
)
def test_addresses_are_those_of_the_envelope(name: bytes, field: bytes, wanted: bytes | None) -> None:
    found = compared(field, name)
    if wanted is None:
        assert len(found) == keys.MOST and found != compared(field + b"y", name)
    else:
        assert found == wanted


def test_addresses_and_strings_of_an_envelope() -> None:
    made = mime.scan(b'From: "a \\"b\\"" <c@d>\nTo: g: e@f;\nSubject: \xff\n\nx\n')
    assert envelope.addresses(made, 2) == [(b'a "b"', None, b"c", b"d")]
    group = [(None, None, b"g", None), (None, None, b"e", b"f"), (None, None, None, None)]
    assert envelope.addresses(made, 5) == group and envelope.addresses(made, 5, 1) == group[:1]
    assert (
        envelope.addresses(made, 6) == [] and envelope.string(made, 1) == b"\xff" and envelope.string(made, 0) is None
    )
    for cut in range(len(made)):  # what is damaged is read as far as it is whole, or not at all
        assert envelope.addresses(made[:cut], 2) in (None, [(b'a "b"', None, b"c", b"d")])
