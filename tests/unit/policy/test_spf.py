"""SPF by sections of RFC 7208, with its own examples (7.4 and appendix A)."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from fastmail.dns.interface import Budget
from fastmail.dns.memory import MemoryResolver
from fastmail.net import networks
from fastmail.policy import macros, spf_record
from fastmail.policy.spf import Checked, Spf, _Run

ZONE: dict[tuple[str, str], list[Any]] = {
    ("example.com", "MX"): [(10, "mail-a.example.com"), (20, "mail-b.example.com")],
    ("example.com", "A"): ["192.0.2.10", "192.0.2.11"],
    ("amy.example.com", "A"): ["192.0.2.65"],
    ("bob.example.com", "A"): ["192.0.2.66"],
    ("mail-a.example.com", "A"): ["192.0.2.129"],
    ("mail-b.example.com", "A"): ["192.0.2.130"],
    ("www.example.com", "CNAME"): ["example.com"],
    ("example.org", "MX"): [(10, "mail-c.example.org")],
    ("mail-c.example.org", "A"): ["192.0.2.140"],
    ("10.2.0.192.in-addr.arpa", "PTR"): ["example.com"],
    ("11.2.0.192.in-addr.arpa", "PTR"): ["example.com"],
    ("65.2.0.192.in-addr.arpa", "PTR"): ["amy.example.com"],
    ("66.2.0.192.in-addr.arpa", "PTR"): ["bob.example.com"],
    ("129.2.0.192.in-addr.arpa", "PTR"): ["mail-a.example.com"],
    ("130.2.0.192.in-addr.arpa", "PTR"): ["mail-b.example.com"],
    ("140.2.0.192.in-addr.arpa", "PTR"): ["mail-c.example.org"],
    ("4.0.0.10.in-addr.arpa", "PTR"): ["bob.example.com"],
}


def check(
    records: Mapping[tuple[str, str], Any],
    ip: str = "192.0.2.1",
    sender: str = "user@example.com",
    helo: str = "mail.example.com",
    **resolver: Any,
) -> Checked:
    names = MemoryResolver({**ZONE, **records})
    names.broken |= set(resolver.get("broken", ()))
    names.slow |= set(resolver.get("slow", ()))
    return asyncio.run(Spf(names, "mx.example.net").mail_from(ip, helo, sender, Budget()))


def result(record: str, ip: str = "192.0.2.1", **more: Any) -> str:
    return check({("example.com", "TXT"): [record], **more.pop("records", {})}, ip, **more).result


@pytest.mark.parametrize(
    ("record", "passes", "fails"),
    [
        ("v=spf1 +all", ["192.0.2.1", "2001:db8::1"], []),
        ("v=spf1 a -all", ["192.0.2.10", "192.0.2.11"], ["192.0.2.12"]),
        ("v=spf1 a:example.org -all", [], ["192.0.2.140", "192.0.2.10"]),
        ("v=spf1 mx -all", ["192.0.2.129", "192.0.2.130"], ["192.0.2.140"]),
        ("v=spf1 mx:example.org -all", ["192.0.2.140"], ["192.0.2.129"]),
        ("v=spf1 mx mx:example.org -all", ["192.0.2.129", "192.0.2.130", "192.0.2.140"], ["192.0.2.10"]),
        ("v=spf1 mx/30 mx:example.org/30 -all", ["192.0.2.131", "192.0.2.143"], ["192.0.2.132", "192.0.2.139"]),
        ("v=spf1 ptr -all", ["192.0.2.65"], ["192.0.2.140", "10.0.0.4"]),
        ("v=spf1 ip4:192.0.2.128/28 -all", ["192.0.2.129"], ["192.0.2.65"]),
    ],
)
def test_simple_examples(record: str, passes: list[str], fails: list[str]) -> None:
    """RFC 7208 A.1."""
    assert {result(record, ip) for ip in passes} <= {"pass"}
    assert {result(record, ip) for ip in fails} <= {"fail"}


def test_several_domains() -> None:
    """RFC 7208 A.2."""
    records = {
        ("example.com", "TXT"): ["v=spf1 mx -all"],
        ("example.net", "TXT"): ["v=spf1 ip4:198.51.100.1 -all"],
        ("example.org", "TXT"): ["v=spf1 include:example.com include:example.net -all"],
        ("la.example.org", "TXT"): ["v=spf1 redirect=example.org"],
    }
    for domain in ("example.org", "la.example.org"):
        for ip, wanted in (("192.0.2.129", "pass"), ("198.51.100.1", "pass"), ("192.0.2.65", "fail")):
            assert check(records, ip, f"user@{domain}").result == wanted


def test_records_of_single_users() -> None:
    """RFC 7208 A.3."""
    records = {
        ("example.com", "TXT"): ["v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all"],
        ("mobile-users._spf.example.com", "TXT"): ["v=spf1 exists:%{l1r+}.%{d}"],
        ("remote-users._spf.example.com", "TXT"): ["v=spf1 exists:%{ir}.%{l1r+}.%{d}"],
        ("mary.mobile-users._spf.example.com", "A"): ["127.0.0.2"],
        ("15.15.168.192.joel.remote-users._spf.example.com", "A"): ["127.0.0.2"],
    }
    assert check(records, "192.0.2.77", "mary+news@example.com").result == "pass"
    assert check(records, "192.168.15.15", "joel@example.com").result == "pass"
    assert check(records, "192.168.15.16", "joel@example.com").result == "fail"


def test_requirements_that_must_all_hold() -> None:
    """RFC 7208 A.4."""
    records = {
        ("example.com", "TXT"): ["v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all"],
        ("ip4._spf.example.com", "TXT"): ["v=spf1 -ip4:192.0.2.0/24 +all"],
        ("ptr._spf.example.com", "TXT"): ["v=spf1 -ptr:example.com +all"],
    }
    assert check(records, "192.0.2.65").result == "pass"
    assert check(records, "192.0.2.140").result == "fail"
    assert check(records, "10.0.0.4").result == "fail"


EXPANSIONS = {
    "%{s}": "strong-bad@email.example.com",
    "%{o}": "email.example.com",
    "%{d}": "email.example.com",
    "%{d4}": "email.example.com",
    "%{d3}": "email.example.com",
    "%{d2}": "example.com",
    "%{d1}": "com",
    "%{dr}": "com.example.email",
    "%{d2r}": "example.email",
    "%{l}": "strong-bad",
    "%{l-}": "strong.bad",
    "%{lr}": "strong-bad",
    "%{lr-}": "bad.strong",
    "%{l1r-}": "strong",
    "%{ir}.%{v}._spf.%{d2}": "3.2.0.192.in-addr._spf.example.com",
    "%{lr-}.lp._spf.%{d2}": "bad.strong.lp._spf.example.com",
    "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}": "bad.strong.lp.3.2.0.192.in-addr._spf.example.com",
    "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}": "3.2.0.192.in-addr.strong.lp._spf.example.com",
    "%{d2}.trusted-domains.example.net": "example.com.trusted-domains.example.net",
    "%{S}": "strong-bad%40email.example.com",
    "%{h}.%{p}": "mail.example.com.unknown",
    "%%%_%-.%{d1}": "% %20.com",
    "%{d999999999}": "email.example.com",
}


def expand(text: str, ip: str = "192.0.2.3") -> str:
    run = _Run(
        MemoryResolver(ZONE),
        Budget(),
        networks.address(ip),
        "strong-bad@email.example.com",
        "mail.example.com",
        "mx",
        2,
    )
    template = macros.parse(text)
    values = asyncio.run(run._values(template.letters, "email.example.com"))
    return template.name(values)


@pytest.mark.parametrize("text", EXPANSIONS)
def test_expansions(text: str) -> None:
    """RFC 7208 7.4, and some more."""
    assert expand(text) == EXPANSIONS[text]


def test_expansion_of_an_ipv6_address() -> None:
    """RFC 7208 7.4."""
    wanted = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
    assert expand("%{ir}.%{v}._spf.%{d2}", "2001:db8::cb01") == wanted


def test_long_names_lose_labels_from_the_left() -> None:
    """RFC 7208 7.3."""
    text = ".".join(f"label{n:04}" for n in range(40)) + ".%{d}"
    name = expand(text)
    assert len(name) <= 253 and name.endswith(".label0039.email.example.com") and name.startswith("label")
    assert len(expand("x" * 300 + "%{d}")) <= 253


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 a:%{x} -all",
        "v=spf1 a:%{d0} -all",
        "v=spf1 a:%{d -all",
        "v=spf1 a:%d -all",
        "v=spf1 a:%{c} -all",
        "v=spf1 a:foo -all",
        "v=spf1 a:foo.123 -all",
        "v=spf1 a:foo.example.com/33 -all",
        "v=spf1 a:foo.example.com/024 -all",
        "v=spf1 a/24/64 -all",
        "v=spf1 a: -all",
        "v=spf1 mx: -all",
        "v=spf1 ptr: -all",
        "v=spf1 ptr/24 -all",
        "v=spf1 include -all",
        "v=spf1 include: -all",
        "v=spf1 exists -all",
        "v=spf1 all:foo.example.com",
        "v=spf1 all/8",
        "v=spf1 ip4:192.0.2 -all",
        "v=spf1 ip4:192.0.2.0/33 -all",
        "v=spf1 ip4 -all",
        "v=spf1 ip6:2001:db8::/129 -all",
        "v=spf1 ip6:fe80::1%eth0 -all",
        "v=spf1 ip6:192.0.2.1 -all",
        "v=spf1 unknown -all",
        "v=spf1 -all unknown:x.example.com",
        "v=spf1 redirect=a.example.com redirect=b.example.com",
        "v=spf1 exp=a.example.com exp=b.example.com -all",
        "v=spf1 redirect= -all",
        "v=spf1 x=%{ -all",
        "v=spf1 a/24\n -all",
        "v=spf1 a:x.%{d}com -all",
        "v=spf1 a:x.a- -all",
        "v=spf1 a:x.com.. -all",
        "v=spf1 a:%{d00} -all",
        "v=spf1 exists:%%x -all",
        "v=spf1 -all \u00fc",
        "v=spf1 \u200b-all",
    ],
)
def test_an_error_anywhere_makes_the_record_void(record: str) -> None:
    """RFC 7208 4.6: before anything is evaluated, and whatever would have matched first."""
    found = check({("example.com", "TXT"): [record.replace("v=spf1 ", "v=spf1 ip4:192.0.2.1 ", 1).encode()]})
    assert found.result == "permerror" and found.why
    with pytest.raises(spf_record.BadRecord):
        spf_record.parse(record.encode())


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ("v=spf1", "neutral"),
        ("V=SPF1 -ALL", "fail"),
        ("v=spf1  ?all ", "neutral"),
        ("v=spf1 ~all", "softfail"),
        ("v=spf1 IP4:192.0.2.1 -all", "pass"),
        ("v=spf1 ip4:192.0.2.255/24 -all", "pass"),
        ("v=spf1 ip6:::ffff:192.0.2.1 -all", "fail"),
        ("v=spf1 moo=%{t} unknown-modifier=x -all", "fail"),
        ("v=spf1 a:example.com/0 -all", "pass"),
        ("v=spf1 a:www.example.com//0 -all", "fail"),
        ("v=spf1 -all redirect=nowhere.example.com", "fail"),
        ("v=spf1 exists:x%% exists:x.%- -all", "fail"),
        ("v=spf1 exists:%{d1000000000}.%{d001}.example.org -all", "fail"),
        ("v=spf1 a:x.a-1 a:foo:bar/baz.example.com. -all", "fail"),
        ("v=spf1 a:a..example.com mx:a..example.com exists:a..example.com ~all", "softfail"),
    ],
)
def test_forms_that_are_right(record: str, wanted: str) -> None:
    assert result(record) == wanted


def test_which_text_is_the_record() -> None:
    """RFC 7208 3.2, 3.3, 4.5: the version and a space; one record; the strings of one are joined."""

    def texts(*found: bytes) -> str:
        return check({("example.com", "TXT"): list(found)}).result

    assert texts(b"v=spf10 -all") == texts(b"other") == texts(b"v=spf1-all") == texts(b" v=spf1 -all") == "none"
    assert texts(b"other", b"v=spf1 -all", "v=spf1\u200b -all".encode()) == "fail"
    assert texts(b"v=spf1 -all", b"v=spf1 +all") == "permerror"
    assert check({}, sender="user@nowhere.test").result == "none"


def test_senders_without_a_domain() -> None:
    """RFC 7208 4.3, 2.4: no name of several labels is no identity; a null sender is the HELO name's postmaster."""
    everybody = {("mail.example.com", "TXT"): ["v=spf1 exists:%{l}.%{o}.check.test -all"]}
    everybody[("postmaster.mail.example.com.check.test", "A")] = ["127.0.0.2"]
    assert check(everybody, sender="").result == "pass"
    for helo in ("localhost", "[192.0.2.1]", "a..b", "x" * 64 + ".test", ""):
        assert check({}, sender="", helo=helo).result == "none"
    assert check({}, ip="local").result == "none"


def test_helo_is_an_identity_of_its_own() -> None:
    async def main() -> tuple[Checked, Checked]:
        names = MemoryResolver(
            {("mail.example.com", "TXT"): ["v=spf1 a -all"], ("mail.example.com", "A"): ["192.0.2.5"]}
        )
        spf = Spf(names, "mx")
        return (
            await spf.helo("192.0.2.5", "mail.example.com", Budget()),
            await spf.mail_from("192.0.2.5", "mail.example.com", "user@none.test", Budget()),
        )

    helo, sender = asyncio.run(main())
    assert (helo.result, helo.identity, helo.domain) == ("pass", "helo", "mail.example.com")
    assert (sender.result, sender.identity) == ("none", "mailfrom")


# ---------------------------------------------------------------- limits (RFC 7208 4.6.4)


def test_s16_ten_terms_and_no_more() -> None:
    terms = " ".join("a:amy.example.com" for _ in range(10))
    assert result(f"v=spf1 {terms} ip4:192.0.2.1 -all") == "pass"
    assert result(f"v=spf1 {terms} a:amy.example.com ip4:192.0.2.1 -all") == "permerror"
    assert result(f"v=spf1 {terms} redirect=example.org") == "permerror"


def test_s16_the_terms_of_all_records_count_together() -> None:
    records = {
        ("in.example.com", "TXT"): ["v=spf1 " + "a:amy.example.com " * 4 + "?all"],
        ("example.com", "TXT"): ["v=spf1 include:in.example.com include:in.example.com ip4:192.0.2.1 -all"],
    }
    assert check(records).result == "pass" and check(records).terms == 10
    records[("example.com", "TXT")] = ["v=spf1 mx include:in.example.com include:in.example.com ip4:192.0.2.1 -all"]
    assert check(records).result == "permerror"


def test_s16_records_that_include_themselves() -> None:
    assert result("v=spf1 include:example.com -all") == "permerror"
    assert result("v=spf1 redirect=example.com") == "permerror"


def test_s16_two_void_lookups_and_no_more() -> None:
    assert result("v=spf1 a:no1.test a:no2.test ip4:192.0.2.1 -all") == "pass"
    assert result("v=spf1 a:no1.test a:no2.test a:amy.example.com ip4:192.0.2.1 -all") == "pass"
    assert result("v=spf1 a:no1.test exists:no2.test mx:no3.test ip4:192.0.2.1 -all") == "permerror"


def test_s16_mail_hosts_of_one_term() -> None:
    hosts = {("many.test", "MX"): [(n, f"m{n}.many.test") for n in range(10)]}
    hosts |= {(f"m{n}.many.test", "A"): [f"198.51.100.{n}"] for n in range(11)}
    assert result("v=spf1 mx:many.test -all", "198.51.100.9", records=hosts) == "pass"
    hosts[("many.test", "MX")].append((10, "m10.many.test"))
    assert result("v=spf1 mx:many.test -all", "198.51.100.0", records=hosts) == "permerror"


def test_s16_names_of_one_address() -> None:
    """RFC 7208 4.6.4: ten of them count, the others are passed over; always the same ten, in whichever order they came."""
    for order in (range(12), range(11, -1, -1)):
        names = {("1.2.0.192.in-addr.arpa", "PTR"): [f"n{n:02}.test" for n in order]}
        for at, wanted in ((0, "pass"), (9, "pass"), (10, "fail")):
            here = {**names, (f"n{at:02}.test", "A"): ["192.0.2.1"]}
            assert result(f"v=spf1 ptr:n{at:02}.test -all", records=here) == wanted


def test_s16_each_term_counts_that_finds_no_name_of_an_address() -> None:
    """RFC 7208 4.6.4: also where a term, or %{p}, has looked for them before; a failure of the DNS is no void look-up."""
    assert result("v=spf1 ptr ptr:a.test ip4:192.0.2.1 -all") == "pass"
    assert result("v=spf1 ptr ptr:a.test ptr:b.test ip4:192.0.2.1 -all") == "permerror"
    assert result("v=spf1 exists:%{p}.test ptr ip4:192.0.2.1 -all") == "pass"
    assert result("v=spf1 exists:%{p}.test ptr ptr:a.test ip4:192.0.2.1 -all") == "permerror"
    broken = ["1.2.0.192.in-addr.arpa"]
    assert result("v=spf1 ptr ptr:a.test ptr:b.test ip4:192.0.2.1 -all", broken=broken) == "pass"


@pytest.mark.parametrize(
    "record", ["v=spf1 a:slow.test -all", "v=spf1 include:slow.test -all", "v=spf1 redirect=slow.test"]
)
def test_s16_what_takes_too_long_is_temperror(record: str) -> None:
    found = check({("example.com", "TXT"): [record]}, slow=["slow.test"])
    assert found.result == "temperror" and found.until == 0


def test_trouble_of_the_dns() -> None:
    """RFC 7208 4.4, 5, 5.5: temperror, but a ptr term only does not match."""
    assert check({}, broken=["example.com"]).result == "temperror"
    assert result("v=spf1 a:b.test -all", broken=["b.test"]) == "temperror"
    assert result("v=spf1 ip4:192.0.2.1 a:b.test -all", broken=["b.test"]) == "pass"
    assert result("v=spf1 ptr -all", broken=["1.2.0.192.in-addr.arpa"]) == "fail"


# ---------------------------------------------------------------- include, redirect, exp


@pytest.mark.parametrize(
    ("inner", "wanted"),
    [
        ("v=spf1 +all", "pass"),
        ("v=spf1 -all", "softfail"),
        ("v=spf1 ~all", "softfail"),
        ("v=spf1 ?all", "softfail"),
        ("v=spf1 bad", "permerror"),
        ("no record", "permerror"),
    ],
)
def test_include(inner: str, wanted: str) -> None:
    """RFC 7208 5.2."""
    assert result("v=spf1 include:in.test ~all", records={("in.test", "TXT"): [inner]}) == wanted


def test_names_that_no_host_has_may_have_records() -> None:
    """RFC 7208 4.8: what macros make of a local-part is any name that the DNS can have."""
    inner = {("a+b=c.in.test", "TXT"): ["v=spf1 +all"]}
    for term in ("include:%{l}.in.test", "redirect=%{l}.in.test"):
        assert result(f"v=spf1 {term}", records=inner, sender="a+b=c@example.com") == "pass"
        for local in ("a" * 64, '"a..b"', "none"):
            assert result(f"v=spf1 {term}", records=inner, sender=f"{local}@example.com") == "permerror"


def test_names_of_an_address_in_any_spelling() -> None:
    names = {("1.2.0.192.in-addr.arpa", "PTR"): ["Mail.Example.COM"], ("mail.example.com", "A"): ["192.0.2.1"]}
    assert result("v=spf1 ptr:EXAMPLE.com -all", records=names) == "pass"
    six = {
        (networks.address("::c000:201").reverse_pointer, "PTR"): ["mail.example.com"],
        ("mail.example.com", "AAAA"): ["::192.0.2.1"],  # as the C library writes it
    }
    assert result("v=spf1 ptr -all", "::c000:201", records=six) == "pass"


def test_the_name_of_an_address_that_fits_best() -> None:
    """RFC 7208 7.3: %{p} is the domain itself, else a name below it, else any; in whatever case the record names it."""
    names = {
        ("1.2.0.192.in-addr.arpa", "PTR"): ["a.test", "b.in.test", "in.test"],
        **{(name, "A"): ["192.0.2.1"] for name in ("a.test", "b.in.test", "in.test")},
        ("in.test", "TXT"): ["v=spf1 exists:%{p}.ok.test -all"],
        ("in.test.ok.test", "A"): ["127.0.0.2"],
    }
    for name in ("in.test", "In.Test"):
        assert result(f"v=spf1 include:{name} -all", records=names) == "pass"
    names[("1.2.0.192.in-addr.arpa", "PTR")] = ["a.test", "b.in.test"]
    names[("b.in.test.ok.test", "A")] = ["127.0.0.2"]
    for name in ("in.test", "In.Test"):
        assert result(f"v=spf1 include:{name} -all", records=names) == "pass"


def test_redirect() -> None:
    """RFC 7208 6.1: only when nothing matched; a target without a record is an error."""
    inner = {("in.test", "TXT"): ["v=spf1 ~all"]}
    assert result("v=spf1 redirect=in.test", records=inner) == "softfail"
    assert result("v=spf1 redirect=in.test ip4:192.0.2.1", records=inner) == "pass"
    assert result("v=spf1 redirect=nowhere.test") == "permerror"


def test_explanation() -> None:
    """RFC 7208 6.2: of the first domain after an include, of the target after a redirect; ASCII, cut, one text."""
    texts = {
        ("why.test", "TXT"): ["%{i} is not one of %{d}'s hosts; see http://%{d}/why?s=%{S}&r=%{r} %{c}"],
        ("other.test", "TXT"): ["of the other"],
        ("in.test", "TXT"): ["v=spf1 -all exp=other.test"],
        ("two.test", "TXT"): ["one", "two"],
        ("odd.test", "TXT"): ["\u00fc"],
        ("bad.test", "TXT"): ["100% sure"],
        ("long.test", "TXT"): ["x" * 2000],
        ("line.test", "TXT"): ["a\r\nb"],
    }

    def of(record: str) -> str:
        return check({("example.com", "TXT"): [record], **texts}).explanation

    said = "192.0.2.1 is not one of example.com's hosts; see http://example.com/why?s=user%40example.com&r=mx.example.net 192.0.2.1"
    assert of("v=spf1 -all exp=why.test") == said
    assert of("v=spf1 include:in.test -all") == ""
    assert of("v=spf1 redirect=in.test exp=why.test") == "of the other"
    for name in ("two", "odd", "bad", "line", "nowhere"):
        assert of(f"v=spf1 -all exp={name}.test") == ""
    assert of("v=spf1 -all exp=long.test") == "x" * 400
    assert of("v=spf1 ~all exp=why.test") == ""


def test_explanations_show_names_as_they_were_written() -> None:
    """RFC 7208 7.2, RFC 8616 4."""
    records = {("example.com", "TXT"): ["v=spf1 -all exp=why.test"], ("why.test", "TXT"): ["%{s} %{o} %{d} %{h}"]}
    said = check(records, sender="Joe@Example.COM", helo="Mail.Example.Com.").explanation
    assert said == "Joe@Example.COM Example.COM Example.COM Mail.Example.Com"
    assert check(records, helo="[192.0.2.1]").explanation.endswith(" [192.0.2.1]")
    records[("xn--fa-hia.test", "TXT")] = records[("example.com", "TXT")]
    assert check(records, sender="a@fa\u00df.test").explanation.startswith("a@xn--fa-hia.test xn--fa-hia.test ")


# ---------------------------------------------------------------- IPv6, EAI, keeping


def test_addresses_of_both_kinds() -> None:
    """RFC 7208 5: A or AAAA as the client has it; exists always A; a mapped address is the IPv4 address in it."""
    six = {("six.test", "AAAA"): ["2001:db8::1"], ("six.test", "A"): ["192.0.2.9"]}
    assert result("v=spf1 a:six.test -all", "2001:db8::1", records=six) == "pass"
    assert result("v=spf1 a:six.test//64 -all", "2001:db8::ffff", records=six) == "pass"
    assert result("v=spf1 a:six.test/24 -all", "2001:db8::ffff", records=six) == "fail"
    assert result("v=spf1 ip4:192.0.2.9 -all", "::ffff:192.0.2.9") == "pass"
    assert result("v=spf1 exists:six.test -all", "2001:db8::5", records=six) == "pass"
    assert result("v=spf1 ip6:2001:db8::/32 -all", "2001:db8::5") == "pass"


def test_local_parts_that_are_not_ascii_match_nothing() -> None:
    """RFC 8616 4."""
    record = {("example.com", "TXT"): ["v=spf1 exists:%{l}.test ip4:192.0.2.1 -all"]}
    assert check(record, sender="\u00fc@example.com").result == "pass"
    assert check({("xn--fa-hia.test", "TXT"): ["v=spf1 exists:%{o}.ok.test -all"], ("xn--fa-hia.test.ok.test", "A"): ["127.0.0.1"]},
                 sender="a@fa\u00df.test").result == "pass"  # fmt: skip


def test_results_that_depend_on_domain_and_address_alone_are_kept() -> None:
    async def main(record: str) -> int:
        names = MemoryResolver({**ZONE, ("example.com", "TXT"): [record], ("x.test", "TXT"): ["%{s}"]})
        spf = Spf(names, "mx")
        for sender in ("a@example.com", "b@example.com"):
            await spf.mail_from("192.0.2.1", "mail.example.com", sender, Budget())
        return len(names.asked)

    assert asyncio.run(main("v=spf1 a mx exists:%{i}.%{d}.test -all")) < 10
    assert asyncio.run(main("v=spf1 a -all")) == 2
    for own in ("exists:%{l}.test", "exists:%{h}.test", "a:%{o}"):
        assert asyncio.run(main(f"v=spf1 a {own} -all")) == 6
    assert asyncio.run(main("v=spf1 -all exp=x.test")) == 4
