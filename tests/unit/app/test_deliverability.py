"""Whether others accept what a domain sends: each record there, missing, half there, and wrong."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from fastmail.app.deliverability import lists, sources, survey, wishes
from fastmail.app.deliverability.nouns import ERROR, HINT, OK, WARNING, Asked, Line
from fastmail.app.deliverability.survey import Subject
from fastmail.config.sending import Relay
from fastmail.config.settings import Config
from fastmail.directory.records import ACTIVE, WAITING, DkimKey, Domain
from fastmail.dns.interface import Budget
from fastmail.dns.resolver import Resolver
from fastmail.net import web
from fastmail.policy import keyfiles
from fastmail.policy.signer import Signing
from fastmail.queue import routes
from tests.support.hosts import name_server
from tests.support.signing import key, loaded, rsa

HOST, DOMAIN, FOUR, SIX = "mx.example.org", "example.org", "192.0.2.1", "2001:db8::1"
POINTER = "1.2.0.192.in-addr.arpa"
KEY = "one._domainkey.example.org"
POLICY = "version: STSv1\nmode: enforce\nmx: mx.example.org\nmax_age: 86400\n"
Records = dict[tuple[str, str], list[str]]


@pytest.fixture(autouse=True)
def keys_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfiles, "load_pem_private_key", loaded)


def quoted(text: str) -> str:
    """A TXT record in two strings."""
    return f'"{text[:200]}" "{text[200:]}"'


GOOD: Records = {
    (DOMAIN, "MX"): [f"10 {HOST}."],
    (HOST, "A"): [FOUR],
    (POINTER, "PTR"): [f"{HOST}."],
    (DOMAIN, "TXT"): [f'"v=spf1 ip4:{FOUR} -all"'],
    (HOST, "TXT"): ['"v=spf1 a -all"'],
    (KEY, "TXT"): [quoted(key().record())],
    (f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:dmarc@example.org"'],
    (f"_mta-sts.{DOMAIN}", "TXT"): ['"v=STSv1; id=1"'],
    (f"_smtp._tls.{DOMAIN}", "TXT"): ['"v=TLSRPTv1; rua=mailto:tls@example.org"'],
}
ROW = DkimKey("one", "rsa", "dkim/one.pem", ACTIVE)


def look(
    tmp_path: Path,
    changes: dict[tuple[str, str], list[str]] | None = None,
    policy: str | Exception = POLICY,
    keys: tuple[DkimKey, ...] = (ROW,),
    signing: bool = True,
    domain: str = DOMAIN,
    broken: tuple[str, ...] = (),
    url: str = "",
    page: lists.Page | None = None,
    **more: Any,
) -> list[Line]:
    """What is said of a domain whose records are GOOD but for some; an empty list takes a record away."""
    records = {at: found for at, found in {**GOOD, **(changes or {})}.items() if found}
    if not (tmp_path / ROW.file).exists():
        keyfiles.keep(str(tmp_path), ROW.file, rsa(2048))
    config = Config()
    config.server.data_dir, config.server.hostname = str(tmp_path), HOST
    config.web.url = url
    found = Signing(DOMAIN, tuple(one for one in keys if one.state == ACTIVE)) if signing else None

    async def get(name: str) -> str:
        if isinstance(policy, Exception):
            raise policy
        return policy

    async def main() -> list[Line]:
        server = await name_server(records)
        server.broken |= set(broken)
        resolver = Resolver([f"127.0.0.1:{server.port}"], trusted=False)
        asked = Asked(resolver, Budget(), domain, HOST, f"postmaster@{domain}", **({"sources": (FOUR,)} | more))
        try:
            return await survey.survey(asked, Subject(Domain(domain, dkim=keys), found, config, page), get)
        finally:
            resolver.close()
            server.transport.close()

    return asyncio.run(main())


def of(lines: list[Line], check: str) -> list[Line]:
    return [one for one in lines if one.check == check]


def states(lines: list[Line], check: str) -> list[str]:
    return [one.state for one in of(lines, check)]


def test_all_is_well(tmp_path: Path) -> None:
    lines = look(tmp_path)
    assert [one for one in lines if one.state == ERROR and one.check != "certificate"] == []
    assert {one.check for one in lines if one.state == OK} == {
        "hostname", "mx", "reverse dns", "spf", "dkim", "dmarc", "alignment", "mta-sts", "tls-rpt", "receivers",
    }  # fmt: skip
    assert "SPF and DKIM vouch" in of(lines, "alignment")[0].found
    assert "0 of 10 look-ups" in of(lines, "spf")[0].found
    assert "2048 bits" in of(lines, "dkim")[0].found
    assert of(lines, "certificate")[0].found == "none: mail comes in without TLS"


@pytest.mark.parametrize(
    ("check", "changes", "state", "said"),
    [
        ("hostname", {(HOST, "A"): []}, ERROR, "publish mx.example.org. IN A 192.0.2.1"),
        ("mx", {(DOMAIN, "MX"): []}, ERROR, "publish example.org. IN MX 10 mx.example.org."),
        ("mx", {(DOMAIN, "MX"): [], (DOMAIN, "A"): [FOUR]}, WARNING, "by the address of the domain"),
        ("mx", {(DOMAIN, "MX"): ["0 ."]}, ERROR, "null MX"),
        ("mx", {(DOMAIN, "MX"): ["10 other.test."], ("other.test", "A"): ["192.0.2.9"]}, ERROR, "not to this server"),
        ("mx", {(DOMAIN, "MX"): ["10 other.test."], ("other.test", "A"): [FOUR]}, OK, "other.test is this server"),
        ("mx", {(DOMAIN, "MX"): [f"10 {HOST}.", "20 b.test."], ("b.test", "A"): ["192.0.2.9"]}, WARNING, "b.test is not"),
        ("reverse dns", {(POINTER, "PTR"): []}, ERROR, "publish 1.2.0.192.in-addr.arpa. IN PTR mx.example.org."),
        ("reverse dns", {(POINTER, "PTR"): ["dyn.test."]}, ERROR, "does not lead back"),
        ("reverse dns", {(POINTER, "PTR"): ["b.test."], ("b.test", "A"): [FOUR], (HOST, "A"): ["192.0.2.9"]}, WARNING, "says in EHLO"),
        ("spf", {(DOMAIN, "TXT"): []}, ERROR, '"v=spf1 ip4:192.0.2.1 -all"'),
        ("spf", {(DOMAIN, "TXT"): ['"v=spf1 ip4:192.0.2.8 ~all"']}, ERROR, '"v=spf1 ip4:192.0.2.1 ip4:192.0.2.8 ~all"'),
        ("spf", {(DOMAIN, "TXT"): ['"v=spf1 +all"']}, ERROR, "lets everybody send"),
        ("spf", {(DOMAIN, "TXT"): [f'"v=spf1 ip4:{FOUR}"']}, WARNING, "who may not send"),
        ("spf", {(DOMAIN, "TXT"): [f'"v=spf1 ip4:{FOUR} {" ".join(["include:a.test"] * 11)} -all"'], ("a.test", "TXT"): ['"v=spf1 -all"']}, ERROR, "more than 10 terms"),
        ("spf", {(DOMAIN, "TXT"): ['"v=spf1 -all"', '"v=spf1 ~all"']}, ERROR, "2 SPF records"),
        ("spf", {(HOST, "TXT"): []}, HINT, 'mx.example.org. IN TXT "v=spf1 a -all"'),
        ("spf", {(HOST, "TXT"): ['"v=spf1 -all"']}, WARNING, "may not send as mx.example.org"),
        ("dkim", {(KEY, "TXT"): []}, ERROR, "publish one._domainkey.example.org. IN TXT ( \"v=DKIM1;"),
        ("dkim", {(KEY, "TXT"): ['"v=DKIM1; p="']}, ERROR, "was revoked"),
        ("dkim", {(KEY, "TXT"): [quoted(key().record().replace("DKIM1;", "DKIM1; t=y;"))]}, ERROR, "t=y"),
        ("dmarc", {(f"_dmarc.{DOMAIN}", "TXT"): []}, ERROR, '_dmarc.example.org. IN TXT "v=DMARC1; p=none; rua=mailto:postmaster@example.org"'),
        ("dmarc", {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=none"'] * 2 + ['"v=DMARC1; p=reject"']}, ERROR, "none counts"),
        ("dmarc", {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=dmarc1; p=none"']}, ERROR, "the record is none"),
        ("dmarc", {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=maybe"']}, ERROR, "has no policy"),
        ("dmarc", {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=none; rua=mailto:a@example.org"']}, HINT, "go to p=quarantine"),
        ("dmarc", {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=reject"']}, HINT, "add rua="),
        ("dmarc", {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=reject; rua=mailto:a@b.test"']}, WARNING, 'example.org._report._dmarc.b.test. IN TXT "v=DMARC1"'),
        ("alignment", {(DOMAIN, "TXT"): []}, WARNING, "DKIM alone"),
        ("alignment", {(KEY, "TXT"): []}, WARNING, "SPF alone"),
        ("alignment", {(DOMAIN, "TXT"): [], (KEY, "TXT"): []}, ERROR, "nothing vouches"),
        ("mta-sts", {(f"_mta-sts.{DOMAIN}", "TXT"): []}, HINT, "missing"),
        ("mta-sts", {(f"_mta-sts.{DOMAIN}", "TXT"): [], (f"mta-sts.{DOMAIN}", "A"): [FOUR]}, ERROR, 'IN TXT "v=STSv1; id='),
        ("mta-sts", {(f"_mta-sts.{DOMAIN}", "TXT"): ['"v=STSv1;"']}, ERROR, "and no other one"),
        ("tls-rpt", {(f"_smtp._tls.{DOMAIN}", "TXT"): []}, HINT, 'IN TXT "v=TLSRPTv1; rua=mailto:postmaster@example.org"'),
        ("tls-rpt", {(f"_smtp._tls.{DOMAIN}", "TXT"): ['"v=TLSRPTv1; rua=nobody"']}, ERROR, "names nobody"),
        ("receivers", {(POINTER, "PTR"): []}, ERROR, "reverse DNS"),
        ("receivers", {(f"_dmarc.{DOMAIN}", "TXT"): []}, ERROR, "a DMARC record"),
    ],
)  # fmt: skip
def test_what_is_wrong(tmp_path: Path, check: str, changes: Records, state: str, said: str) -> None:
    lines = look(tmp_path, changes)
    found = [one for one in of(lines, check) if one.state == state]
    assert any(said in f"{one.found} -> {one.todo}" for one in found), of(lines, check)


@pytest.mark.parametrize(
    ("policy", "state", "said"),
    [
        (POLICY.replace("enforce", "testing"), HINT, "mode: testing"),
        (POLICY.replace("mx: mx", "mx: other"), ERROR, "does not allow mx.example.org"),
        (POLICY.replace("enforce", "testing").replace("mx: mx", "mx: other"), WARNING, "does not allow"),
        ("version: STSv2\n", ERROR, "no version STSv1"),
        (OSError("HTTP status 404"), ERROR, "no policy: HTTP status 404"),
    ],
)
def test_policies_of_mta_sts(tmp_path: Path, policy: str | Exception, state: str, said: str) -> None:
    (line,) = of(look(tmp_path, policy=policy), "mta-sts")
    assert line.state == state and said in line.found


def test_a_long_record_is_told_whole(tmp_path: Path) -> None:
    terms = " ".join(f"ip4:198.51.100.{n}" for n in range(30))
    text = f"v=spf1 {terms} -all"
    changes = {(DOMAIN, "TXT"): [" ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))]}
    parts = re.findall(r'"([^"]*)"', "".join(one.todo for one in of(look(tmp_path, changes), "spf")))
    assert "".join(parts) == f"v=spf1 ip4:{FOUR} {terms} -all" and max(map(len, parts)) == 255


def test_keys_that_sign_nothing_yet(tmp_path: Path) -> None:
    (line,) = of(look(tmp_path, keys=(), signing=False), "dkim")
    assert line.state == ERROR and line.todo.startswith("`fastmail dkim add example.org`")
    waiting = DkimKey("one", "rsa", ROW.file, WAITING)
    (line,) = of(look(tmp_path, keys=(waiting,), signing=False), "dkim")
    assert "not in use yet: waiting" in line.found and "one._domainkey.example.org. IN TXT" in line.todo
    lost = DkimKey("lost", "rsa", "dkim/lost.pem", ACTIVE)
    (line,) = of(look(tmp_path, keys=(lost,)), "dkim")
    assert line.state == ERROR and "cannot be read" in line.found


def test_a_domain_below_is_signed_for_by_the_one_above(tmp_path: Path) -> None:
    below = "news.example.org"
    more = {(below, "MX"): [f"10 {HOST}."], (below, "TXT"): ['"v=spf1 -all"']}
    lines = look(tmp_path, more, domain=below)
    assert "DKIM alone vouches" in of(lines, "alignment")[0].found
    assert "example.org asks for reject (by p, sp or np of a domain above)" in of(lines, "dmarc")[0].found
    strict = more | {(f"_dmarc.{DOMAIN}", "TXT"): ['"v=DMARC1; p=reject; adkim=s"']}
    (line,) = of(look(tmp_path, strict, domain=below), "alignment")
    assert line.state == ERROR and "`fastmail dkim add news.example.org`" in line.todo


@pytest.mark.parametrize(
    ("name", "check"),
    [(HOST, "hostname"), (DOMAIN, "mx"), (POINTER, "reverse dns"), (DOMAIN, "spf"), (KEY, "dkim"), (f"_dmarc.{DOMAIN}", "dmarc"), (f"_mta-sts.{DOMAIN}", "mta-sts"), (f"_smtp._tls.{DOMAIN}", "tls-rpt")],
)  # fmt: skip
def test_a_dns_that_does_not_answer_is_an_error(tmp_path: Path, name: str, check: str) -> None:
    lines = look(tmp_path, broken=(name,))
    assert any(one.state == ERROR and "could not be looked up" in one.found for one in of(lines, check))


def test_a_survey_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "LONGEST", 0.01)

    async def never(asked: Asked, subject: Subject, get: wishes.Get) -> list[Line]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(survey, "_survey", never)
    (line,) = look(tmp_path)
    assert line.state == ERROR and "took longer" in line.found


def test_mail_that_leaves_by_another_host(tmp_path: Path) -> None:
    lines = look(tmp_path, sources=(), smarthost="smtp:out.test:587")
    assert of(lines, "reverse dns") == [] and states(lines, "sources") == [HINT]
    assert "as far as it depends on this server" in of(lines, "receivers")[0].found


def test_addresses_that_others_cannot_see(tmp_path: Path) -> None:
    lines = look(tmp_path, sources=(), hidden=("10.0.0.5",))
    assert "others cannot see 10.0.0.5; mail is taken to leave from 192.0.2.1" in of(lines, "sources")[0].found
    assert states(lines, "reverse dns") == [OK]
    lines = look(tmp_path, {(HOST, "A"): []}, sources=())
    assert states(lines, "sources") == [ERROR] and states(lines, "hostname") == [ERROR]


def table(*lines: str, pools: tuple[str, ...] = ()) -> routes.Routes:
    return routes.parse(list(lines), [], "", list(pools))


def test_which_addresses_mail_leaves_from(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {4: "10.0.0.5", 6: "2001:db8::5"}
    monkeypatch.setattr(sources, "own", mine.__getitem__)

    def find(relay: Relay, *lines: str, pools: tuple[str, ...] = ()) -> sources.Sources:
        return sources.find(relay, table(*lines, pools=pools), DOMAIN)

    assert find(Relay()) == sources.Sources(("2001:db8::5",), ("10.0.0.5",))
    assert find(Relay(ipv6=False)) == sources.Sources((), ("10.0.0.5",))
    assert find(Relay(source_ipv4=FOUR, source_ipv6=SIX)).addresses == (FOUR, SIX)
    assert find(Relay(), "* smtp:out.test:587").smarthost == "smtp:out.test:587"
    assert find(Relay(), "from:@example.org smtp:out.test:587").smarthost == "smtp:out.test:587"
    assert find(Relay(), "b.test smtp:out.test:587").smarthost == ""
    found = find(Relay(ipv6=False), "* mx pool=bulk", pools=("bulk 192.0.2.7 192.0.2.8", "other 192.0.2.9"))
    assert found.addresses == ("192.0.2.7", "192.0.2.8") and not found.inside
    found = find(Relay(source_ipv4=FOUR, ipv6=False), "from:me@example.org mx pool=bulk", pools=("bulk 192.0.2.7",))
    assert found.addresses == ("192.0.2.7", FOUR)


def test_own_addresses_are_asked_of_the_system() -> None:
    assert all(sources.own(version) == "" or sources.own(version)[0].isalnum() for version in (4, 6))
    assert sources.is_inside("fd00::1") and sources.is_inside("100.64.0.1") and not sources.is_inside(FOUR)


@pytest.mark.parametrize(
    ("url", "answer", "signing", "said"),
    [
        ("", web.Answer(404, "text/html", b""), True, [(HINT, "by mail only")]),
        (
            "https://l.test",
            web.Answer(404, "text/html", b""),
            True,
            [(OK, "can leave with one click, at https://l.test")],
        ),
        ("https://l.test", web.Answer(200, "text/html", b""), True, [(ERROR, "another program answers at")]),
        ("https://l.test", web.Answer(404, "text/plain", b""), True, [(ERROR, "another program answers at")]),
        ("https://l.test", OSError("refused"), True, [(ERROR, "https://l.test does not answer: refused")]),
        (
            "https://l.test",
            web.Answer(404, "text/html", b""),
            False,
            [(OK, "can leave"), (WARNING, "no signature covers")],
        ),
    ],
)
def test_one_click_of_lists(
    tmp_path: Path, url: str, answer: web.Answer | Exception, signing: bool, said: list[tuple[str, str]]
) -> None:
    asked: list[str] = []

    async def page(where: str) -> web.Answer:
        asked.append(where)
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = of(look(tmp_path, url=url, page=page, signing=signing), "one-click")
    assert [one.state for one in found] == [state for state, _ in said]
    assert all(words in one.found for one, (_, words) in zip(found, said, strict=True))
    assert asked == ([f"{url}/u/deliverability"] if url else [])
    assert all(one.todo for one in found if one.state != OK)


def test_a_domain_without_lists_is_not_asked_for_one_click(tmp_path: Path) -> None:
    assert of(look(tmp_path, url="https://l.test"), "one-click") == []
