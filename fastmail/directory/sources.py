"""Which sources of accounts the configuration names: that of the ``[directory]`` section, and those of ``[[source]]``
sections, which have the same settings, for the domains that name them (directory.origins)."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastmail.directory import ldap
from fastmail.directory.database import Database, Unreadable
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

# Settings with queries: for the tables of directory.sql, in their order there; and beside sql_password_query.
OF_SQL = ("sql_accounts", "sql_aliases", "sql_domains", "sql_lists", "sql_members")
OF_DOVECOT = ("sql_password_query", "sql_user_query", "sql_iterate_query")
# what to use in place of them where accounts come from elsewhere
OF_LDAP = {
    "sql_accounts": "ldap_filter says which entries are accounts",
    "sql_aliases": "further values of ldap_address are aliases",
    "sql_domains": "ldap_domains says which entries are domains",
    "sql_lists": "ldap_lists says which entries are mailing lists",
    "sql_members": "ldap_list_members says where members are",
}
KEPT_HERE = {
    "sql_aliases": "aliases of its accounts are kept here, by `fastmail alias`",
    "sql_domains": "their domains are kept here, by `fastmail domain`",
    "sql_lists": "mailing lists are kept here, by `fastmail list`",
    "sql_members": "mailing lists are kept here, by `fastmail list`",
}


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


def _queries(settings: Any, domain: str, homes: str, beside: Sql | None = None) -> DovecotSql | None:
    if not settings.sql or not settings.sql_password_query:
        return None
    queries = Queries(
        settings.sql_password_query, settings.sql_user_query, settings.sql_iterate_query, settings.sql_scheme
    )
    return DovecotSql(settings.sql, queries, domain, settings.sql_every, homes, beside)


def source(settings: Any, domain: str, base: str = "", homes: str = "") -> Source | None:
    """From the [directory] section; ConfigError for what cannot work. ``base``: where relative password files lie;
    ``homes``: the directory that homes must be in, empty where they do not count."""
    named = [name for name in ("passwd_file", "sql", "ldap") if getattr(settings, name)]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)}: give one of them")
    if settings.sql:
        return _sql(settings, domain, homes)
    for key in (*OF_SQL, *OF_DOVECOT):
        if named and getattr(settings, key):
            what = OF_LDAP.get(key, "") if settings.ldap else KEPT_HERE.get(key, "")
            raise ConfigError(f"{key} is for sql, which is not set{what and f': {what}'}")
    if settings.passwd_file:
        return PasswdFile(settings.passwd_file, domain, homes)
    return ldap.Ldap(_ldap(settings, base), domain, settings.sql_every) if settings.ldap else None


def _sql(settings: Any, domain: str, homes: str) -> Source:
    """Accounts by a query of ours or by those of Dovecot, and the rest by queries of ours."""
    Database(settings.sql)  # a URL that is none is said first
    asked = Statements(*(getattr(settings, key) for key in OF_SQL))
    if not settings.sql_password_query:
        for key in OF_DOVECOT:
            if getattr(settings, key):
                raise ConfigError(f"{key} needs sql_password_query")
        if not asked.accounts:
            raise ConfigError("sql_accounts is needed, a query for address and password; or sql_password_query")
        return Sql(settings.sql, asked, domain, settings.sql_every)
    if asked.accounts:
        raise ConfigError("sql_accounts and sql_password_query: give one of them; the other queries go with either")
    # of its own: it gives on members as they come, which a connection that is kept cannot
    beside = Sql(settings.sql, asked, domain, settings.sql_every) if asked != Statements() else None
    found = _queries(settings, domain, homes, beside)
    assert found is not None
    return found


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
