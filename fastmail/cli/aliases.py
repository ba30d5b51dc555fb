"""``fastmail alias``: other addresses, whose mail goes to accounts here or to other hosts."""

import time
from typing import Annotated

import typer

from fastmail.cli.common import (
    AfterOption,
    ConfigOption,
    CsvOption,
    DomainOption,
    DropOldOption,
    JsonOption,
    LimitOption,
    MatchOption,
    NewAddressArgument,
    command,
    directory,
    output,
    pairs,
    show,
    show_one,
    switch,
)
from fastmail.directory import fields
from fastmail.directory.errors import NoSuchUser
from fastmail.directory.lookup import is_off
from fastmail.directory.records import Alias
from fastmail.directory.requests import alias_name

app = typer.Typer(no_args_is_help=True, help="Other addresses, for mail here or elsewhere; @domain catches all.")
AliasArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="The alias, or @domain for a catch-all.")]


@app.command("add")
@command
def alias_add(
    address: AliasArgument,
    targets: Annotated[list[str], typer.Argument(metavar="TARGET...", help="Who gets its mail, here or elsewhere.")],
    note: Annotated[str, typer.Option(help="A line for people.")] = "",
    expires: Annotated[str, typer.Option(help="A date or time after which nobody gets its mail.")] = "never",
    internal: Annotated[bool, typer.Option("--internal", help="Only logins of its domain may write to it.")] = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Let mail for an address go to others."""
    given = {"targets": targets, "note": note, "expires": expires, "internal": internal}
    new = fields.changed(Alias(alias_name(address), ()), fields.read("alias", given))
    directory(config).put_alias(new)
    output.print(f"added {new.address}", markup=False)


@app.command("set")
@command
def alias_set(
    address: AliasArgument,
    settings: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE...", help="targets, enabled, expires, internal, note.")
    ],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Change an alias in one step: no mail is refused in between."""
    _change(config, address, pairs(settings))
    output.print(f"changed {alias_name(address)}", markup=False)


def _change(config: str, address: str, given: dict[str, str]) -> None:
    values = fields.read("alias", given)
    directory(config).change_alias(alias_name(address), lambda old: fields.changed(old, values))


@app.command("rename")
@command
def alias_rename(
    old: AliasArgument,
    new: NewAddressArgument,
    drop_old: DropOldOption = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Give an alias a new address, with all that is set for it. What leads to it follows; the old address becomes an
    alias of the new one."""
    found = directory(config).rename_alias(alias_name(old), alias_name(new), not drop_old)
    output.print(f"renamed {alias_name(old)} to {found.address}", markup=False)


@app.command("enable")
@command
def alias_enable(address: AliasArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Take mail for an alias again."""
    switch(_change, config, address, True, alias_name(address))


@app.command("disable")
@command
def alias_disable(address: AliasArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Take no mail for an alias until `alias enable`; a catch-all does not get it either."""
    switch(_change, config, address, False, alias_name(address))


@app.command("show")
@command
def alias_show(address: AliasArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """All that is set for an alias."""
    found = directory(config).alias(alias_name(address))
    if found is None:
        raise NoSuchUser(f"there is no alias {address}; `fastmail alias list` shows them")
    show_one({"alias": found.address} | fields.shown(found), json)


@app.command("remove")
@command
def alias_remove(address: AliasArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Remove an alias."""
    directory(config).remove_alias(alias_name(address))
    output.print(f"removed {alias_name(address)}", markup=False)


@app.command("list")
@command
def alias_list(
    domain: DomainOption = "",
    match: MatchOption = "",
    limit: LimitOption = 0,
    after: AfterOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """All aliases, or those of a domain, by domain and name."""
    now = time.time()
    rows = (
        {"alias": one.address, "targets": list(one.targets), "state": "off" if is_off(one, now) else "on"}
        for one in directory(config).each_alias(domain, after)
    )
    show(rows, json, match=match, limit=limit, csv=csv)
