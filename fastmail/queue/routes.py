"""The route table: which next hop the configuration gives for a recipient's domain or a sender.

A line is ``PATTERN NEXTHOP [option=value ...]``.

- Patterns: ``example.org``, ``.example.org`` (every domain below), ``*``, or ``from:user@example.org`` and
  ``from:@example.org`` for the sender.
- Next hops: ``mx`` (ask the DNS), ``smtp:HOST[:PORT]``, ``smtps:HOST[:PORT]``, ``lmtp:HOST:PORT``, ``lmtp:unix:PATH``,
  and ``pipe:PROGRAM``, followed by its arguments instead of options.
- Options of a host: ``tls`` (none, may, encrypt, verify), ``login`` and ``password_file``; of any next hop: ``pool``
  (local addresses), ``connections``, ``retry`` and ``lifetime``.

A sender's route is used before a domain's, a longer pattern before a shorter one.
"""

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from fastmail.model import secret
from fastmail.model.address import comparable as address_form
from fastmail.model.domain import comparable
from fastmail.model.errors import ConfigError
from fastmail.model.place import is_address, name_or_address, port_number
from fastmail.model.units import parse_time
from fastmail.queue.model import LOCAL

TLS = ("none", "may", "encrypt", "verify")
PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}
OF_HOSTS = ("tls", "login", "password_file")
OPTIONS = (*OF_HOSTS, "pool", "connections", "retry", "lifetime")
LONGEST = 300  # octets of a pipe's command: the command is the destination's name, which is part of database keys
POOL = "#"  # between a destination and its pool
STRICT, LAX = "!", "?"  # at the end of a destination: its mail must have TLS, or may be sent without (RFC 8689)


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop: where to connect.

    ``kind``: smtp, smtps, lmtp or pipe; ``host``: a path for a Unix socket; ``command``: a pipe's program and
    arguments."""

    kind: str
    host: str
    port: int
    tls: str = ""
    login: str = ""
    password: str = ""
    command: tuple[str, ...] = ()

    @property
    def destination(self) -> str:
        """The destination's name in jobs."""
        if self.kind == "pipe":
            return "pipe:" + " ".join(self.command)
        place = f"unix:{self.host}" if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"{self.kind}:{place}"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table.

    ``hop``: None means that the DNS decides; ``pool``: name of the local addresses to send from; ``connections``: at
    once, at most; ``retry`` and ``lifetime``: in seconds. An empty value or 0 means the default."""

    hop: Hop | None = None
    pool: str = ""
    connections: int = 0
    retry: tuple[float, ...] = ()
    lifetime: float = 0.0

    def destination(self, domain: str) -> str:
        """Return the destination's name in jobs: the recipient's domain where the DNS decides, otherwise the next
        hop."""
        name = self.hop.destination if self.hop is not None else comparable(domain)
        return f"{name}{POOL}{self.pool}" if self.pool else name


NO_ROUTE = Route()


def hop(text: str) -> Hop | None:
    """Return the next hop that a text such as ``smtp:10.0.0.1``, ``lmtp:[::1]:24`` or ``lmtp:unix:/run/lmtp`` names;
    None when it names none. The port may be left out. A job's destination (``Hop.destination``) is such a text too."""
    kind, _, place = text.partition(":")
    if kind not in PORTS or not place or not place.isprintable() or " " in place:
        return None
    if place.startswith("unix:"):
        return Hop(kind, place[5:], 0) if place.startswith("unix:/") and kind == "lmtp" else None
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
        if not bracket or not is_address(host) or (rest and not rest[1:]) or rest[:1] not in ("", ":"):
            return None
    elif is_address(place) and not is_address(place.rpartition(":")[0]):
        host, port = (
            place,
            "",
        )  # IPv6 without brackets and port; if its end can be a port it is one, because jobs write it like that
    else:
        host, colon, port = place.rpartition(":")
        if not colon:
            host, port = place, ""
        elif not port:
            return None
    if not (is_address(host) or _is_name(host)) or (port and not _is_port(port)):
        return None
    return Hop(kind, host, int(port or PORTS[kind]))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535


def _is_name(text: str) -> bool:
    """Return True for a text that may be a host name: labels of letters, digits, hyphens and underscores (RFC 1123
    2.1)."""
    labels = text.rstrip(".").split(".")
    return len(text) <= 253 and all(
        0 < len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum() for label in labels
    )


def marked(destination: str, mark: str) -> str:
    """Return the destination with the mark for mail that has a wish for TLS. Mail that stays on this machine gets no
    mark."""
    here = destination == LOCAL or destination.startswith(("pipe:", "lmtp:unix:"))
    return destination if here else destination + mark


def parts(destination: str) -> tuple[str, str, str]:
    """Return (domain or next hop, pool, mark) of a job's destination."""
    if destination.startswith("pipe:"):
        return destination, "", ""
    mark = destination[-1:] if destination.endswith((STRICT, LAX)) else ""
    name, _, pool = destination.removesuffix(mark).partition(POOL)
    return name, pool, mark


@dataclass(slots=True)
class Routes:
    """The parsed table.

    ``policies``: TLS modes by domain; ``hops``: routes by their destination; ``pooled``: by pool, the routes of senders
    that leave the hosts to the DNS; ``pools``: local addresses by name."""

    domains: dict[str, Route] = field(default_factory=dict)
    senders: dict[str, Route] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    hops: dict[str, Route] = field(default_factory=dict)
    pooled: dict[str, Route] = field(default_factory=dict)
    pools: dict[str, list[str]] = field(default_factory=dict)

    def destination(self, domain: str, sender: str = "") -> str:
        """Return the destination's name for a recipient's domain and a sender."""
        name = address_form(sender)
        for key in (name, "@" + name.rpartition("@")[2]):
            if name and key in self.senders:
                return self.senders[key].destination(domain)
        return self.of_domain(domain).destination(domain)

    def of_domain(self, domain: str) -> Route:
        """Return the route of a domain."""
        name = comparable(domain)
        if name in self.domains:
            return self.domains[name]
        labels = name.split(".")
        for start in range(1, len(labels)):
            parent = "." + ".".join(labels[start:])
            if parent in self.domains:
                return self.domains[parent]
        return self.domains.get("*", NO_ROUTE)

    def of(self, destination: str) -> Route:
        """Return the route of a job's destination."""
        name, pool, mark = parts(destination)
        if (hop := destination.removesuffix(mark)) in self.hops:
            return self.hops[hop]
        own = self.of_domain(name)
        return self.pooled.get(pool, NO_ROUTE) if pool and own.pool != pool else own

    def policy(self, domain: str, default: str) -> str:
        """Return the TLS mode that is configured for a domain."""
        labels = comparable(domain).split(".")
        for start in range(len(labels)):
            found = self.policies.get(("." if start else "") + ".".join(labels[start:]))
            if found:
                return found
        return self.policies.get("*", default)


def parse(lines: list[str], policies: list[str], base: str = "", pools: list[str] | None = None) -> Routes:
    """Parse the table. ConfigError names the line that is wrong. ``base``: the directory of relative password files."""
    routes = Routes(pools=_pools(pools or []))
    for line in lines:
        words = line.split()
        if len(words) < 2:
            raise ConfigError(
                f'[relay] routes: "{line}": PATTERN NEXTHOP is expected, such as "example.org smtp:10.0.0.1"'
            )
        pattern = _pattern(words[0])
        route = _route(line, words[1], words[2:], base, routes.pools)
        if route.hop is not None:
            routes.hops[route.destination("")] = route
        if pattern.startswith("from:"):
            routes.senders[pattern[5:]] = route
            if route.hop is None and route != NO_ROUTE:
                if not route.pool:
                    raise ConfigError(f'[relay] routes: "{line}": for a sender these options need a pool')
                routes.pooled[route.pool] = route
        else:
            routes.domains[pattern] = route
    for line in policies:
        domain, _, mode = line.partition(" ")
        if mode.strip() not in TLS:
            raise ConfigError(f'[relay] tls_policies: "{line}": DOMAIN and one of {", ".join(TLS)} are expected')
        routes.policies[_pattern(domain)] = mode.strip()
    return routes


def _pattern(text: str) -> str:
    """Return a pattern with its domain in the form in which domains are compared."""
    pattern = text.lower()
    for start in ("from:@", "from:", "."):
        if pattern.startswith(start):
            rest = pattern[len(start) :]
            return start + (address_form(rest) if "@" in rest else comparable(rest))
    return comparable(pattern)


def _pools(lines: list[str]) -> dict[str, list[str]]:
    pools = {}
    for line in lines:
        name, *addresses = line.split() or [""]
        try:
            pools[name] = [str(ipaddress.ip_address(one)) for one in addresses]
        except ValueError as error:
            raise ConfigError(f'[relay] pools: "{line}": {error}') from None
        if not addresses:
            raise ConfigError(f'[relay] pools: "{line}": NAME ADDRESS... is expected, such as "bulk 192.0.2.1"')
    return pools


def _route(line: str, text: str, options: list[str], base: str, pools: dict[str, list[str]]) -> Route:
    if text.lower().startswith("pipe:"):
        return Route(_pipe(line, [text[5:], *options]))
    values = dict.fromkeys(OPTIONS, "")
    for option in options:
        name, equals, value = option.partition("=")
        if name not in values or not equals or (name == "tls" and value not in TLS):
            raise ConfigError(
                f'[relay] routes: "{line}": {option} is not one of tls={"|".join(TLS)}, login=NAME, '
                "password_file=PATH, pool=NAME, connections=N, retry=5m,1h and lifetime=2d"
            )
        values[name] = value
    if values["pool"] and values["pool"] not in pools:
        raise ConfigError(f'[relay] routes: "{line}": there is no pool {values["pool"]} in [relay] pools')
    if values["connections"] and not values["connections"].isdigit():
        raise ConfigError(f'[relay] routes: "{line}": connections needs a number')
    try:
        retry = tuple(parse_time(one) for one in values["retry"].split(",") if one)
        lifetime = parse_time(values["lifetime"] or 0)
    except ValueError as error:
        raise ConfigError(f'[relay] routes: "{line}": a time {error}') from None
    hop = _hop(line, text, values, base)
    return Route(hop, values["pool"], int(values["connections"] or 0), retry, lifetime)


def _pipe(line: str, command: list[str]) -> Hop:
    if not command[0].startswith("/"):
        raise ConfigError(f'[relay] routes: "{line}": the program of a pipe needs an absolute path')
    hop = Hop("pipe", "", 0, command=tuple(command))
    if len(hop.destination.encode()) > LONGEST or POOL in hop.destination:
        raise ConfigError(f'[relay] routes: "{line}": the command of a pipe is too long, or has a "{POOL}"')
    for word in command:
        try:
            word.format(sender="", recipient="", user="", domain="", id="")
        except (KeyError, IndexError, ValueError):
            raise ConfigError(
                f'[relay] routes: "{line}": {word} may name {{sender}}, {{recipient}}, {{user}}, {{domain}} and {{id}}'
            ) from None
    return hop


def _hop(line: str, text: str, values: dict[str, str], base: str) -> Hop | None:
    if text.lower() == "mx":
        named = [name for name in OF_HOSTS if values[name]]
        if named:
            raise ConfigError(f'[relay] routes: "{line}": {named[0]} needs a host; for domains there are tls_policies')
        return None
    kind, _, place = text.partition(":")
    if kind not in PORTS or not place:
        raise ConfigError(
            f'[relay] routes: "{line}": the next hop is mx, smtp:HOST, smtps:HOST, lmtp:HOST:PORT, lmtp:unix:PATH or '
            "pipe:PROGRAM"
        )
    if place.startswith("unix:"):
        host, port = place[5:], 0
    else:
        host, port = _host(line, place, PORTS[kind])
    password = ""
    if values["password_file"]:
        try:
            password = secret.first_line(os.path.join(base, values["password_file"]))
        except OSError as error:
            raise ConfigError(f'[relay] routes: "{line}": cannot read the password file: {error.strerror}') from None
    return Hop(kind, host, port, values["tls"], values["login"], password)


def _host(line: str, place: str, default: int) -> tuple[str, int]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    try:
        name_or_address(host)
        if port:
            port_number(port)
    except ValueError as error:
        raise ConfigError(f'[relay] routes: "{line}": HOST or HOST:PORT is expected: {error}') from None
    # An ASCII name stays as written: jobs that are already queued have it in the name of their destination.
    return host if host.isascii() else comparable(host), int(port or default)


@dataclass(frozen=True, slots=True)
class Destinations:
    """Finds the destination of messages that this server makes itself, such as reports. ``is_local``: True for a domain
    of this server."""

    routes: Routes
    is_local: Callable[[str], bool]

    def of(self, address: str) -> str:
        """Return the destination of an address."""
        domain = address.rpartition("@")[2].lower()
        return LOCAL if self.is_local(domain) else self.routes.destination(domain)
