"""Accounts that another program keeps: Dovecot's passwd-file, tables of a database (directory.sql), or an LDAP
directory (directory.ldap), followed while the server runs; and with the latter two its domains and mailing lists.

What the source says is brought into the built-in directory, which every worker reads: new accounts, changed passwords,
quotas and aliases take effect within seconds (a file) or at the next look (a database). An account, a domain or a list
that is gone from the source is disabled, not removed; its mail stays, and it is back when its row is. A source that
cannot be read, or has suddenly become empty, changes nothing, the log says so, and until it is back an address that is
not known is a temporary failure: an outage is never "no such user". Several sources may be followed, each for domains
of its own (directory.origins), one not waiting for another.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import unquote

from fastmail.directory import access, fields, once
from fastmail.directory.database import Unreadable
from fastmail.directory.following import said_of
from fastmail.directory.incoming import Incoming
from fastmail.directory.interface import AccountRecord, Line
from fastmail.directory.local import LocalDirectory
from fastmail.directory.origins import domain_of
from fastmail.directory.told import CATCH_ALL, Told, counting, told, within
from fastmail.model.address import Address, account_address, comparable, domain_name, refuse_unseen
from fastmail.model.errors import ClientError, DamagedAccount
from fastmail.model.quota import Quota
from fastmail.telemetry import log

OURS = "fastmail_"  # in front of our fields among Dovecot's extra fields
UNUSABLE = "{NONE}!"  # a password that none is right for
LIST = "a list"
LOOK = 2.0  # s between two looks at a file's times
_QUOTA = re.compile(r"(?:userdb_)?quota_rule\d{0,3}=\*:[^=\s]*storage=(\d{1,18})([KMGT]?)", re.IGNORECASE)


@dataclass(slots=True)
class Content:
    """All that a source says; ``aliases``, ``groups`` (members by name), ``domains`` and ``lists`` (fields by name)
    None where it says nothing of them. ``members``: those of the lists. ``every``: False where the source names nobody
    by itself, because accounts are asked for one by one (directory.live): who is not in ``lines`` may be there."""

    lines: dict[str, Line] = field(default_factory=dict)
    every: bool = True
    aliases: dict[str, list[str]] | None = None
    groups: dict[str, list[str]] | None = None
    domains: dict[str, Told] | None = None
    lists: dict[str, Told] | None = None
    members: Incoming | None = None

    def add_domain(self, name: str, given: Mapping[str, Any]) -> None:
        """Note what is said of a domain. Its catch-all is an alias; an empty one says that the source has none."""
        self.domains = self.domains if self.domains is not None else {}
        self.domains[name] = told(name, {key: value for key, value in given.items() if key != CATCH_ALL}, "domain")
        if CATCH_ALL not in given:
            return
        self.aliases = self.aliases if self.aliases is not None else {}
        caught = given[CATCH_ALL] or ""
        if isinstance(caught, bytes | bytearray):
            caught = bytes(caught).decode("utf-8", "replace")
        found = [one.strip().lower() for one in str(caught).split(",") if one.strip()]
        if found:
            self.aliases.setdefault(f"@{name}", []).extend(found)

    def close(self) -> None:
        """Let go of the members; the rest stays, to be compared with what is read later."""
        if self.members is not None:
            self.members.close()


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
        once.event("directory.line", user=user[:100], why="no usable address")
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
    for line in text.replace("\r\n", "\n").split("\n"):  # a name may have what Unicode takes for the end of a line
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
            if content is not None and (gone := await loop.run_in_executor(None, self._suddenly_without, content)):
                self._source.forget()  # or the next look would find nothing new, and so nothing wrong
                content.close()
                raise Unreadable(f"it has no {gone} any more")
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
            finally:
                content.close()
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

    def _suddenly_without(self, content: Content) -> str:
        """What the source had, and has nothing of now; empty where there is no such thing."""
        place, name = self._directory, self._name
        if content.every and not content.lines and any(True for _ in place.accounts_from(name)):
            return "accounts"
        domains = (one for one in place.each_domain() if one.said and place.is_from(name, f"@{one.name}"))
        if content.domains is not None and not content.domains and any(domains):
            return "domains"
        lists = (one for one in place.each_list() if one.said and place.is_from(name, one.address))
        return "mailing lists" if content.lists is not None and not content.lists and any(lists) else ""


def apply(directory: LocalDirectory, content: Content, name: str = "") -> int:
    """Make the domains of a source what it says; how much changed. Waits for the disk. What the source says of other
    domains is left out; the source of the [directory] section adds domains that are not there."""

    def mine(address: str) -> bool:
        return directory.is_from(name, address)

    count = _bring_domains(directory, content, name)
    lines = [line for line in content.lines.values() if mine(line.address)]
    if len(lines) < len(content.lines):
        others = [line.address for line in content.lines.values() if not mine(line.address)]
        why = "their domains have their accounts elsewhere: domain set source="
        once.event("directory.others", source=name, accounts=len(others), such_as=others[0], why=why)
    there = {comparable(line.address) for line in lines}
    known = directory.accounts_from(name) if content.every else ()
    gone = [one.address for one in known if one.enabled and comparable(one.address) not in there]
    aliases = {one: targets for one, targets in (content.aliases or {}).items() if _is_usable(one) and mine(one)}
    aliases = {one: targets for one, targets in aliases.items() if not _is_other_name(directory, one)}
    named = {one: told for one, told in (content.lists or {}).items() if _is_usable(one, LIST) and mine(one)}
    lists = {account_address(one).key: told for one, told in named.items()}
    for domain in sorted({domain_of(address) for address in (*aliases, *lists)}):
        if domain and not directory.is_local(domain):
            directory.add_domain(domain)
    count += bring_lines(directory, lines, gone, name)
    if content.aliases is not None:
        plain = {a: t for a, t in aliases.items() if comparable(a) not in there and a not in lists}
        count += directory.replace_aliases(plain, name)
    if content.groups is not None:
        groups = {one: members for one, members in content.groups.items() if mine(one)}
        count += directory.replace_groups(groups, name)
    if content.lists is not None and content.members is not None:
        count += directory.bring_lists(lists, content.members, name)
    directory.release(name, content.domains is None, content.lists is None)
    return count


def _bring_domains(directory: LocalDirectory, content: Content, name: str) -> int:
    """Domains come first: they say what the addresses in them may be."""
    if content.domains is None:
        return 0
    domains = {one: told for one, told in content.domains.items() if _is_usable(f"@{one}", "a domain")}
    if name:  # it may not take a domain of others for another name of its own, nor the other way round
        others = [one for one, told in domains.items() if not _is_within(directory, one, told, name)]
        for one in others:
            once.event("directory.left_out", address=one, why="the domain is no domain of this source")
            del domains[one]
    return directory.bring_domains(domains, name)


def _is_within(directory: LocalDirectory, domain: str, told: Told, name: str) -> bool:
    main = dict(told).get("alias_of", "")
    return directory.is_from(name, f"@{domain}") and (not main or directory.is_from(name, f"@{main}"))


def _is_usable(name: str, what: str = "an alias") -> bool:
    """True if it can be an address, or a domain or catch-all (``@domain``). One that cannot would stop all that the
    source says."""
    try:
        if what == LIST:
            account_address(name)
        refuse_unseen(Address.parse(f"all{name}" if name.startswith("@") else name).key)
        domain_name(domain_of(name))
    except ClientError:
        once.event("directory.line", user=name[:100], why=f"no usable name of {what}")
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
    if record.said != said_of(line):
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
