"""What vouches for a domain's mail: SPF for the addresses that it leaves from (RFC 7208), and its DKIM keys (RFC 6376).

Both are asked as a receiver asks them. A record is also evaluated for an address that is nobody's: so all of its terms
are counted, and a record that lets everybody send is found.
"""

from dataclasses import dataclass, field

from fastmail.app.deliverability.nouns import (
    ERROR,
    HINT,
    OK,
    WARNING,
    Asked,
    Line,
    text_record,
    unknown,
)
from fastmail.directory.records import PUBLISHED, RSA, WAITING, DkimKey, Domain
from fastmail.policy import keyfiles, keys, rotation, spf_record
from fastmail.policy.keyfiles import KeyTrouble
from fastmail.policy.signer import Signing
from fastmail.policy.spf import TERMS, Checked, Spf

NOBODY = "203.0.113.199"  # an address for examples: no mail ever comes from there


@dataclass(slots=True)
class Vouched:
    """``passes``: SPF lets all our addresses send, or receivers can verify a signature; ``domain``: whom that vouches
    for."""

    lines: list[Line] = field(default_factory=list)
    passes: bool = False
    domain: str = ""


async def spf(asked: Asked) -> Vouched:
    """The record of the domain, for MAIL FROM; and that of the host's name, for reports, which have no sender."""
    checker, domain = Spf(asked.names, asked.hostname, asked.voids), asked.domain
    out = Vouched(domain=domain)
    nobody = await checker.mail_from(NOBODY, asked.hostname, f"postmaster@{domain}", asked.budget)
    if nobody.result == "none":
        what = f"{domain} has no SPF record"
        out.lines.append(Line("spf", ERROR, what, f"publish {text_record(domain, _new(asked))}"))
        return out
    if nobody.result == "temperror":
        out.lines.append(unknown("spf", f"the SPF record of {domain}", nobody.why))
        return out
    out.lines.append(_record_line(nobody))
    results = []
    for address in asked.sources:
        found = await checker.mail_from(address, asked.hostname, f"postmaster@{domain}", asked.budget)
        results.append(found.result)
        if found.result == "temperror":
            out.lines.append(unknown("spf", f"the SPF record of {domain}", found.why))
        elif found.result == "pass":
            out.lines.append(Line("spf", OK, f"{address} may send: {found.mechanism}"))
        elif found.result == "permerror":  # said of the record already, where nobody else can use it either
            if nobody.result != found.result:
                out.lines.append(Line("spf", ERROR, f"{address} may not send: {found.why}", "mend the record"))
        else:
            todo = f"publish {text_record(domain, await _with(asked, address))} in place of the record that is there"
            out.lines.append(Line("spf", ERROR, f"{address} may not send: {found.result}", todo))
    out.passes = bool(results) and set(results) == {"pass"}
    out.lines += [line for address in asked.sources if (line := await _helo(asked, checker, address)) is not None]
    return out


def _record_line(nobody: Checked) -> Line:
    """What is to be said of the record as a whole, by what it says of nobody's address."""
    terms = f"{nobody.terms} of {TERMS} look-ups"
    match nobody.result:
        case "permerror":
            return Line(
                "spf", ERROR, f"receivers cannot use the record: {nobody.why}", "mend it, so that it counts at all"
            )
        case "pass":
            what = f"the record lets everybody send: {nobody.mechanism}"
            return Line("spf", ERROR, what, "end it in -all or ~all, so that it says who may not")
        case "neutral":
            what = f"the record does not say who may not send; {terms}"
            return Line("spf", WARNING, what, "end it in -all or ~all")
    return Line("spf", OK, f"others may not send: {nobody.result} by {nobody.mechanism}; {terms}")


def _terms(asked: Asked) -> str:
    return " ".join(f"ip{6 if ':' in one else 4}:{one}" for one in asked.sources)


def _new(asked: Asked) -> str:
    """A first SPF record: our addresses, or whoever passes our mail on."""
    return f"v=spf1 {_terms(asked) or 'mx'} -all"


async def _with(asked: Asked, address: str) -> str:
    """The domain's record with one more address in front, where that counts first."""
    answer = await asked.ask(asked.domain, "TXT")
    texts = spf_record.choose(answer.records)
    if len(texts) != 1:
        return _new(asked)
    return f"v=spf1 ip{6 if ':' in address else 4}:{address}{texts[0].decode('ascii', 'replace')[len('v=spf1') :]}"


async def _helo(asked: Asked, checker: Spf, address: str) -> Line | None:
    """The record of the host's own name, which vouches for mail without a sender. None where all is well."""
    name = asked.hostname
    found = await checker.helo(address, name, asked.budget)
    if found.result in ("pass", "temperror") or "." not in name or name == asked.domain:
        return None
    wanted = f"publish {text_record(name, 'v=spf1 a -all')}, for delivery reports, which have no sender"
    if found.result == "none":
        return Line("spf", HINT, f"{name} has no SPF record", wanted)
    return Line("spf", WARNING, f"{address} may not send as {name}: {found.result}", wanted)


async def dkim(asked: Asked, row: Domain, signing: Signing | None, data_dir: str, signs: bool) -> Vouched:
    """Each key that mail of the domain is signed with: is it in the DNS, the same, and long enough?"""
    name, out = asked.domain, Vouched()
    if not signs:
        todo = "set sign = true, unless a filter of yours signs"
        out.lines.append(Line("dkim", WARNING, "this server signs nothing: [policy] sign is false", todo))
        return out
    if signing is None:
        coming = next((one for one in row.dkim if one.state in (WAITING, PUBLISHED)), None)
        what = f"no key of {name} is in use, so its mail is not signed"
        todo = f"`fastmail dkim add {name}`, and publish what it prints"
        if coming is not None:
            what = f"the key {coming.selector} of {name} is not in use yet: {coming.state}"
            todo = _publish_coming(data_dir, row.name, coming)
        out.lines.append(Line("dkim", ERROR, what, todo))
        return out
    found = [await _key(asked, signing.domain, one, data_dir) for one in signing.keys]
    out.lines += found
    out.passes = any(line.state != ERROR for line in found)
    out.domain = signing.domain if out.passes else ""
    if all(one.kind != RSA for one in signing.keys):
        what = "mail is signed with Ed25519 only, which many receivers do not verify"
        todo = f"`fastmail dkim add {signing.domain} --kind rsa`, beside it"
        out.lines.append(Line("dkim", WARNING, what, todo))
        out.passes, out.domain = False, ""
    return out


async def _key(asked: Asked, domain: str, row: DkimKey, data_dir: str) -> Line:
    """One key in use."""
    try:
        mine = rotation.signing_key(data_dir, domain, row)
    except KeyTrouble as error:
        todo = f"restore it from a backup, or `fastmail dkim rotate {domain} --now`"
        return Line("dkim", ERROR, f"the key {row.selector} cannot be read, so mail goes unsigned: {error}", todo)
    state, why = await rotation.looked(asked.names, mine, asked.budget)
    publish = _publish(domain, row.selector, mine.record())
    match state:
        case rotation.UNKNOWN:
            return unknown("dkim", f"the key {row.selector}", why)
        case rotation.MISSING:
            return Line("dkim", ERROR, f"the key in use is not there: {why}", publish)
        case rotation.OTHER:
            return Line("dkim", ERROR, f"the key in use is not what is there: {why}", f"{publish} in its place")
    bits = keys.parse(mine.record().encode()).bits
    what = f"{row.selector}._domainkey.{domain} is the key in use: {row.kind}, {bits} bits"
    if why:
        return Line("dkim", ERROR, why, "take t=y out of the record")
    if row.kind == RSA and bits < keyfiles.LEAST:
        return Line("dkim", WARNING, what, f"`fastmail dkim rotate {domain}` makes one of {keyfiles.LEAST} bits")
    return Line("dkim", OK, what)


def _publish(domain: str, selector: str, record: str) -> str:
    """The record of a key, on one line."""
    return "publish " + " ".join(rotation.zone_line(domain, selector, record).split())


def _publish_coming(data_dir: str, domain: str, row: DkimKey) -> str:
    """The record of a key that is not in use yet, on one line."""
    try:
        return _publish(domain, row.selector, rotation.record_of(data_dir, domain, row))
    except KeyTrouble as error:
        return f"restore the key from a backup: {error}"
