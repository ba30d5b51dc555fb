"""``fastmail``: the command line. A command's module is imported when the command is used, because most of the time
that a short command takes is spent importing what the other commands need."""

import io
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main

import fastmail

# command or group: where it is. One line here adds one; the help shows them in this order
COMMANDS = {
    "quickstart": "server.quickstart",
    "welcome": "server.welcome",
    "serve": "server.serve",
    "check-config": "server.check_config",
    "config-reference": "server.config_reference",
    "deliver": "deliver.deliver",
    "trace": "trace.trace",
    "verdict": "verdict.verdict",
    "deliverability": "deliverability.deliverability",
    "learn": "learn.app",
    "bench": "bench.bench",
    "check": "check.check",
    "upgrade": "check.upgrade",
    "backup": "backup.backup",
    "restore": "backup.restore",
    "domain": "domains.app",
    "account": "accounts.app",
    "alias": "aliases.app",
    "group": "groups.app",
    "list": "lists.app",
    "app-password": "apps.app",
    "admin": "admin.app",
    "dkim": "dkim.app",
    "batch": "batch.batch",
    "apply": "batch.apply",
    "audit": "audit.audit",
    "index": "index.app",
    "content": "content.app",
    "queue": "queue.app",
    "bans": "bans.app",
    "quarantine": "quarantine.app",
    "dmarc": "dmarc.app",
    "migrate": "migrate.app",
    "import": "transfer.imports",
    "export": "transfer.exports",
}


# what may be written otherwise: two words, and the command that they are
ALSO = {("check", "deliverability"): "deliverability"}

NARROWEST = 60  # columns that a help needs

# What rich takes for markup, but for the markup of our own texts
_TAG = re.compile(r"\[(?=[a-z#/@][^\[]*\])(?!bold\]|/\])")


def _as_written(command: Any) -> None:
    """Let the help of a command, its options and its subcommands show ``[limits]`` as such: rich would drop it. In a
    list each is shown by the first sentence of its help."""
    for one in (command, *command.params):
        if getattr(one, "help", None):
            one.help = _TAG.sub(r"\[", one.help)
    if command.help and not command.short_help:
        command.short_help = _first_sentence(command.help)
    for one in getattr(command, "commands", {}).values():
        _as_written(one)


def _teach(command: Any, words: str) -> None:
    """Let the help of a command, and of those below it, end with its examples, which are read only then."""
    for name, one in getattr(command, "commands", {}).items():
        _teach(one, f"{words} {name}")
    plain = command.format_help

    def format_help(ctx: Any, formatter: Any) -> None:
        from fastmail.cli.examples import EXAMPLES

        lines = [one.replace("[", r"\[") for one in EXAMPLES.get(words, ())]
        if lines:
            command.epilog = "\n\n".join([f"[bold]Example{'s' if lines[1:] else ''}[/]", *lines])
        _keep_names()
        plain(ctx, formatter)

    command.format_help = format_help


def _keep_names() -> None:
    """In a narrower terminal, names of options would be cut to a letter. Such a terminal breaks long lines itself."""
    if shutil.get_terminal_size().columns < NARROWEST:
        from typer import rich_utils

        rich_utils.MAX_WIDTH = NARROWEST


def _first_sentence(text: str) -> str:
    """What a list of commands shows of one of them; its own help has the rest."""
    return re.split(r"(?<=[.!?])\s", " ".join(text.partition("\n\n")[0].split()), maxsplit=1)[0]


@contextmanager
def _shown_safely() -> Iterator[None]:
    """Let an error about words that mean nothing show them so that they do not move a terminal's cursor."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # click's ClickException, which typer has in it or beside it
            from fastmail.cli.common import for_terminal

            error.message = for_terminal(str(error.message))  # type: ignore[attr-defined]
        raise


class Commands(typer.core.TyperGroup):
    """The commands of the table, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name].partition(".")
            found = getattr(import_module(f"fastmail.cli.{module}"), name)
            if not isinstance(found, typer.Typer):
                alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
                alone.command(cmd_name)(found)
                self.commands[cmd_name] = typer.main.get_command(alone)
            else:
                self.commands[cmd_name] = typer.main.get_group(found)
                self.commands[cmd_name].name = cmd_name
            _as_written(self.commands[cmd_name])
            _teach(self.commands[cmd_name], cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _keep_names()
        super().format_help(ctx, formatter)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _shown_safely():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _shown_safely():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if tuple(args[:2]) in ALSO:
            args = [ALSO[args[0], args[1]], *args[2:]]
        if args and args[0] not in COMMANDS:
            for name in COMMANDS:  # so that the error can name the commands that were perhaps meant
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="fastmail",
    cls=Commands,
    no_args_is_help=True,
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


def main() -> None:
    """The console script. In every locale, characters that the terminal's encoding does not have are shown by their
    numbers, and what comes in and is no text is an error, rather than a password or a name with lone surrogates."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="strict")
    app()
