"""Accounts of an LDAP directory (RFC 4511), followed like those of a database.

An entry is an account: its first mail address, what its password attribute says ({SCHEME}hash), and where the directory
has them a quota, conditions on logins, and further addresses, which become aliases. All entries are read a page at a
time (RFC 2696), so the login that is used must be allowed to read the password attribute; without TLS it is not sent
except on this machine. Active Directory, and others whose hashes nobody can read, check passwords themselves: with
``binds`` an account's row says by which name it binds, and ``check`` tries that (RFC 4513 5.1). Groups are read where
``groups`` says which entries they are (directory.ldap_groups), domains and mailing lists where ``domains`` and
``lists`` do (directory.ldap_lists). Whoever logs in or gets mail is looked up at that moment besides (``lookup``), so
that a new account counts at once.

Each source has threads of its own: one whose server does not answer keeps nobody waiting who has his account elsewhere.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastmail.directory import ldap_groups, ldap_lists
from fastmail.directory.database import PATIENCE, Unreadable
from fastmail.directory.external import Content, make_line
from fastmail.directory.interface import Line
from fastmail.directory.ldap_groups import escaped, text
from fastmail.model.errors import ConfigError, TemporaryError
from fastmail.model.quota import Quota

PAGE = 500
BINDS = "{LDAP}"  # in front of the name that an account binds by
THREADS = 4  # of each source
WAITING = 64  # passwords that wait for a bind; who comes then may try again later
AWAY = 5.0  # s until a server that does not answer is asked to check a password again
T = TypeVar("T")
# no such object, no such name, not so, wrong password (or expired), unwilling; 19, constraint violation: 389 Directory
# Server says so of who tried too often
REFUSED = (19, 32, 34, 48, 49, 53)
BUSY = (51, 52)  # busy, unavailable: the server as a whole


@dataclass(frozen=True, slots=True)
class Settings:
    """``url``: ldap or ldaps; ``bind``, ``password``: who asks; attributes by their names, empty for none. ``binds``:
    passwords are checked by binding, over TLS whose certificate is of ``ca`` (a file) or of the system's authorities.
    ``groups``: a filter; ``nested``: what becomes of groups in groups (ldap_groups); ``fields``: (field of an account,
    attribute that says it). ``domains``, ``lists``: filters; ``domain_name``, ``list_address``: the attributes that
    name them; ``list_members``: those with members, by DN or address; ``domain_fields``, ``list_fields``: as
    ``fields``."""

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
    nested: str = ldap_groups.FOLLOW
    fields: tuple[tuple[str, str], ...] = ()
    domains: str = ""
    domain_name: str = "dc"
    domain_fields: tuple[tuple[str, str], ...] = ()
    lists: str = ""
    list_address: str = "mail"
    list_members: tuple[str, ...] = ("member",)
    list_fields: tuple[tuple[str, str], ...] = ()


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
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ldap")
        self._waiting = 0  # binds
        self._away = 0.0  # until then (time.monotonic) no password is checked

    async def _run(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def forget(self) -> None:
        self._said = None

    async def read(self) -> Content | None:
        return await self._run(self._read)

    def _read(self) -> Content | None:
        out = Content(aliases={})
        named: ldap_groups.Named = {}
        for entry in self._entries(self._settings.filter):
            line, addresses = self._line(entry)
            if line is None:
                continue
            named[ldap_groups.plain(str(entry.get("dn", "")))] = line.address
            out.lines[line.address] = line
            for other in addresses[1:]:
                assert out.aliases is not None
                out.aliases.setdefault(other if "@" in other else f"{other}@{self._domain}", []).append(line.address)
        if self._settings.groups:
            out.groups = ldap_groups.read(self._settings, self._domain, named, self._entries)
        if self._settings.domains:
            ldap_lists.domains(self._settings, self._entries, out)
        if self._settings.lists:
            out.lists, out.members = ldap_lists.lists(self._settings, self._domain, named, self._entries)
        if self._said == out:
            out.close()
            return None
        self._said = out
        return out

    def _line(self, entry: Mapping[str, Any]) -> tuple[Line | None, list[str]]:
        """The account of an entry, and all of its addresses."""
        settings, values = self._settings, entry["raw_attributes"]
        addresses = [text(one).strip().lower() for one in values.get(settings.address, [])]
        secrets = [text(one) for one in values.get(settings.secret, [])]
        if settings.binds:
            secrets = [BINDS + str(entry.get("dn", ""))] if entry.get("dn") else []
        if not addresses or not secrets:
            return None, []
        limit = text(values[settings.quota][0]) if values.get(settings.quota) else ""
        quota = Quota(int(limit)) if limit.isdigit() and len(limit) < 19 else None
        fields = {}
        if settings.nets and values.get(settings.nets):
            fields["allow_nets"] = ",".join(text(one) for one in values[settings.nets])
        for name, attribute in (("nologin", settings.nologin), ("proxy", settings.proxy)):
            found = [text(one) for one in values.get(attribute, [])] if attribute else []
            if any(one.upper() != "FALSE" for one in found):  # RFC 4517 3.3.3: a Boolean is TRUE or FALSE
                fields[name] = "yes"
        more = ldap_lists.said(entry, settings.fields)
        return make_line(addresses[0], secrets[0], self._domain, quota, conditions=fields, more=more), addresses

    async def lookup(self, user: str) -> Line | None:
        """The account of a login or an address, where it is kept: also by one of its further addresses."""
        if not user or any(ord(c) < 32 or ord(c) == 127 for c in user):
            return None
        return await self._run(self._lookup, user)

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
        """See live.Finder."""
        self.end()

    def end(self) -> None:
        """Connections are not kept between questions, so there are only threads to let go of."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _entries(self, filter_: str, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        settings = self._settings
        more = (settings.quota, settings.nets, settings.nologin, settings.proxy, *(one for _, one in settings.fields))
        every = names or (settings.address, "" if settings.binds else settings.secret, *more)
        with self._errors(), self._connection(settings.bind, settings.password, True) as connection:
            connection.bind()
            found = connection.extend.standard.paged_search(
                settings.base, filter_, attributes=[one for one in every if one], paged_size=PAGE, generator=True
            )
            return [entry for entry in found if entry.get("type") == "searchResEntry"]

    async def bind(self, stored: str, password: str) -> bool:
        """``check``, on threads of this source. TemporaryError at once while the server is away, or too many wait."""
        if self._waiting >= WAITING or time.monotonic() < self._away:
            raise TemporaryError("passwords cannot be checked now")
        self._waiting += 1
        try:
            return await self._run(self.check, stored, password)
        except Unreadable:
            self._away = time.monotonic() + AWAY
            raise
        finally:
            self._waiting -= 1

    def check(self, stored: str, password: str) -> bool:
        """Is it the password of the entry that an account's row names (``{LDAP}name``)? Waits for the network.
        Unreadable where the server is away; TemporaryError for an answer that says nothing of the password, and
        concerns this account alone."""
        who = stored.removeprefix(BINDS)
        if not who or not password:
            return False  # a bind without a name or a password is nobody's, and succeeds (RFC 4513 5.1.1, 5.1.2)
        with self._errors(), self._connection(who, password) as connection:
            from ldap3.core.exceptions import LDAPSASLPrepError

            try:
                if connection.bind():
                    return True
            except LDAPSASLPrepError:
                return False  # such as a control character: nobody has such a password (RFC 4513 5.1.3)
            code, said = int(connection.result["result"]), connection.result["description"]
        if code in REFUSED:
            return False
        if code in BUSY:
            raise Unreadable(f"{said} when binding")
        raise TemporaryError(f"{said} when binding as {who}")

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
