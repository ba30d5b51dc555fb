"""Tables of a database that another program keeps its accounts in, and perhaps its aliases, domains and mailing lists;
read again and again (directory.external).

All queries see one snapshot. Columns count by their names: those of ``fastmail domain|account|list set``; NULL says
nothing. Members of lists are passed on as they come, so a large list is never in memory as a whole.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastmail.directory import access
from fastmail.directory.database import Database, Table, Taking, Unreadable
from fastmail.directory.external import Content, make_line, parse_quota
from fastmail.directory.incoming import Incoming
from fastmail.directory.told import FIELDS, told
from fastmail.model.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Statements:
    """Queries, of which one is needed; empty for none. ``accounts``: address, password and, if there is a third column,
    quota in octets; ``aliases``: address and targets, several rows or commas for several targets; ``domains``: a name;
    ``lists``: an address; ``members``: the address of a list, that of a member and perhaps a name."""

    accounts: str = ""
    aliases: str = ""
    domains: str = ""
    lists: str = ""
    members: str = ""


class Sql:
    """See external.Source. Columns of accounts that are called allow_nets, nologin, reason, proxy and host are
    conditions on logins; ``domain`` completes addresses without one. Without a query for accounts, nothing is said of
    these (``Content.every``)."""

    def __init__(self, url: str, statements: Statements, domain: str, every: float) -> None:
        self._database = Database(url)
        self._asked = statements
        self._domain = domain
        self.every = every
        self.name = self._database.name
        self._said: Content | None = None
        if statements == Statements():
            raise ConfigError("sql_accounts is needed: a query for address and password")
        if statements.members and not statements.lists:
            raise ConfigError("sql_members needs sql_lists: a query for the addresses of the lists")

    def forget(self) -> None:
        self._said = None

    async def read(self) -> Content | None:
        asked = self._asked
        tables = [one for one in (asked.accounts, asked.aliases, asked.domains, asked.lists) if one]
        incoming = Incoming() if asked.lists else None
        try:
            found = iter(
                await self._database.select(tables, asked.members, self._taking(incoming) if incoming else None)
            )
            by_name = {
                name: next(found) for name in ("accounts", "aliases", "domains", "lists") if getattr(asked, name)
            }
            out = await asyncio.get_running_loop().run_in_executor(None, self._content, by_name)
        except BaseException:
            if incoming is not None:
                incoming.close()
            raise
        out.members = incoming
        if self._said == out:
            out.close()
            return None
        self._said = out
        return out

    def _taking(self, incoming: Incoming) -> Taking:
        def take(rows: Sequence[tuple[Any, ...]]) -> None:
            if len(rows[0]) < 2:
                raise Unreadable("sql_members gives one column: the address of a list and that of a member are needed")
            incoming.add(
                (self._address(row[0]), _text(row[1]), _text(row[2]) if len(row) > 2 else "")
                for row in rows
                if row[0] and row[1]
            )

        return take

    def _content(self, tables: Mapping[str, Table]) -> Content:
        """Off the loop: there may be a hundred thousand."""
        out = Content(every="accounts" in tables)
        if out.every:
            self._accounts(tables["accounts"], out)
        if "domains" in tables:
            out.domains = {}
            for name, values in _named(tables["domains"]):
                out.add_domain(name.lower(), values)
        if "lists" in tables:
            out.lists = {
                self._address(name): told(self._address(name), values, "list")
                for name, values in _named(tables["lists"])
            }
        if "aliases" in tables:
            out.aliases = out.aliases or {}
            if len(tables["aliases"].names) < 2:
                raise Unreadable("sql_aliases gives one column: an address and its targets are needed")
            for address, targets, *_ in tables["aliases"].rows:
                found = [one.strip().lower() for one in _text(targets).split(",") if one.strip()]
                out.aliases.setdefault(_text(address).strip().lower(), []).extend(found)
        return out

    def _accounts(self, table: Table, out: Content) -> None:
        columns = table.names
        for row in table.rows:
            user, password = row[0], row[1]
            if not user or not password:
                continue
            limited = len(row) > 2 and columns[2] not in access.FIELDS and columns[2] not in FIELDS and row[2]
            quota = parse_quota(row[2]) if limited else None
            named = dict(zip(columns[2:], row[2:], strict=False))
            conditions = {name: value for name, value in named.items() if name in access.FIELDS}
            name = str(user).strip().lower()
            line = make_line(name, str(password), self._domain, quota, conditions=conditions, more=named)
            if line is not None:
                out.lines[line.address] = line

    def _address(self, value: Any) -> str:
        text = _text(value).strip().lower()
        return text if "@" in text else f"{text}@{self._domain}"


def _named(table: Table) -> list[tuple[str, dict[str, Any]]]:
    """The first column of each row, and the others by their names."""
    return [
        (_text(row[0]).strip(), dict(zip(table.names[1:], row[1:], strict=True)))
        for row in table.rows
        if row and row[0]
    ]


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value or "")
