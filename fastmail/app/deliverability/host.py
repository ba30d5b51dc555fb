"""The host that sends: its name, its certificate, whether the names of its addresses lead back to it (RFC 8601 3), and
whether mail for the domain comes here (RFC 5321 5.1, RFC 7505).
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from fastmail.app.deliverability.nouns import ERROR, LOOKED_AT, OK, WARNING, Asked, Line, record, some, unknown
from fastmail.config import certificate
from fastmail.config.settings import Config
from fastmail.dns.interface import FAILED, NO_NAME
from fastmail.model.domain import comparable
from fastmail.model.errors import in_words
from fastmail.policy import iprev

SOON = timedelta(days=14)  # a certificate that ends before should have a successor by now


async def named(asked: Asked) -> list[Line]:
    """Has the host a name that leads to addresses? Fills in ``asked.host``."""
    name = asked.hostname
    if "." not in name:
        return [
            Line("hostname", ERROR, f"{name} is no name in the DNS", "set [server] hostname to the host's full name")
        ]
    asked.host, trouble = await asked.addresses(name)
    if trouble:
        return [unknown("hostname", f"the address of {name}", trouble)]
    if asked.host:
        return [Line("hostname", OK, f"{name} has {some(asked.host)}")]
    wanted = "; ".join(_address_record(name, one) for one in asked.sources) or f"an A record for {name}"
    return [Line("hostname", ERROR, f"{name} has no address", f"publish {wanted}")]


def _address_record(name: str, address: str) -> str:
    return record(name, "AAAA" if ":" in address else "A", address)


def encrypted(config: Config) -> list[Line]:
    """Is there a certificate for the host's name, and does it count?"""
    check = "certificate"
    if not config.tls.certificate:
        return [
            Line(
                check, ERROR, "none: mail comes in without TLS", "give [tls] certificate and key, see docs/operating.md"
            )
        ]
    try:
        wrong, ends = certificate.faults(config), certificate.ends(config)
    except (OSError, ValueError) as error:
        why = f"a certificate cannot be read: {in_words(error)}"
        return [Line(check, ERROR, why, "see [tls] certificate, [[certificate]]")]
    if wrong:
        renew = "renew it, then reload the server (SIGHUP)"
        return [Line(check, ERROR, f"{path}: {why}" if config.certificate else why, renew) for path, why in wrong]
    out = []
    for number, (path, when) in enumerate(ends):
        left = when - datetime.now(UTC)
        what = f"{f'{path} is' if number else f'for {config.server.hostname},'} until {when:%Y-%m-%d}"
        if left < SOON:
            out.append(
                Line(check, WARNING, f"{what}: {left.days} days are left", "renew it; does the ACME client work?")
            )
        elif not number:
            out.append(Line(check, OK, what))
    return out


async def mail_hosts(asked: Asked) -> tuple[list[Line], list[str]]:
    """Does mail for the domain come here? Also the names of its mail hosts."""
    domain, wanted = asked.domain, record(asked.domain, "MX", f"10 {asked.hostname}.")
    answer = await asked.ask(domain, "MX")
    if answer.state == FAILED:
        return [unknown("mx", f"the mail hosts of {domain}", answer.why)], []
    if answer.state == NO_NAME:
        return [Line("mx", ERROR, f"{domain} is not in the DNS", f"register the domain, and publish {wanted}")], []
    if answer.void:
        found, trouble = await asked.addresses(domain)
        if trouble:
            return [unknown("mx", f"the address of {domain}", trouble)], []
        here = bool(set(found) & _ours(asked))
        what = "no MX record; mail comes here by the address of the domain" if here else "no MX record that leads here"
        return [Line("mx", WARNING if here else ERROR, what, f"publish {wanted}")], [domain] if here else []
    hosts = [host for _, host in sorted(answer.records)]
    if not all(hosts):
        return [Line("mx", ERROR, f"{domain} says that it takes no mail (null MX)", f"publish {wanted} instead")], []
    lines, here_too, elsewhere = [], [], []
    for host in hosts[:LOOKED_AT]:
        alias = await asked.ask(host, "A")
        if alias.name and comparable(alias.name) != comparable(host):
            what = f"{host} is another name (CNAME) of {alias.name}, which some senders refuse"
            lines.append(Line("mx", WARNING, what, f"let the MX record name {alias.name}"))
        found, trouble = await asked.addresses(host)
        if comparable(host) == comparable(asked.hostname) or set(found) & _ours(asked):
            here_too.append(host)
        elif trouble:
            lines.append(unknown("mx", f"the address of {host}", trouble))
        else:
            elsewhere.append(host)
    if not here_too:
        return [
            *lines,
            Line("mx", ERROR, f"mail goes to {some(hosts)}, not to this server", f"publish {wanted}"),
        ], hosts
    lines.append(Line("mx", OK, f"{some(here_too)} is this server"))
    if elsewhere:
        what = f"{some(elsewhere)} is not this server: some mail goes there"
        lines.append(Line("mx", WARNING, what, "take it out, unless it is a backup that passes mail on to this server"))
    return lines, hosts


def _ours(asked: Asked) -> set[str]:
    return {*asked.host, *asked.sources}


async def reverse(asked: Asked, address: str) -> Line:
    """Does the name of an address lead back to it, and is it the name that the server gives in EHLO?"""
    check, name = "reverse dns", asked.hostname
    wanted = f"{ip_address(address).reverse_pointer}. IN PTR {name}."
    ask = f"have who gave you the address publish {wanted}"
    found = await iprev.Iprev(asked.names).check(address, asked.budget)
    match found.result:
        case "temperror":
            return unknown(check, f"the name of {address}", found.why)
        case "permerror":
            return Line(check, ERROR, f"{address} has no name", ask)
        case "fail":
            what = f"{address} is called {found.name}, which does not lead back to it"
            return Line(check, ERROR, what, f"{ask}, and publish {_address_record(name, address)}")
    if comparable(found.name) != comparable(name) and address not in asked.host:
        what = f"{address} is called {found.name}, and not {name}, the name that the server says in EHLO"
        return Line(check, WARNING, what, f"{ask} and {_address_record(name, address)}, or set [server] hostname")
    return Line(check, OK, f"{address} is called {found.name}, which leads back to it")
