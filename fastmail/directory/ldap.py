"""Accounts of an LDAP directory (RFC 4511), followed like those of a database.

An entry is an account: its first mail address, what its password attribute says ({SCHEME}hash), and where the directory
has them a quota, conditions on logins, and further addresses, which become aliases. All entries are read a page at a
time (RFC 2696), so the login that is used must be allowed to read the password attribute; without TLS it is not sent
except on this machine. Whoever logs in or gets mail is looked up at that moment besides (``lookup``), so that a new
account counts at once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastmail.directory.database import PATIENCE, Unreadable
from fastmail.directory.external import Content, make_line
from fastmail.directory.interface import Line
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
    nets: str = ""
    nologin: str = ""
    proxy: str = ""


class Ldap:
    """See external.Source and live.Finder."""

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
        for entry in self._entries(self._settings.filter):
            line, addresses = self._line(entry["raw_attributes"])
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

    def _line(self, values: Mapping[str, Sequence[bytes]]) -> tuple[Line | None, list[str]]:
        """The account of an entry, and all of its addresses."""
        settings = self._settings
        addresses = [_text(one).strip().lower() for one in values.get(settings.address, [])]
        secrets = [_text(one) for one in values.get(settings.secret, [])]
        if not addresses or not secrets:
            return None, []
        limit = _text(values[settings.quota][0]) if values.get(settings.quota) else ""
        quota = Quota(int(limit)) if limit.isdigit() and len(limit) < 19 else None
        fields = {}
        if settings.nets and values.get(settings.nets):
            fields["allow_nets"] = ",".join(_text(one) for one in values[settings.nets])
        for name, attribute in (("nologin", settings.nologin), ("proxy", settings.proxy)):
            found = [_text(one) for one in values.get(attribute, [])] if attribute else []
            if any(one.upper() != "FALSE" for one in found):  # RFC 4517 3.3.3: a Boolean is TRUE or FALSE
                fields[name] = "yes"
        return make_line(addresses[0], secrets[0], self._domain, quota, fields=fields), addresses

    async def lookup(self, user: str) -> Line | None:
        """The account of a login or an address, where it is kept: also by one of its further addresses."""
        if not user or any(ord(c) < 32 or ord(c) == 127 for c in user):
            return None
        return await asyncio.get_running_loop().run_in_executor(None, self._lookup, user)

    def _lookup(self, user: str) -> Line | None:
        local, _, domain = user.rpartition("@")
        names = [user, local] if local and domain == self._domain else [user]
        asked = "".join(f"({self._settings.address}={escaped(name)})" for name in names)
        filter_ = self._settings.filter
        filter_ = filter_ if filter_.startswith("(") else f"({filter_})"
        for entry in self._entries(f"(&{filter_}(|{asked}))"):
            line, addresses = self._line(entry["raw_attributes"])
            if line is not None and any(name in addresses for name in names):
                return line
        return None

    async def close(self) -> None:
        """Nothing is kept open between questions."""

    def _entries(self, filter_: str) -> list[dict[str, Any]]:
        try:
            import ldap3
            from ldap3.core.exceptions import LDAPException
        except ImportError:
            raise Unreadable("ldap3 is not installed: pip install 'fastmail[ldap]'") from None
        settings = self._settings
        more = (settings.quota, settings.nets, settings.nologin, settings.proxy)
        every = (settings.address, settings.secret, *more)
        names = [one for one in every if one]
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
                    settings.base, filter_, attributes=names, paged_size=PAGE, generator=True
                )
                return [entry for entry in found if entry.get("type") == "searchResEntry"]
        except (LDAPException, OSError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None


def escaped(text: str) -> str:
    """A value inside a filter (RFC 4515 3)."""
    plain = (c if c.isascii() and c not in "\\*()\0" else None for c in text)
    return "".join(c or "".join(f"\\{octet:02x}" for octet in text[at].encode()) for at, c in enumerate(plain))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
