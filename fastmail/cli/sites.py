"""``fastmail migrate plan --from SITE`` and ``fastmail migrate accounts``: domains, accounts and aliases of a whole
site, from its database.

A run without ``--apply`` tries the import on a copy of the directory, so it says what would happen and not what might.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    command,
    directory,
    fail,
    first_line,
    output,
    progress_bar,
    read_config,
    show,
)
from fastmail.directory.local import LocalDirectory
from fastmail.migrate.plan import Plan
from fastmail.migrate.sites import importing, report
from fastmail.migrate.sites.base import FORMS, opened
from fastmail.migrate.sites.importing import Importer
from fastmail.migrate.sites.known import SITES
from fastmail.migrate.sites.model import Options, Record

NAMES = ", ".join(SITES)
DsnOption = Annotated[
    str,
    typer.Option(
        "--dsn",
        envvar="FASTMAIL_DSN",
        help=f"The site's database: {FORMS}. - reads it from standard input, where no list of processes shows it.",
    ),
]
SchemeOption = Annotated[
    str, typer.Option("--scheme", help="Scheme of passwords there that do not say theirs, such as SHA256 or PLAIN.")
]


@command
def accounts(
    source: Annotated[str, typer.Option("--from", help=f"One of {NAMES}.")],
    dsn: DsnOption = "",
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without this it is only said what would be.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make rows that differ as they are there, passwords too.")
    ] = False,
    scheme: SchemeOption = "",
    domain: Annotated[str, typer.Option(help="For vpopmail with a table for each domain: which one.")] = "",
    maildirs: Annotated[
        str,
        typer.Option(
            help="The directory that the Maildirs there are below: keeps where each is. `homes` has to allow it."
        ),
    ] = "",
    each: Annotated[bool, typer.Option("--each", help="Name every row that is new, and not only how many.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Bring domains, accounts with their passwords, aliases and lists of another server's database into this one.

    What is here and differs is shown, and stays unless --overwrite; a second run changes nothing. A row that makes no
    sense is named, and stops no other. May be run beside a server. Exit code 1 if a row was skipped.
    """
    url = _dsn(source, dsn)
    place = directory(config)
    place.actor = f"{place.actor} (from {source})"
    if maildirs:
        maildirs = _allowed(maildirs, read_config(config).store.homes)
    with _tried(place, apply) as into, opened(url) as base, _counter() as told:
        importer = Importer(into, overwrite, maildirs)
        records = told(SITES[source](base, Options(scheme, domain)))
        show(report.rows(importer.bring(records), each), json, "nothing is there")
    if not apply and not json:
        output.print("nothing was changed: --apply does it")
    if any(state == importing.SKIPPED for state, _ in importer.counts):
        raise typer.Exit(FAILED)


def plan(source: str, dsn: str, scheme: str, domain: str) -> Plan:
    """What an import would come to where nothing is yet."""
    url = _dsn(source, dsn)
    with TemporaryDirectory(prefix="fastmail-plan-") as scratch:
        place = LocalDirectory(scratch)
        try:
            with opened(url) as base, _counter() as told:
                importer = Importer(place)
                return report.plan(importer, importer.bring(told(SITES[source](base, Options(scheme, domain)))))
        finally:
            place.close()


def _allowed(maildirs: str, homes: str) -> str:
    """The directory of all mail, which workers may use if it is that of homes, or below."""
    path = os.path.abspath(maildirs)
    if not homes or not f"{path}/".startswith(homes.rstrip("/") + "/"):
        fail(f'{path} is not below [store] homes: set homes = "{path}" there')
    return path


def _dsn(source: str, given: str) -> str:
    if source not in SITES:
        fail(f"--from is one of {NAMES}", 2)
    url = first_line().strip() if given == "-" else given
    if not url:
        fail(f"--dsn is needed: {FORMS}", 2)
    if url.startswith("mssql:") and source != "hmailserver":
        fail("Microsoft SQL Server is read for hmailserver only", 2)
    return url


@contextmanager
def _tried(place: LocalDirectory, apply: bool) -> Iterator[LocalDirectory]:
    """The directory itself, or a copy of it that is removed afterwards."""
    if apply:
        yield place
        return
    with TemporaryDirectory(prefix="fastmail-try-") as scratch:
        copy = place.copied(scratch)
        try:
            yield copy
        finally:
            copy.close()


class _Counter:
    """Counts records as they come, for people who wait."""

    def __init__(self) -> None:
        from rich.progress import TextColumn, TimeElapsedColumn

        self.progress = progress_bar(
            TextColumn("{task.description} {task.completed}"),
            TimeElapsedColumn(),
            redirect_stdout=False,  # what is listed may go to a file
        )
        self._task = self.progress.add_task("rows", total=None)

    def __call__(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            self.progress.advance(self._task)
            yield record


@contextmanager
def _counter() -> Iterator[_Counter]:
    counter = _Counter()
    with counter.progress:
        yield counter
