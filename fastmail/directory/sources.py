"""Which sources of accounts the configuration names: that of the ``[directory]`` section, and those of ``[[source]]``
sections, which have the same settings, for the domains that name them (directory.origins)."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastmail.directory import ldap
from fastmail.directory.database import Unreadable
from fastmail.directory.external import AccountSync, PasswdFile, Source
from fastmail.directory.live import Finder, Live, LiveByDomain
from fastmail.directory.local import LocalDirectory
from fastmail.directory.origins import domain_of
from fastmail.directory.queries import DovecotSql, Queries
from fastmail.directory.records import LOCAL
from fastmail.directory.sql import Sql, Statements
from fastmail.directory.told import CATCH_ALL, FIELDS, OF_DOMAIN, OF_LIST
from fastmail.model import secret
from fastmail.model.errors import ConfigError
from fastmail.telemetry import log


@dataclass(frozen=True, slots=True)
class Origin:
    """A source of the configuration. ``name``: what domains call it, empty for the [directory] section; ``domain``:
    completes users without one; ``base``: where relative files lie; ``homes``: see ``source``."""

    name: str
    settings: Any
    domain: str
    base: str = ""
    homes: str = ""


def origins(default: Any, named: Iterable[Any], domain: str, base: str = "", homes: str = "") -> list[Origin]:
    """The sources that there are. ``default``: the [directory] section, which perhaps names none; ``domain``:
    [auth] default_domain."""
    found = [Origin("", default, domain, base, homes)] if default.passwd_file or default.sql or default.ldap else []
    return found + [Origin(one.name, one, one.domain or domain, base, homes) for one in named]


def account_syncs(directory: LocalDirectory, there: Sequence[Origin]) -> list[AccountSync]:
    """Who brings the directory up to each source. The log names sources that domains have and the configuration has
    not."""
    known = {LOCAL, *(one.name for one in there)}
    for name in sorted({one.source for one in directory.each_domain() if one.source} - known):
        domains = sorted(directory.names(name))
        then = "known accounts stay, nobody is unknown: write [[source]], or domain set --source local"
        log.event("directory.no_source", "error", source=name, domains=len(domains), such_as=domains[0], then=then)
    out = []
    for one in there:
        found = source(one.settings, one.domain, one.base, one.homes)
        assert found is not None  # the configuration was checked
        out.append(AccountSync(directory, found, one.name))
    return out


def live(directory: LocalDirectory, there: Iterable[Origin]) -> LiveByDomain | None:
    """Who is asked when somebody asks for an account; None where that is nobody."""
    asked = {}
    for one in there:
        found = finder(one.settings, one.domain, one.homes, one.base)
        if found is not None:
            asked[one.name] = Live(directory, found, one.settings.sql_every, one.name)
    return LiveByDomain(directory, asked) if asked else None


class Domains(Protocol):
    """What ``Binders`` asks of the directory."""

    def source_of(self, domain: str) -> str: ...


class Binders:
    """Who checks passwords that LDAP directories know; see auth.verifier.Binder. ``asked``: the directories by the
    names of their sources; ``known``: the names of all sources."""

    def __init__(self, directory: Domains, asked: Mapping[str, ldap.Ldap], known: Iterable[str]) -> None:
        self._directory, self._asked, self._known = directory, asked, frozenset(known)

    async def check(self, address: str, stored: str, password: str) -> bool:
        """Is it the password of the account with this row (``{LDAP}name``)? TemporaryError where nobody says: only the
        source of the account's domain may, whatever name another one has."""
        name = self._directory.source_of(domain_of(address))
        found = self._asked.get(name)
        if found is not None:
            return await found.bind(stored, password)
        if name and name != LOCAL and name not in self._known:
            raise Unreadable(f"the source {name} is not in the configuration")
        return False

    def close(self) -> None:
        """Let go of threads."""
        for one in self._asked.values():
            one.end()


def binders(directory: Domains, there: Iterable[Origin]) -> Binders:
    """Those of the sources that check passwords by binding."""
    sources = list(there)
    asked = {
        one.name: ldap.Ldap(_ldap(one.settings, one.base), "", one.settings.sql_every)
        for one in sources
        if one.settings.ldap and one.settings.ldap_bind_as_user
    }
    return Binders(directory, asked, [one.name for one in sources])


def finder(settings: Any, domain: str, homes: str = "", base: str = "") -> Finder | None:
    """Where accounts are looked up when somebody asks for them; None where they are only followed."""
    if settings.ldap and not settings.sql and not settings.passwd_file:
        return ldap.Ldap(_ldap(settings, base), domain, settings.sql_every)
    return _queries(settings, domain, homes)


def _queries(settings: Any, domain: str, homes: str) -> DovecotSql | None:
    if not settings.sql or not settings.sql_password_query:
        return None
    queries = Queries(
        settings.sql_password_query, settings.sql_user_query, settings.sql_iterate_query, settings.sql_scheme
    )
    return DovecotSql(settings.sql, queries, domain, settings.sql_every, homes)


def source(settings: Any, domain: str, base: str = "", homes: str = "") -> Source | None:
    """From the [directory] section; ConfigError for what cannot work. ``base``: where relative password files lie;
    ``homes``: the directory that homes must be in, empty where they do not count."""
    named = [name for name in ("passwd_file", "sql", "ldap") if getattr(settings, name)]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)}: give one of them")
    if settings.passwd_file:
        return PasswdFile(settings.passwd_file, domain, homes)
    if settings.sql and settings.sql_password_query:
        for key in ("sql_accounts", "sql_aliases", "sql_domains", "sql_lists", "sql_members"):
            if getattr(settings, key):
                raise ConfigError(f"{key} and sql_password_query: give one of them")
        return _queries(settings, domain, homes)
    if settings.sql:
        asked = Statements(
            settings.sql_accounts,
            settings.sql_aliases,
            settings.sql_domains,
            settings.sql_lists,
            settings.sql_members,
        )
        return Sql(settings.sql, asked, domain, settings.sql_every)
    if settings.ldap:
        return ldap.Ldap(_ldap(settings, base), domain, settings.sql_every)
    return None


def _ldap(settings: Any, base: str) -> ldap.Settings:
    password = ""
    if settings.ldap_password_file:
        try:
            password = secret.first_line(os.path.join(base, settings.ldap_password_file))
        except OSError as error:
            raise ConfigError(f"ldap_password_file: cannot read it: {error.strerror}") from None
    return ldap.Settings(
        settings.ldap,
        settings.ldap_bind,
        password,
        settings.ldap_base,
        settings.ldap_filter,
        settings.ldap_address,
        settings.ldap_password,
        settings.ldap_quota,
        settings.ldap_nets,
        settings.ldap_nologin,
        settings.ldap_proxy,
        settings.ldap_bind_as_user,
        os.path.join(base, settings.ldap_ca) if settings.ldap_ca else "",
        settings.ldap_groups,
        settings.ldap_group_name,
        settings.ldap_group_member,
        settings.ldap_nested_groups,
        _ldap_fields("ldap_fields", settings.ldap_fields, FIELDS),
        settings.ldap_domains,
        settings.ldap_domain_name,
        _ldap_fields("ldap_domain_fields", settings.ldap_domain_fields, OF_DOMAIN | {CATCH_ALL}),
        settings.ldap_lists,
        settings.ldap_list_address,
        tuple(settings.ldap_list_members),
        _ldap_fields("ldap_list_fields", settings.ldap_list_fields, OF_LIST),
    )


def _ldap_fields(key: str, words: Sequence[str], allowed: Collection[str]) -> tuple[tuple[str, str], ...]:
    """(field, attribute) of each ``field=attribute``. ConfigError for a field that is none of ``allowed``."""
    out = []
    for word in words:
        name, found, attribute = (part.strip() for part in word.partition("="))
        if name not in allowed or not found or not attribute:
            there = ", ".join(sorted(allowed))
            raise ConfigError(f'{key}: {word!r}: "field=attribute" is expected, field one of {there}')
        out.append((name, attribute))
    return tuple(out)
