"""``fastmail group``: accounts that are given rights on mailboxes together (IMAP: SETACL mailbox $team lr)."""

from collections.abc import Mapping
from typing import Annotated

import typer

from fastmail.cli.common import (
    AfterOption,
    ConfigOption,
    CsvOption,
    DomainOption,
    JsonOption,
    LimitOption,
    MatchOption,
    command,
    directory,
    output,
    pairs,
    show,
    show_one,
)
from fastmail.directory.groups import group_name
from fastmail.directory.requests import perform, shown_group

app = typer.Typer(no_args_is_help=True, help="Groups of accounts, for rights on mailboxes: $NAME in lists of rights.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Such as team@example.org.")]


@app.command("add")
@command
def group_add(
    name: NameArgument,
    members: Annotated[list[str] | None, typer.Argument(metavar="ACCOUNT...", help="Who is in it.")] = None,
    description: Annotated[str, typer.Option(help="A line for people.")] = "",
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Make a group. Owners of mailboxes give it rights as $NAME; within its domain the part before the @ is enough."""
    _perform(config, "group.add", name, {"members": members or [], "description": description})
    output.print(f"added {group_name(name)}", markup=False)


@app.command("set")
@command
def group_set(
    name: NameArgument,
    settings: Annotated[
        list[str],
        typer.Argument(metavar="FIELD=VALUE...", help="members=A,B; join=A; leave=B; description=TEXT."),
    ],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Change a group in one step; it counts at once, also in sessions that are open."""
    _perform(config, "group.set", name, pairs(settings))
    output.print(f"changed {group_name(name)}", markup=False)


@app.command("show")
@command
def group_show(name: NameArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Who is in a group."""
    show_one(shown_group(directory(config), name), json)


@app.command("remove")
@command
def group_remove(name: NameArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Remove a group. Rights that it was given stay in the lists, and are those of a new group of that name."""
    _perform(config, "group.remove", name, {})
    output.print(f"removed {group_name(name)}", markup=False)


@app.command("list")
@command
def group_list(
    domain: DomainOption = "",
    match: MatchOption = "",
    limit: LimitOption = 0,
    after: AfterOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """All groups, or those of a domain, by domain and name."""
    rows = (
        {"group": one.name, "members": len(one.members), "description": one.description or "-"}
        for one in directory(config).each_group(domain, after)
    )
    show(rows, json, match=match, limit=limit, csv=csv)


def _perform(config: str, what: str, name: str, given: Mapping[str, object]) -> None:
    perform(directory(config), {"do": what, "name": name, "fields": given}, lambda password: (password, ""))
