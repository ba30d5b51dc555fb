"""``fastmail``: the command line."""

from typing import Annotated

import typer

import fastmail
from fastmail.cli import (
    accounts,
    backup,
    bans,
    bench,
    check,
    content,
    deliver,
    index,
    migrate,
    queue,
    server,
    trace,
    transfer,
)

app = typer.Typer(
    name="fastmail",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="A mail server: SMTP, LMTP, IMAP and POP3 over Maildir, with an LMDB index.\n\n"
    "First steps: [bold]fastmail quickstart DIR you@example.org[/], then [bold]fastmail serve -c DIR/fastmail.toml[/].",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fastmail {fastmail.__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("quickstart")(server.quickstart)
app.command("welcome")(server.welcome)
app.command("serve")(server.serve)
app.command("check-config")(server.check_config)
app.command("config-reference")(server.config_reference)
app.command("deliver")(deliver.deliver)
app.command("trace")(trace.trace)
app.command("bench")(bench.bench)
app.add_typer(accounts.domains, name="domain")
app.add_typer(accounts.accounts, name="account")
app.add_typer(accounts.aliases, name="alias")
app.add_typer(index.app, name="index")
app.add_typer(content.app, name="content")
app.add_typer(queue.app, name="queue")
app.add_typer(bans.app, name="bans")
app.add_typer(migrate.app, name="migrate")
app.command("check")(check.check)
app.command("upgrade")(check.upgrade)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(transfer.imports, name="import")
app.add_typer(transfer.exports, name="export")


def main() -> None:
    """The console script."""
    app()
