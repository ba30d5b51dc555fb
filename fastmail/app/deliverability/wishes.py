"""What the domain asks of others: DMARC (RFC 9989), with what vouches for its mail by that, MTA-STS (RFC 8461) and TLS
reports (RFC 8460). A record that is half there does harm and is an error; one that is missing is a hint.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from fastmail.app.deliverability.nouns import (
    ERROR,
    HINT,
    LOOKED_AT,
    OK,
    WARNING,
    Asked,
    Line,
    shown,
    some,
    text_record,
    unknown,
)
from fastmail.app.deliverability.sender import Vouched
from fastmail.dns.interface import FAILED
from fastmail.message import letter
from fastmail.model.errors import MailError, in_words
from fastmail.net import web
from fastmail.policy import dmarc
from fastmail.policy.dmarc import Evaluator, Record, Walk
from fastmail.relay import sts, tlsreport
from fastmail.relay.sts import BadPolicy

Get = Callable[[str], Awaitable[str]]
FETCH = 10.0  # s for a policy from the domain's web server
IDENT = "%Y%m%d%H%M%S"  # of a new MTA-STS record


@dataclass(slots=True)
class Wished:
    """``there``: the domain has a DMARC policy; ``aligned``: which of spf and dkim vouch for its authors by that."""

    lines: list[Line] = field(default_factory=list)
    there: bool = False
    aligned: frozenset[str] = frozenset()


async def policy(asked: Asked, spf: Vouched, dkim: Vouched) -> Wished:
    """The DMARC record that counts for the domain, and what vouches for a message whose author is there."""
    evaluator, memo = Evaluator(asked.names), dict[str, Walk]()
    out = Wished()
    own = f"_dmarc.{asked.domain}"
    wanted = f"publish {text_record(own, f'v=DMARC1; p=none; rua=mailto:{asked.reports}')}"
    answer = await asked.ask(own, "TXT")
    walk = await evaluator.walk(asked.domain, asked.budget, memo)
    if answer.state == FAILED or walk.trouble:
        out.lines.append(unknown("dmarc", "the DMARC record", answer.why or walk.trouble))
        return out
    meant = [one for one in answer.records if one.lower().lstrip().startswith(b"v=dmarc")]
    good = [one for one in meant if dmarc.parse(one) is not None]
    if len(meant) > 1:
        what = f"{own} has {len(meant)} DMARC records, so none counts"
        out.lines.append(Line("dmarc", ERROR, what, "leave one of them"))
    elif meant and not good:
        what = f"the record is none: {shown(meant[0])}"
        out.lines.append(Line("dmarc", ERROR, what, f"{wanted} in its place: it begins with v=DMARC1;"))
    found = walk.applicable()
    if found is None:
        if not out.lines:
            out.lines.append(Line("dmarc", ERROR, f"{asked.domain} has no DMARC record", wanted))
        return out
    if not found[1].policy:
        out.lines.append(Line("dmarc", ERROR, f"the record of {found[0]} has no policy", f"{wanted} in its place"))
        return out
    out.there = True
    by = [dkim.domain] if dkim.passes else []
    result = await evaluator.evaluate(asked.domain, spf.domain if spf.passes else "", by, (), asked.budget)
    out.lines.append(_policy_line(asked, found[0], found[1], result.published or found[1].policy))
    out.lines += await _reports(asked, evaluator, memo, *found)
    if result.result == "temperror":
        out.lines.append(unknown("alignment", "DMARC records", result.why))
        return out
    out.aligned = frozenset(method for method, _ in result.aligned)
    out.lines.append(_alignment(asked, found[1], dkim, out.aligned))
    return out


def _policy_line(asked: Asked, where: str, found: Record, wish: str) -> Line:
    what = f"{where} asks for {wish}" + (" (by p, sp or np of a domain above)" if where != asked.domain else "")
    if found.testing:
        return Line(
            "dmarc", HINT, f"{what}, for tests only (t=y)", "take t=y out when reports show no mail of yours that fails"
        )
    if wish == "none":
        return Line(
            "dmarc", HINT, what, "go to p=quarantine and p=reject when reports show no mail of yours that fails"
        )
    return Line("dmarc", OK, what)


def _alignment(asked: Asked, found: Record, dkim: Vouched, aligned: frozenset[str]) -> Line:
    """Which of the two vouch for authors of the domain (RFC 9989 4.4)."""
    names = [one.upper() for one in ("spf", "dkim") if one in aligned]
    if not names:
        todo = "see the lines about SPF and DKIM"
        if dkim.passes and dkim.domain != asked.domain and found.strict_dkim:
            todo = f"`fastmail dkim add {asked.domain}`: adkim=s does not let {dkim.domain} sign for it"
        return Line("alignment", ERROR, f"nothing vouches for authors of {asked.domain}: their mail fails DMARC", todo)
    what = f"{' and '.join(names)} vouch for authors of {asked.domain}"
    if len(names) < 2:
        what = f"{names[0]} alone vouches for authors of {asked.domain}"
        why = "SPF does not survive forwarding" if names == ["SPF"] else "some receivers want both from who sends much"
        return Line("alignment", WARNING, what, f"see the lines about SPF and DKIM: {why}")
    return Line("alignment", OK, what)


async def _reports(asked: Asked, evaluator: Evaluator, memo: dict[str, Walk], where: str, found: Record) -> list[Line]:
    """Does anybody get reports, and may they be sent there (RFC 9990 4)?"""
    if not found.rua:
        todo = f"add rua=mailto:{asked.reports} to it, and read them: [policy] reports_address"
        return [Line("dmarc", HINT, f"the record of {where} asks for no reports", todo)]
    lines = []
    for uri in found.rua:
        host = letter.mailto(uri).rpartition("@")[2].lower()
        if not host:
            lines.append(Line("dmarc", WARNING, f"rua names {uri}, which is no mail address", "name one: mailto:..."))
            continue
        theirs = await evaluator.walk(host, asked.budget, memo)
        mine = await evaluator.walk(where, asked.budget, memo)
        if theirs.organization == mine.organization:
            continue
        name = f"{where}._report._dmarc.{host}"
        answer = await asked.ask(name, "TXT")
        if answer.state != FAILED and not any(dmarc.parse(one) is not None for one in answer.records):
            todo = f"have {host} publish {text_record(name, 'v=DMARC1')}"
            lines.append(Line("dmarc", WARNING, f"{host} does not say that it takes reports about {where}", todo))
    return lines


def fetcher(asked: Asked, inside: bool) -> Get:
    """What fetches a domain's MTA-STS policy from its web server; OSError, BadPolicy, MailError. ``inside``: private
    addresses are asked too."""

    async def resolve(host: str) -> Sequence[str]:
        return (await asked.addresses(host))[0]

    async def get(domain: str) -> str:
        wanted = web.Request(f"https://mta-sts.{domain}{sts.PATH}", limit=sts.LARGEST, inside=inside)
        return sts.policy_text(await web.ask(wanted, resolve, FETCH))

    return get


async def transport(asked: Asked, hosts: Sequence[str], get: Get) -> list[Line]:
    """Does the domain ask for TLS, and do its record, its policy and its mail hosts agree?"""
    check, domain = "mta-sts", asked.domain
    name = f"_mta-sts.{domain}"
    wanted = f"publish {text_record(name, time.strftime(f'v=STSv1; id={IDENT}', time.gmtime()))}"
    answer = await asked.ask(name, "TXT")
    if answer.state == FAILED:
        return [unknown(check, name, answer.why)]
    texts = [one.decode("utf-8", "replace") for one in answer.records]
    ids = sts.idents(texts)
    if not any(text.lower().startswith("v=sts") for text in texts):
        found, _ = await asked.addresses(f"mta-sts.{domain}")
        if found:
            return [Line(check, ERROR, f"mta-sts.{domain} is there, but no record at {name}", wanted)]
        todo = f"serve a policy at https://mta-sts.{domain}{sts.PATH}, then {wanted}"
        return [Line(check, HINT, "missing: others may send mail here without TLS", todo)]
    if len(ids) != 1:
        return [Line(check, ERROR, f"{name}: {some(texts)}", f"{wanted}, and no other one")]
    try:
        found_policy = sts.parse(await get(domain), ids[0], time.time())
    except (OSError, BadPolicy, MailError) as error:
        why = " ".join(in_words(error).split())
        return [
            Line(
                check,
                ERROR,
                f"there is a record, but no policy: {why}",
                f"serve it at https://mta-sts.{domain}{sts.PATH}",
            )
        ]
    refused = [host for host in hosts[:LOOKED_AT] if not found_policy.allows(host)]
    if refused and found_policy.mode != "none":
        state = ERROR if found_policy.mode == "enforce" else WARNING
        todo = f"add a line mx: {refused[0]} to the policy, and {wanted}"
        return [Line(check, state, f"the policy does not allow {some(refused)}, a mail host of the domain", todo)]
    if found_policy.mode != "enforce":
        todo = f"go to mode: enforce when TLS reports show no failures, and {wanted}"
        return [Line(check, HINT, f"the policy says mode: {found_policy.mode}", todo)]
    return [Line(check, OK, f"mode: enforce, for {some(found_policy.mx)}")]


async def tls_reports(asked: Asked) -> list[Line]:
    """Does the domain ask for reports about TLS?"""
    check, name = "tls-rpt", f"_smtp._tls.{asked.domain}"
    wanted = f"publish {text_record(name, f'v=TLSRPTv1; rua=mailto:{asked.reports}')}"
    answer = await asked.ask(name, "TXT")
    if answer.state == FAILED:
        return [unknown(check, name, answer.why)]
    texts = [one.decode("utf-8", "replace") for one in answer.records]
    if not any(text.lower().startswith("v=tlsrpt") for text in texts):
        return [Line(check, HINT, "missing: nobody tells you when TLS to this server fails", wanted)]
    addresses, places = tlsreport.wishes(texts)
    if not addresses and not places:
        return [
            Line(
                check,
                ERROR,
                f"{name} names nobody: {some([shown(one) for one in answer.records])}",
                f"{wanted} in its place",
            )
        ]
    return [Line(check, OK, f"reports go to {some([*addresses, *places])}")]
