"""What commands share: finding the configuration, reading passwords, printing tables or JSON, exit codes.

Exit codes: 0 done; 1 what was asked cannot be done (the text says why); 2 wrong usage, a text that is no address among
it; 67 no such user; 75 try again later; 78 the configuration is wrong (the last three as in sysexits.h, which MTAs
understand). What is listed can be cut down by ``--match`` and ``--limit``.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from functools import wraps
from itertools import islice
from typing import Annotated, Any, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console

from fastmail.app.owner import act_for
from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.directory.interface import AccountRecord
from fastmail.directory.local import LocalDirectory, NoSuchUser
from fastmail.model.address import account_address
from fastmail.model.errors import BadAddress, ClientError, ConfigError, DamagedAccount, MailError, TemporaryError

FAILED, USAGE, NO_USER, TRY_LATER, BAD_CONFIG = 1, 2, 67, 75, 78
errors = Console(stderr=True, highlight=False, soft_wrap=True)
output = Console(highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    str, typer.Option("--config", "-c", envvar="FASTMAIL_CONFIG", help="The configuration file, fastmail.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
MatchOption = Annotated[
    str,
    typer.Option(
        "--match",
        metavar="TEXT",
        help="Only rows with this text in one of their columns; with * or ? it stands for a whole column.",
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many rows; 0 for all.")]
Row = dict[str, Any]
_CONTROL = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]|[\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
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
        except BadAddress as error:
            fail(str(error), USAGE)
        except NoSuchUser as error:
            fail(str(error), NO_USER)
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
    """The configuration, for a command: where root runs it, what it makes is the server's user's."""
    config = load(path)
    act_for(config)
    return config


def directory(path: str) -> LocalDirectory:
    """The directory of the configured server."""
    return LocalDirectory(read_config(path).server.data_dir)


def account_of(place: LocalDirectory, text: str) -> AccountRecord:
    """The account of an address as somebody typed it. BadAddress, NoSuchUser."""
    record = place.account(account_address(text).key)
    if record is None:
        raise NoSuchUser(f"there is no account {text}; `fastmail account list` shows them")
    return record


def ask_password(from_stdin: bool, twice: bool = True) -> str:
    """A password from standard input's first line, or asked for."""
    if from_stdin or not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=twice)
    if not password:
        fail("the password is empty", 2)
    return str(password)


def chosen(rows: Iterable[Row], match: str = "", limit: int = 0) -> Iterator[Row]:
    """The rows that ``--match`` and ``--limit`` leave, as they come; none is read behind the last one."""
    wanted = match.casefold()
    if wanted:
        whole = any(sign in wanted for sign in "*?")

        def fits(value: Any) -> bool:
            texts = value if isinstance(value, list) else [value]
            found = (str(one).casefold() for one in texts)
            return any(fnmatchcase(one, wanted) if whole else wanted in one for one in found)

        rows = (row for row in rows if any(map(fits, row.values())))
    return islice(rows, limit or None)


def show(rows: Iterable[Row], as_json: bool, empty: str = "none", match: str = "", limit: int = 0) -> None:
    """Rows as plain columns, never cut, or as JSON. ``empty``: what is said where there is none; ``match`` and
    ``limit`` as for ``chosen``."""
    found = list(chosen(rows, match, limit))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        print(empty)
        return
    names = list(found[0])
    lines = [[_cell(row.get(name, "")) for name in names] for row in found]
    widths = [max(map(cell_len, column)) for column in zip(names, *lines, strict=True)]
    out = [
        "  ".join(_padded(text, width) for text, width in zip(line, widths, strict=True)) for line in [names, *lines]
    ]
    if sys.stdout.isatty():
        out[0] = f"\x1b[1m{out[0].rstrip()}\x1b[0m"
    sys.stdout.write("".join(line.rstrip() + "\n" for line in out))


def _cell(value: Any) -> str:
    """A value on one line; what would move a terminal's cursor is shown as a question mark, because strangers write
    what is listed."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.isascii() and text.isprintable() else _CONTROL.sub("?", text)


def _padded(text: str, width: int) -> str:
    return text.ljust(width) if text.isascii() else text + " " * (width - cell_len(text))
