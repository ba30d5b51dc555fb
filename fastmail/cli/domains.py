"""``fastmail domain``: what mail is taken for, and the settings of each domain."""

import time
from typing import Annotated, Any

import typer

from fastmail.cli.common import (
    USAGE,
    AfterOption,
    ConfigOption,
    CsvOption,
    JsonOption,
    LimitOption,
    MatchOption,
    command,
    directory,
    errors,
    fail,
    output,
    pairs,
    read_config,
    show,
    show_one,
)
from fastmail.cli.renaming import follow_renames, may_rename, warn_of_settings
from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.directory import fields, lookup
from fastmail.directory.errors import NoSuchUser
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import LATER, NO_MAIL, Domain
from fastmail.directory.requests import catch_all
from fastmail.model.address import domain_name

app = typer.Typer(no_args_is_help=True, help="Domains that this server takes mail for.")
SourceOption = Annotated[
    str,
    typer.Option(
        "--source",
        metavar="NAME",
        help="Where its accounts come from: a [[source]] of the configuration, local (they are kept here), or default "
        "(what [directory] says).",
    ),
]
NameArgument = Annotated[str, typer.Argument(metavar="DOMAIN", help="Such as example.org.")]
FieldsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="FIELD=VALUE...", help="`fastmail domain show` has all fields; catch_all too."),
]


@app.command("add")
@command
def domain_add(
    name: NameArgument,
    alias_of: Annotated[str, typer.Option("--alias-of", help="Make it another name for the whole of a domain.")] = "",
    source: SourceOption = "default",
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Take mail for a domain."""
    other = domain_name(alias_of) if alias_of else ""
    new = fields.changed(Domain(domain_name(name), alias_of=other), fields.read("domain", {"source": source}))
    directory(config).add_domain(new)
    output.print(f"added {new.name}")


@app.command("remove")
@command
def domain_remove(name: NameArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Take no more mail for a domain; its accounts and aliases must be gone. The keys that its mail was signed with go
    too."""
    settings = load(config)  # before root becomes the server's user
    place = directory(config)
    found = place.domain(domain_name(name))
    place.remove_domain(domain_name(name))
    if found is not None and found.dkim:
        from fastmail.policy import keyfiles  # with a library that few commands need

        for key in found.dkim:
            keyfiles.remove(settings.server.data_dir, key.file)
    output.print(f"removed {domain_name(name)}")


@app.command("rename")
@command
def domain_rename(
    old: NameArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name; it may be another name of it already.")],
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Do not keep the old one as another name.")] = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Give a domain, with all its accounts, aliases and groups, a new name, in one step; their sessions end. Mail stays
    where it is. The old name becomes another name of the domain, and keeps its DKIM keys; the new one gets keys of its
    own, which are used once their records are in the DNS."""
    settings = read_config(config)
    place = may_rename(settings, config, domain_name(old))
    before = _domain(place, old)
    found = place.rename_domain(domain_name(old), domain_name(new), not drop_old)
    signs = bool(before.dkim) and not found.dkim
    if before.dkim:
        _replace_keys(place, settings, before, found if signs else None, drop_old)
    place.close()
    follow_renames(settings)
    output.print(f"renamed {before.name} to {found.name}", markup=False)
    if signs:
        output.print(
            f"mail from {found.name} goes unsigned until its DNS has what `fastmail dkim zone {found.name}` prints",
            markup=False,
        )
    warn_of_settings(config, domain_name(old))


def _replace_keys(place: LocalDirectory, settings: Config, before: Domain, new: Domain | None, drop_old: bool) -> None:
    """Make keys for a new name of the kinds that the old one signs with. They wait until the DNS has them. Without the
    old name nobody needs its keys."""
    from fastmail.policy import keyfiles, rotation  # with a library that few commands need

    data_dir = settings.server.data_dir
    for kind in rotation.kinds_in_use(before) if new is not None else ():
        assert new is not None
        rotation.add(place, data_dir, new, kind, time.time(), settings.policy.dkim_bits)
    for key in before.dkim if drop_old else ():
        keyfiles.remove(data_dir, key.file)


@app.command("show")
@command
def domain_show(name: NameArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """All that is set for a domain, and how many addresses it has."""
    place = directory(config)
    found = _domain(place, name)
    accounts, aliases = place.counts(found.name)
    caught = place.alias(f"@{found.name}")
    lists = sum(1 for _ in place.each_list(found.name))
    counted: dict[str, Any] = {"domain": found.name, "accounts": accounts, "aliases": aliases, "lists": lists}
    counted["accounts_from"] = _origin(place, found)
    more = {"catch_all": list(caught.targets) if caught is not None else [], "dkim": fields.keys_shown(found)}
    more["from_source"] = place.said_of(found)
    show_one(counted | fields.shown(found) | more, json)


def _origin(place: LocalDirectory, domain: Domain) -> str:
    """Where its accounts come from, and whether that source can be read, for people."""
    source = place.source_of(domain.name)
    if not place.is_followed(domain.name):
        return "kept here"
    known = f"source {source}" if source else "[directory]"
    if source and source not in (place.sources or ()):
        return f"{known}, which the configuration does not have: known accounts stay, nobody is unknown"
    return f"{known}, which cannot be read now, or was not yet" if place.is_uncertain(domain.name) else known


def _domain(place: LocalDirectory, name: str) -> Domain:
    found = place.domain(domain_name(name))
    if found is None:
        raise NoSuchUser(f"there is no domain {name}; `fastmail domain list` shows them")
    return found


@app.command("set")
@command
def domain_set(
    name: NameArgument,
    settings: FieldsArgument = None,
    source: SourceOption = "",
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Change settings of a domain in one step; they count at once. With another source, its accounts become what that
    source says: who is not there is switched off."""
    place = directory(config)
    given = pairs(settings or ()) | ({"source": source} if source else {})
    if not given:
        fail("nothing is said that shall change: FIELD=VALUE, or --source", USAGE)
    with place.batch():
        if "catch_all" in given:
            catch_all(place, name, fields.addresses(given.pop("catch_all")))
        values = fields.read("domain", given)
        place.change_domain(domain_name(name), lambda old: fields.changed(old, values))
    output.print(f"changed {domain_name(name)}", markup=False)
    for address in values.get("postmaster", ()):
        if place.is_local(address.rpartition("@")[2]) and not lookup.find(place, address):
            until = "until then its mail goes to [server] postmaster, or to the first account"
            errors.print(f"postmaster: nobody gets mail for {address} yet; {until}", markup=False)


@app.command("enable")
@command
def domain_enable(name: NameArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Take mail for a domain again, and let its accounts log in."""
    _switch(config, name, True)
    output.print(f"switched on {domain_name(name)}", markup=False)


@app.command("disable")
@command
def domain_disable(
    name: NameArgument,
    for_now: Annotated[bool, typer.Option("--for-now", help="Senders keep the mail and try again (450).")] = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Take no mail for a domain, and let none of its accounts log in; everything else stays as it is."""
    _switch(config, name, False, LATER if for_now else NO_MAIL)
    output.print(f"switched off {domain_name(name)}", markup=False)


def _switch(config: str, name: str, on: bool, reply: int = 0) -> None:
    values: dict[str, Any] = {"enabled": on} | ({"off_reply": reply} if reply else {})
    directory(config).change_domain(domain_name(name), lambda old: fields.changed(old, values))


@app.command("list")
@command
def domain_list(
    match: MatchOption = "",
    limit: LimitOption = 0,
    after: AfterOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """All domains."""
    place = directory(config)
    rows = (
        {
            "domain": one.name,
            "state": "on" if one.enabled else "off",
            "alias_of": one.alias_of or "-",
            "accounts": place.counts(one.name)[0],
            "aliases": place.counts(one.name)[1],
        }
        for one in place.each_domain(after)
    )
    show(rows, json, match=match, limit=limit, csv=csv)
