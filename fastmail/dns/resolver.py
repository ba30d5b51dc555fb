"""What the DNS says (RFC 1035), with what DNSSEC vouches for, and where mail for a domain goes (RFC 5321 5.1, RFC 7505,
RFC 7672).

Answers are kept as long as their TTL allows (dns.cache), and one question is asked once however many wait for it. What
the DNS says for sure (no such domain, no mail wanted) and what it could not say now are different errors, because the
first ends a delivery and the second only defers it. The name servers validate: this module takes their word (the AD
bit) where the way to them is safe.

Promise: a question ends within LOOKUP seconds, or what its budget has left. Nothing that a name server sends raises
anything but what is said here.
"""

import asyncio
import ipaddress
import random
import socket
import time
from dataclasses import dataclass
from functools import lru_cache

from fastmail._core import dns
from fastmail.dns import cache, wire
from fastmail.dns.interface import FAILED, FOUND, NO_DATA, NO_NAME, TYPES, Answer, Budget
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress, ClientError, TemporaryError
from fastmail.model.place import is_address
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

LOOKUP = 15.0  # s for one question, with all its repetitions; clients wait five minutes (RFC 5321 4.5.3.2)
WAIT = 2.0  # s for one server's answer, before the next one is asked; longer in the second round
CROWD = 2000  # questions under way beyond which messages ask no more: strangers choose what their messages ask
ROUNDS = 3  # that each server is asked
PROBE_WAIT = 2.0  # s for the answer to that question
PROBE = 600.0  # s until name servers that do not validate are asked again whether they do
NOERROR, FORMERR, NXDOMAIN, NOTIMP = 0, 1, 3, 4
RCODE = 15
KEYS = 8192  # names whose one spelling is remembered
SERVERS = 3  # of a machine (resolv.conf(5))
RESOLV_CONF = "/etc/resolv.conf"


class NoSuchDomain(ClientError):
    """The domain does not exist, or has no host that could take mail."""


class NullMx(ClientError):
    """The domain publishes that it takes no mail (RFC 7505)."""


class LookupFailed(TemporaryError):
    """The DNS did not answer, or not properly."""


@dataclass(frozen=True, slots=True)
class Mx:
    """One host that takes mail for a domain; lower preferences come first."""

    preference: int
    host: str
    secure: bool = False  # did a validating resolver say so (DNSSEC)?


class Resolver:
    """``servers``: "address" or "address:port" of name servers; empty for those of the machine. ``trusted``: the name
    servers validate DNSSEC, and the way to them is safe, so their AD bit counts. None: find out. The way is safe if all
    servers are on this machine; whether they validate shows in their answer about the root zone, which is signed."""

    def __init__(self, servers: list[str], ipv6: bool = True, trusted: bool | None = None) -> None:
        self._ipv6 = ipv6
        self._trusted = bool(trusted)
        self._validation_known = trusted is not None
        self._again = 0.0
        self._probing = asyncio.Lock()
        self.lifetime = LOOKUP
        self.servers = [wire.Server(*_place(one)) for one in servers or of_machine()]
        if not self.servers:
            log.event("dns.none", "warning", then="mail for other domains waits until /etc/resolv.conf names a server")
        self._more = wire.extension(bool(trusted))
        self._flags = wire.RD if trusted is False else wire.RD | wire.AD  # tell us what you know (RFC 6840 5.7)
        self._cache = cache.Cache()
        self._asking: dict[cache.Key, asyncio.Task[Answer]] = {}

    # ---------------------------------------------------------------- the port

    async def ask(self, name: str, kind: str, budget: Budget | None = None) -> Answer:
        """Records of a name; a failure of the last seconds is not tried again."""
        key = _key(name), kind
        answer = self._cache.get(key)
        if answer is not None:
            count("dns.remembered")
            if budget is not None and answer.void:
                budget.void += 1
            return answer
        return await self._fetch(key, budget)

    def cached(self, name: str, kind: str) -> Answer | None:
        return self._cache.get((_key(name), kind))

    def forget(self) -> None:
        """Know nothing any more."""
        self._cache.forget()

    def close(self) -> None:
        for server in self.servers:
            server.close()

    # ---------------------------------------------------------------- mail hosts

    async def mx(self, domain: str) -> list[Mx]:
        """Return the hosts by preference, those of equal preference in random order; the domain itself if it has no
        MX."""
        answer = await self._sure(domain, "MX")
        if answer.state == NO_NAME:
            raise NoSuchDomain(f"domain {domain} does not exist")
        if answer.state == FAILED:
            raise LookupFailed(f"looking for the mail hosts of {domain}: {answer.why}")
        if answer.state == NO_DATA:  # a proof that there is no MX record is one, too (RFC 7672 2.2.2)
            return [Mx(0, domain, answer.secure)]
        found = [Mx(preference, host, answer.secure) for preference, host in answer.records]
        if any(not one.host for one in found):
            if len(found) == 1:
                raise NullMx(f"domain {domain} takes no mail")
            found = [one for one in found if one.host]
        random.shuffle(found)
        return sorted(found, key=lambda one: one.preference)

    async def addresses(self, host: str) -> list[str]:
        """IPv6 and IPv4 addresses of a host, one kind after the other at random; NoSuchDomain when it has none."""
        kinds = ("AAAA", "A") if self._ipv6 else ("A",)
        answers = await asyncio.gather(*(self._sure(host, kind) for kind in kinds))
        out = [random.sample(answer.records, len(answer.records)) for answer in answers if answer.state == FOUND]
        trouble = next((answer for answer in answers if answer.state == FAILED), None)
        if not out and trouble is not None:
            raise LookupFailed(f"looking for the address of {host}: {trouble.why}")
        if not out:
            raise NoSuchDomain(f"host {host} has no address")
        return [address for group in out for address in group]

    async def alias(self, host: str) -> str:
        """Return the name at the end of a host's CNAME records, if DNSSEC vouches for all of them; empty if there is no
        alias, or if it cannot be known."""
        for kind in ("A", "AAAA") if self._trusted else ():
            try:
                answer = await self._sure(host, kind)
            except NoSuchDomain:
                continue
            if answer.state in (FOUND, NO_DATA) and answer.secure and answer.name != host.lower().rstrip("."):
                return answer.name
        return ""

    async def tlsa(self, host: str, port: int) -> list[tuple[int, int, int, bytes]]:
        """Secure TLSA records of a host as (usage, selector, matching, data); empty when it has none, or its address is
        not secure. LookupFailed when that can not be known: then the host must not be used (RFC 7672 2.1.2)."""
        if not self._trusted:
            return []
        secure = False
        for kind in ("A", "AAAA"):
            answer = await self._sure(host, kind)
            if answer.state == FAILED:
                raise LookupFailed(f"looking for the address of {host}: {answer.why}")
            secure = secure or (answer.state == FOUND and answer.secure)
        if not secure:
            return []
        answer = await self._sure(f"_{port}._tcp.{host}", "TLSA")
        if answer.state == FAILED:
            raise LookupFailed(f"looking for the TLSA records of {host}: {answer.why}")
        return list(answer.records) if answer.secure else []

    async def texts(self, name: str) -> list[str]:
        """Return the TXT records; empty if there are none."""
        try:
            answer = await self._sure(name, "TXT")
        except NoSuchDomain:
            return []
        if answer.state == FAILED:
            raise LookupFailed(f"looking for {name}: {answer.why}")
        return [text.decode("utf-8", "replace") for text in answer.records]

    async def _sure(self, name: str, kind: str) -> Answer:
        """Look up for mail that waits: a remembered failure is asked again. NoSuchDomain if the name does not exist."""
        try:
            key = ascii_name(name), kind
        except BadAddress:
            raise NoSuchDomain(f"{name} is not a domain name") from None
        answer = self._cache.get(key)
        return answer if answer is not None and answer.state != FAILED else await self._fetch(key, None)

    # ---------------------------------------------------------------- questions

    async def _fetch(self, key: cache.Key, budget: Budget | None) -> Answer:
        """Ask the question, or wait with others who have asked it already, as long as the budget allows."""
        left = budget.left if budget is not None else 0.0  # before this one is counted: the last one may wait too
        if budget is not None:
            if not left:
                return Answer(FAILED, why="the look-ups of this message took too long")
            budget.asked += 1
        task = self._asking.get(key)
        if task is None and budget is not None and len(self._asking) >= CROWD:
            count("dns.crowded")
            return Answer(FAILED, why="too many questions are under way")
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._look(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        # shielded: who is cancelled, or has no more time, does not take the answer from the others
        if budget is None:
            answer = await asyncio.shield(task)
        else:
            try:
                async with asyncio.timeout(left):
                    answer = await asyncio.shield(task)
            except TimeoutError:
                return Answer(FAILED, why="no answer in the time that was left")
            if answer.void:
                budget.void += 1
        return answer

    async def _look(self, key: cache.Key) -> Answer:
        """Ask the name servers, and remember the answer."""
        name, kind = key
        try:
            octets = dns.wire(name) if name else b"\0"
        except ValueError:  # a name that the DNS can not have: nothing is there (RFC 7208 4.3)
            return Answer(NO_NAME, until=time.monotonic() + cache.LEAST)
        if not self._validation_known:
            await self._probe()
        count("dns.asked")
        try:
            async with asyncio.timeout(self.lifetime):
                answer = await self._rounds(octets, TYPES[kind])
        except TimeoutError:
            answer = _failed("no answer in time")
        count("dns.failed" if answer.state == FAILED else "dns.void" if answer.void else "dns.found")
        self._cache.put(key, answer)
        return answer

    async def _rounds(self, octets: bytes, kind: int) -> Answer:
        """Ask one server after the other, in rounds. A server that said that it cannot answer is not asked again."""
        servers = list(self.servers)
        if not servers:
            return _failed("no name server is known")
        why = ""
        for number in range(ROUNDS):
            for server in list(servers):
                answer = await self._one(server, octets, kind, WAIT * (number + 1))
                if answer.state != FAILED:
                    return answer
                why = answer.why
                if answer.until:
                    servers.remove(server)
            if not servers:
                break
        return _failed(why)

    async def _one(self, server: wire.Server, octets: bytes, kind: int, seconds: float) -> Answer:
        """One server's answer; FAILED with ``until`` when asking it again is of no use."""
        asked = wire.question(octets, kind)
        try:
            data = await server.ask(asked, self._flags, self._more, seconds)
            flags, records, name, ttl = dns.answer(data, octets, kind)
            if flags & RCODE in (FORMERR, NOTIMP):  # it does not know EDNS (RFC 6891 7)
                data = await server.ask(asked, self._flags, b"", seconds)
                flags, records, name, ttl = dns.answer(data, octets, kind)
        except TimeoutError:
            return Answer(FAILED, why=f"{server.host} does not answer")
        except OSError as error:
            return _failed(f"{server.host}: {' '.join(str(error).split())[:200]}")
        except ValueError as error:
            return _failed(f"{server.host} answers what is no answer: {error}")
        code = flags & RCODE
        if code not in (NOERROR, NXDOMAIN):
            return _failed(f"{server.host} answers with code {code}")
        secure = self._trusted and bool(flags & wire.AD)
        if kind == TYPES["AAAA"]:
            records = [socket.inet_ntop(socket.AF_INET6, one) for one in records]
        if records:
            return Answer(FOUND, tuple(records), name, secure, cache.until(ttl, True))
        state = NO_NAME if code == NXDOMAIN else NO_DATA
        return Answer(state, (), name, secure, cache.until(ttl, False))

    async def _probe(self) -> None:
        """Find out once whether the name servers validate. If they do not, or give no answer, try again after a while.
        Servers that validated once are believed to go on: an attacker who blocks answers about the root gains
        nothing."""
        async with self._probing:
            if self._validation_known or time.monotonic() < self._again:
                return
            self._again = time.monotonic() + PROBE
            if not all(_is_near(server.host) for server in self.servers):
                self._validation_known = True
                return
            flags = 0
            for server in self.servers:
                try:
                    data = await server.probe(wire.question(b"\0", TYPES["SOA"]), self._flags, PROBE_WAIT)
                    flags = data[2] << 8 | data[3]
                    break
                except OSError:
                    continue
            self._trusted = self._validation_known = bool(flags & wire.AD)
            if self._trusted:
                log.event("dns.validates", then="DANE is used")


def of_machine(path: str = RESOLV_CONF) -> list[str]:
    """The name servers that the machine's configuration names (resolv.conf(5)); none when it has none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            words = [line.split() for line in file.read(65536).splitlines()]
    except OSError:
        return []
    named = [line[1].partition("%")[0] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [one for one in named if is_address(one)][:SERVERS]


def _failed(why: str) -> Answer:
    return Answer(FAILED, until=time.monotonic() + cache.FAILURE, why=why)


def _is_near(server: str) -> bool:
    """True for a name server on this machine."""
    return is_address(server) and ipaddress.ip_address(server).is_loopback


def _place(server: str) -> tuple[str, int]:
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        return host, int(port.lstrip(":") or 53)
    if server.count(":") == 1:
        host, _, port = server.partition(":")
        return host, int(port)
    return server, 53


@lru_cache(KEYS)
def _key(name: str) -> str:
    """Return the one spelling of a name. A name that IDNA does not allow stays unchanged and is looked up as it is."""
    try:
        return ascii_name(name)
    except BadAddress:
        return name.lower().removesuffix(".")
