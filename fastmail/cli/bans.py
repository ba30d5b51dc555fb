"""``fastmail bans``: who is kept out, and letting somebody in again. Takes effect at once in a running server."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from fastmail.app.derived import ban_rules
from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    CsvOption,
    JsonOption,
    LimitOption,
    MatchOption,
    command,
    fail,
    many,
    output,
    read_config,
    show,
)
from fastmail.model.units import parse_time
from fastmail.net import networks
from fastmail.net.bans import Bans

app = typer.Typer(
    no_args_is_help=True, help="Networks that are kept out for a while, after failed logins or too many errors."
)
NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help="An address, or a network as 192.0.2.0/24.")]


def _bans(config: str) -> Bans:
    settings = read_config(config)
    return Bans(settings.server.data_dir, ban_rules(settings))


@app.command("list")
@command
def list_(
    match: MatchOption = "",
    limit: LimitOption = 0,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Who is banned now, since when and why, and for how many seconds more."""
    now = time.time()
    rows = []
    for ban in _bans(config).list():
        row = asdict(ban) | {"since": _shown(ban.since), "until": _shown(ban.until), "seconds": int(ban.until - now)}
        rows.append(row)
    show(rows, json, match=match, limit=limit, csv=csv)


def _shown(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


@app.command("add")
@command
def add(
    network: NetworkArgument,
    length: Annotated[str, typer.Option("--for", help="How long, such as 1h or 7d.")] = "1d",
    why: Annotated[str, typer.Option(help="A note for the list.")] = "by command",
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Keep a network out."""
    try:
        seconds = parse_time(length)
    except ValueError as error:
        fail(f"--for {error}", 2)
        return
    if not why.isprintable():
        fail("--why: a line of text is expected, without control characters", 2)
    try:
        networks.parse(network)
    except ValueError:
        fail(f"{network} is neither an address nor a network such as 192.0.2.0/24", 2)
    ban = _bans(config).add(network, seconds, why)
    output.print(f"{ban.network} is banned until {_shown(ban.until)}")


@app.command("remove")
@command
def remove(
    network: Annotated[str, typer.Argument(metavar="NETWORK|all", help="As `bans list` shows it, or all.")],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Let a network in again."""
    if network != "all":
        try:
            networks.parse(network)
        except ValueError:
            fail(f"{network} is neither an address nor a network, nor all", 2)
    removed = _bans(config).remove(network)
    if not removed:
        fail(f"{network} is not banned: `fastmail bans list` shows who is", FAILED)
    output.print(f"{many(removed, 'ban')} lifted")
