"""``fastmail audit``: who changed what in the directory."""

from collections import deque
from collections.abc import Iterable
from typing import Annotated

import typer

from fastmail.cli.common import (
    ConfigOption,
    CsvOption,
    JsonOption,
    MatchOption,
    Row,
    chosen,
    command,
    directory,
    moment,
    show,
)


@command
def audit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only of this account, alias, domain or user.")] = "",
    last: Annotated[int, typer.Option("--last", metavar="N", min=0, help="The last so many; 0 for all.")] = 100,
    match: MatchOption = "",
    logins: Annotated[
        bool, typer.Option("--logins", help="Only which master users opened whose mailboxes: for its owner to see.")
    ] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Changes of domains, accounts, aliases and app passwords, and logins of master users, the latest at the end. No
    password is ever in it."""
    rows: Iterable[Row] = (
        {"when": moment(one.at), "who": one.who, "what": one.what, "name": one.name, "change": one.text or "-"}
        for one in directory(config).audit(0 if match else last, name, logins)
    )
    if match:  # the last ones of those that fit
        rows = deque(chosen(rows, match), last or None)
    show(rows, json, csv=csv)
