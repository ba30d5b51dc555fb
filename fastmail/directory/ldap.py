"""Accounts of an LDAP directory (RFC 4511), followed like those of a database.

An entry is an account: its first mail address, what its password attribute says ({SCHEME}hash), and where the directory
has them a quota and further addresses, which become aliases. All entries are read a page at a time (RFC 2696), so the
login that is used must be allowed to read the password attribute; without TLS it is not sent except on this machine.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastmail.directory.database import PATIENCE, Unreadable
from fastmail.directory.external import Content, make_line
from fastmail.model.errors import ConfigError
from fastmail.model.quota import Quota

PAGE = 500


@dataclass(frozen=True, slots=True)
class Settings:
    """``url``: ldap or ldaps; ``bind``, ``password``: who asks; attributes by their names, empty for none."""

    url: str
    bind: str = ""
    password: str = ""
    base: str = ""
    filter: str = "(mail=*)"
    address: str = "mail"
    secret: str = "userPassword"
    quota: str = ""


class Ldap:
    """See external.Source."""

    def __init__(self, settings: Settings, domain: str, every: float) -> None:
        self._settings = settings
        self._domain = domain
        self._said: Content | None = None
        self.every = every
        self.name = settings.url
        place = urlsplit(settings.url)
        if place.scheme not in ("ldap", "ldaps") or not place.hostname:
            raise ConfigError('ldap must be "ldap://host" or "ldaps://host", with a port perhaps')
        if not settings.base:
            raise ConfigError('ldap_base is needed, such as "ou=people,dc=example,dc=org"')
        self._here = place.hostname in ("127.0.0.1", "::1", "localhost")
        self._tls = place.scheme == "ldaps"

    async def read(self) -> Content | None:
        return await asyncio.get_running_loop().run_in_executor(None, self._read)

    def _read(self) -> Content | None:
        out = Content(aliases={})
        for entry in self._entries():
            values = entry["raw_attributes"]
            addresses = [_text(one).strip().lower() for one in values.get(self._settings.address, [])]
            secrets = [_text(one) for one in values.get(self._settings.secret, [])]
            if not addresses or not secrets:
                continue
            limit = _text(values[self._settings.quota][0]) if values.get(self._settings.quota) else ""
            quota = Quota(int(limit)) if limit.isdigit() else None
            line = make_line(addresses[0], secrets[0], self._domain, quota)
            if line is None:
                continue
            out.lines[line.address] = line
            for other in addresses[1:]:
                assert out.aliases is not None
                out.aliases.setdefault(other if "@" in other else f"{other}@{self._domain}", []).append(line.address)
        if self._said == out:
            return None
        self._said = out
        return out

    def _entries(self) -> list[dict[str, Any]]:
        try:
            import ldap3
            from ldap3.core.exceptions import LDAPException
        except ImportError:
            raise Unreadable("ldap3 is not installed: pip install 'fastmail[ldap]'") from None
        settings = self._settings
        names = [one for one in (settings.address, settings.secret, settings.quota) if one]
        how = ldap3.AUTO_BIND_NO_TLS if self._tls or self._here else ldap3.AUTO_BIND_TLS_BEFORE_BIND
        try:
            server = ldap3.Server(settings.url, get_info=ldap3.NONE, connect_timeout=int(PATIENCE))
            with ldap3.Connection(
                server,
                settings.bind or None,
                settings.password or None,
                auto_bind=how,
                read_only=True,
                raise_exceptions=True,
                receive_timeout=int(PATIENCE),
            ) as connection:
                found = connection.extend.standard.paged_search(
                    settings.base, settings.filter, attributes=names, paged_size=PAGE, generator=True
                )
                return [entry for entry in found if entry.get("type") == "searchResEntry"]
        except (LDAPException, OSError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
