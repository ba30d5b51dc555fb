"""What commands share: finding the configuration, reading passwords, printing tables or JSON, exit codes.

Exit codes: 0 done; 1 what was asked cannot be done (the text says why); 2 wrong usage, a text that is no address among
it; 67 no such user; 75 try again later; 78 the configuration is wrong (the last three as in sysexits.h, which MTAs
understand). What is listed can be cut down by ``--match`` and ``--limit``.
"""

import json
import os
import pwd
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cached_property, wraps
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fastmail.app.owner import act_for
from fastmail.config.load import load
from fastmail.config.settings import Config
from fastmail.directory.errors import DirectoryError, NoSuchUser, WrongUsage
from fastmail.directory.interface import AccountRecord
from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address
from fastmail.model.errors import (
    BadAddress,
    ClientError,
    ConfigError,
    DamagedAccount,
    MailError,
    TemporaryError,
    in_words,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

FAILED, USAGE, NO_USER, TRY_LATER, BAD_CONFIG = 1, 2, 67, 75, 78


class Screen:
    """A console of rich, which is imported when something is printed: that takes as long as most commands."""

    def __init__(self, stderr: bool = False) -> None:
        self._stderr = stderr

    @cached_property
    def console(self) -> "Console":
        from rich.console import Console

        return Console(stderr=self._stderr, highlight=False, soft_wrap=True)

    def load(self) -> None:
        """Import what prints, now: behind it the process becomes a user who may not be able to read the program."""
        _ = self.console

    def print(self, text: object = "", markup: bool = True, **how: Any) -> None:
        """Text without markup needs no console. Of names and other text in it that strangers wrote, nothing moves the
        cursor."""
        if isinstance(text, str):
            text = "\n".join(map(_line_shown, text.split("\n")))
        if how or (markup and "[" in str(text)):
            self.console.print(text, markup=markup, **how)
        else:
            print(text, file=sys.stderr if self._stderr else sys.stdout)


errors = Screen(stderr=True)
output = Screen()


def progress_bar(*columns: "ProgressColumn | str", **how: Any) -> "Progress":
    """How far a long command is, on the terminal of standard error until it ends; nothing where that is none, as in a
    log."""
    from rich.progress import Progress

    return Progress(*columns, console=errors.console, transient=True, disable=not errors.console.is_terminal, **how)


ConfigOption = Annotated[
    str, typer.Option("--config", "-c", envvar="FASTMAIL_CONFIG", help="The configuration file, fastmail.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
GenerateOption = Annotated[bool, typer.Option("--generate", help="Make up a password and print it.")]
MatchOption = Annotated[
    str,
    typer.Option(
        "--match",
        metavar="TEXT",
        help="Only rows with this text in one of their columns; with * or ? it stands for a whole column.",
    ),
]
DomainOption = Annotated[str, typer.Option("--domain", metavar="DOMAIN", help="Only those of this domain.")]
NewAddressArgument = Annotated[str, typer.Argument(metavar="NEW", help="The new address, in a domain of this server.")]
DropOldOption = Annotated[bool, typer.Option("--drop-old", help="Keep no alias of the old address.")]
AfterOption = Annotated[
    str, typer.Option("--after", metavar="NAME", help="Begin behind this one: with --limit, the next page.")
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print comma-separated values, with a line of names.")]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many rows; 0 for all.")]
SAMPLE = 500  # rows that say how wide columns are
BLOCK = 5000  # lines that are written at once
Row = dict[str, Any]
_CONTROL = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]|[\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_opened: list[LocalDirectory] = []  # by the command that runs
F = TypeVar("F", bound=Callable[..., Any])


def command(function: F) -> F:
    """Errors of ours become one clear line and an exit code; directories that it opened are closed."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            fail(str(error), BAD_CONFIG, lines=True)
        except DamagedAccount as error:  # a program that delivers keeps the message until it is mended
            fail(str(error), TRY_LATER)
        except BadAddress as error:
            fail(str(error), USAGE)
        except WrongUsage as error:
            fail(str(error), USAGE)
        except NoSuchUser as error:
            fail(str(error), NO_USER)
        except TemporaryError as error:
            fail(f"{error}; try again later", TRY_LATER)
        except (ClientError, MailError) as error:
            fail(str(error), FAILED)
        except BrokenPipeError:  # nobody reads what is printed: the command ends without a word
            raise
        except OSError as error:
            fail(in_words(error), FAILED)
        finally:
            while _opened:
                _opened.pop().close()

    return run  # type: ignore[return-value]


def fail(text: str, code: int = FAILED, lines: bool = False) -> None:
    """One line on standard error, and out. ``lines``: the text has several, each of which is shown; without it a line
    break is part of a name, which must not look like a line of ours."""
    errors.print("[bold red]error:[/]", end=" ")
    errors.print(text if lines else for_terminal(text), markup=False)
    raise typer.Exit(code)


def read_config(path: str) -> Config:
    """The configuration, for a command: where root runs it, what it makes is the server's user's."""
    config = load(path)
    act_for(config)
    return config


def directory(path: str) -> LocalDirectory:
    """The directory of the configured server, closed when the command ends: a process opens an environment once. What
    is changed is written down as this user's doing."""
    who = actor()  # before root becomes the server's user
    settings = read_config(path)
    place = LocalDirectory(settings.server.data_dir)
    place.actor, place.sources = who, settings.source_names
    _opened.append(place)
    return place


def actor() -> str:
    """Who runs the command: the user, and who became that user by sudo."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    before = os.environ.get("SUDO_USER", "")
    return f"{before} as {name}"[:100] if before and before != name else name


def switch(change: Callable[[str, str, dict[str, str]], None], config: str, name: str, on: bool, shown: str) -> None:
    """``enable`` and ``disable`` of what has a field ``enabled``. ``change``: what ``set`` does with a configuration, a
    name and fields; ``shown``: the name for people."""
    change(config, name, {"enabled": "yes" if on else "no"})
    output.print(f"switched {'on' if on else 'off'} {shown}", markup=False)


def pairs(words: Sequence[str]) -> dict[str, str]:
    """``FIELD=VALUE`` arguments. DirectoryError for others."""
    out = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise WrongUsage(f'{word}: FIELD=VALUE is expected, such as name="The name"; `show` prints all fields')
        out[name] = value
    return out


def many(count: int, what: str) -> str:
    """A number of things, for people: "1 member", "2 members"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def moment(seconds: int) -> str:
    """A time for people, in UTC; a hyphen where there is none."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else "-"


def account_of(place: LocalDirectory, text: str) -> AccountRecord:
    """The account of an address as somebody typed it. BadAddress, NoSuchUser."""
    record = place.account(account_address(text).key)
    if record is None:
        raise NoSuchUser(f"there is no account {text}; `fastmail account list` shows them")
    return record


def first_line() -> str:
    """The first line of standard input, without its end. DirectoryError where it is no text."""
    with _as_text():
        return sys.stdin.readline().rstrip("\r\n")


def all_input() -> str:
    """Standard input. DirectoryError where it is no text."""
    with _as_text():
        return sys.stdin.read()


@contextmanager
def _as_text() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DirectoryError(f"standard input is not {error.encoding.upper()} text: convert it with iconv") from None


def ask_password(from_stdin: bool, twice: bool = True, other: str = "") -> str:
    """A password from standard input's first line, or asked for. ``other``: what else may be done without one."""
    if from_stdin or not sys.stdin.isatty():
        password = first_line()
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=twice)
    if not password:
        fail(f"the password is empty; it is the first line of standard input, or asked for on a terminal{other}", USAGE)
    return str(password)


def chosen_password(from_stdin: bool, generate: bool) -> str:
    """A new password: made up, or see ``ask_password``."""
    if generate and from_stdin:
        raise WrongUsage("--generate makes up a password, --password-stdin reads one: give one of them")
    if not generate:
        return ask_password(from_stdin, other="; --generate makes one up")
    import secrets  # with what hashes, which few commands need

    return secrets.token_urlsafe(12)


def hashed(password: str) -> tuple[str, str]:
    """What is stored of a password, and keys for SCRAM; some 20 ms of CPU."""
    from fastmail.auth import schemes  # with the libraries that hash, which few commands need

    return schemes.hash_password(password), schemes.scram(password)


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


def show(
    rows: Iterable[Row], as_json: bool, empty: str = "none", match: str = "", limit: int = 0, csv: bool = False
) -> None:
    """Rows as plain columns, never cut, as JSON or as CSV, as they come: the widths are those of the first rows, so a
    later cell that is longer moves the rest of its line. ``empty``: what is said where there is none; ``match`` and
    ``limit`` as for ``chosen``."""
    found = chosen(rows, match, limit)
    if as_json:
        _write(_as_json(found))
        return
    sample = list(islice(found, SAMPLE))
    if csv:
        _write(_as_csv(sample, found))
    elif sample:
        _write(_as_table(sample, found))
    else:
        print(empty)


def show_one(row: Row, as_json: bool) -> None:
    """One thing: a name and a value on each line, or an object of JSON."""
    if as_json:
        print(json.dumps(row, indent=2))
        return
    width = max(map(len, row))
    _write(f"{name.ljust(width)}  {_cell(_plain_value(value))}".rstrip() for name, value in row.items())


def _plain_value(value: Any) -> Any:
    """A value as people read it; JSON and CSV are for programs, which know the value itself."""
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _write(lines: Iterable[str]) -> None:
    """Many lines at once; what comes first is out soon."""
    at_once = SAMPLE
    lines = iter(lines)
    while block := list(islice(lines, at_once)):
        sys.stdout.write("\n".join(block) + "\n")
        sys.stdout.flush()
        at_once = BLOCK


def _as_json(rows: Iterator[Row]) -> Iterator[str]:
    """A list, an object at a time."""
    last = ""
    for row in rows:
        yield (last + ",") if last else "["
        last = "  " + json.dumps(row, indent=2).replace("\n", "\n  ")
    yield f"{last}\n]" if last else "[]"


def _as_csv(sample: Sequence[Row], rest: Iterator[Row]) -> Iterator[str]:
    import csv
    import io

    if not sample:
        return
    names = list(sample[0])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="")
    for values in chain([names], ([_cell(row.get(name, "")) for name in names] for row in chain(sample, rest))):
        writer.writerow(values)
        yield out.getvalue()
        out.seek(0)
        out.truncate()


def _as_table(sample: Sequence[Row], rest: Iterator[Row]) -> Iterator[str]:
    names = list(sample[0])

    def cells(row: Row) -> list[str]:
        return [_cell(_plain_value(row.get(name, ""))) for name in names]

    first = [cells(row) for row in sample]
    widths = [max(map(_width, column)) for column in zip(names, *first, strict=True)]
    for number, line in enumerate(chain([names], first, map(cells, rest))):
        text = "  ".join(_padded(text, width) for text, width in zip(line, widths, strict=True)).rstrip()
        yield f"\x1b[1m{text}\x1b[0m" if not number and sys.stdout.isatty() else text


def _cell(value: Any) -> str:
    """A value on one line; what would move a terminal's cursor is shown as a question mark, because strangers write
    what is listed."""
    return for_terminal(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def for_terminal(text: str) -> str:
    """A line of text that strangers may have written: see ``_cell``."""
    return text if text.isascii() and text.isprintable() else _CONTROL.sub("?", text)


def _line_shown(text: str) -> str:
    """A line of ours, which may have tabs."""
    return "\t".join(map(for_terminal, text.split("\t")))


def write_content(octets: bytes) -> None:
    """Write a message or a script that strangers wrote: as it is, but on a terminal so that nothing in it moves the
    cursor."""
    if sys.stdout.isatty():
        text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
        sys.stdout.write("\n".join(map(_line_shown, text.split("\n"))))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(octets)
    sys.stdout.flush()


def _padded(text: str, width: int) -> str:
    return text.ljust(width) if text.isascii() else text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns of a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
