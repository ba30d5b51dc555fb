"""The author that is checked is the author that is shown (S14): whatever DMARC takes a From for, ENVELOPE has these
addresses and no others. A forger needs only one form in which the two differ, such as a route with a comment in which
one of them looks for the end of the route."""

import random
import re

import pytest

from fastmail._core import envelope, mime
from fastmail.message import authors
from fastmail.model.domain import comparable
from fastmail.policy import dmarc
from tests.support.examples import seeds, some

COMMENTS = [
    "",
    "",
    "",
    " ",
    "\n ",
    "(x)",
    "(<b@bank.test>)",
    "(:b@bank.test)",
    "(,;:@>\\)())",
    '(")',
    "(]>)",
    " (a(b)c) ",
]
WORDS = ["a", "b.c", '"q"', '"<b@bank.test>"', '"b@bank.test, \\" ("', '"a\\\\"', "\u00e9", "=?x?q?y?=", "John.", "a'b"]
LOCALS = ["a", "a.b", '"q r"', '"b@bank.test"', '"\\""', 'a."x".b', '"<b@bank.test>"', '"a,b;c:d"']
DOMAINS = ["evil.test", "EVIL.test", "evil . test", "evil(x).test", "evil.\n test"]
HOSTS = ["r.test", "[1.2]", "[x:b@bank.test>]", "[\\]:b@bank.test>,]", "r . test"]
ODD = '<>@,;:."()[]\\ '


class From:
    """Makes values of From, with everything that RFC 5322 3.4 and 4.4 allow, and now and then a character more."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, choices: list[str]) -> str:
        return self.random.choice(choices)

    def within(self, text: str) -> str:
        return self.one(COMMENTS) + text + self.one(COMMENTS)

    def spec(self) -> str:
        return self.within(self.one(LOCALS)) + "@" + self.within(self.one(DOMAINS))

    def route(self) -> str:
        begun = "".join(self.within(",") for _ in range(self.random.randint(0, 2)))
        hosts = [self.within("@" + self.within(self.one(HOSTS))) for _ in range(self.random.randint(1, 3))]
        return self.within(begun + ",".join(hosts)) + ":"

    def mailbox(self) -> str:
        if self.random.random() < 0.3:
            return self.spec()
        name = " ".join(self.within(self.one(WORDS)) for _ in range(self.random.randint(0, 3)))
        route = self.route() if self.random.random() < 0.5 else ""
        return self.within(name) + "<" + self.within(route + self.spec()) + ">" + self.one(COMMENTS)

    def value(self) -> str:
        listed = self.one([",", " ,", ",(x),"]).join(self.mailbox() for _ in range(self.random.randint(1, 3)))
        if self.random.random() < 0.25:
            listed = self.within(self.one(WORDS)) + ":" + self.within(listed) + ";"
        if self.random.random() < 0.25:
            at = self.random.randrange(len(listed) + 1)
            listed = listed[:at] + self.random.choice(ODD) + listed[at + self.random.randint(0, 1) :]
        return " " + listed


def shown(value: str) -> list[tuple[str, str]]:
    summary = mime.scan(f"From:{value}\n\n".encode(), False)
    found = envelope.addresses(summary, envelope.Element.FROM) or []
    return [(local.decode(), host.decode()) for _, _, local, host in found if local is not None and host is not None]


def checked(value: str) -> list[tuple[str, str]]:
    out = []
    for address in authors.parse(value):
        local, _, host = address.rpartition("@")
        if local.startswith('"'):
            local = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
        out.append((local, host))
    return out


@pytest.mark.parametrize("seed", seeds(4))
def test_s14_who_is_checked_is_who_is_shown(seed: int) -> None:
    made, taken, routes = From(seed), 0, 0
    for _ in range(some(2000)):
        value = made.value()
        if re.search(r"\n(?![ \t]*[^ \t\n])|\n[^ \t]", value):  # no value of one field
            continue
        try:
            domain = dmarc.author_of([f"{value}\n".encode()])
        except dmarc.NoAuthor:
            continue
        taken, routes = taken + 1, routes + ("r.test" in value)
        assert shown(value) == checked(value), value
        assert {comparable(host) for _, host in shown(value)} == {domain}
    assert taken > some(2000) // 4 and routes > taken // 10


@pytest.mark.parametrize(
    ("value", "route"),
    [
        ("<@a.test(:boss@bank.test>):me@evil.test>", b"@a.test"),
        ("<@[x:boss@bank.test>]:me@evil.test>", b"@[x:boss@bank.test>]"),
        ("<@[\\]:boss@bank.test>]:me@evil.test>", b"@[\\]:boss@bank.test>]"),
        ("< (boss@bank.test>) ,, @a.test , @b.test : me@evil.test>", b"@a.test,@b.test"),
    ],
)
def test_s14_the_end_of_a_route(value: str, route: bytes) -> None:
    found = envelope.addresses(mime.scan(f"From: {value}\n\n".encode(), False), envelope.Element.FROM)
    assert found == [(None, route, b"me", b"evil.test")]
    assert dmarc.author_of([f" {value}\n".encode()]) == "evil.test"
