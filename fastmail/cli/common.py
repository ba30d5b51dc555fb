"""What commands share: finding the configuration, reading passwords, printing tables or JSON, exit codes.

Exit codes: 0 done; 1 what was asked cannot be done (the text says why); 2 wrong usage; 75 try again later; 78 the
configuration is wrong (the last two as in sysexits.h, which MTAs understand).
"""

import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.directory.local import LocalDirectory
from fastmail.model.errors import ClientError, ConfigError, DamagedAccount, MailError, TemporaryError

FAILED, TRY_LATER, BAD_CONFIG = 1, 75, 78
errors = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    str, typer.Option("--config", "-c", envvar="FASTMAIL_CONFIG", help="The configuration file, fastmail.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
F = TypeVar("F", bound=Callable[..., Any])


def command(function: F) -> F:
    """Errors of ours become one clear line and an exit code."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            fail(str(error), BAD_CONFIG)
        except DamagedAccount as error:  # a program that delivers keeps the message until it is mended
            fail(str(error), TRY_LATER)
        except TemporaryError as error:
            fail(f"{error}; try again later", TRY_LATER)
        except (ClientError, MailError) as error:
            fail(str(error), FAILED)

    return run  # type: ignore[return-value]


def fail(text: str, code: int = FAILED) -> None:
    """One line on standard error, and out."""
    errors.print(f"[bold red]error:[/] {_plain(text)}")
    raise typer.Exit(code)


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def read_config(path: str) -> Config:
    return load(path)


def directory(path: str) -> LocalDirectory:
    """The directory of the configured server."""
    return LocalDirectory(read_config(path).server.data_dir)


def ask_password(from_stdin: bool, twice: bool = True) -> str:
    """A password from standard input's first line, or asked for."""
    if from_stdin or not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=twice)
    if not password:
        fail("the password is empty", 2)
    return str(password)


def show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Rows as a table, or as JSON."""
    if as_json:
        print(json.dumps(list(rows), indent=2))
        return
    if not rows:
        output.print("none")
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_plain(str(value)) for value in row.values()))
    output.print(table)
