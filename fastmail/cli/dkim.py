"""``fastmail dkim``: the keys that mail of a domain is signed with (policy.rotation says what becomes of each)."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from fastmail.app.derived import resolver_of
from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    CsvOption,
    JsonOption,
    Row,
    command,
    directory,
    fail,
    moment,
    output,
    show,
    show_one,
)
from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.directory.errors import DirectoryError, NoSuchUser, WrongUsage
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import ACTIVE, ED25519, PUBLISHED, REVOKED, RSA, WAITING, DkimKey, Domain
from fastmail.dns.interface import Names
from fastmail.model.address import domain_name
from fastmail.policy import keyfiles, rotation
from fastmail.policy.dkim import BadSignature, selector_of
from fastmail.policy.keyfiles import KeyTrouble, PrivateKey

app = typer.Typer(
    no_args_is_help=True,
    help="Keys that mail of a domain is signed with (DKIM), so that others accept it.\n\n"
    "First steps: [bold]fastmail dkim add example.org[/], put what [bold]fastmail dkim zone example.org[/] prints into "
    "the DNS, and wait: the server looks there every five minutes, and signs once it sees the key. "
    "[bold]fastmail dkim list --check[/] says what the DNS has now.",
)
DomainArgument = Annotated[str, typer.Argument(metavar="DOMAIN", help="Such as example.org.")]
AnyDomainArgument = Annotated[str, typer.Argument(metavar="DOMAIN", help="Only this one's; without it, all.")]
SelectorOption = Annotated[
    str, typer.Option("--selector", metavar="NAME", help="Its name in the DNS; made up if left out.")
]
KindOption = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="rsa or ed25519; repeat it for both. dkim_kinds of the configuration if left out.",
    ),
]
NowOption = Annotated[bool, typer.Option("--now", help="Sign with it at once, whatever the DNS has.")]


def _open(config: str) -> tuple[LocalDirectory, Config]:
    """The directory, and the configuration, read before root becomes the server's user, who may not be able to."""
    settings = load(config)
    return directory(config), settings


def _domain(place: LocalDirectory, name: str) -> Domain:
    found = place.domain(domain_name(name))
    if found is None:
        raise NoSuchUser(f"there is no domain {name}; `fastmail domain list` shows them")
    return found


def _row(domain: Domain, key: DkimKey) -> Row:
    return {
        "domain": domain.name,
        "selector": key.selector,
        "kind": key.kind,
        "state": key.state,
        "since": moment(key.since),
        "made": moment(key.made),
    }


def _kinds(settings: Config, given: Sequence[str] | None) -> list[str]:
    """The kinds that are wanted, RSA first."""
    found = given or settings.policy.dkim_kinds
    if not set(found) <= {RSA, ED25519}:
        raise WrongUsage(f"--kind: {RSA} or {ED25519} is expected")
    return [kind for kind in (RSA, ED25519) if kind in found]


def _selector(text: str) -> str:
    try:
        return selector_of(text) if text else ""
    except BadSignature:
        raise WrongUsage(f"{text!r} is no selector: letters, digits, hyphens and dots") from None


def _in_use(place: LocalDirectory, domain: Domain, key: DkimKey) -> Domain:
    """The domain, with this key in use from now on."""
    now = time.time()
    return place.change_domain(
        domain.name, lambda old: rotation.replace(old, dkim=rotation.activated(old.dkim, key.selector, now))
    )


def _told(place: LocalDirectory, settings: Config, name: str, made: Sequence[DkimKey], json: bool) -> None:
    """What was made, and what is to be done about it."""
    domain = _domain(place, name)
    rows = [one for one in domain.dkim if one.selector in {key.selector for key in made}]
    data = settings.server.data_dir
    records = [(one, rotation.record_of(data, domain.name, one)) for one in rows]
    if json:
        show([_row(domain, one) | {"record": record} for one, record in records], True)
        return
    for one, record in records:
        output.print(rotation.zone_line(domain.name, one.selector, record), markup=False)
    waits = any(one.state == WAITING for one in rows)
    then = "mail is signed with it once the server sees it there" if waits else "mail is signed with it from now on"
    typer.echo(f"Put this into the DNS of {domain.name}; {then}.", err=True)


@app.command("add")
@command
def dkim_add(
    name: DomainArgument,
    selector: SelectorOption = "",
    kind: KindOption = None,
    key: Annotated[
        str, typer.Option("--key", metavar="FILE", help="Take this private key (PEM), such as another server's.")
    ] = "",
    at_once: NowOption = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Make a key for a domain, and print its DNS record.

    Nothing is signed until the server has seen the record in the DNS, because a signature that nobody can verify does
    harm. A key that was in use elsewhere comes with --key and the --selector that it has there.
    """
    given = _given(key) if key else None  # before root becomes the server's user, who may not read it
    place, settings = _open(config)
    domain = _domain(place, name)
    kinds = _kinds(settings, kind) if given is None else [keyfiles.kind_of(given)]
    if selector and len(kinds) > 1:
        raise WrongUsage("one --selector names one key: give one --kind with it")
    made = []
    for one in kinds:
        made.append(_made(place, settings, domain, one, _selector(selector), given))
        domain = _in_use(place, domain, made[-1]) if at_once else _domain(place, name)
    _told(place, settings, name, made, json)


def _given(path: str) -> PrivateKey:
    return keyfiles.load(os.path.dirname(os.path.abspath(path)), os.path.basename(path))


def _made(
    place: LocalDirectory,
    settings: Config,
    domain: Domain,
    kind: str,
    name: str = "",
    given: PrivateKey | None = None,
) -> DkimKey:
    data = settings.server.data_dir
    return rotation.add(place, data, domain, kind, time.time(), settings.policy.dkim_bits, name, given)


@app.command("list")
@command
def dkim_list(
    name: AnyDomainArgument = "",
    check: Annotated[
        bool, typer.Option("--check", help="Ask the DNS what it has of each. Exit code 1 for a fault.")
    ] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """The keys of a domain, or of all, and the state of each.

    waiting: to be put into the DNS; published: seen there; active: mail is signed with it; retired: no more, but its
    record has to stay; revoked: its record may go. With --check, dns is same, other, missing, or unknown.
    """
    place, settings = _open(config)
    found = [_domain(place, name)] if name else [one for one in place.each_domain() if one.dkim]
    rows = [_row(domain, key) for domain in found for key in domain.dkim]
    if check:
        said = asyncio.run(_checked(settings, found))
        rows = [row | {"dns": dns, "why": why} for row, (dns, why) in zip(rows, said, strict=True)]
    show(rows, json, empty=f"none; `fastmail dkim add {name or 'DOMAIN'}` makes one", csv=csv)
    if check and any(_wrong(row) for row in rows):
        raise typer.Exit(FAILED)


def _wrong(row: Row) -> bool:
    """Is mail of the domain worse off for what the DNS has?"""
    return row["state"] not in (WAITING, REVOKED) and (row["dns"] != rotation.SAME or bool(row["why"]))


async def _checked(settings: Config, domains: Sequence[Domain]) -> list[tuple[str, str]]:
    resolver = resolver_of(settings)
    try:
        return [await _looked(settings, domain, key, resolver) for domain in domains for key in domain.dkim]
    finally:
        resolver.close()


async def _looked(settings: Config, domain: Domain, key: DkimKey, names: Names) -> tuple[str, str]:
    if key.state == REVOKED:
        return "-", ""
    try:
        mine = rotation.signing_key(settings.server.data_dir, domain.name, key)
    except KeyTrouble as error:
        return rotation.UNKNOWN, str(error)
    return await rotation.looked(names, mine)


@app.command("rotate")
@command
def dkim_rotate(
    name: DomainArgument,
    kind: KindOption = None,
    at_once: NowOption = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Make the successor of each key that is in use, and print its DNS record; it takes over once the DNS has it.

    The key before stays in the DNS for a while (dkim_keep of the configuration). With --now, keys that wait already
    take over at once, and where none does, new ones. dkim_rotate of the configuration makes successors by itself.
    """
    place, settings = _open(config)
    domain = _domain(place, name)
    kinds = _kinds(settings, kind) if kind else rotation.kinds_in_use(domain)
    if not kinds:
        raise DirectoryError(f"{domain.name} has no key in use: `fastmail dkim add {domain.name}` makes one")
    made = []
    for one in kinds:
        coming = next((key for key in domain.dkim if key.kind == one and key.state in (WAITING, PUBLISHED)), None)
        if coming is not None and not at_once:
            raise DirectoryError(
                f"{domain.name} has {coming.selector}, which is to take over: --now makes it do so, "
                f"`fastmail dkim remove` lets go of it"
            )
        made.append(coming if coming is not None else _made(place, settings, domain, one))
        domain = _in_use(place, domain, made[-1]) if at_once else _domain(place, name)
    _told(place, settings, name, made, json)


@app.command("zone")
@command
def dkim_zone(
    name: DomainArgument,
    selector: Annotated[str, typer.Option("--selector", metavar="NAME", help="Only this one.")] = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """The DNS records of a domain's keys, as a zone file has them: TXT, in strings of 255 octets at most.

    A revoked key is printed without a key (p=), which says that it counts no more; its record may be left out too.
    """
    place, settings = _open(config)
    domain = _domain(place, name)
    found = [one for one in domain.dkim if selector in ("", one.selector)]
    if not found:
        raise DirectoryError(
            f"there is no such key; `fastmail dkim list {domain.name}` shows them, `dkim add` makes one"
        )
    records = [(one, rotation.record_of(settings.server.data_dir, domain.name, one)) for one in found]
    if json:
        rows = [_row(domain, one) | {"record": record, "strings": rotation.strings(record)} for one, record in records]
        show(rows, True)
        return
    for one, record in records:
        output.print(rotation.zone_line(domain.name, one.selector, record), markup=False)


@app.command("remove")
@command
def dkim_remove(
    name: DomainArgument,
    selector: Annotated[str, typer.Argument(metavar="SELECTOR", help="As `fastmail dkim list` shows it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also one that is in use: mail is not signed with it any more.")
    ] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Let go of a key: its private half is removed for good. Take its record out of the DNS when no mail that was
    signed with it is on its way any more."""
    place, settings = _open(config)
    domain = _domain(place, name)
    found = next((one for one in domain.dkim if one.selector == selector.lower()), None)
    if found is None:
        raise NoSuchUser(f"{domain.name} has no key {selector}; `fastmail dkim list {domain.name}` shows them")
    if found.state == ACTIVE and not force:
        fail(f"mail of {domain.name} is signed with {found.selector}: `fastmail dkim rotate` first, or --force")
    gone = found.selector
    place.change_domain(
        domain.name,
        lambda old: rotation.replace(old, dkim=tuple(one for one in old.dkim if one.selector != gone)),
    )
    keyfiles.remove(settings.server.data_dir, found.file)
    if json:
        show_one({"domain": domain.name, "removed": gone}, True)
    else:
        output.print(f"removed {gone} of {domain.name}", markup=False)
