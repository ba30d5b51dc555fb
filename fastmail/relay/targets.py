"""From a destination to the hosts that take its mail, in the order in which they are tried (RFC 5321 5.1), and how
much TLS each must have: DANE (RFC 7672) before MTA-STS (RFC 8461) before the configuration. Mail that must have TLS
goes to hosts only whose names DNSSEC or MTA-STS vouches for and whose certificates are good; mail that says that it may
do without takes no notice of what the domain publishes (RFC 8689 4.2); the configuration holds for all.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace

from fastmail.dns.resolver import LookupFailed, Mx, NoSuchDomain, Resolver
from fastmail.model.domain import comparable
from fastmail.model.errors import ClientError
from fastmail.queue.routes import LAX, STRICT, Hop, Routes, parts
from fastmail.relay import dane
from fastmail.relay.dane import Tlsa
from fastmail.relay.sts import Policies, Policy
from fastmail.smtp.client import Target

HOSTS = 10  # of a domain that are looked up
ADDRESSES = 20  # that are tried


class NoTls(ClientError):
    """Mail that must have TLS can not have it there."""


class Loops(ClientError):
    """The mail hosts of a domain lead back here."""


@dataclass(slots=True)
class Finder:
    """``port``: of the hosts that the DNS names. ``loopback``: may they be on this machine, for tests?"""

    routes: Routes
    resolver: Resolver
    hostname: str
    tls: str = "may"
    port: int = 25
    loopback: bool = False
    policies: Policies | None = None

    async def find(self, destination: str) -> list[Target]:
        """Targets of a destination. NoSuchDomain, NullMx and Loops are for good, LookupFailed is for now."""
        hop = self.routes.of(destination).hop
        name, _, mark = parts(destination)
        if hop is None and ":" in name:
            hop = _parse(name)
        if hop is not None:
            found = await self._of_hop(hop)
        else:
            found = await self._of_domain(name, mark)
        if mark == STRICT:
            weak = ("may", "encrypt", "none")
            return [replace(one, tls="verify") if one.tls in weak else replace(one, insecure=False) for one in found]
        return found

    async def _of_hop(self, hop: Hop) -> list[Target]:
        if hop.host.startswith("/"):
            return [Target("localhost", hop.host, 0, hop.kind == "lmtp", "none")]
        literal = _address(hop.host)
        addresses = [literal] if literal else await self.resolver.addresses(hop.host)
        mode = "implicit" if hop.kind == "smtps" else hop.tls or ("verify" if hop.login else self.tls)
        insecure = hop.kind == "smtps" and hop.tls == "encrypt"
        return [
            Target(hop.host, one, hop.port, hop.kind == "lmtp", mode, insecure, hop.login, hop.password)
            for one in addresses
        ]

    async def _of_domain(self, domain: str, mark: str) -> list[Target]:
        mode = self.routes.policy(domain, self.tls)
        literal = _address(domain)
        if literal:
            return [Target(domain, literal, self.port, False, mode)]
        domain = comparable(domain)  # an entry of the queue may be older than that rule
        mine = comparable(self.hostname)
        found: list[Target] = []
        trouble: LookupFailed | None = None
        barred = False
        hosts = await self.resolver.mx(domain)
        own = next((one.preference for one in hosts if comparable(one.host) == mine), None)
        if own is not None:  # only hosts that are nearer than we are (RFC 5321 5.1)
            hosts = [one for one in hosts if one.preference < own]
            barred = not hosts
        if self.policies is not None and (mode in ("may", "encrypt") or mark == STRICT) and mark != LAX:
            policy = await self.policies.find(domain)
        else:
            policy = None
        kept_out = ""
        for mx in hosts[:HOSTS]:
            try:
                how, prove, kind = mode, None, "no-policy-found"
                records = await self._tlsa(mx) if mode != "none" and mark != LAX else []
                if records:
                    kind = "tlsa"
                    how, prove = self._by_records(records, mx.host, domain)
                elif policy is not None and policy.mode == "enforce":
                    if not policy.allows(mx.host):
                        kept_out = f"the MTA-STS policy of {domain} does not name {mx.host}"
                        continue
                    how, kind = "verify", "sts"
                elif mark == STRICT and not _vouched(mx, policy, domain):
                    kept_out = f"neither DNSSEC nor MTA-STS says that {mx.host} is a host of {domain}"
                    continue
                for address in await self.resolver.addresses(mx.host):
                    if not self.loopback and _is_here(address):
                        barred = True
                        continue
                    found.append(Target(mx.host, address, self.port, False, how, prove=prove, policy=kind))
            except LookupFailed as error:
                trouble = error
            except NoSuchDomain:
                continue
        if found:
            return found[:ADDRESSES]
        if trouble is not None:
            raise trouble
        if kept_out:
            raise NoTls(kept_out) if mark == STRICT else LookupFailed(kept_out)
        if barred:
            raise Loops(f"the mail hosts of {domain} lead back to this server")
        raise NoSuchDomain(f"no mail host of {domain} has an address")

    async def _tlsa(self, mx: Mx) -> list[Tlsa]:
        if not mx.secure:
            return []
        return [Tlsa(*record) for record in await self.resolver.tlsa(mx.host, self.port)]

    def _by_records(
        self, records: list[Tlsa], host: str, domain: str
    ) -> tuple[str, Callable[[list[bytes]], str] | None]:
        """TLS is a must; and with records that can be used, the right key is (RFC 7672 2.2)."""
        good = dane.usable(records)
        if not good:
            return "encrypt", None
        return "dane", lambda chain: dane.verify(chain, good, [host, domain])


def _vouched(mx: Mx, policy: Policy | None, domain: str) -> bool:
    """Is the host the domain's own word (RFC 8689 4.2.1)?"""
    named = policy is not None and policy.mode != "none" and policy.allows(mx.host)
    return mx.secure or named or comparable(mx.host) == comparable(domain)


def _is_here(address: str) -> bool:
    place = ipaddress.ip_address(address)
    return place.is_loopback or place.is_unspecified or place.is_link_local or place.is_multicast


def _address(text: str) -> str:
    """An address literal as an address; empty when it is a name."""
    name = text[1:-1].removeprefix("IPv6:").removeprefix("ipv6:") if text.startswith("[") else text
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return ""


def _parse(destination: str) -> Hop | None:
    """A next hop that the configuration does not name any more, as far as its name tells."""
    kind, _, place = destination.partition(":")
    if place.startswith("unix:"):
        return Hop(kind, place[5:], 0)
    if kind == "pipe":  # a program is run when the configuration says so, never because the queue does
        raise LookupFailed("no route leads to this program any more; `fastmail queue move` sends it elsewhere")
    host, _, port = place.rpartition(":")
    return Hop(kind, host, int(port)) if host and port.isdigit() else None
