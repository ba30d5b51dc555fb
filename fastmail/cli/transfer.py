"""``fastmail import`` and ``fastmail export``: mail of other places into an account, and an account out of here."""

import asyncio
import csv
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from fastmail.app.assembly import Assembly, beside
from fastmail.app.owner import hand_over
from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    PasswordStdin,
    account_of,
    ask_password,
    command,
    errors,
    fail,
    for_terminal,
    progress_bar,
    read_config,
    show,
)
from fastmail.directory.errors import NoSuchUser
from fastmail.migrate import incoming, outgoing
from fastmail.model.errors import BadAddress, CannotDo, DamagedAccount, in_words
from fastmail.model.mailbox_name import canonical
from fastmail.store.interface import Account

imports = typer.Typer(
    no_args_is_help=True,
    help="Bring mail into an account: with flags, dates and folders. Run it again for what came since, or to go on "
    "after an interruption; nothing comes twice.",
)
exports = typer.Typer(no_args_is_help=True, help="Write an account to files that other programs read.")
AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account here.")]
Into = Annotated[str, typer.Option(help="The mailbox that it goes to.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out messages that cannot be read, and name them.")]


def _account(assembly: Assembly, address: str, skip_bad: bool = False) -> Account:
    """``skip_bad``: what is damaged is left out, even the account's own row."""
    try:
        record = account_of(assembly.directory, address)
    except DamagedAccount:
        found = assembly.directory.stand_in(address.lower()) if skip_bad else None
        if found is None:
            raise
        record = found
    return assembly.deliverer.account(record)


def _run(
    config: str, work: Callable[[Assembly, Callable[[Any], None]], Awaitable[list[Any]]], json: bool, into: str = ""
) -> None:
    """Run beside a server, and show a row for each mailbox; exit code 1 when there were problems. ``into``: a directory
    that is written to."""
    settings = read_config(config)
    if into:
        hand_over(into, settings)

    async def go() -> list[Any]:
        async with beside(settings) as assembly:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            with progress_bar(*columns) as progress:
                task = progress.add_task("begin", total=None)

                def told(row: Any) -> None:
                    progress.update(task, description=for_terminal(f"{row.account} {row.mailbox}"))

                return await work(assembly, told)

    rows = [asdict(row) for row in asyncio.run(go())]
    name = "problems" if rows and "problems" in rows[0] else "bad"
    if json:
        show(rows, True)
    else:
        show([row | {name: len(row[name])} for row in rows], False)
        for row in rows:
            for text in row[name][:20]:
                errors.print(f"{row['mailbox']}: {text}", markup=False)
    if any(row[name] for row in rows):
        raise typer.Exit(FAILED)


@imports.command("maildir")
@command
def import_maildir(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The Maildir, with its Maildir++ folders.")],
    account: AccountName,
    into: Into = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """From a Maildir. (To serve an existing Maildir in place, see `fastmail migrate`.)"""
    _run(config, lambda a, told: incoming.from_maildir(a.store, _account(a, account), path, _name(into), told), json)


@imports.command("mbox")
@command
def import_mbox(
    path: Annotated[str, typer.Argument(metavar="FILE", help="The mbox file.")],
    account: AccountName,
    into: Into = "INBOX",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """From an mbox file."""
    _run(config, lambda a, told: incoming.from_mbox(a.store, _account(a, account), path, _name(into), told), json)


def _name(into: str) -> str:
    return canonical(into, "/") if into else ""


@imports.command("imap")
@command
def import_imap(
    host: Annotated[str, typer.Argument(metavar="[HOST]", help="The other server.")] = "",
    account: Annotated[str, typer.Argument(metavar="[ACCOUNT]", help="The account here.")] = "",
    user: Annotated[str, typer.Option(help="Login there; the account's address when left out.")] = "",
    password_stdin: PasswordStdin = False,
    port: Annotated[int, typer.Option(help="Port there; 993 or 143 when left out.")] = 0,
    tls: Annotated[str, typer.Option(help="implicit, starttls or none.")] = "implicit",
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate.")] = False,
    accounts: Annotated[
        str,
        typer.Option("--csv", help="Many at once: a CSV file with columns host, user, password, account, and port."),
    ] = "",
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Accounts at the same time, from a CSV file.")] = 4,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """From another IMAP server; the account there is only read."""
    if tls not in ("implicit", "starttls", "none"):
        fail("--tls is implicit, starttls or none", 2)
    if accounts:
        wanted = _csv(accounts, tls, not insecure, host, port)
    elif host and account:
        password = ask_password(password_stdin, twice=False)
        wanted = [(incoming.Remote(host, user or account, password, port, tls, not insecure), account)]
    else:
        fail("give HOST and ACCOUNT, or --csv FILE", 2)
        return

    async def work(assembly: Assembly, told: Callable[[Any], None]) -> list[incoming.Result]:
        gate = asyncio.Semaphore(parallel)

        async def one(remote: incoming.Remote, address: str) -> list[incoming.Result]:
            async with gate:
                try:
                    return await incoming.from_imap(assembly.store, _account(assembly, address), remote, told)
                except (CannotDo, BadAddress, NoSuchUser) as error:
                    if len(wanted) == 1:
                        raise
                    return [incoming.Result(address, "", problems=[str(error)])]

        return [row for rows in await asyncio.gather(*(one(*pair) for pair in wanted)) for row in rows]

    _run(config, work, json)


def _csv(path: str, tls: str, verify: bool, host: str, port: int) -> list[tuple[incoming.Remote, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CannotDo(f"{path} cannot be read: {in_words(error, path)}") from None
    out = []
    for number, row in enumerate(rows, 2):
        name = row.get("account") or row.get("user") or ""
        where = row.get("host") or host
        if not name or not where or not row.get("password"):
            raise CannotDo(f"{path}, line {number}: host, user, password and account are needed")
        away = int(row["port"]) if (row.get("port") or "").isdigit() else port
        out.append((incoming.Remote(where, row.get("user") or name, row["password"], away, tls, verify), name))
    return out


@exports.command("maildir")
@command
def export_maildir(
    account: AccountName,
    path: Annotated[str, typer.Argument(metavar="DIR", help="Where the Maildir shall be.")],
    skip_bad: SkipBad = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """As a Maildir++; run again for what came since."""
    _run(
        config,
        lambda a, told: outgoing.to_maildir(a.store, _account(a, account, skip_bad), path, skip_bad, told),
        json,
        path,
    )


@exports.command("mbox")
@command
def export_mbox(
    account: AccountName,
    path: Annotated[str, typer.Argument(metavar="DIR", help="An empty directory for a file of each mailbox.")],
    skip_bad: SkipBad = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """As mbox files (mboxrd)."""
    _run(
        config,
        lambda a, told: outgoing.to_mbox(a.store, _account(a, account, skip_bad), path, skip_bad, told),
        json,
        path,
    )
