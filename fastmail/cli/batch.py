"""``fastmail batch`` and ``fastmail apply``: many changes of the directory in one process.

A batch reads one JSON request a line and writes one JSON answer a line (directory.requests). Whatever has come is done
in one transaction, and answered when that is on the disk: so a program that waits for each answer gets it, and one that
sends thousands pays for a few transactions. A request that cannot be done changes nothing and stops no other. The mail
store follows new names after the answers.
"""

import json
import os
import select
import sys
from collections.abc import Iterator
from csv import DictReader
from csv import Error as CsvError
from functools import partial
from typing import Annotated, Any

import typer

from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    account_of,
    command,
    directory,
    hashed,
    many,
    output,
    read_config,
    show,
)
from fastmail.cli.renaming import follow_renames, need_accounts_here, warn_of_settings
from fastmail.config.settings import Config
from fastmail.directory.errors import DirectoryError
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import Account
from fastmail.directory.requests import RENAMES, perform
from fastmail.directory.wanted import in_any_order, steps
from fastmail.model.errors import ClientError, CorruptData, in_words

CHUNK = 1 << 20  # octets of requests that are taken together
AT_ONCE = 5000  # requests of one transaction
LONGEST = 1 << 20  # octets of a request


@command
def batch(
    config: ConfigOption = "fastmail.toml",
    as_: Annotated[
        str, typer.Option("--as", metavar="ADDRESS", help="With the rights of this administrator, and in its name.")
    ] = "",
    csv: Annotated[
        str,
        typer.Option(
            "--csv",
            metavar="DO",
            help="Read CSV instead: each line is such a request, as account.add. The first line names the columns: "
            "name, and fields. An empty cell says nothing.",
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Answer as if it were done, and change nothing.")] = False,
) -> None:
    """Do requests from standard input, one JSON object a line, and answer each with one.

    {"do": "account.set", "name": "me@example.org", "fields": {"suspended": "unpaid"}} is answered with {"ok": true} or
    {"ok": false, "error": "..."}, in order, when it is on the disk; an "id" comes back in the answer. Exit code 1 if
    any could not be done. With --as, requests may do what the role of that account allows (`fastmail account set
    ADDRESS role=domain administers=DOMAIN`), and the audit log names it."""
    place, settings = directory(config), read_config(config)
    failed = False
    for lines in _arrived() if not csv else [_rows(csv)]:
        for start in range(0, len(lines), AT_ONCE):
            try:
                with place.batch():
                    by = _administrator(place, as_)  # the role may have changed meanwhile
                    answers = [_answer(place, line, by) for line in lines[start : start + AT_ONCE]]
                    if dry_run:
                        raise _NotDone
            except _NotDone:
                pass
            sys.stdout.write("".join(json.dumps(answer) + "\n" for answer in answers))
            sys.stdout.flush()
            failed = failed or not all(answer["ok"] for answer in answers)
            place = _followed(place, settings, config)
    if failed:
        raise typer.Exit(FAILED)


class _NotDone(Exception):
    """Ends the transaction of a dry run without a commit."""


def _administrator(place: LocalDirectory, address: str) -> Account | None:
    """The account in whose name requests are done; None for whoever runs the server."""
    if not address:
        return None
    found = account_of(place, address)
    if not found.enabled or found.suspended:
        raise DirectoryError(f"{found.address} is switched off or suspended")
    place.actor = found.address
    return found


def _arrived() -> Iterator[list[bytes]]:
    """Lines of standard input: all that have come, as often as some have."""
    rest = b""
    for chunk in _chunks(sys.stdin.fileno()):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield [line for line in lines if line.strip()]
        if len(rest) > LONGEST:
            raise DirectoryError(f"a request has {LONGEST} octets at most")
    if rest.strip():
        yield [rest]


def _rows(what: str) -> list[bytes]:
    """Requests from a table: one for each line, whose number comes back as id. DirectoryError."""
    try:
        reader = DictReader(sys.stdin, strict=True)
        if "name" not in (reader.fieldnames or ()):
            raise DirectoryError("the first line of the table has to name its columns, and one of them is name")
        out = []
        for row in reader:
            if None in row:
                raise DirectoryError(f"line {reader.line_num} has more cells than the first line")
            given = {key: value for key, value in row.items() if value}
            request = {"id": reader.line_num, "do": what, "name": given.pop("name", ""), "fields": given}
            out.append(json.dumps(request).encode())
        return out
    except (OSError, CsvError, UnicodeDecodeError) as error:
        raise DirectoryError(f"this is no table in CSV: {in_words(error)}") from None


def _chunks(source: int) -> Iterator[bytes]:
    """What has come, up to CHUNK octets together; what is not written yet is not waited for. A pipe gives 64 KiB at a
    time, and a transaction costs a sync: so what the writer has put there meanwhile is read as well."""
    while part := os.read(source, CHUNK):
        parts, size = [part], len(part)
        while part and size < CHUNK and select.select([source], [], [], 0)[0]:
            part = os.read(source, CHUNK - size)
            parts.append(part)
            size += len(part)
        yield b"".join(parts)
        if not part:  # the end was read already
            return


def _followed(place: LocalDirectory, settings: Config, config: str) -> LocalDirectory:
    """The directory, when the mail store knows new names."""
    changed = [one.old for _, one in place.renames()]
    if not changed:
        return place
    place.close()
    follow_renames(settings)
    for old in changed:
        warn_of_settings(config, old.removeprefix("@"))
    return directory(config)


def _answer(place: LocalDirectory, line: bytes, by: Account | None) -> dict[str, Any]:
    ident: dict[str, Any] = {}
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise DirectoryError("an object is expected")
        ident = {"id": request["id"]} if "id" in request else {}
        if request.get("do") in RENAMES:
            need_accounts_here(place, str(request.get("name", "")))
        return ident | {"ok": True} | perform(place, request, hashed, by)
    except (ClientError, CorruptData) as error:
        return ident | {"ok": False, "error": str(error)}
    except (ValueError, RecursionError) as error:
        return ident | {"ok": False, "error": f"this is no JSON: {error}"}


@command
def apply(
    file: Annotated[str, typer.Argument(metavar="FILE", help="TOML or JSON, domains to lists; - for input.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    config: ConfigOption = "fastmail.toml",
    as_json: JsonOption = False,
) -> None:
    """Bring domains, accounts, aliases, groups and mailing lists to a wanted state, all or nothing; what would change
    is shown first.

    The file has tables of fields by name, as [domains."example.org"], [accounts."me@example.org"],
    [aliases."info@example.org"], [groups."sales@example.org"] and [lists."team@example.org"]. What it does not name
    stays as it is, so doing it twice changes nothing; members of a group or list that are named are all that there
    shall be."""
    place = directory(config)
    found = list(steps(place, _wanted(file)))
    show([{"do": step.name, "change": step.text} for step in found], as_json, "nothing to do")
    if not found or dry_run:
        return
    if not yes:
        if file == "-" or not sys.stdin.isatty():
            raise DirectoryError("nothing was changed: --yes is needed where nobody can be asked")
        typer.confirm("Do this?", abort=True)
    with place.batch():
        in_any_order([partial(perform, place, step.request, hashed) for step in found])
    if not as_json:
        output.print(f"done: {many(len(found), 'change')}")


def _wanted(file: str) -> dict[str, Any]:
    try:
        if file == "-":
            text = sys.stdin.read()
        else:
            with open(file, encoding="utf-8") as opened:
                text = opened.read()
        if text.lstrip().startswith("{"):
            found = json.loads(text)
        else:
            import tomllib

            found = tomllib.loads(text)
    except OSError as error:
        raise DirectoryError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DirectoryError(f"cannot read {file}: {error}") from None
    if not isinstance(found, dict):
        raise DirectoryError(f"{file}: an object is expected")
    return found
