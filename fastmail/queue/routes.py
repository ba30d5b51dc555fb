"""The route table: which next hop a recipient's domain (or a sender) has, as far as the configuration says.

A line is ``PATTERN NEXTHOP [option=value ...]``. Patterns: ``example.org``, ``.example.org`` (every domain below),
``*``, or ``from:user@example.org`` and ``from:@example.org`` for the sender. Next hops: ``mx`` (ask the DNS),
``smtp:HOST[:PORT]``, ``smtps:HOST[:PORT]``, ``lmtp:HOST:PORT`` and ``lmtp:unix:PATH``. Options: ``tls`` (none, may,
encrypt, verify), ``login`` and ``password_file``. A sender's route comes before a domain's, a longer pattern before a
shorter one.
"""

import os
from dataclasses import dataclass, field

from fastmail.model.errors import ConfigError

TLS = ("none", "may", "encrypt", "verify")
PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}


@dataclass(frozen=True, slots=True)
class Hop:
    """Where to connect. ``kind``: smtp, smtps or lmtp; ``host`` is a path for a Unix socket."""

    kind: str
    host: str
    port: int
    tls: str = ""
    login: str = ""
    password: str = ""

    @property
    def destination(self) -> str:
        """What jobs call it."""
        place = f"unix:{self.host}" if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"{self.kind}:{place}"


@dataclass(slots=True)
class Routes:
    """The parsed table. ``policies``: TLS modes of domains."""

    domains: dict[str, Hop | None] = field(default_factory=dict)
    senders: dict[str, Hop | None] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    hops: dict[str, Hop] = field(default_factory=dict)

    def destination(self, domain: str, sender: str = "") -> str:
        """What the job of a recipient is called: its domain where the DNS decides, else the next hop."""
        name = sender.lower()
        for key in (name, "@" + name.rpartition("@")[2]):
            if name and key in self.senders:
                hop = self.senders[key]
                break
        else:
            hop = self.of_domain(domain)
        return hop.destination if hop is not None else domain.lower()

    def of_domain(self, domain: str) -> Hop | None:
        """The next hop for a domain; None when the DNS decides."""
        name = domain.lower()
        if name in self.domains:
            return self.domains[name]
        labels = name.split(".")
        for start in range(1, len(labels)):
            parent = "." + ".".join(labels[start:])
            if parent in self.domains:
                return self.domains[parent]
        return self.domains.get("*")

    def policy(self, domain: str, default: str) -> str:
        """How much TLS a domain asks for."""
        labels = domain.lower().split(".")
        for start in range(len(labels)):
            found = self.policies.get(("." if start else "") + ".".join(labels[start:]))
            if found:
                return found
        return self.policies.get("*", default)


def parse(lines: list[str], policies: list[str], base: str = "") -> Routes:
    """The table; ConfigError names the line that is wrong. ``base``: where relative password files lie."""
    routes = Routes()
    for line in lines:
        words = line.split()
        if len(words) < 2:
            raise ConfigError(
                f'[relay] routes: "{line}": PATTERN NEXTHOP is expected, such as "example.org smtp:10.0.0.1"'
            )
        pattern, hop = words[0].lower(), _hop(line, words[1], words[2:], base)
        if hop is not None:
            routes.hops[hop.destination] = hop
        if pattern.startswith("from:"):
            routes.senders[pattern[5:]] = hop
        else:
            routes.domains[pattern] = hop
    for line in policies:
        domain, _, mode = line.partition(" ")
        if mode.strip() not in TLS:
            raise ConfigError(f'[relay] tls_policies: "{line}": DOMAIN and one of {", ".join(TLS)} are expected')
        routes.policies[domain.lower()] = mode.strip()
    return routes


def _hop(line: str, text: str, options: list[str], base: str) -> Hop | None:
    if text.lower() == "mx":
        return None
    kind, _, place = text.partition(":")
    if kind not in PORTS or not place:
        raise ConfigError(
            f'[relay] routes: "{line}": the next hop is mx, smtp:HOST, smtps:HOST, lmtp:HOST:PORT or lmtp:unix:PATH'
        )
    if place.startswith("unix:"):
        host, port = place[5:], 0
    else:
        host, port = _host(line, place, PORTS[kind])
    values = {"tls": "", "login": "", "password_file": ""}
    for option in options:
        name, equals, value = option.partition("=")
        if name not in values or not equals or (name == "tls" and value not in TLS):
            raise ConfigError(
                f'[relay] routes: "{line}": {option} is not tls={"|".join(TLS)}, login=NAME or password_file=PATH'
            )
        values[name] = value
    password = ""
    if values["password_file"]:
        try:
            with open(os.path.join(base, values["password_file"]), encoding="utf-8") as file:
                password = file.readline().rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f'[relay] routes: "{line}": cannot read the password file: {error.strerror}') from None
    return Hop(kind, host, port, values["tls"], values["login"], password)


def _host(line: str, place: str, default: int) -> tuple[str, int]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    if not host or (port and not port.isdigit()):
        raise ConfigError(f'[relay] routes: "{line}": HOST or HOST:PORT is expected')
    return host, int(port or default)
