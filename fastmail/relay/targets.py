"""Finds the hosts that take a destination's mail, in the order in which they are tried (RFC 5321 5.1), and the TLS that
each must have.

DANE (RFC 7672) goes before MTA-STS (RFC 8461), and MTA-STS before the configuration. Mail that must have TLS goes only
to hosts whose names are confirmed by DNSSEC or MTA-STS and whose certificates are valid. Mail that says it may do
without TLS ignores what the domain publishes (RFC 8689 4.2). The configuration applies to both.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fastmail.dns.resolver import LookupFailed, Mx, NoSuchDomain, Resolver
from fastmail.model.domain import comparable
from fastmail.model.errors import ClientError
from fastmail.net import address_rules
from fastmail.queue import routes
from fastmail.queue.routes import LAX, STRICT, Hop, Routes, parts
from fastmail.relay import dane
from fastmail.relay.dane import Tlsa
from fastmail.relay.sts import Policies, Policy
from fastmail.smtp.client import Target
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

HOSTS = 10  # hosts of a domain with addresses; the search stops there
LOOKED_UP = 50  # hosts of a domain that are looked up, with or without an address: a domain may name thousands
AT_ONCE = 10  # hosts that are looked up at the same time
ADDRESSES = 20  # addresses that are tried


class NoTls(ClientError):
    """Mail that must have TLS cannot be sent there with TLS."""


class Loops(ClientError):
    """The mail hosts of a domain lead back to this server."""


@dataclass(slots=True)
class _Host:
    """What is known of one mail host.

    ``targets``: its addresses; ``trouble``: why the DNS gave no answer; ``kept_out``: why the policy forbids it;
    ``barred``: an address of it is forbidden; ``own``: the DNS gives it an address of this machine by which others know
    it."""

    mx: Mx
    targets: list[Target] = field(default_factory=list)
    trouble: LookupFailed | None = None
    kept_out: str = ""
    barred: bool = False
    own: bool = False


@dataclass(slots=True)
class Finder:
    """Finds hosts.

    ``port``: port of the hosts that the DNS names; ``loopback``: they may be on this machine, for tests; ``report``:
    called for each failure that keeps a host from being tried, with (domain, policy, what, host, why), in the terms of
    RFC 8460 4.3."""

    routes: Routes
    resolver: Resolver
    hostname: str
    tls: str = "may"
    port: int = 25
    loopback: bool = False
    policies: Policies | None = None
    report: Callable[[str, str, str, str, str], None] = lambda domain, policy, what, host, why: None

    async def find(self, destination: str) -> list[Target]:
        """Return the targets of a destination. NoSuchDomain, NullMx, Loops and NoTls are permanent, LookupFailed is
        temporary."""
        hop = self.routes.of(destination).hop
        name, _, mark = parts(destination)
        if hop is None and is_hop(name):
            hop = _parse(name)
        if hop is not None:
            found = await self._of_hop(hop)
        else:
            found = await self._of_domain(name, mark)
        if mark == STRICT:
            weak = ("may", "encrypt", "none")
            return [
                replace(one, tls="verify", testing=False) if one.tls in weak else replace(one, insecure=False)
                for one in found
            ]
        return found

    async def renew(self, destination: str) -> bool:
        """Fetch the MTA-STS policy of a domain again, because its hosts do not follow the known one; True when it is
        now a different one (RFC 8461 5.1)."""
        return self.policies is not None and await self.policies.renew(parts(destination)[0])

    async def _of_hop(self, hop: Hop) -> list[Target]:
        """Return the targets of a next hop that the administrator chose.

        If the DNS does not know its host, that is an error of the configuration and says nothing about the recipients:
        the mail waits, and the administrator is told."""
        if hop.host.startswith("/"):
            return [Target("localhost", hop.host, 0, hop.kind == "lmtp", "none", route=True)]
        literal = address_rules.literal(hop.host)
        try:
            addresses = [literal] if literal else await self.resolver.addresses(hop.host)
        except NoSuchDomain as error:
            raise _trouble(hop.destination, str(error)) from None
        mode = "implicit" if hop.kind == "smtps" else hop.tls or ("verify" if hop.login else self.tls)
        insecure = hop.kind == "smtps" and hop.tls == "encrypt"
        return [
            Target(hop.host, one, hop.port, hop.kind == "lmtp", mode, insecure, hop.login, hop.password, route=True)
            for one in addresses
        ]

    async def _of_domain(self, domain: str, mark: str) -> list[Target]:
        mode = self.routes.policy(domain, self.tls)
        literal = address_rules.literal(domain)
        if literal:
            if not self.loopback and (why := address_rules.barred(literal)):
                raise Loops(f"{domain} {why}")
            return [Target(domain, literal, self.port, False, mode)]
        if domain.startswith("[") or address_rules.numeric(domain):
            raise NoSuchDomain(f"{domain} is not a domain name")
        domain = comparable(domain)  # jobs from before this form was used may have another one
        mine = comparable(self.hostname)
        hosts = await self.resolver.mx(domain)
        own = next((one.preference for one in hosts if comparable(one.host) == mine), None)
        if own is not None:  # only hosts with a better preference than this server's (RFC 5321 5.1)
            hosts = [one for one in hosts if one.preference < own]
            if not hosts:
                raise Loops(f"the mail hosts of {domain} lead back to this server")
        policy = None
        if self.policies is not None and (mode in ("may", "encrypt") or mark == STRICT) and mark != LAX:
            policy = await self.policies.find(domain)
        seen = await self._hosts(domain, hosts, mode, mark, policy)
        found = [target for host in seen for target in host.targets]
        if not found and policy is not None and any(host.kept_out for host in seen):
            assert self.policies is not None
            if await self.policies.renew(domain):  # the domain may have moved before it announced that (RFC 8461 5.1)
                policy = await self.policies.find(domain)
                seen = await self._hosts(domain, hosts, mode, mark, policy)
                found = [target for host in seen for target in host.targets]
        if found:
            return found[:ADDRESSES]
        trouble = next((host.trouble for host in seen if host.trouble is not None), None)
        if trouble is not None:
            raise trouble
        kept_out = next((host.kept_out for host in seen if host.kept_out), "")
        if kept_out:
            raise NoTls(kept_out) if mark == STRICT else LookupFailed(kept_out)
        if len(seen) < len(hosts) and not any(host.own for host in seen):
            raise LookupFailed(f"none of the first {len(seen)} mail hosts of {domain} has an address")
        if any(host.barred or host.own for host in seen):
            raise Loops(f"the mail hosts of {domain} lead back to this server")
        raise NoSuchDomain(f"no mail host of {domain} has an address")

    async def _hosts(self, domain: str, hosts: list[Mx], mode: str, mark: str, policy: Policy | None) -> list[_Host]:
        """Look hosts up in their order, AT_ONCE at a time, until enough of them have an address."""
        seen: list[_Host] = []
        for start in range(0, min(len(hosts), LOOKED_UP), AT_ONCE):
            group = hosts[start : min(start + AT_ONCE, LOOKED_UP)]
            seen += await asyncio.gather(*(self._host(domain, mx, mode, mark, policy) for mx in group))
            own = next((host.mx.preference for host in seen if host.own), None)
            # the same as if this server's name were among them: only hosts with a better preference
            if own is not None:
                for host in seen:
                    host.targets = host.targets if host.mx.preference < own else []
                break
            able = sum(1 for host in seen if host.targets)
            if able >= HOSTS or sum(len(host.targets) for host in seen) >= ADDRESSES:
                break
        return seen

    async def _host(self, domain: str, mx: Mx, mode: str, mark: str, policy: Policy | None) -> _Host:
        out = _Host(mx)
        how, prove, kind, testing = mode, None, "no-policy-found", False
        try:
            records, names = await self._tlsa(mx) if mode != "none" and mark != LAX else ([], [])
        except LookupFailed as error:
            self.report(domain, "tlsa", "dnssec-invalid", mx.host, str(error))
            out.trouble = error
            return out
        if records:
            kind = "tlsa"
            how, prove = self._by_records(records, [*names, domain])
            self.report(domain, "tlsa", "", mx.host, "\n".join(one.shown for one in records))
        elif policy is not None and policy.mode in ("enforce", "testing"):
            kind = "sts"
            if not policy.allows(mx.host):
                words = f"the MTA-STS policy of {domain} does not name {mx.host}"
                self.report(domain, "sts", "validation-failure", mx.host, words)
                if policy.mode == "enforce":
                    out.kept_out = words
                    return out
                kind = ""  # the failure is reported; a session with this host does not count for the policy
            elif policy.mode == "enforce":
                how = "verify"
            else:
                testing = how == "may"
        if not records and mark == STRICT and kind != "sts" and not _vouched(mx, policy, domain):
            out.kept_out = f"neither DNSSEC nor MTA-STS says that {mx.host} is a host of {domain}"
            return out
        try:
            addresses = await self.resolver.addresses(mx.host)
        except LookupFailed as error:
            out.trouble = error
            return out
        except NoSuchDomain:
            return out
        for address in addresses[:ADDRESSES]:
            if not self.loopback and address_rules.barred(address):
                out.barred = True
                out.own = out.own or address_rules.is_own(address)
                continue
            out.targets.append(
                Target(mx.host, address, self.port, False, how, prove=prove, policy=kind, testing=testing)
            )
        return out

    async def _tlsa(self, mx: Mx) -> tuple[list[Tlsa], list[str]]:
        """Return (TLSA records of a host, names that its certificate may have). The records are those of the name that
        the host's name is an alias of, if any, otherwise of the host's own name (RFC 7672 2.1.3, 3.2.2)."""
        if not mx.secure:
            return [], []
        alias = await self.resolver.alias(mx.host)
        for name in (alias, mx.host):
            records = await self.resolver.tlsa(name, self.port) if name else []
            if records:
                return [Tlsa(*record) for record in records], [name, mx.host]
        return [], []

    def _by_records(self, records: list[Tlsa], names: list[str]) -> tuple[str, Callable[[list[bytes]], str] | None]:
        """Return (TLS mode, check of the chain). With any record TLS is required; with usable records the key must
        match too (RFC 7672 2.2)."""
        good = dane.usable(records)
        if not good:
            return "encrypt", None
        return "dane", lambda chain: dane.verify(chain, good, names)


def _vouched(mx: Mx, policy: Policy | None, domain: str) -> bool:
    """Return True if the domain's own word says that this is its host (RFC 8689 4.2.1)."""
    named = policy is not None and policy.mode != "none" and policy.allows(mx.host)
    return mx.secure or named or comparable(mx.host) == comparable(domain)


def is_hop(destination: str) -> bool:
    """Return True for a next hop (``smtp:host:25``), False for a domain, which may be an address literal."""
    return ":" in destination and not destination.startswith("[") and not address_rules.literal(destination)


def _trouble(destination: str, why: str) -> LookupFailed:
    """Return the error for a next hop that cannot be used: the administrator is told, and its mail waits."""
    count("relay.route_trouble")
    log.event("relay.route", "error", destination=destination, error=why, then="its mail waits")
    return LookupFailed(f"next hop {destination}: {why}")


def _parse(destination: str) -> Hop:
    """Return a next hop that the configuration no longer names, as far as its name tells it. LookupFailed for a name
    that is not a next hop: its mail waits until somebody moves it."""
    # a program is run only while the configuration names it, never because the queue does
    if destination.startswith("pipe:"):
        raise _trouble(destination, "no route leads to this program any more; `fastmail queue move` sends it elsewhere")
    hop = routes.hop(destination)
    if hop is None:
        raise _trouble(destination, "this is not a next hop; `fastmail queue move` sends its mail elsewhere")
    return hop
