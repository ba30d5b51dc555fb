"""Accounts of an LDAP directory (RFC 4511), followed like those of a database.

An entry is an account: its first mail address, what its password attribute says ({SCHEME}hash), and where the directory
has them a quota, conditions on logins, and further addresses, which become aliases. All entries are read a page at a
time (RFC 2696), so the login that is used must be allowed to read the password attribute; without TLS it is not sent
except on this machine. Active Directory, and others whose hashes nobody can read, check passwords themselves: with
``binds`` an account's row says by which name it binds, and ``check`` tries that (RFC 4513 5.1). Groups are read where
``groups`` says which entries they are. Whoever logs in or gets mail is looked up at that moment besides (``lookup``),
so that a new account counts at once.
"""

import asyncio
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastmail.directory.database import PATIENCE, Unreadable
from fastmail.directory.external import Content, make_line
from fastmail.directory.interface import Line
from fastmail.model.address import Address
from fastmail.model.errors import BadAddress, ConfigError
from fastmail.model.quota import Quota
from fastmail.telemetry import log

PAGE = 500
BINDS = "{LDAP}"  # in front of the name that an account binds by
REFUSED = (32, 34, 48, 49, 53)  # no such object, no such name, not so, wrong password (or expired), unwilling


@dataclass(frozen=True, slots=True)
class Settings:
    """``url``: ldap or ldaps; ``bind``, ``password``: who asks; attributes by their names, empty for none. ``binds``:
    passwords are checked by binding, over TLS whose certificate is of ``ca`` (a file) or of the system's authorities.
    ``groups``: a filter."""

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
    binds: bool = False
    ca: str = ""
    groups: str = ""
    group_name: str = "cn"
    group_member: str = "member"


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
        named: dict[str, str] = {}  # addresses by the names of their entries
        for entry in self._entries(self._settings.filter):
            line, addresses = self._line(entry)
            if line is None:
                continue
            named[str(entry.get("dn", "")).lower()] = line.address
            out.lines[line.address] = line
            for other in addresses[1:]:
                assert out.aliases is not None
                out.aliases.setdefault(other if "@" in other else f"{other}@{self._domain}", []).append(line.address)
        out.groups = self._groups(named) if self._settings.groups else None
        if self._said == out:
            return None
        self._said = out
        return out

    def _groups(self, named: Mapping[str, str]) -> dict[str, list[str]]:
        """Members by the groups' names, ``name@domain`` of the default domain; those of other groups are not looked
        for. Members that are no accounts here are left out."""
        settings = self._settings
        out: dict[str, list[str]] = {}
        for entry in self._entries(settings.groups, (settings.group_name, settings.group_member)):
            values = entry["raw_attributes"]
            name = _text(next(iter(values.get(settings.group_name, [])), b"")).strip().lower()
            try:
                name = Address.parse(f"{name}@{self._domain}").key
            except BadAddress:
                log.event("directory.group", "warning", group=name, why="no usable name")
                continue
            members = (_text(one).lower() for one in values.get(settings.group_member, []))
            out[name] = sorted({named[one] for one in members if one in named})
        return out

    def _line(self, entry: Mapping[str, Any]) -> tuple[Line | None, list[str]]:
        """The account of an entry, and all of its addresses."""
        settings, values = self._settings, entry["raw_attributes"]
        addresses = [_text(one).strip().lower() for one in values.get(settings.address, [])]
        secrets = [_text(one) for one in values.get(settings.secret, [])]
        if settings.binds:
            secrets = [BINDS + str(entry.get("dn", ""))] if entry.get("dn") else []
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
            line, addresses = self._line(entry)
            if line is not None and any(name in addresses for name in names):
                return line
        return None

    async def close(self) -> None:
        """Nothing is kept open between questions."""

    def _entries(self, filter_: str, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        settings = self._settings
        more = (settings.quota, settings.nets, settings.nologin, settings.proxy)
        every = names or (settings.address, "" if settings.binds else settings.secret, *more)
        with self._errors(), self._connection(settings.bind, settings.password, True) as connection:
            connection.bind()
            found = connection.extend.standard.paged_search(
                settings.base, filter_, attributes=[one for one in every if one], paged_size=PAGE, generator=True
            )
            return [entry for entry in found if entry.get("type") == "searchResEntry"]

    def check(self, stored: str, password: str) -> bool:
        """Is it the password of the entry that an account's row names (``{LDAP}name``)? Waits for the network.
        Unreadable where nobody says."""
        who = stored.removeprefix(BINDS)
        if not who or not password:
            return False  # a bind without a name or a password is nobody's, and succeeds (RFC 4513 5.1.1, 5.1.2)
        with self._errors(), self._connection(who, password) as connection:
            if connection.bind():
                return True
            code = int(connection.result["result"])
            if code in REFUSED:
                return False
            raise Unreadable(f"{connection.result['description']} when binding")

    @contextmanager
    def _connection(self, who: str, password: str, raises: bool = False) -> Iterator[Any]:
        """A connection that is private where it has to be, before anybody binds. ``raises``: an answer that is no
        success is an exception."""
        import ldap3

        settings = self._settings
        # of users' passwords the server has to be who it says
        verified = settings.binds or bool(settings.ca)
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=settings.ca or None) if verified else None
        wait = int(PATIENCE)
        server = ldap3.Server(settings.url, get_info=ldap3.NONE, connect_timeout=wait, tls=tls)
        connection = ldap3.Connection(
            server,
            who or None,
            password or None,
            auto_bind=ldap3.AUTO_BIND_NONE,
            read_only=True,
            raise_exceptions=raises,
            receive_timeout=wait,
        )
        try:
            connection.open(read_server_info=False)
            if not self._tls and not self._here and not connection.start_tls(read_server_info=False):
                raise Unreadable("STARTTLS failed")
            yield connection
        finally:
            connection.unbind()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            from ldap3.core.exceptions import LDAPException
        except ImportError:
            raise Unreadable("ldap3 is not installed: pip install 'fastmail[ldap]'") from None
        try:
            yield
        except (LDAPException, OSError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None


def escaped(text: str) -> str:
    """A value inside a filter (RFC 4515 3)."""
    plain = (c if c.isascii() and c not in "\\*()\0" else None for c in text)
    return "".join(c or "".join(f"\\{octet:02x}" for octet in text[at].encode()) for at, c in enumerate(plain))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
