"""``fastmail index``: compare the index with the Maildirs, and rebuild it from them."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import Progress

from fastmail.app.assembly import Assembly, beside
from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    account_of,
    command,
    progress_bar,
    read_config,
    show,
)
from fastmail.config.settings import Config
from fastmail.directory.interface import AccountRecord
from fastmail.store.local.recovery import check_account as checking
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.recovery.unnamed_records import recover

app = typer.Typer(no_args_is_help=True, help="The message index: check it, rebuild it.")
AccountArgument = Annotated[str, typer.Argument(metavar="[ACCOUNT]", help="One account; all when left out.")]


@app.command("check")
@command
def check(account: AccountArgument = "", config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Compare every mailbox with its files. Exit code 1 when something is wrong."""
    reports = asyncio.run(_run(read_config(config), account, rebuild=False))
    show([asdict(report) for report in reports], json)
    if any(report.problems for report in reports):
        raise typer.Exit(FAILED)


@app.command("rebuild")
@command
def rebuild(account: AccountArgument = "", config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Make the index anew from the Maildirs. UIDs are kept where the old index or a control file knows them."""
    reports = asyncio.run(_run(read_config(config), account, rebuild=True))
    show([asdict(report) for report in reports], json)


async def _run(settings: Config, account: str, rebuild: bool) -> list[checking.Report]:
    async def work(assembly: Assembly, records: list[AccountRecord], progress: Progress) -> list[checking.Report]:
        reports: list[checking.Report] = []
        for record in progress.track(records, description="rebuild" if rebuild else "check"):
            place = assembly.deliverer.account(record)
            reports += await (rebuild_account.rebuild if rebuild else checking.check)(assembly.store, place)
        if rebuild:
            await recover(assembly.store, [assembly.deliverer.account(record) for record in records])
        return reports

    reports: list[checking.Report] = await _over(settings, account, work)
    return reports


@app.command("fulltext")
@command
def fulltext(
    account: AccountArgument = "",
    anew: Annotated[bool, typer.Option("--anew", help="Throw away what is there first.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Fill the full-text index that SEARCH TEXT and BODY use; otherwise the first search of a mailbox does. Later
    mail is put in, and removed mail taken out, by the running server."""

    async def work(assembly: Assembly, records: list[AccountRecord], progress: Progress) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for record in progress.track(records, description="fulltext"):
            place = assembly.deliverer.account(record)
            if anew:
                assembly.filler.index.forget(record.id)
            listing = await assembly.store.listing(place)
            done = sum([await assembly.filler.fill(place, box.key) for box in listing.mailboxes])
            rows.append({"account": record.address, "messages": done})
        return rows

    show(asyncio.run(_over(read_config(config), account, work)), json)


async def _over(settings: Config, account: str, work: Callable[[Assembly, list[AccountRecord], Progress], Any]) -> Any:
    """Run over one account or all, beside a running server."""
    async with beside(settings) as assembly:
        if account:
            records = [account_of(assembly.directory, account)]
        else:
            records = list(assembly.directory.accounts())
        with progress_bar() as progress:
            return await work(assembly, records, progress)
