"""Accounts that another program keeps: Dovecot's passwd-file, or tables of a database, followed while the server runs.

What the source says is brought into the built-in directory, which every worker reads: new accounts, changed passwords,
quotas and aliases take effect within seconds (a file) or at the next look (a database). An account that is gone from
the source is disabled, not removed; its mail stays, and it is back when its row is. A source that cannot be read, or
has suddenly become empty, changes nothing, the log says so, and until it is back an address that is not known is a
temporary failure: an outage is never "no such user". Several sources may be followed, each for domains of its own
(directory.origins), one not waiting for another.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import unquote

from fastmail.directory import access, fields
from fastmail.directory.database import Database, Unreadable
from fastmail.directory.interface import AccountRecord, Line
from fastmail.directory.local import LocalDirectory
from fastmail.directory.origins import domain_of
from fastmail.directory.told import FIELDS, counting, told, within
from fastmail.model.address import Address, account_address, comparable, domain_name
from fastmail.model.errors import ClientError, ConfigError, DamagedAccount
from fastmail.model.quota import Quota
from fastmail.telemetry import log

OURS = "fastmail_"  # in front of our fields among Dovecot's extra fields
UNUSABLE = "{NONE}!"  # a password that none is right for
LOOK = 2.0  # s between two looks at a file's times
_QUOTA = re.compile(r"(?:userdb_)?quota_rule\d{0,3}=\*:[^=\s]*storage=(\d{1,18})([KMGT]?)", re.IGNORECASE)


@dataclass(slots=True)
class Content:
    """All that a source says; ``aliases``, and ``groups`` (members by name), None where it says nothing of them."""

    lines: dict[str, Line] = field(default_factory=dict)
    aliases: dict[str, list[str]] | None = None
    groups: dict[str, list[str]] | None = None


class Source(Protocol):
    """Where accounts come from; ``every``: s between two looks."""

    every: float
    name: str

    async def read(self) -> Content | None:
        """What it says now; None when that is what it said the last time. Unreadable."""
        ...

    def forget(self) -> None:
        """Let the next ``read`` say all of it."""
        ...


def make_line(
    user: str,
    password: str,
    domain: str,
    quota: Quota | None,
    home: str = "",
    mail: str = "",
    homes: str = "",
    conditions: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Line | None:
    """One account; None for what is no address, and ``domain`` where there is none. ``mail``: as Dovecot says it,
    "maildir:~/Maildir". Home and mail count below ``homes`` only: Unreadable for others, not there without it.
    ``conditions``: Dovecot's extra fields, of which conditions on logins count; ``more``: other fields of the account
    (directory.told)."""
    try:
        address = str(account_address(user if "@" in user else f"{user}@{domain}"))
    except ClientError:
        log.event("directory.line", "warning", user=user, why="no usable address")
        return None
    path = mail.removeprefix("maildir:").partition(":")[0]
    path = path.replace("%h", home).replace("%{home}", home)
    if path.startswith("~/"):
        path = home + path[1:]
    if not homes:
        home = path = ""
    for place in (home, path):
        if place and not os.path.normpath(place).startswith(homes.rstrip("/") + "/"):
            raise Unreadable(f"{address}: {place} is not below {homes} ([store] homes)")
    stored = password if password.startswith("{") else "{CRYPT}" + password
    if conditions and access.has_no_password(conditions):
        stored = UNUSABLE
    path = path.rstrip("/") if path.startswith("/") else ""
    login = access.conditions(conditions or {})
    return Line(address, stored, quota, home.rstrip("/"), path, *login, told=told(address, more or {}))


def parse_quota(rule: Any) -> Quota | None:
    """Dovecot's quota_rule ("*:storage=1G", in KiB without a unit; "*:bytes=1048576") or quota_storage_size ("1G", in
    octets without one). None where it says nothing."""
    text = str(rule or "").strip()
    found = _QUOTA.search("quota_rule=" + text) if "=" in text else None
    if found is not None:
        return Quota(_octets(found.group(1), found.group(2) or "K"))
    found = re.search(r"(?:^\*:.*bytes=|^)(\d{1,18}) ?([KMGT]?)B?$", text, re.IGNORECASE)
    return Quota(_octets(found.group(1), found.group(2))) if found is not None else None


def _octets(number: str, unit: str) -> int:
    return int(number) * int(1024 ** (" KMGT".index(unit.upper()) if unit else 0))


def parse(text: str, domain: str, homes: str = "") -> Iterator[Line]:
    """``user:{SCHEME}hash:uid:gid:gecos:home:shell:extra``; users without an @ get ``domain``. Lines that are no
    accounts are left out. Beside Dovecot's extra fields there may be those of an account, as
    ``fastmail_forward=a@x.example``, with %20 for a blank."""
    for line in text.splitlines():
        parts = [*line.split(":", 7), *[""] * 7]
        if not line.strip() or line.startswith("#") or line.count(":") < 1 or not parts[0].strip():
            continue
        found = _QUOTA.search(parts[7])
        quota = Quota(_octets(found.group(1), found.group(2) or "K")) if found is not None else None
        extra = dict(word.partition("=")[::2] for word in parts[7].split())
        more = {name.removeprefix(OURS): unquote(value) for name, value in extra.items() if name.startswith(OURS)}
        home = extra.get("userdb_home") or parts[5]
        mail = extra.get("userdb_mail", "")
        made = make_line(parts[0].strip().lower(), parts[1], domain, quota, home, mail, homes, extra, more)
        if made is not None:
            yield made


class PasswdFile:
    """A file, read again when it has changed."""

    every = LOOK

    def __init__(self, path: str, domain: str, homes: str = "") -> None:
        self.name = path
        self._domain, self._homes = domain, homes
        self._state: tuple[int, int, int] | None = None

    def forget(self) -> None:
        self._state = None

    async def read(self) -> Content | None:
        return await asyncio.get_running_loop().run_in_executor(None, self._read)

    def _read(self) -> Content | None:
        try:
            found = os.stat(self.name)
            state = (found.st_mtime_ns, found.st_size, found.st_ino)
            if state == self._state:
                return None
            with open(self.name, encoding="utf-8") as file:
                lines = {line.address: line for line in parse(file.read(), self._domain, self._homes)}
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(str(error)) from None
        if lines:
            self._state = state
        return Content(lines)


class Sql:
    """Tables of a database. ``accounts`` selects address, password and, if there is a third column, quota in octets;
    ``aliases`` selects address and targets, several rows or commas for several targets. Columns called allow_nets,
    nologin, reason, proxy and host are conditions on logins; columns called as fields of accounts (name, forward,
    suspended ...) are those."""

    def __init__(self, url: str, accounts: str, aliases: str, domain: str, every: float) -> None:
        self._database = Database(url)
        self._statements = [accounts, aliases] if aliases else [accounts]
        self._domain = domain
        self.every = every
        self.name = self._database.name
        self._said: Content | None = None
        if not accounts:
            raise ConfigError("sql_accounts is needed: a query for address and password")

    def forget(self) -> None:
        self._said = None

    async def read(self) -> Content | None:
        tables = await self._database.select(self._statements)
        names = tables[1].rows if len(tables) > 1 else None
        columns = [str(name).lower() for name in tables[0].names]
        rows = tables[0].rows
        return await asyncio.get_running_loop().run_in_executor(None, self._content, columns, rows, names)

    def _content(self, columns: Sequence[str], rows: Sequence[Any], names: Sequence[Any] | None) -> Content | None:
        """Off the loop: there may be a hundred thousand."""
        out = Content()
        for row in rows:
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
        if names is not None:
            out.aliases = {}
            for address, targets in names:
                found = [one.strip().lower() for one in str(targets).split(",") if one.strip()]
                out.aliases.setdefault(str(address).strip().lower(), []).extend(found)
        if self._said == out:
            return None
        self._said = out
        return out


class AccountSync:
    """Brings the directory up to a source, again and again; one for each source, in the first worker. ``name``: what
    domains call the source, empty for that of the [directory] section."""

    def __init__(self, directory: LocalDirectory, source: Source, name: str = "") -> None:
        self._directory = directory
        self._source = source
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._away = False
        self._looked = -1  # the directory's ``changes`` when its domains were looked at
        self._domains: frozenset[str] = frozenset()

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
        mark = self._directory.uncertain_mark(self._name)  # before the domains: one that comes later has another mark
        await loop.run_in_executor(None, self._look_at_domains)
        if self._name and not self._domains:
            return 0  # nobody asks for it
        try:
            content = await self._source.read()
            if content is not None and not content.lines and await loop.run_in_executor(None, self._has_accounts):
                self._source.forget()  # or the next look would find nothing new, and so nothing wrong
                raise Unreadable("it has no accounts any more")
        except Unreadable as error:
            if not self._away:
                log.event(
                    "directory.unreadable", "error", source=self._source.name, why=error, then="accounts stay as known"
                )
            self._away = True
            if not mark:
                await loop.run_in_executor(None, self._directory.set_uncertain, self._name)
            return -1
        count = 0
        if content is not None:
            try:
                count = await loop.run_in_executor(None, apply, self._directory, content, self._name)
            except BaseException:
                self._source.forget()  # what was not brought over is read again
                raise
        if self._away:
            self._away = False
            log.event("directory.readable", source=self._source.name)
        if mark:
            await loop.run_in_executor(None, self._directory.settle, self._name, mark)
        if count and content is not None:
            log.event("directory.followed", source=self._source.name, accounts=len(content.lines), changed=count)
        return count

    def _look_at_domains(self) -> None:
        """Whether the source has other domains than at the last look: then all that it says counts again."""
        changes = self._directory.changes
        if changes == self._looked:
            return
        domains = self._directory.names(self._name)
        if domains != self._domains:
            self._domains = domains
            self._source.forget()
        self._looked = changes

    def _has_accounts(self) -> bool:
        return any(True for _ in self._directory.accounts_from(self._name))


def apply(directory: LocalDirectory, content: Content, name: str = "") -> int:
    """Make the domains of a source what it says; how much changed. Waits for the disk. What the source says of other
    domains is left out; the source of the [directory] section adds domains that are not there."""

    def mine(address: str) -> bool:
        return directory.is_from(name, address)

    lines = [line for line in content.lines.values() if mine(line.address)]
    if len(lines) < len(content.lines):
        others = [line.address for line in content.lines.values() if not mine(line.address)]
        why = "their domains have their accounts elsewhere: domain set source="
        log.event("directory.others", "warning", source=name, accounts=len(others), such_as=others[0], why=why)
    there = {comparable(line.address) for line in lines}
    known = directory.accounts_from(name)
    gone = [one.address for one in known if one.enabled and comparable(one.address) not in there]
    aliases = {one: targets for one, targets in (content.aliases or {}).items() if _is_usable(one) and mine(one)}
    aliases = {one: targets for one, targets in aliases.items() if not _is_other_name(directory, one)}
    for domain in sorted({domain_of(address) for address in aliases}):
        if domain and not directory.is_local(domain):
            directory.add_domain(domain)
    count = bring_lines(directory, lines, gone, name)
    if content.aliases is not None:
        count += directory.replace_aliases({a: t for a, t in aliases.items() if comparable(a) not in there}, name)
    if content.groups is not None:
        groups = {one: members for one, members in content.groups.items() if mine(one)}
        count += directory.replace_groups(groups, name)
    return count


def _is_usable(alias: str) -> bool:
    """True if it can be an alias, or a catch-all (``@domain``). One that cannot would stop all that the source says."""
    try:
        Address.parse(f"all{alias}" if alias.startswith("@") else alias)
        domain_name(domain_of(alias))
    except ClientError:
        log.event("directory.line", "warning", user=alias[:100], why="no usable address of an alias")
        return False
    return True


def _is_other_name(directory: LocalDirectory, address: str) -> bool:
    """Is it an address of another name of a domain? Such a name has no addresses of its own."""
    found = directory.domain(domain_of(address))
    return found is not None and bool(found.alias_of)


def bring_lines(directory: LocalDirectory, lines: Sequence[Line], gone: Sequence[str], name: str = "") -> int:
    """Accounts as the source of this name has them now, and some that it has no more; how many changed. Waits for the
    disk."""
    if name:
        lines = [replace(line, told=within(line.told, lambda one: directory.is_from(name, one))) for line in lines]
    changed = [line for line in lines if not _same(_known(directory, line.address), line)]
    away = [address for address in gone if (record := _known(directory, address)) is not None and record.enabled]
    if changed or away:
        directory.bring(changed, away)
    return len(changed) + len(away)


def _known(directory: LocalDirectory, address: str) -> AccountRecord | None:
    """None for a damaged row too, which the source makes good."""
    with suppress(DamagedAccount):
        return directory.account(address)
    return None


def _same(record: AccountRecord | None, line: Line) -> bool:
    if record is None or not record.enabled or (line.quota is not None and record.quota != line.quota):
        return False
    if line.told and fields.changed(record, dict(counting(line.told, record))) != record:
        return False
    return (record.password, record.home, record.maildir, record.nets, record.nologin) == (
        line.password,
        line.home,
        line.maildir,
        line.nets,
        line.nologin,
    )
