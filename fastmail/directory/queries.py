"""Dovecot's own SQL, as an admin wrote it: ``password_query``, ``user_query`` and ``iterate_query`` with Dovecot's
variables, run for one user at a time, and for all of them now and then. Domains, aliases and mailing lists may come
from queries of ours beside them (directory.sql).

Variables: %u %n %d with L or U, %{user}, %{username}, %{domain} and 2.4's filters ``%{user | username | lower}``; %s
(service) is imap. What they stand for is escaped; an address with a backslash or a control character is nobody's. From
the rows count user (or username and domain), password, home, mail, and quota_rule or quota_storage_size, all with or
without ``userdb_``. nologin, reason, allow_nets, proxy and host are conditions on logins (directory.access) where they
are not NULL; to an account with nopassword, or without a password, nobody can log in with one.
"""

import re
from dataclasses import dataclass
from typing import Any

from fastmail.directory.database import Database
from fastmail.directory.external import UNUSABLE, Content, make_line, parse_quota
from fastmail.directory.interface import Line
from fastmail.directory.sql import Sql
from fastmail.model.errors import ConfigError
from fastmail.telemetry import log

EVERYBODY = 300.0  # s between two looks at all accounts, at least
_VARIABLE = re.compile(r"%(?:\{([^}]*)\}|([LU]?)([A-Za-z%]))")
_SHORT = {"u": "user", "n": "username", "d": "domain", "s": "service", "%": "%"}
_SAME = {"auth_user": "user", "login_user": "user", "orig_user": "user", "auth_username": "username",
         "orig_username": "username", "login_username": "username", "auth_domain": "domain", "orig_domain": "domain",
         "login_domain": "domain", "protocol": "service"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Queries:
    """As in Dovecot's files; empty where there is none. ``scheme``: of passwords without one."""

    password: str
    user: str = ""
    iterate: str = ""
    scheme: str = "CRYPT"


def compile_query(text: str) -> list[str | tuple[str, list[str]]]:
    """The text between variables, and variables with their filters; ConfigError for one that means nothing here."""
    out: list[str | tuple[str, list[str]]] = []
    at = 0
    for match in _VARIABLE.finditer(text):
        out.append(text[at : match.start()])
        at = match.end()
        if match.group(1) is None:
            name, filters = match.group(3), {"L": ["lower"], "U": ["upper"]}.get(match.group(2), [])
            name = _SHORT.get(name, name)
            if name == "%":
                out.append("%")
                continue
        else:
            name, *filters = [part.strip() for part in match.group(1).split("|")]
            name = name.removeprefix("passdb:").removeprefix("userdb:")
            if name[:1] in "LU" and name[1:2].islower():
                filters, name = [{"L": "lower", "U": "upper"}[name[0]], *filters], name[1:]
            name = _SHORT.get(_SAME.get(name, name), _SAME.get(name, name))
        if name not in ("user", "username", "domain", "service"):
            raise ConfigError(f"{match.group(0)} is not known to a query here")
        for one in filters:
            if one not in ("lower", "upper", "username", "domain"):
                raise ConfigError(f"{match.group(0)}: the filter {one} is not known here")
        out.append((name, filters))
    return [*out, text[at:]]


def fill(compiled: list[str | tuple[str, list[str]]], user: str, backslash: bool) -> str:
    """The statement for a user. ``backslash``: does the database take it for an escape in texts?"""
    local, at, domain = user.rpartition("@")
    values = {"user": user, "username": local if at else user, "domain": domain if at else "", "service": "imap"}
    out = []
    for part in compiled:
        if isinstance(part, str):
            out.append(part)
            continue
        value = values[part[0]]
        for one in part[1]:
            if one in ("lower", "upper"):
                value = value.lower() if one == "lower" else value.upper()
            elif one == "username":
                value = value.rpartition("@")[0] or value
            else:
                value = value.rpartition("@")[2] if "@" in value else ""
        value = value.replace("'", "''")
        out.append(value.replace("\\", "\\\\") if backslash else value)
    return "".join(out)


class DovecotSql:
    """See external.Source; ``lookup`` besides. ``every``: s between two looks at everybody, of which the first is at
    the start. ``beside``: what is asked for all but the accounts."""

    def __init__(
        self, url: str, queries: Queries, domain: str, every: float, homes: str = "", beside: Sql | None = None
    ) -> None:
        self._database = Database(url, keep=True)
        self.name = self._database.name
        self._beside = beside
        # everybody costs queries for each; without them, what is asked beside it may be looked at as often as is wanted
        self.every = max(every, EVERYBODY) if queries.iterate or beside is None else every
        self._scheme = queries.scheme.strip("{}").upper() or "CRYPT"
        self._domain, self._homes = domain, homes
        if not queries.password:
            raise ConfigError("sql_password_query is needed: as password_query in Dovecot's file")
        try:
            self._password, self._user = compile_query(queries.password), compile_query(queries.user)
        except ConfigError as error:
            raise ConfigError(f"sql_password_query, sql_user_query: {error}") from None
        self._iterate = queries.iterate
        self._said: Content | None = None

    def forget(self) -> None:
        self._said = None

    async def read(self) -> Content | None:
        """Everybody whom iterate_query names, and what the queries beside it say; None when that is as it was."""
        out = Content(every=False)
        if self._beside is not None:
            self._beside.forget()  # all of it: what is compared here is the whole
            out = await self._beside.read() or out
        try:
            if self._iterate:
                out.lines, out.every = await self._everybody(), True
        except BaseException:
            out.close()
            raise
        if self._said == out:
            out.close()
            return None
        self._said = out
        return out

    async def _everybody(self) -> dict[str, Line]:
        """The accounts that iterate_query names."""
        lines = {}
        (table,) = await self._database.select([self._iterate])
        for row in table.dicts():
            user = _name(row) or str(next(iter(row.values())) or "")
            line = await self.lookup(user.strip().lower()) if user else None
            if line is not None:
                lines[line.address] = line
        return lines

    async def lookup(self, user: str) -> Line | None:
        """The account of a login or an address; None when there is none."""
        local, _, domain = user.rpartition("@")
        found = await self._ask(user)
        if found is None and local and domain == self._domain:
            found = await self._ask(local)  # users without a domain, as Dovecot has them without a realm
        return found

    async def _ask(self, user: str) -> Line | None:
        if not user or "\\" in user or any(ord(c) < 32 or ord(c) == 127 for c in user):
            return None
        backslash = self._database.kind == "mysql"
        statements = [fill(self._password, user, backslash)]
        if len(self._user) > 1 or self._user[0]:
            statements.append(fill(self._user, user, backslash))
        tables = await self._database.select(statements)
        if any(not table.rows for table in tables):
            return None
        row: dict[str, Any] = {}
        for table in tables:
            first = table.dicts()[0].items()
            row |= {name.removeprefix("userdb_"): value for name, value in first if value is not None}
        return self._line(user, row)

    def _line(self, user: str, row: dict[str, Any]) -> Line | None:
        password = str(row.get("password") or "")
        if not password:
            log.event("directory.conditions", "debug", user=user, conditions="no password")
            password = UNUSABLE
        if not password.startswith("{"):
            password = f"{{{self._scheme}}}{password}"
        rule = row.get("quota_rule") or row.get("quota_storage_size")
        home, mail = str(row.get("home") or ""), str(row.get("mail") or row.get("mail_path") or "")
        name = (_name(row) or user).lower()
        return make_line(name, password, self._domain, parse_quota(rule), home, mail, self._homes, row)

    async def close(self) -> None:
        await self._database.close()


def _name(row: dict[str, Any]) -> str:
    if row.get("username") and row.get("domain"):
        return f"{row['username']}@{row['domain']}"
    return str(row.get("user") or row.get("username") or "")
