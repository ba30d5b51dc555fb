"""``fastmail deliverability``: will others accept what a domain of this server sends, and what is to be done if not?"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated

import typer

from fastmail.app.deliverability import lists, sources
from fastmail.app.deliverability.nouns import ERROR, Asked, Line
from fastmail.app.deliverability.survey import LOOKUPS, SECONDS, Subject, survey
from fastmail.app.deliverability.wishes import fetcher
from fastmail.app.derived import resolver_of
from fastmail.cli.common import (
    FAILED,
    USAGE,
    ConfigOption,
    JsonOption,
    command,
    directory,
    fail,
    for_terminal,
    output,
    show,
)
from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.directory.errors import NoSuchUser
from fastmail.dns.interface import Budget
from fastmail.model.address import domain_name
from fastmail.model.domain import ascii_name
from fastmail.net import networks
from fastmail.policy.signer import Signer
from fastmail.queue import routes

STATE, CHECK = 9, 13  # columns


@command
def deliverability(
    name: Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain of this server, such as example.org.")],
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="An IP address that mail leaves from, as others see it; repeat it for several. Left out: those of "
            "[relay] or of this machine, and behind NAT those of [server] hostname.",
        ),
    ] = None,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Look at all that decides whether others accept mail of a domain: MX, reverse DNS, SPF, DKIM, DMARC, MTA-STS, TLS
    reports, the certificate, one-click unsubscribing, and the rules of the big receivers. Says what to do next, with
    the record to publish.

    Asks the DNS of now, changes nothing, and ends within a minute. Exit code 1 while there is an error; hints and
    warnings are none.
    """
    settings = load(config)
    relay = settings.relay
    table = routes.parse(relay.routes, relay.tls_policies, settings.base, relay.pools)  # before root becomes a user
    place = directory(config)
    row = place.domain(domain_name(name))
    if row is None:
        raise NoSuchUser(f"there is no domain {name}; `fastmail domain list` shows them")
    domain = ascii_name(row.name)
    found = sources.find(relay, table, domain)
    subject = Subject(row, Signer(place, settings.server.data_dir).of(domain), settings)
    lines = asyncio.run(_survey(subject, domain, found, _addresses(address or ()), place.has_lists(row.name)))
    if json:
        show((asdict(one) for one in lines), True)
    else:
        _print(lines)
    if any(one.state == ERROR for one in lines):
        raise typer.Exit(FAILED)


def _addresses(given: Sequence[str]) -> list[str]:
    try:
        return list(dict.fromkeys(str(networks.address(one)) for one in given))
    except ValueError as error:
        fail(str(error), USAGE)
        raise  # not reached: fail ends the command


async def _survey(
    subject: Subject, domain: str, found: sources.Sources, given: Sequence[str], has_lists: bool
) -> list[Line]:
    config: Config = subject.config
    resolver = resolver_of(config)
    asked = Asked(
        resolver,
        Budget(SECONDS, LOOKUPS),
        domain,
        ascii_name(config.server.hostname),
        config.policy.reports_address or f"postmaster@{domain}",
        given or found.addresses,
        () if given else found.inside,
        "" if given else found.smarthost,
        config.policy.void_lookups,
    )
    if has_lists:
        subject = replace(subject, page=lists.fetcher(asked))
    try:
        return await survey(asked, subject, fetcher(asked, config.relay.private_web_servers))
    finally:
        resolver.close()


def _print(lines: Sequence[Line]) -> None:
    """A line for each check, and under it what to do."""
    for one in lines:
        output.print(for_terminal(f"{one.state:{STATE}}{one.check:{CHECK}}{one.found}"), markup=False)
        if one.todo:
            output.print(for_terminal(f"{'':{STATE + CHECK}}-> {one.todo}"), markup=False)
