"""Where mail for a domain goes (RFC 5321 5.1, RFC 7505): MX records, addresses of hosts, and what is known of their
keys (RFC 7672).

Answers are kept as long as their TTL allows. What the DNS says for sure (no such domain, no mail wanted) and what it
could not say now are different errors, because the first ends a delivery and the second only defers it.
"""

import asyncio
import ipaddress
import random
import time
from dataclasses import dataclass

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.resolver

from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress, ClientError, TemporaryError
from fastmail.telemetry import log

REMEMBERED = 20_000
LOOKUP = 15.0
PROBE_WAIT = 2.0  # s for the answer to that question
PROBE = 600.0  # s until name servers that do not validate are asked again whether they do


class NoSuchDomain(ClientError):
    """The domain does not exist, or has no host that could take mail."""


class NullMx(ClientError):
    """The domain takes no mail, and says so (RFC 7505)."""


class LookupFailed(TemporaryError):
    """The DNS did not answer, or not properly."""


@dataclass(frozen=True, slots=True)
class Mx:
    """One host that takes mail for a domain; lower preferences come first."""

    preference: int
    host: str
    secure: bool = False  # did a validating resolver say so (DNSSEC)?


class Resolver:
    """``servers``: "address" or "address:port" of name servers; empty for those of the machine. ``trusted``: do they
    validate DNSSEC, and is the way to them safe, so that their AD bit counts? None finds out: the way is safe when all
    of them are on this machine, and whether they validate shows in what they say of the root, which is signed."""

    def __init__(self, servers: list[str], ipv6: bool = True, trusted: bool | None = None) -> None:
        self._ipv6 = ipv6
        self._trusted = bool(trusted)
        self._settled = trusted is not None
        self._again = 0.0
        self._probing = asyncio.Lock()
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.resolver.NoResolverConfiguration:
            log.event("dns.none", "warning", then="mail for other domains waits until /etc/resolv.conf names a server")
            self._resolver = dns.asyncresolver.Resolver(configure=False)
        if servers:
            places = [_place(server) for server in servers]
            self._resolver.nameservers = [host for host, _ in places]
            self._resolver.nameserver_ports = dict(places)
        self._resolver.lifetime = LOOKUP
        if trusted:
            self._resolver.use_edns(0, dns.flags.DO, 1232)
        if trusted is not False:
            self._resolver.flags = dns.flags.RD | dns.flags.AD  # tell us what you know, please (RFC 6840 5.7)
        self._resolver.cache = dns.resolver.LRUCache(REMEMBERED)

    async def _settle(self) -> None:
        """Find out whether the name servers validate, once; where they do not, or could not say, again after a while.
        What validated once is believed to go on: an attacker who keeps the root away gains nothing by that."""
        async with self._probing:
            if self._settled or time.monotonic() < self._again:
                return
            self._again = time.monotonic() + PROBE
            if not all(_is_near(str(server)) for server in self._resolver.nameservers):
                self._settled = True
                return
            query = dns.message.make_query(dns.name.root, "SOA", flags=dns.flags.RD | dns.flags.AD)
            flags = 0
            for server in self._resolver.nameservers:
                port = self._resolver.nameserver_ports.get(str(server), self._resolver.port)
                try:  # one datagram: how much of the answer fits into it does not matter
                    flags = (await dns.asyncquery.udp(query, str(server), PROBE_WAIT, port)).flags
                    break
                except (dns.exception.DNSException, OSError):
                    continue
            self._trusted = self._settled = bool(flags & dns.flags.AD)
            if self._trusted:
                log.event("dns.validates", then="DANE is used")

    async def mx(self, domain: str) -> list[Mx]:
        """Hosts by preference, those of one preference in random order; the domain itself where it has none."""
        name = _name(domain)
        await self._settle()
        try:
            answer = await self._resolver.resolve(name, "MX", search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            raise NoSuchDomain(f"domain {domain} does not exist") from None
        except dns.exception.DNSException as error:
            raise LookupFailed(f"looking for the mail hosts of {domain}: {_why(error)}") from None
        secure = self._is_secure(answer)  # of a proof that there is no MX record too (RFC 7672 2.2.2)
        if answer.rrset is None:
            return [Mx(0, domain, secure)]
        found = [Mx(one.preference, one.exchange.to_text(omit_final_dot=True).lower(), secure) for one in answer]
        if any(one.host in ("", ".") for one in found):
            if len(found) == 1:
                raise NullMx(f"domain {domain} takes no mail")
            found = [one for one in found if one.host not in ("", ".")]
        random.shuffle(found)
        return sorted(found, key=lambda one: one.preference)

    async def addresses(self, host: str) -> list[str]:
        """IPv6 and IPv4 addresses of a host, one kind after the other at random; NoSuchDomain when it has none."""
        out: list[list[str]] = []
        trouble: LookupFailed | None = None
        for kind in ("AAAA", "A") if self._ipv6 else ("A",):
            try:
                answer = await self._resolver.resolve(_name(host), kind, search=False)
                out.append([one.address for one in answer])
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            except dns.exception.DNSException as error:
                trouble = LookupFailed(f"looking for the address of {host}: {_why(error)}")
        if not out and trouble is not None:
            raise trouble
        if not out:
            raise NoSuchDomain(f"host {host} has no address")
        return [address for group in out for address in random.sample(group, len(group))]

    def _is_secure(self, answer: dns.resolver.Answer) -> bool:
        return self._trusted and bool(answer.response.flags & dns.flags.AD)

    async def alias(self, host: str) -> str:
        """The name at the end of a host's CNAME records, when DNSSEC vouches for all of them; empty when there is none,
        or it can not be known."""
        for kind in ("A", "AAAA") if self._trusted else ():
            try:
                answer = await self._resolver.resolve(_name(host), kind, search=False, raise_on_no_answer=False)
            except (dns.exception.DNSException, NoSuchDomain):
                continue
            name = answer.canonical_name.to_text(omit_final_dot=True).lower()
            if self._is_secure(answer) and name != host.lower().rstrip("."):
                return str(name)
        return ""

    async def tlsa(self, host: str, port: int) -> list[tuple[int, int, int, bytes]]:
        """Secure TLSA records of a host as (usage, selector, matching, data); empty when it has none, or its address is
        not secure. LookupFailed when that can not be known: then the host must not be used (RFC 7672 2.1.2)."""
        if not self._trusted:
            return []
        secure = False
        for kind in ("A", "AAAA"):
            try:
                secure = secure or self._is_secure(await self._resolver.resolve(_name(host), kind, search=False))
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            except dns.exception.DNSException as error:
                raise LookupFailed(f"looking for the address of {host}: {_why(error)}") from None
        if not secure:
            return []
        try:
            answer = await self._resolver.resolve(_name(f"_{port}._tcp.{host}"), "TLSA", search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            raise LookupFailed(f"looking for the TLSA records of {host}: {_why(error)}") from None
        if not self._is_secure(answer):
            return []
        return [(one.usage, one.selector, one.mtype, bytes(one.cert)) for one in answer]

    async def texts(self, name: str) -> list[str]:
        """TXT records; none when there are none."""
        try:
            answer = await self._resolver.resolve(_name(name), "TXT", search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, NoSuchDomain):
            return []
        except dns.exception.DNSException as error:
            raise LookupFailed(f"looking for {name}: {_why(error)}") from None
        return [b"".join(one.strings).decode("utf-8", "replace") for one in answer]


def _is_near(server: str) -> bool:
    """True for a name server on this machine."""
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return False


def _place(server: str) -> tuple[str, int]:
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        return host, int(port.lstrip(":") or 53)
    if server.count(":") == 1:
        host, _, port = server.partition(":")
        return host, int(port)
    return server, 53


def _name(text: str) -> dns.name.Name:
    try:
        return dns.name.from_text(ascii_name(text))
    except (dns.exception.DNSException, BadAddress):
        raise NoSuchDomain(f"{text} is not a domain name") from None


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
