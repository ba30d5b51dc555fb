"""The database of a site, read in one go: PostgreSQL, MySQL, SQLite, and Microsoft SQL Server (hMailServer).

Rows come a few thousand at a time from a cursor of the server, so memory does not grow with the site, and (but for SQL
Server) all statements see one snapshot. One statement is read at a time: a second one ends the first. Nothing is ever
written. Whatever goes wrong is Unreadable, with words for the administrator and without the password.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from fastmail.directory.database import PATIENCE, Unreadable, connect_mysql
from fastmail.migrate.sites.values import Row
from fastmail.model.errors import CannotDo, in_words

AT_ONCE = 2000  # rows
FORMS = (
    "postgresql://user:password@host/database, mysql://user:password@host/database, sqlite:file, "
    "or for hMailServer mssql://user:password@host/database"
)
MSSQL_PORT = 1433
LONG_PATIENCE = 6 * PATIENCE  # s: a large table may have to be sorted


class Base(Protocol):
    """``kind``: sqlite, mysql, postgres or mssql."""

    kind: str

    def columns(self, table: str) -> frozenset[str]:
        """Names of a table's columns, in lower case; none where there is no such table."""
        ...

    def rows(self, statement: str) -> Iterator[Row]:
        """What a statement gives, by names of columns in lower case."""
        ...

    def close(self) -> None: ...


@contextmanager
def opened(url: str) -> Iterator[Base]:
    """The database of a URL (see FORMS), until the block ends. CannotDo for another URL."""
    kind = url.partition(":")[0]
    makers: dict[str, Callable[[str], Base]] = {
        "postgresql": _Postgres,
        "postgres": _Postgres,
        "mysql": _mysql,
        "sqlite": _sqlite,
        "mssql": _mssql,
    }
    if kind not in makers or ":" not in url:
        raise CannotDo(f"--dsn is {FORMS}")
    base = makers[kind](url)
    try:
        yield base
    finally:
        base.close()


def picked(base: Base, table: str, wanted: Sequence[str], of: str = "") -> str:
    """Those of the wanted columns that the table has, for SELECT. ``of``: the name that the statement gives the
    table."""
    there = base.columns(table)
    return ", ".join(f"{of}.{name} AS {name}" if of else name for name in wanted if name in there)


def selected(base: Base, table: str, wanted: Sequence[str], rest: str = "") -> Iterator[Row]:
    """Those columns of all rows; nothing where there is no such table."""
    if names := picked(base, table, wanted):
        yield from base.rows(f"SELECT {names} FROM {table} {rest}")


def counted(base: Base, table: str, where: str = "") -> int:
    """How many rows there are; 0 where there is no such table."""
    if not base.columns(table):
        return 0
    (row,) = base.rows(f"SELECT COUNT(*) AS n FROM {table} {where}")
    return int(str(row["n"]))


def need(base: Base, site: str, *tables: str) -> None:
    """CannotDo where one of these tables is not there."""
    missing = [table for table in tables if not base.columns(table)]
    if missing:
        raise CannotDo(f"the database has no table {missing[0]}: is it that of {site}?")


class _Plain:
    """Drivers of PEP 249."""

    def __init__(
        self, kind: str, base: Any, errors: tuple[type[Exception], ...], schema: str, cursor: Any = None
    ) -> None:
        self.kind, self._base, self._errors = kind, base, errors
        self._schema, self._cursor = schema, cursor
        self._known: dict[str, frozenset[str]] = {}

    def columns(self, table: str) -> frozenset[str]:
        if table not in self._known:
            found = self.rows(self._schema.format(table=table))
            self._known[table] = frozenset(str(row["name"]).lower() for row in found)
        return self._known[table]

    def rows(self, statement: str) -> Iterator[Row]:
        try:
            cursor = self._base.cursor(self._cursor) if self._cursor is not None else self._base.cursor()
            try:
                cursor.execute(statement)
                names = [str(one[0]).lower() for one in cursor.description or ()]
                while found := cursor.fetchmany(AT_ONCE):
                    for row in found:
                        yield dict(zip(names, row, strict=True))
            finally:
                cursor.close()
        except self._errors as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        try:
            self._base.close()
        except self._errors:
            pass  # it was only read


# in capitals, because SQL Server may tell them apart
COLUMNS = "SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = '{table}'"


def _sqlite(url: str) -> _Plain:
    path = url.removeprefix("sqlite:")
    if not os.path.isfile(path):  # sqlite says "unable to open", as of a file that is busy
        raise CannotDo(f"{path}: there is no such file")
    try:
        base = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE, isolation_level=None)
        base.execute("BEGIN")
    except sqlite3.Error as error:
        raise Unreadable(f"{path}: {error}") from None
    return _Plain("sqlite", base, (sqlite3.Error, sqlite3.Warning), "SELECT name FROM pragma_table_info('{table}')")


def _mysql(url: str) -> _Plain:
    base = connect_mysql(url, LONG_PATIENCE)
    import pymysql
    from pymysql.cursors import SSCursor  # rows stay at the server until they are asked for

    try:
        with base.cursor() as cursor:
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    except pymysql.Error as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from None
    return _Plain("mysql", base, (OSError, pymysql.Error), COLUMNS + " AND table_schema = DATABASE()", SSCursor)


def _mssql(url: str) -> _Plain:
    try:
        import pytds
    except ImportError:
        raise Unreadable("python-tds is not installed: pip install 'fastmail[mssql]'") from None
    place = urlsplit(url)
    try:
        base = pytds.connect(
            dsn=unquote(place.hostname or "localhost"),  # host, or host\instance
            port=place.port or (None if "%5c" in (place.hostname or "").lower() else MSSQL_PORT),
            database=place.path.lstrip("/"),
            user=unquote(place.username or ""),
            password=unquote(place.password or ""),
            timeout=LONG_PATIENCE,
            login_timeout=PATIENCE,
            readonly=True,
        )
    except (OSError, ValueError, pytds.Error) as error:
        raise Unreadable(f"{type(error).__name__}: {in_words(error)}") from None
    return _Plain("mssql", base, (OSError, pytds.Error), COLUMNS)


class _Postgres:
    """asyncpg, in an event loop of its own."""

    kind = "postgres"

    def __init__(self, url: str) -> None:
        try:
            import asyncpg
        except ImportError:
            raise Unreadable("asyncpg is not installed: pip install 'fastmail[postgresql]'") from None
        self._errors = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ValueError)
        self._known: dict[str, frozenset[str]] = {}
        self._runner = asyncio.Runner()
        try:
            self._base = self._do(asyncpg.connect(url, timeout=PATIENCE, command_timeout=LONG_PATIENCE))
            self._do(self._base.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        except BaseException:
            self._runner.close()
            raise

    def _do(self, work: Any) -> Any:
        try:
            return self._runner.run(_awaited(work))
        except self._errors as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    def columns(self, table: str) -> frozenset[str]:
        if table not in self._known:
            found = self.rows(COLUMNS.format(table=table) + " AND table_schema = ANY (current_schemas(false))")
            self._known[table] = frozenset(str(row["name"]).lower() for row in found)
        return self._known[table]

    def rows(self, statement: str) -> Iterator[Row]:
        cursor = self._do(self._begin(statement))
        while found := self._do(cursor.fetch(AT_ONCE)):
            for row in found:
                yield dict(row)

    async def _begin(self, statement: str) -> Any:
        return await (await self._base.prepare(statement)).cursor()

    def close(self) -> None:
        self._base.terminate()
        self._runner.close()


async def _awaited(work: Any) -> Any:
    return await work
