"""Accounts that another program keeps: Dovecot's passwd-file, or tables of a database, followed while the server runs.

What the source says is brought into the built-in directory, which every worker reads: new accounts, changed passwords,
quotas and aliases take effect within seconds (a file) or at the next look (a database). An account that is gone from
the source is disabled, not removed; its mail stays, and it is back when its row is. A source that cannot be read, or
has suddenly become empty, changes nothing, the log says so, and until it is back an address that is not known is a
temporary failure: an outage is never "no such user".
"""

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from fastmail.directory.local import LocalDirectory
from fastmail.model.address import account_address
from fastmail.model.errors import ClientError, ConfigError, TemporaryError
from fastmail.model.quota import Quota
from fastmail.telemetry import log

LOOK = 2.0  # s between two looks at a file's times
PATIENCE = 20.0  # s that a database may take
_QUOTA = re.compile(r"(?:userdb_)?quota_rule\d*=\*:(?:.*?)storage=(\d+)([KMGT]?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One account of the source."""

    address: str
    password: str
    quota: Quota | None = None


@dataclass(slots=True)
class Content:
    """All that a source says; ``aliases`` None where it says nothing of them."""

    lines: dict[str, Line] = field(default_factory=dict)
    aliases: dict[str, list[str]] | None = None


class Unreadable(TemporaryError):
    """The source is not there, or not what it should be."""


class Source(Protocol):
    """Where accounts come from; ``every``: s between two looks."""

    every: float
    name: str

    async def read(self) -> Content | None:
        """What it says now; None when that is what it said the last time. Unreadable."""
        ...


def make_line(user: str, password: str, domain: str, quota: Quota | None) -> Line | None:
    """One account; None for what is no address, and ``domain`` where there is none."""
    try:
        address = str(account_address(user if "@" in user else f"{user}@{domain}"))
    except ClientError:
        log.event("directory.line", "warning", user=user, why="no usable address")
        return None
    return Line(address, password if password.startswith("{") else "{CRYPT}" + password, quota)


def parse(text: str, domain: str) -> Iterator[Line]:
    """``user:{SCHEME}hash:uid:gid:gecos:home:shell:extra``; users without an @ get ``domain``. Lines that are no
    accounts are left out."""
    for line in text.splitlines():
        fields = line.split(":", 7)
        if not line.strip() or line.startswith("#") or len(fields) < 2 or not fields[0].strip():
            continue
        found = _QUOTA.search(fields[7]) if len(fields) > 7 else None
        quota = None
        if found is not None:
            unit = "KMGT".find((found.group(2) or "K").upper()) + 1
            quota = Quota(int(found.group(1)) * 1024**unit)
        made = make_line(fields[0].strip().lower(), fields[1], domain, quota)
        if made is not None:
            yield made


class PasswdFile:
    """A file, read again when it has changed."""

    every = LOOK

    def __init__(self, path: str, domain: str) -> None:
        self.name = path
        self._domain = domain
        self._state: tuple[int, int, int] | None = None

    async def read(self) -> Content | None:
        return await asyncio.get_running_loop().run_in_executor(None, self._read)

    def _read(self) -> Content | None:
        try:
            found = os.stat(self.name)
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if state == self._state:
                return None
            with open(self.name, encoding="utf-8") as file:
                lines = {line.address: line for line in parse(file.read(), self._domain)}
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(str(error)) from None
        if lines:
            self._state = state
        return Content(lines)


class Sql:
    """Tables of PostgreSQL (asyncpg), MySQL and MariaDB (PyMySQL) or SQLite. ``accounts`` selects address, password
    and, if there is a third column, quota in octets; ``aliases`` selects address and targets, several rows or commas
    for several targets."""

    def __init__(self, url: str, accounts: str, aliases: str, domain: str, every: float) -> None:
        self._url, self._accounts, self._aliases = url, accounts, aliases
        self._domain = domain
        self.every = every
        self.name = re.sub(r"//[^@/]*@", "//", url)
        self._said: Content | None = None
        if not url.startswith(("postgresql://", "postgres://", "mysql://", "sqlite:")):
            raise ConfigError(
                'sql must be "postgresql://user:password@host/database", "mysql://user:password@host/database" or '
                '"sqlite:file"'
            )
        if not accounts:
            raise ConfigError("sql_accounts is needed: a query for address and password")

    async def read(self) -> Content | None:
        loop = asyncio.get_running_loop()
        if self._url.startswith("mysql:"):
            rows, names = await loop.run_in_executor(None, self._mysql)
        else:
            rows, names = await (self._sqlite() if self._url.startswith("sqlite:") else self._postgresql())
        return await loop.run_in_executor(None, self._content, rows, names)

    def _content(self, rows: Sequence[Any], names: Sequence[Any] | None) -> Content | None:
        """Off the loop: there may be a hundred thousand."""
        out = Content()
        for row in rows:
            user, password = row[0], row[1]
            if not user or not password:
                continue
            quota = Quota(int(row[2])) if len(row) > 2 and row[2] else None
            line = make_line(str(user).strip().lower(), str(password), self._domain, quota)
            if line is not None:
                out.lines[line.address] = line
        if names is not None:
            out.aliases = {}
            for address, targets in names:
                found = [one.strip().lower() for one in str(targets).split(",") if one.strip()]
                out.aliases.setdefault(str(address).strip().lower(), []).extend(found)
        if self._said == out:
            return None
        self._said = out
        return out

    async def _sqlite(self) -> tuple[Sequence[Any], Sequence[Any] | None]:
        def ask() -> tuple[Sequence[Any], Sequence[Any] | None]:
            path = self._url.removeprefix("sqlite:")
            try:
                base = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE)
                try:
                    rows = base.execute(self._accounts).fetchall()
                    return rows, base.execute(self._aliases).fetchall() if self._aliases else None
                finally:
                    base.close()
            except sqlite3.Error as error:
                raise Unreadable(str(error)) from None

        return await asyncio.get_running_loop().run_in_executor(None, ask)

    def _mysql(self) -> tuple[Sequence[Any], Sequence[Any] | None]:
        try:
            import pymysql
        except ImportError:
            raise Unreadable("PyMySQL is not installed: pip install 'fastmail[mysql]'") from None
        place = urlsplit(self._url)
        socket = parse_qs(place.query).get("unix_socket", [""])[0]
        try:
            base = pymysql.connect(
                host=place.hostname or "localhost",
                port=place.port or 3306,
                unix_socket=socket or None,
                user=unquote(place.username or ""),
                password=unquote(place.password or ""),
                database=place.path.lstrip("/"),
                charset="utf8mb4",
                connect_timeout=int(PATIENCE),
                read_timeout=PATIENCE,
            )
            try:
                with base.cursor() as cursor:
                    cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                    cursor.execute(self._accounts)
                    rows = cursor.fetchall()
                    if not self._aliases:
                        return rows, None
                    cursor.execute(self._aliases)
                    return rows, cursor.fetchall()
            finally:
                base.close()
        except (OSError, pymysql.Error, ValueError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None

    async def _postgresql(self) -> tuple[Sequence[Any], Sequence[Any] | None]:
        try:
            import asyncpg
        except ImportError:
            raise Unreadable("asyncpg is not installed: pip install 'fastmail[postgresql]'") from None
        try:
            base = await asyncpg.connect(self._url, timeout=PATIENCE, command_timeout=PATIENCE)
            try:
                async with base.transaction(isolation="repeatable_read", readonly=True):
                    rows = await base.fetch(self._accounts)
                    return rows, await base.fetch(self._aliases) if self._aliases else None
            finally:
                await base.close(timeout=PATIENCE)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None


class Follower:
    """Brings the directory up to a source, again and again; one in the first worker."""

    def __init__(self, directory: LocalDirectory, source: Source) -> None:
        self._directory = directory
        self._source = source
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self.take_in()
            except Exception as error:  # whatever a source does, the server goes on with what it knows
                log.event("directory.failed", "error", source=self._source.name, error=repr(error))
            await asyncio.sleep(self._source.every)

    async def take_in(self) -> int:
        """How many accounts and aliases changed; -1 when the source cannot be read."""
        loop = asyncio.get_running_loop()
        try:
            content = await self._source.read()
            if content is not None and not content.lines and self._directory.accounts():
                raise Unreadable("it has no accounts any more")
        except Unreadable as error:
            if not self._directory.uncertain:
                log.event(
                    "directory.unreadable", "error", source=self._source.name, why=error, then="accounts stay as known"
                )
                await loop.run_in_executor(None, self._directory.set_uncertain, True)
            return -1
        if self._directory.uncertain:
            await loop.run_in_executor(None, self._directory.set_uncertain, False)
            log.event("directory.readable", source=self._source.name)
        if content is None:
            return 0
        count = await loop.run_in_executor(None, apply, self._directory, content)
        if count:
            log.event("directory.followed", source=self._source.name, accounts=len(content.lines), changed=count)
        return count


def apply(directory: LocalDirectory, content: Content) -> int:
    """Make the directory what the source says; how much changed. Waits for the disk."""
    lines = content.lines
    known = {record.address: record for record in directory.accounts()}
    _add_domains(directory, (*lines, *(content.aliases or ())))
    changed = [
        (line.address, line.password)
        for line in lines.values()
        if line.address not in known or known[line.address].password != line.password
    ]
    directory.add_accounts(changed, replace=True)
    count = len(changed)
    for line in lines.values():
        record = known.get(line.address)
        if record is not None and not record.enabled:
            directory.enable(line.address, True)
            count += 1
        if line.quota is not None and (record is None or record.quota != line.quota):
            directory.set_quota(line.address, line.quota)
            count += 1
    for record in known.values():
        if record.enabled and record.address not in lines:
            directory.enable(record.address, False)
            count += 1
    if content.aliases is not None:
        count += directory.replace_aliases({a: t for a, t in content.aliases.items() if a not in lines})
    return count


def _add_domains(directory: LocalDirectory, addresses: Iterable[str]) -> None:
    for domain in sorted({address.rpartition("@")[2] for address in addresses}):
        if domain and not directory.is_local(domain):
            directory.add_domain(domain)
