"""Results that other hosts wrote (RFC 8601 2.2), read whole or not at all."""

import pytest

from fastmail.policy import results
from fastmail.policy.reported import LARGEST, RESULTS, Reported, read
from fastmail.policy.results import Result


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("example.org; none", []),  # RFC 8601 B.2
        ("example.org 1; none", []),  # B.1
        ("example.com; spf=pass smtp.mailfrom=example.net", [("spf", "pass", "smtp.mailfrom", "example.net")]),  # B.3
        ('m.test; dkim=pass reason="good signature" header.i=@x.test', [("dkim", "pass", "header.i", "@x.test")]),
        # B.7: comments and white space nearly anywhere
        (
            "foo.example.net (foobar) 1 (baz);\n\tdkim (Because I like it) / 1 (One yay) = (wait for it) fail\n"
            "\tpolicy (A dot can go here) . (like that) expired\n\t(this surprised me) = (as I wasn't expecting it) 1362471462",
            [("dkim", "fail", "policy.expired", "1362471462")],
        ),
        ("m.test; DMARC=Pass (p=NONE; dis=NONE) Header.From=B.test", [("dmarc", "pass", "header.from", "B.test")]),
        ("m.test; dkim=pass header.b=aB/c+dE=; spf=none", [("dkim", "pass", "header.b", "aB/c+dE="), ("spf", "none")]),
        (r'm.test; spf=pass smtp.mailfrom="a;\"b"@c.test', None),  # two values without a name between
        (r'm.test; spf=pass smtp.mailfrom="a;\"b@c.test"', [("spf", "pass", "smtp.mailfrom", 'a;"b@c.test')]),
        ("m.test; dmarc=pass action=none header.from=b.test;", [("dmarc", "pass", "action", "none")]),  # Microsoft's
        ('"m.test"; none', []),
    ],
)
def test_what_hosts_write(text: str, found: list[tuple[str, ...]] | None) -> None:
    got = read(text)
    if found is None:
        assert got is None
        return
    assert got is not None and len(got) == len(found)
    for one, (method, result, *rest) in zip(got, found, strict=True):
        assert (one.method, one.result) == (method, result)
        if rest:
            name, value = rest
            assert one.values(name) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "m.test",
        "m.test;",
        "m.test 2; none",
        "m.test; none; spf=pass",
        "m.test; spf=pass; none",
        "m.test; spf",
        "m.test; spf=",
        "m.test; spf=pass smtp.",
        "m.test; spf=pass smtp.mailfrom",
        "m.test; spf=pass (no end",
        'm.test; spf=pass reason="no end',
        "m.test; spf=pass) dmarc=fail",
        "m.test; spf=pass;; dmarc=fail",
        "i=1; m.test; spf=pass",
        "m.test;" + "spf=pass;" * RESULTS + "dmarc=fail",
        "m.test; spf=pass " + "a.b=c " * 51,
        "m.test; spf=pass (" + "x" * LARGEST + "); dmarc=fail",
    ],
)
def test_what_cannot_be_read_whole_is_not_read(text: str) -> None:
    assert read(text) is None


def test_comments_may_nest_deep() -> None:
    assert read("m.test; spf=pass " + "(" * 5000 + ")" * 5000) == [Reported("spf", "pass")]


def test_our_own_results_are_read_as_they_were_written() -> None:
    made = [
        Result("spf", "fail", (("smtp.mailfrom", "b.test"),), 'why; dmarc=pass "x"', "a (comment)"),
        Result("dkim", "pass", (("header.d", "b.test"), ("header.b", "aB/+=x"))),
        Result("dmarc", "fail", (("header.from", "b.test"),)),
    ]
    found = read("mx.test" + "".join(map(results.line, made)))
    assert found is not None
    assert [(one.method, one.result) for one in found] == [("spf", "fail"), ("dkim", "pass"), ("dmarc", "fail")]
    assert found[0].values("reason") == ['why; dmarc=pass "x"'] and found[1].values("header.b") == ["aB/+=x"]
    assert read("mx.test" + results.NOTHING) == []
