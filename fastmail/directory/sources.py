"""Which source of accounts the configuration names."""

import os
from typing import Any

from fastmail.directory import ldap
from fastmail.directory.external import PasswdFile, Source, Sql
from fastmail.model.errors import ConfigError


def source(settings: Any, domain: str, base: str = "") -> Source | None:
    """From the [directory] section; ConfigError for what cannot work. ``base``: where relative password files lie."""
    named = [name for name in ("passwd_file", "sql", "ldap") if getattr(settings, name)]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)}: give one of them")
    if settings.passwd_file:
        return PasswdFile(settings.passwd_file, domain)
    if settings.sql:
        return Sql(settings.sql, settings.sql_accounts, settings.sql_aliases, domain, settings.sql_every)
    if settings.ldap:
        return ldap.Ldap(_ldap(settings, base), domain, settings.sql_every)
    return None


def _ldap(settings: Any, base: str) -> ldap.Settings:
    password = ""
    if settings.ldap_password_file:
        try:
            with open(os.path.join(base, settings.ldap_password_file), encoding="utf-8") as file:
                password = file.readline().rstrip("\r\n")
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
    )
