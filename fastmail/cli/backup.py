"""``fastmail backup`` and ``fastmail restore``."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastmail.app.assembly import beside
from fastmail.app.owner import hand_over
from fastmail.backup import others, save
from fastmail.backup import restore as bring
from fastmail.backup.vault import Vault
from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    CsvOption,
    JsonOption,
    LimitOption,
    MatchOption,
    command,
    errors,
    fail,
    many,
    output,
    progress_bar,
    read_config,
    show,
)
from fastmail.directory.errors import NoSuchUser
from fastmail.directory.interface import AccountRecord
from fastmail.model.errors import CannotDo
from fastmail.model.mailbox_name import canonical
from fastmail.store.local.maildir.home import Home

VaultArgument = Annotated[str, typer.Argument(metavar="DIR", help="The directory of the backups; on another disk.")]
RunOption = Annotated[str, typer.Option(help="An earlier backup, as `backup --list` names it; the newest without.")]


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return progress_bar(*columns)


def _show(rows: list[dict[str, Any]], json: bool) -> None:
    """Rows, and the problems in them below; exit code 1 when there were some."""
    show(rows if json else [row | {"problems": len(row["problems"])} for row in rows], json)
    problems = [f"{row['account']}: {text}" for row in rows for text in row["problems"]]
    if not json:
        for text in problems[:50]:
            errors.print(text, markup=False)
    if problems:
        raise typer.Exit(FAILED)


@command
def backup(
    path: VaultArgument,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    keep: Annotated[int, typer.Option(min=0, help="Remove older backups than so many; 0 keeps all.")] = 0,
    list_: Annotated[bool, typer.Option("--list", help="Only list the backups that are there.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only read a backup whole, and say what is damaged.")
    ] = False,
    run: RunOption = "",
    match: MatchOption = "",
    limit: LimitOption = 0,
    csv: CsvOption = False,
) -> None:
    """Back up every account, with directory, flags and UIDs, while the server runs. Each run costs what is new.

    What the classifier was taught, sums of reports, bans, the trace and the quarantine are in it, too. Mail that waits
    in the queue to other servers is not: it goes out from where it is.
    """
    vault = Vault(path)
    if list_:
        rows = ({"backup": name, "accounts": len(vault.accounts(name))} for name in vault.runs())
        show(rows, json, match=match, limit=limit, csv=csv)
        return
    if verify:
        _verify(vault, run, json)
        return
    settings = read_config(config)
    hand_over(path, settings)

    parts: list[others.Part] = []

    async def go() -> tuple[str, list[save.Saved]]:
        async with beside(settings) as assembly:
            accounts = [assembly.deliverer.account(record) for record in assembly.directory.accounts()]
            with _bar() as progress:
                task = progress.add_task("accounts", total=len(accounts))
                return await save.save(
                    vault,
                    assembly.directory,
                    assembly.store,
                    accounts,
                    lambda _: progress.advance(task),
                    assembly.store.commits.help,
                    settings.server.data_dir,
                    lambda place: parts.extend(others.save(vault, place, assembly)),
                )

    with vault.locked():
        name, saved = asyncio.run(go())
        if keep:
            vault.prune(keep)
    if not json:
        output.print(
            f"backup {name}: {many(sum(one.messages for one in saved), 'message')}, {sum(one.new for one in saved)} new"
        )
    saved += [save.Saved(_whose(one), 0, one.rows, one.new, one.octets, one.problems) for one in parts]
    _show([asdict(one) for one in saved], json)


def _whose(part: others.Part) -> str:
    """The server's own parts stand below the accounts; no address has a space."""
    return f"server: {part.name}"


def _verify(vault: Vault, run: str, json: bool) -> None:
    with _bar() as progress:
        task = progress.add_task("objects", total=None)
        bad = save.verify(vault, run, lambda count: progress.update(task, completed=count))
        bad += others.faults(vault, run)
    show([{"problem": text} for text in bad], json, empty="all is well")
    if bad:
        raise typer.Exit(FAILED)


@command
def restore(
    path: VaultArgument,
    account: Annotated[str, typer.Option(help="Only this account.")] = "",
    mailbox: Annotated[str, typer.Option(help="Only this mailbox of it, as new messages.")] = "",
    message: Annotated[int, typer.Option(min=0, help="Only the message with this UID of the mailbox.")] = 0,
    into: Annotated[str, typer.Option(help="Where a mailbox or message goes; Restored/<mailbox> without.")] = "",
    run: RunOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Bring back a backup: all of it, one account, one mailbox, or one message. Nothing that is there is overwritten.

    Whole accounts come back with the same UIDs, into accounts that are empty or not there; stop the server for that.
    """
    if (mailbox and not account) or (message and not mailbox) or (into and not mailbox):
        fail("--message needs --mailbox, --into too, and --mailbox needs --account", 2)
    vault = Vault(path)
    settings = read_config(config)

    async def go() -> list[bring.Restored]:
        out: list[bring.Restored] = []
        async with beside(settings) as assembly:
            if mailbox:
                record: AccountRecord | None = assembly.directory.account(account)
                if record is None:
                    raise NoSuchUser(f"there is no account {account}: restore it whole, without --mailbox")
                owner = assembly.deliverer.account(record)
                await assembly.store.open(owner)
                target = canonical(into or f"Restored/{mailbox}", "/")
                return await bring.mailbox(vault, assembly.store, owner, run, mailbox, message, target)
            kind = settings.store
            form = Home(settings.server.data_dir, layout=kind.layout, utf8=kind.utf8_names)
            await assembly.store.commits.help(bring.check, vault, run, account.lower(), form)
            if not account:
                await assembly.store.commits.help(others.check, vault, run)
            wanted = bring.directory(vault, assembly.directory, run, account.lower(), settings.server.data_dir)
            with _bar() as progress:
                task = progress.add_task("accounts", total=len(wanted))
                for address in wanted:
                    record = assembly.directory.account(address)
                    assert record is not None
                    owner = assembly.deliverer.account(record)
                    if address not in vault.accounts(run):
                        out.append(bring.Restored(address, "", 0, ["the backup has none of its mail"]))
                        continue
                    try:
                        out += await bring.account(vault, assembly.store, owner, run, lambda _: None)
                    except CannotDo as error:
                        if account:
                            raise
                        out.append(bring.Restored(address, "", 0, [str(error)]))
                    progress.advance(task)
            if not account:
                help = assembly.store.commits.help
                out += [_brought(one) for one in await help(others.restore, vault, run, assembly)]
        return out

    _show([asdict(one) for one in asyncio.run(go())], json)


def _brought(part: others.Part) -> bring.Restored:
    """A part of the server's, as a row among the mailboxes."""
    what = "left as it is, because there is something already" if part.there else ""
    return bring.Restored(_whose(part), what, part.rows, part.problems)
