"""A database that other programs keep accounts in: PostgreSQL (asyncpg), MySQL and MariaDB (PyMySQL), SQLite.

Statements are run one after the other in one read-only snapshot. What may be too much for memory is given on in pieces
(``streamed``). Where many calls are to come, the connection is kept
between them, and made anew once when it was lost; a file is opened each time, because it may be replaced. Everything
that goes wrong is Unreadable, in words for the log.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fastmail.model.errors import ConfigError, TemporaryError

PATIENCE = 20.0  # s that a database may take
PIECE = 5000  # rows that are given on at once
SCHEMES = ("postgresql://", "postgres://", "mysql://", "sqlite:")


class Unreadable(TemporaryError):
    """The source is not there, or not what it should be."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a statement gave: names of its columns, in lower case, and rows."""

    names: list[str]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


Taking = Callable[[Sequence[tuple[Any, ...]]], None]  # is called on a thread, with some rows at a time


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one call asks for."""

    statements: Sequence[str]
    streamed: str
    take: Taking


class Database:
    """``url``: postgresql://user:password@host/database, mysql://... or sqlite:file. ``keep``: the connection."""

    def __init__(self, url: str, keep: bool = False) -> None:
        if not url.startswith(SCHEMES):
            raise ConfigError(
                'sql must be "postgresql://user:password@host/database", "mysql://user:password@host/database" or '
                '"sqlite:file"'
            )
        self.name = re.sub(r"//[^@/]*@", "//", url)
        self.kind = url.partition(":")[0].replace("postgresql", "postgres")
        self._url = url
        self._keep = keep and self.kind != "sqlite"
        self._base: Any = None
        self._lock = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None

    async def select(self, statements: Sequence[str], streamed: str = "", take: Taking | None = None) -> list[Table]:
        """A table for each statement. ``take`` gets the rows of ``streamed``, PIECE at a time; it is for a database
        whose connection is not kept, because nobody could take back what it got before a second attempt."""
        asked = _Asked(statements, streamed, take or (lambda rows: None))
        async with self._lock:
            kept = self._base is not None
            try:
                return await self._run(asked)
            except Unreadable:
                await self._drop()
                if not kept:
                    raise
                return await self._run(asked)
            finally:
                if not self._keep:
                    await self.close()

    async def close(self) -> None:
        """Let go of the connection; another call makes one anew."""
        await self._drop()
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _run(self, asked: _Asked) -> list[Table]:
        if self.kind == "postgres":
            return await self._postgresql(asked)
        if self._thread is None:  # its connections belong to one thread
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        work = self._mysql if self.kind == "mysql" else self._sqlite
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, asked)

    async def _drop(self) -> None:
        base, self._base = self._base, None
        if base is None:
            return
        try:
            if self.kind == "postgres":
                base.terminate()
            elif self._thread is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, base.close)
        except Exception:  # it is broken anyway
            return

    def _sqlite(self, asked: _Asked) -> list[Table]:
        try:
            if self._base is None:
                path = self._url.removeprefix("sqlite:")
                self._base = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE, isolation_level=None)
            self._base.execute("BEGIN")
            try:
                out = [_table(self._base.execute(one)) for one in asked.statements]
                if asked.streamed:
                    _give_on(self._base.execute(asked.streamed), asked.take)
                return out
            finally:
                self._base.execute("ROLLBACK")
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise Unreadable(str(error)) from None

    def _mysql(self, asked: _Asked) -> list[Table]:
        if self._base is None:
            self._base = connect_mysql(self._url, PATIENCE)
        import pymysql
        from pymysql.cursors import SSCursor  # leaves the rows at the server until they are asked for

        try:
            with self._base.cursor() as cursor:
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                out = []
                for one in asked.statements:
                    cursor.execute(one)
                    out.append(_table(cursor))
                if asked.streamed:
                    with self._base.cursor(SSCursor) as rows:
                        rows.execute(asked.streamed)
                        _give_on(rows, asked.take)
                cursor.execute("ROLLBACK")
                return out
        except (OSError, pymysql.Error, ValueError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    async def _postgresql(self, asked: _Asked) -> list[Table]:
        try:
            import asyncpg
        except ImportError:
            raise Unreadable("asyncpg is not installed: pip install 'fastmail[postgresql]'") from None
        try:
            if self._base is None:
                self._base = await asyncpg.connect(self._url, timeout=PATIENCE, command_timeout=PATIENCE)
            out = []
            async with self._base.transaction(isolation="repeatable_read", readonly=True):
                for one in asked.statements:
                    made = await self._base.prepare(one)
                    names = [column.name.lower() for column in made.get_attributes()]
                    out.append(Table(names, [tuple(row) for row in await made.fetch()]))
                if asked.streamed:
                    cursor = await (await self._base.prepare(asked.streamed)).cursor()
                    while rows := await cursor.fetch(PIECE):
                        piece = list(map(tuple, rows))
                        await asyncio.get_running_loop().run_in_executor(None, asked.take, piece)
            return out
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None


def _table(cursor: Any) -> Table:
    return Table([str(one[0]).lower() for one in cursor.description or ()], list(map(tuple, cursor.fetchall())))


def _give_on(cursor: Any, take: Taking) -> None:
    while rows := cursor.fetchmany(PIECE):
        take(list(map(tuple, rows)))


def connect_mysql(url: str, patience: float) -> Any:
    """A connection of PyMySQL. ``patience``: s that an answer may take. Unreadable."""
    try:
        import pymysql
    except ImportError:
        raise Unreadable("PyMySQL is not installed: pip install 'fastmail[mysql]'") from None
    place = urlsplit(url)
    try:
        return pymysql.connect(
            host=place.hostname or "localhost",
            port=place.port or 3306,
            unix_socket=parse_qs(place.query).get("unix_socket", [""])[0] or None,
            user=unquote(place.username or ""),
            password=unquote(place.password or ""),
            database=place.path.lstrip("/"),
            charset="utf8mb4",
            connect_timeout=int(PATIENCE),
            read_timeout=patience,
        )
    except (OSError, pymysql.Error, ValueError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from None
