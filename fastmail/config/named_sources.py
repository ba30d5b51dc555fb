"""Checks of [[source]] sections: what is wrong with each, in words for the administrator."""

import os
import re
from collections.abc import Iterator

from fastmail.config.settings import Config
from fastmail.directory import sources
from fastmail.directory.told import RIGHTS
from fastmail.model import place
from fastmail.model.errors import ConfigError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
TAKEN = ("local", "default")  # words that a domain's field source has for others


def faults(config: Config) -> Iterator[tuple[int, str, str]]:
    """(which source, which key, what is wrong) for each fault. Paths are made absolute."""
    names: set[str] = set()
    for number, one in enumerate(config.source):
        if _NAME.fullmatch(one.name) is None or one.name in TAKEN:
            what = f"name {one.name!r} must be of a-z, 0-9 and hyphens, 32 characters at most, and not {TAKEN[0]}"
            yield number, "name", what
        if one.name in names:
            yield number, "name", f"two sources are called {one.name!r}: give them a name each"
        names.add(one.name)
        if one.domain:
            try:
                one.domain = place.host_name(one.domain)
            except ValueError as error:
                yield number, "domain", f"domain {error}"
        if one.sql.startswith("sqlite:"):
            one.sql = "sqlite:" + os.path.join(config.base, one.sql.removeprefix("sqlite:"))
        try:
            found = sources.source(one, one.domain or config.auth.default_domain, config.base, config.store.homes)
            if found is None:
                yield number, "name", f"source {one.name} needs one of passwd_file, sql and ldap"
        except ConfigError as error:
            yield number, str(error).partition(" ")[0].rstrip(":"), f"source {one.name}: {error}"
        for right in sorted(RIGHTS & {word.partition("=")[0].strip() for word in one.ldap_fields}):
            what = f"ldap_fields: {right} is no field for a [[source]]: use `fastmail account set`"
            yield number, "ldap_fields", what
        if one.passwd_file:
            one.passwd_file = os.path.join(config.base, one.passwd_file)
