"""Authentication-Results by line (RFC 8601), against the same made of all results at once."""

import itertools
from collections.abc import Sequence

from fastmail.policy import authentication, results
from fastmail.policy.arc import Chain
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc, Record
from fastmail.policy.iprev import Reverse
from fastmail.policy.results import Result
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import Checks
from tests.support.examples import FEW

RECORD = Record("reject", "", "", False, False, "u", False, (), (), "0")
LONG = "a-long-name-of-a-signer" * 3


def made(checks: Checks, ip: str) -> bytes:
    """The field of the host mx.test, from its parts."""
    return authentication.joined(*authentication.parts("mx.test", checks, ip), checks.dkim or ())


def lines(found: Sequence[Result]) -> bytes:
    """What the field has behind the name of the host."""
    return ("".join(map(results.line, found)) or "; none").encode()


def plain(checks: Checks, ip: str) -> list[Result]:
    """Each result in full, made anew."""
    out = []
    if checks.reverse is not None:
        out.append(Result("iprev", checks.reverse.result, (("policy.iprev", ip),), comment=checks.reverse.name))
    if checks.helo is not None and checks.helo.result != "none":
        out.append(Result("spf", checks.helo.result, (("smtp.helo", checks.helo.domain),), checks.helo.why))
    if checks.sender is not None:
        out.append(Result("spf", checks.sender.result, (("smtp.mailfrom", checks.sender.domain),), checks.sender.why))
    if checks.dkim is not None:
        out += [_signature(one) for one in checks.dkim] or [Result("dkim", "none")]
    if checks.more:
        out.append(Result("dkim", "policy", reason=f"{checks.more} more signatures were not looked at"))
    if checks.arc is not None and checks.arc.result != "none":
        sealer = checks.arc.sealers[0] if checks.arc.sealers else ""
        seen = (("header.d", sealer), ("smtp.remote-ip", ip))
        out.append(Result("arc", checks.arc.result, seen, checks.arc.why))
    if checks.dmarc is not None:
        wish = checks.dmarc.policy if checks.dmarc.record is not None else ""
        properties = (("header.from", checks.dmarc.domain), ("policy.dmarc", wish))
        out.append(Result("dmarc", checks.dmarc.result, properties, checks.dmarc.why))
    elif checks.nobody:
        out.append(Result("dmarc", "permerror", reason=checks.nobody))
    return out


def _signature(one: Signed) -> Result:
    properties = (
        ("header.d", one.domain),
        ("header.i", one.identity),
        ("header.s", one.selector),
        ("header.a", one.algorithm),
        ("header.b", one.shown),
    )
    return Result("dkim", one.result, properties, one.why, f"{one.bits}-bit key" if one.bits else "")


SIGNATURES: Sequence[Sequence[Signed] | None] = [
    None,
    (),
    [
        Signed("pass", "", "a.test", "s", "@a.test", "rsa-sha256", shown, 2048)
        for shown in ("abcdefgh", "ab/def+h", "", 'a"b\\\n')
    ],
    [Signed("fail", "the body was changed", domain, "s", f"joe@{domain}", "rsa-sha256", "abcdefgh")
     for domain in ("a.test", *(f"{LONG[:n]}.test" for n in range(1, 70)))],
    [Signed("neutral", 'a "reason"\r\nX: y')],
]  # fmt: skip


def test_lines_are_those_of_all_results() -> None:
    combinations = itertools.product(
        (None, Reverse("pass", "mail.a.test"), Reverse("fail", "(x)\n", "no")),
        (None, Checked("none", "helo", ""), Checked("fail", "helo", "h.test", "-all")),
        (None, Checked("permerror", "mailfrom", "a b", "", "why; not")),
        SIGNATURES,
        (0, 3),
        (None, Chain("none"), Chain("pass", "", 1, ("s.test", "t.test")), Chain("fail", "seal 1: no")),
        (
            (None, ""),
            (None, "2 From fields"),
            (Dmarc("pass", "", "a.test", record=RECORD, policy="reject"), ""),
            (Dmarc("none", "no record", "a.test"), ""),
        ),
    )
    seen = set()
    for number, (reverse, helo, sender, dkim, more, chain, (dmarc, nobody)) in enumerate(combinations):
        if FEW and number % 7 and dkim is not None and len(dkim) > 10:
            continue  # seventy lines each: all of them with each other result, but not with each combination
        checks = Checks(helo, sender, dkim, more, dmarc, chain, reverse, nobody)
        for ip in ("192.0.2.1", "2001:db8::1"):
            field = made(checks, ip)
            assert field == b"Authentication-Results: mx.test" + lines(plain(checks, ip)) + b"\n"
            seen.add(field)
    assert b"Authentication-Results: mx.test; none\n" in seen and len(seen) > 1000


def test_a_line_is_folded_where_it_is_full() -> None:
    """76 characters behind the indent; one that is folded has two more in front."""
    for length in range(1, 60):
        names = [("a", "x" * length)] * 9
        lines = results.line(Result("spf", "pass", tuple(names))).removeprefix(";\n\t").split("\n\t  ")
        assert " ".join(lines).split() == ["spf=pass", *[f"a={'x' * length}"] * 9]
        word = length + len("a=")
        assert all(len(line) <= 77 and len(line) + word > 76 for line in lines[:-1])
        shorter = results.line(Result("spf", "pass", tuple(names[1:])))
        one_more = results.more(*names[0], results.left(shorter))
        assert shorter + one_more == results.line(Result("spf", "pass", tuple(names)))
