"""All settings: the sections, each in the file of its matter, and the configuration that holds them.

A setting has its name, type, default and help in one place. Kinds: a size is octets or text such as "25 MiB"; a time is
seconds or text such as "30m"; the rest are TOML types. ``config.written`` prints settings.
"""

from dataclasses import dataclass, field

from fastmail.config.directories import Directory, Source
from fastmail.config.logins import Auth, Oauth
from fastmail.config.machine import Certificate, Limits, Listen, Log, Server, Tls, Web
from fastmail.config.mailboxes import Store
from fastmail.config.sending import Relay
from fastmail.config.strangers import Strangers
from fastmail.config.trust import Filters, Learning, Policy, Scanner


@dataclass(slots=True)
class Config:
    """All settings. ``path`` is the file they came from, ``base`` the directory that relative paths start from."""

    server: Server = field(default_factory=Server)
    listen: Listen = field(default_factory=Listen)
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    directory: Directory = field(default_factory=Directory)
    oauth: Oauth = field(default_factory=Oauth)
    store: Store = field(default_factory=Store)
    relay: Relay = field(default_factory=Relay)
    web: Web = field(default_factory=Web)
    filters: Filters = field(default_factory=Filters)
    policy: Policy = field(default_factory=Policy)
    strangers: Strangers = field(default_factory=Strangers)
    learning: Learning = field(default_factory=Learning)
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)
    certificate: list[Certificate] = field(default_factory=list)
    scanner: list[Scanner] = field(default_factory=list)
    source: list[Source] = field(default_factory=list)
    path: str = ""
    base: str = ""

    @property
    def source_names(self) -> frozenset[str]:
        """The names of the sources of accounts, an empty one for that of [directory]."""
        default = self.directory
        there = [""] if default.passwd_file or default.sql or default.ldap else []
        return frozenset([*there, *(one.name for one in self.source)])


SECTIONS = {
    "server": Server,
    "listen": Listen,
    "tls": Tls,
    "auth": Auth,
    "directory": Directory,
    "oauth": Oauth,
    "store": Store,
    "relay": Relay,
    "web": Web,
    "filters": Filters,
    "policy": Policy,
    "strangers": Strangers,
    "learning": Learning,
    "limits": Limits,
    "log": Log,
}
# sections that may be there several times, with [[ ]]
# sections that may be there several times, with [[ ]]
TABLES = {"certificate": Certificate, "scanner": Scanner, "source": Source}
