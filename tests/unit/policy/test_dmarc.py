"""DMARC by sections of RFC 9989, with its own examples of tree walks."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.policy import dmarc
from fastmail.policy.dmarc import Dmarc, Evaluator, NoAuthor, Unsure

Records = Mapping[str, str | Sequence[str]]


def zone(records: Records) -> MemoryResolver:
    made: dict[tuple[str, str], list[Any]] = {
        (f"_dmarc.{name}", "TXT"): [text] if isinstance(text, str) else list(text) for name, text in records.items()
    }
    return MemoryResolver(made)


def evaluate(
    records: Records | MemoryResolver,
    domain: str,
    spf: str = "",
    dkim: Sequence[str] = (),
    unsure: Sequence[Unsure] = (),
) -> Dmarc:
    names = records if isinstance(records, MemoryResolver) else zone(records)
    return asyncio.run(Evaluator(names).evaluate(domain, spf, dkim, unsure, Budget()))


def organization(records: Records, domain: str) -> str:
    return asyncio.run(Evaluator(zone(records)).walk(domain, Budget(), {})).organization


# ---------------------------------------------------------------- the walk (4.10)


def test_the_eight_names_of_a_long_domain() -> None:
    assert dmarc.names("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]
    assert dmarc.names("mail.a.b.c.d.e.f.g.example.com")[1] == "c.d.e.f.g.example.com"


@pytest.mark.parametrize("labels", range(1, 30))
def test_no_walk_has_more_than_eight_names(labels: int) -> None:
    found = dmarc.names(".".join(f"l{n}" for n in range(labels)))
    assert len(found) == min(labels, 8) and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("records", "domain", "wanted"),
    [
        ({"mail.example.com": "v=DMARC1; p=none", "example.com": "v=DMARC1; p=none"}, "a.mail.example.com", "example.com"),
        ({"mail.example.com": "v=DMARC1; p=none; psd=n", "example.com": "v=DMARC1; p=none"}, "a.mail.example.com", "mail.example.com"),
        ({"com": "v=DMARC1; p=none; psd=y"}, "a.mail.example.com", "example.com"),
        ({"com": "v=DMARC1; p=none; psd=y", "mail.example.com": "v=DMARC1; p=none"}, "a.mail.example.com", "example.com"),
        ({"example.com": "v=DMARC1; p=none; psd=y"}, "example.com", "example.com"),
        ({}, "a.mail.example.com", "a.mail.example.com"),
        ({"example.com": ["v=DMARC1; p=none", "v=DMARC1; p=none"], "com": "v=DMARC1; psd=y"}, "a.example.com", "example.com"),
        ({"com": "v=DMARC1; p=none"}, "a.example.com", "com"),
    ],
)  # fmt: skip
def test_organizational_domains(records: Records, domain: str, wanted: str) -> None:
    """RFC 9989 4.10.2, its examples first."""
    assert organization(records, domain) == wanted


def test_which_record_applies() -> None:
    """RFC 9989 4.10.1: the author's, else the organization's, else the public suffix's."""
    org = {"example.com": "v=DMARC1; p=reject; sp=quarantine; np=none"}
    assert evaluate({**org, "a.example.com": "v=DMARC1; p=quarantine"}, "a.example.com").found == "a.example.com"
    found = evaluate(org, "example.com")
    assert (found.found, found.published) == ("example.com", "reject")
    suffix = {"com": "v=DMARC1; p=quarantine; psd=y"}
    found = evaluate(suffix, "mail.example.com")
    assert (found.found, found.published, found.organization) == ("com", "quarantine", "example.com")
    assert evaluate({}, "example.com").result == "none"
    # a record between author and organization is neither's
    assert evaluate({**org, "b.example.com": "v=DMARC1; p=none"}, "a.b.example.com").found == "example.com"


def test_subdomains_that_exist_and_that_do_not() -> None:
    """np= for names that are not there (NXDOMAIN, RFC 8020), sp= for others, then p=."""
    names = zone({"example.com": "v=DMARC1; p=reject; sp=quarantine; np=none"})
    names.records[("there.example.com", "MX")] = ((0, ""),)
    names.records[("below.empty.example.com", "A")] = ("192.0.2.1",)
    for domain, wanted in (("there", "quarantine"), ("empty", "quarantine"), ("nowhere", "none")):
        assert evaluate(names, f"{domain}.example.com").published == wanted, domain
    assert evaluate({"example.com": "v=DMARC1; p=reject; sp=none"}, "nowhere.example.com").published == "none"
    assert evaluate({"example.com": "v=DMARC1; p=reject"}, "nowhere.example.com").published == "reject"
    names.broken.add("there.example.com")
    assert evaluate(names, "there.example.com").result == "temperror"
    assert evaluate(names, "there.example.com", "example.com").result == "pass"  # whichever it is


def test_testing_lowers_the_policy_by_one() -> None:
    for policy, wanted in (("reject", "quarantine"), ("quarantine", "none"), ("none", "none")):
        found = evaluate({"example.com": f"v=DMARC1; p={policy}; t=y"}, "example.com")
        assert (found.policy, found.published) == (wanted, policy)


# ---------------------------------------------------------------- the record (4.7, 4.8)


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1", "v=DMARC1;", "v = DMARC1 ; p = reject", "V=DMARC1; p=none", "v=DMARC1; unknown=1; p=none",
        "v=DMARC1; p=none;; x",
    ],
)  # fmt: skip
def test_records(text: str) -> None:
    assert dmarc.parse(text.encode()) is not None


@pytest.mark.parametrize(
    "text",
    ["", "v=DMARC", "v=dmarc1; p=none", "v=DMARC12; p=none", "p=none; v=DMARC1", " v=DMARC1; p=none", "v=DMARC1 p=none",
     "v=spf1 -all", "v=DMARC1; p=none" + " " * 5000],
)  # fmt: skip
def test_what_is_no_record(text: str) -> None:
    assert dmarc.parse(text.encode()) is None


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("v=DMARC1; p=REJECT", "reject"),
        ("v=DMARC1; p=drop", ""),
        ("v=DMARC1; p=drop; rua=mailto:a@b.test", "none"),
        ("v=DMARC1; rua=mailto:a@b.test!10m", "none"),
        ("v=DMARC1; p=reject; sp=drop", ""),
        ("v=DMARC1; p=reject; np=drop; rua=mailto:a@b.test", "none"),
        ("v=DMARC1; p=reject; sp=drop; rua=a@b.test", ""),
        ("v=DMARC1; p=reject; pct=0; rf=x; ri=1", "reject"),
    ],
)
def test_a_policy_that_is_not_valid(text: str, policy: str) -> None:
    """RFC 9989 4.10.1: none where somebody wants reports, nothing at all where nobody does."""
    found = dmarc.parse(text.encode())
    assert found is not None and found.policy == policy
    result = evaluate({"example.com": text}, "example.com")
    assert result.result == ("fail" if policy else "none")


def test_tags_of_a_record() -> None:
    found = dmarc.parse(
        b"v=DMARC1; p=none; adkim=s; aspf=S; psd=y; rua=mailto:a@b.test!10m, https://c.test/x ,bad; ruf=mailto:d@e.test; fo=1:d"
    )
    assert found is not None
    assert (found.strict_dkim, found.strict_spf, found.psd, found.fo) == (True, True, "y", "1:d")
    assert (found.rua, found.ruf) == (("mailto:a@b.test", "https://c.test/x"), ("mailto:d@e.test",))
    sizes = dmarc.parse(b"v=DMARC1; p=none; rua=mailto:a@b.test!" + b"9" * 40 + b"k,mailto:c@d.test!x,mailto:e@f.test!")
    assert sizes is not None and (sizes.rua, sizes.most) == (
        ("mailto:a@b.test",),
        (dmarc.LARGEST,),
    )  # the mark is encoded
    odd = dmarc.parse(b"v=DMARC1; p=none; adkim=x; psd=maybe; t=perhaps")
    assert odd is not None and (odd.strict_dkim, odd.psd, odd.testing) == (False, "u", False)


# ---------------------------------------------------------------- alignment (4.4, 4.10.2)

BOTH = {"example.com": "v=DMARC1; p=reject", "example.net": "v=DMARC1; p=none"}


@pytest.mark.parametrize(
    ("domain", "spf", "dkim", "result"),
    [
        ("example.com", "example.com", [], "pass"),
        ("example.com", "", ["example.com"], "pass"),
        ("mail.example.com", "bounce.example.com", [], "pass"),
        ("mail.example.com", "", ["other.test", "news.example.com"], "pass"),
        ("example.com", "example.net", ["mail.example.net"], "fail"),
        ("example.com", "notexample.com", ["example.com.test"], "fail"),
        ("example.com", "", [], "fail"),
    ],
)
def test_relaxed(domain: str, spf: str, dkim: list[str], result: str) -> None:
    assert evaluate(BOTH, domain, spf, dkim).result == result


def test_strict_is_strict() -> None:
    strict = {"example.com": "v=DMARC1; p=reject; adkim=s; aspf=s"}
    assert evaluate(strict, "example.com", "mail.example.com", ["mail.example.com"]).result == "fail"
    assert evaluate(strict, "example.com", "mail.example.com", ["example.com"]).aligned == (("dkim", "example.com"),)
    half = {"example.com": "v=DMARC1; p=reject; adkim=s"}
    assert evaluate(half, "example.com", "mail.example.com", ["mail.example.com"]).aligned == (
        ("spf", "mail.example.com"),
    )


def test_departments_of_their_own_are_not_aligned() -> None:
    records = {"example.com": "v=DMARC1; p=reject", "dept.example.com": "v=DMARC1; p=reject; psd=n"}
    assert evaluate(records, "dept.example.com", "example.com").result == "fail"
    assert evaluate(records, "dept.example.com", "a.dept.example.com").result == "pass"


def test_trouble_matters_only_where_the_answer_does() -> None:
    """RFC 9989 5.3.6."""
    no_key = Unsure("dkim", "example.com", "the key could not be had")
    assert evaluate(BOTH, "example.com", "", [], [no_key]).why == no_key.why
    assert evaluate(BOTH, "example.com", "", [], [no_key]).result == "temperror"
    assert evaluate(BOTH, "example.com", "example.com", [], [no_key]).result == "pass"
    names = zone(BOTH)
    names.broken.add("_dmarc.example.com")
    assert evaluate(names, "a.example.com", "a.example.com").result == "temperror"
    names = zone({**BOTH, "a.example.com": "v=DMARC1; p=reject"})
    names.broken.add("_dmarc.com")
    assert evaluate(names, "a.example.com", "a.example.com").result == "pass"
    assert evaluate(names, "a.example.com", "b.example.com").result == "temperror"
    assert evaluate(names, "a.example.com").result == "fail"


def test_what_a_policy_depends_on_is_asked_beforehand() -> None:
    """RFC 9989 4.10.1: whether the domain exists too, where sp= and np= differ."""
    for record, kinds in (("p=reject; np=none", {"TXT", "A"}), ("p=reject; sp=none", {"TXT"}), ("np=none", {"TXT"})):
        names = zone({"example.com": f"v=DMARC1; {record}"})
        asyncio.run(Evaluator(names).prepare("a.example.com", Budget()))
        assert {kind for _, kind in names.asked} == kinds


@pytest.mark.parametrize("method", ["dkim", "spf"])
def test_s14_nobody_evades_a_policy_by_trouble_of_his_own(method: str) -> None:
    """RFC 9989 5.3.6: what is required for the result; a domain that cannot be aligned is not."""
    for domain, wanted in (
        ("mail.example.com", "temperror"),
        ("evil.com", "fail"),
        ("notexample.com", "fail"),
        ("com", "fail"),
        ("evil.test", "fail"),
    ):
        names = zone(BOTH)
        names.broken |= {"_dmarc.evil.com", "_dmarc.notexample.com"}
        unsure = [Unsure(method, domain, "no answer")]
        assert evaluate(names, "example.com", "", [], unsure).result == wanted, domain
        assert evaluate(names, "example.com", "", ["evil.com"], unsure).result == wanted, domain
        assert evaluate(names, "example.com", "a.example.com", [], unsure).result == "pass", domain
    strict = {"example.com": "v=DMARC1; p=reject; adkim=s; aspf=s"}
    for domain, wanted in (("mail.example.com", "fail"), ("example.com", "temperror")):
        assert evaluate(strict, "example.com", "", [], [Unsure(method, domain, "")]).result == wanted


def test_domains_that_cannot_be_aligned_are_not_walked() -> None:
    names = zone(BOTH)
    evaluate(names, "mail.example.com", "evil.com", ["sub.other.com"])
    assert not [name for name, _ in names.asked if "evil" in name or "other" in name]


def test_one_walk_serves_all_identifiers() -> None:
    names = zone(BOTH)
    evaluate(names, "mail.example.com", "a.example.com", [f"k{n}.example.com" for n in range(5)] + ["a.example.com"])
    assert len(names.asked) <= 3 * 7


# ---------------------------------------------------------------- the author (5.3.1, S14)


@pytest.mark.parametrize(
    ("header", "domain"),
    [
        (b"From: a@Example.COM\n", "example.com"),
        (b'From: "a@evil.test" <a@example.com>\n', "example.com"),
        (b"From: A <a@example.com>, B <b@EXAMPLE.com>\nSender: c@d.test\n", "example.com"),
        (b"From: g: a@example.com, b@example.com;\n", "example.com"),
        ("From: a@fa\u00df.test\n".encode(), "xn--fa-hia.test"),
        (b"FROM :\n a@(comment)example.com\n", "example.com"),
    ],
)
def test_authors(header: bytes, domain: str) -> None:
    assert dmarc.author(header) == domain


@pytest.mark.parametrize(
    "header",
    [
        b"", b"To: a@b.test\n", b"From: a@example.com\nFrom: b@evil.test\n", b"From: a@example.com\nFrom: a@example.com\n",
        b"From: a@example.com, b@evil.test\n", b"From: a@example.com b@evil.test\n", b"From: <a@example.com\n",
        b"From: a@[192.0.2.1]\n", b"From: a\n", b"From: <>\n", b"From: g:;\n", b"From: a@example.com(.evil.test\n",
        b"From: a@example.com\0.evil.test\n", b"From: a@exam\xffple.com\n", b"From: a@example.com\rFrom: b@evil.test\n",
        b"From: " + b"a@b.test, " * 10_000 + b"a@b.test\n", b"From: a@x..test\n", b"From: =?utf-8?q?a=40b.test?=@c.test\n",
    ],
)  # fmt: skip
def test_s14_messages_without_one_author(header: bytes) -> None:
    with pytest.raises(NoAuthor) as error:
        dmarc.author(header)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("form", ["<a@%s>", "a@%s", "Joe <a@%s>", "a@%s, b@c.test"])
def test_s14_a_name_that_is_too_long_is_no_author(form: str) -> None:
    """As any other From that cannot be read; it was an error of its own in the usual form."""
    name = ".".join(["a" * 60] * 9)
    with pytest.raises(NoAuthor):
        dmarc.author(f"From: {form % name}\nSubject: x\n".encode())
