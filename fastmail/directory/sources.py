"""Which source of accounts the configuration names."""

import os
from collections.abc import Callable
from typing import Any

from fastmail.directory import ldap
from fastmail.directory.external import PasswdFile, Source, Sql
from fastmail.directory.live import Finder
from fastmail.directory.queries import DovecotSql, Queries
from fastmail.model import secret
from fastmail.model.errors import ConfigError


def finder(settings: Any, domain: str, homes: str = "", base: str = "") -> Finder | None:
    """Where accounts are looked up when somebody asks for them; None where they are only followed."""
    if settings.ldap and not settings.sql and not settings.passwd_file:
        return ldap.Ldap(_ldap(settings, base), domain, settings.sql_every)
    return _queries(settings, domain, homes)


def binder(settings: Any, base: str = "") -> Callable[[str, str], bool] | None:
    """Who checks passwords that an LDAP directory knows (``{LDAP}name``, password); None where it gives hashes."""
    if not settings.ldap or not settings.ldap_bind_as_user:
        return None
    return ldap.Ldap(_ldap(settings, base), "", settings.sql_every).check


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
        if settings.sql_accounts:
            raise ConfigError("sql_accounts and sql_password_query: give one of them")
        return _queries(settings, domain, homes)
    if settings.sql:
        return Sql(settings.sql, settings.sql_accounts, settings.sql_aliases, domain, settings.sql_every)
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
    )
