"""SPF (RFC 7208, RFC 8616 4): may this host send mail for that domain?

Two identities are checked, HELO and MAIL FROM, each by ``check_host`` (RFC 7208 4). Limits (4.6.4): 10 terms that ask
the DNS in a whole evaluation, 2 of them without an answer, 10 addresses of mail hosts and 10 names of an address in one
term; too many are an error of the record (permerror). The time is the budget's: when it is over, or the DNS fails, the
result is temperror.

A result that no macro of the sender's went into depends on domain and address alone (7.3), and is kept as long as the
shortest TTL that it rests on. An explanation is the words of a stranger: ASCII, cut, and shown as such.
"""

import re
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import msgspec
from msgspec.structs import replace

from fastmail.dns.interface import FAILED, Answer, Budget, Known, Names, at_once
from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress
from fastmail.net import networks
from fastmail.policy import macros, spf_record
from fastmail.policy.kept import Kept
from fastmail.policy.macros import Template
from fastmail.policy.spf_record import BadRecord, Mechanism, Record

TERMS = 10
VOIDS = 2
HOSTS = 10  # of an mx term
PTRS = 10  # of a ptr term, and of %{p}
LABEL = 63  # octets (RFC 1035 2.3.4)
KEPT = 20_000  # results
OWN = frozenset("sloht")  # macros that make a result depend on more than domain and address
Address = IPv4Address | IPv6Address


class Checked(msgspec.Struct, frozen=True, cache_hash=True):
    """One identity's result. ``result`` is one of RFC 7208 2.6; ``mechanism``: what matched; ``why``: what is wrong,
    for errors; ``explanation``: the domain's own words for a fail. ``until``: as long as the result may be kept."""

    result: str
    identity: str
    domain: str
    mechanism: str = ""
    why: str = ""
    explanation: str = ""
    terms: int = 0
    voids: int = 0
    until: float = 0.0

    @property
    def everybody(self) -> bool:
        """True if it passes because anybody may send for the domain (``+all``)."""
        return self.result == "pass" and self.mechanism.lstrip("+").lower() == "all"

    @property
    def vouches(self) -> bool:
        """True if the domain vouches for the client: nobody else can use what such a message earns, or uses up."""
        return self.result == "pass" and not self.everybody


class _Permanent(Exception):
    """permerror; the text says why."""


class _Temporary(Exception):
    """temperror; the text says why."""


@dataclass(slots=True)
class _Found:
    """What ``check_host`` came to. ``exp``: where the explanation is, and for which domain."""

    result: str
    mechanism: str = ""
    exp: Template | None = None
    domain: str = ""


class Spf:
    """Checks senders; one for each worker. ``hostname``: ours, for %{r}."""

    def __init__(self, names: Names, hostname: str, voids: int = VOIDS) -> None:
        self._names = names
        self._at_hand = Known(names)
        self._hostname = hostname
        self._voids = voids
        self._kept: Kept[tuple[str, str, str], Checked] = Kept(KEPT)

    async def helo(self, ip: str, helo: str, budget: Budget) -> Checked:
        """The HELO identity (RFC 7208 2.3): only a name with several labels has one."""
        return await self.check(ip, helo, "helo", f"postmaster@{helo}", helo, budget)

    def at_once(self, ip: str, helo: str, sender: str) -> Checked | None:
        """As ``mail_from``, if nobody has to be asked for that; otherwise None."""
        return at_once(self.mail_from(ip, helo, sender, None))

    async def mail_from(self, ip: str, helo: str, sender: str, budget: Budget | None) -> Checked:
        """The MAIL FROM identity (2.4): of a null sender, the postmaster of the HELO name. ``budget``: None to ask
        nobody; Unknown is raised for what is not known then."""
        sender = sender or f"postmaster@{helo}"
        local, _, domain = sender.rpartition("@")
        return await self.check(ip, domain, "mailfrom", f"{local or 'postmaster'}@{domain}", helo, budget)

    def known(self, ip: str, domain: str, identity: str) -> Checked | None:
        """A result that is kept. What is known of a domain as one identity is known of it as the other."""
        found = self._kept.get((domain, ip, identity))
        if found is None:
            other = self._kept.get((domain, ip, "helo" if identity == "mailfrom" else "mailfrom"))
            if other is not None:
                found = replace(other, identity=identity)
                self._kept.put((domain, ip, identity), found, found.until)
        return found

    def until(self, ip: str, domain: str, identity: str) -> float:
        """As long as it counts, by the monotonic clock; 0 where none is kept."""
        return self._kept.until((domain, ip, identity))

    async def check(
        self, ip: str, domain: str, identity: str, sender: str, helo: str, budget: Budget | None
    ) -> Checked:
        """``check_host`` for one identity; never raises for what the DNS or the sender says."""
        kept = self.known(ip, domain, identity)
        if kept is not None:
            return kept
        try:
            address = networks.address(ip)
        except ValueError:
            return Checked("none", identity, domain, why="the client has no IP address")
        name = _name(domain)
        if not name:
            return Checked("none", identity, domain, why="no domain name with several labels")
        names = self._names if budget is not None else self._at_hand
        run = _Run(names, budget, address, sender, helo, self._hostname, self._voids)
        try:
            found = await run.check_host(_written(domain))
        except _Permanent as error:
            found, run.why = _Found("permerror"), str(error)
        except _Temporary as error:
            found, run.why = _Found("temperror"), str(error)
        explanation = await run.explanation(found) if found.result == "fail" else ""
        until = run.until if not run.letters & OWN and found.result != "temperror" else 0.0
        checked = Checked(
            found.result, identity, name, found.mechanism, run.why, explanation, run.terms, run.voids, until
        )
        self._kept.put((domain, ip, identity), checked, until)
        return checked


def _name(text: str) -> str:
    """The one form of a sender's domain that can have a record (RFC 7208 4.3); empty for what is none."""
    if text.startswith("[") or "." not in text.removesuffix("."):
        return ""
    try:
        return ascii_name(text)
    except BadAddress:
        return ""


def _written(text: str) -> str:
    """A name as macros show it (RFC 7208 7.3): as the sender wrote it, but for U-labels (RFC 8616 4) and a final dot,
    where it can have a record; otherwise the text as it is."""
    name = _name(text)
    return text.removesuffix(".") if name and text.isascii() else name or text


def _can_be_asked(target: str) -> bool:
    """Is what macros made a name that the DNS can have (RFC 7208 4.8)? It may have characters that no host's name has,
    such as those of a local-part."""
    return target.isascii() and all(0 < len(label) <= LABEL for label in target.split("."))


def _may_have_record(target: str) -> bool:
    """The same of a name with several labels, as all that have a record are (RFC 7208 4.3)."""
    return "." in target and _can_be_asked(target)


@dataclass(slots=True)
class _Run:
    """One evaluation."""

    names: Names
    budget: Budget | None
    address: Address
    sender: str
    helo: str
    receiver: str
    most_voids: int
    terms: int = 0
    voids: int = 0
    until: float = float("inf")
    letters: set[str] = field(default_factory=set)
    why: str = ""
    verified: list[str] | None = None  # names of the address that lead back to it
    nameless: bool = False  # the DNS has no name for the address

    # ---------------------------------------------------------------- the DNS

    async def ask(self, name: str, kind: str) -> Answer:
        """_Temporary when it can not be known."""
        answer = await self.names.ask(name, kind, self.budget)
        if answer.state == FAILED:
            raise _Temporary(f"looking for {kind} of {name}: {answer.why}")
        self.until = min(self.until, answer.until)
        return answer

    async def ask_term(self, name: str, kind: str) -> Answer:
        """The look-up of a term: too many without an answer are an error (RFC 7208 4.6.4)."""
        answer = await self.ask(name, kind)
        if answer.void:
            self._count_void()
        return answer

    def _count_void(self) -> None:
        self.voids += 1
        if self.voids > self.most_voids:
            raise _Permanent(f"more than {self.most_voids} look-ups without an answer")

    # ---------------------------------------------------------------- the record

    async def check_host(self, domain: str) -> _Found:
        """RFC 7208 4. _Permanent, _Temporary."""
        record = await self._record(domain)
        if record is None:
            return _Found("none")
        for mechanism in record.mechanisms:
            if mechanism.name in spf_record.ASKS:
                self._count()
            if await self._matches(mechanism, domain):
                exp = record.exp if mechanism.result == "fail" else None
                return _Found(mechanism.result, mechanism.text, exp, domain)
        if record.redirect is None:
            return _Found("neutral", "default")
        self._count()
        target = await self._target(record.redirect, domain)
        if target is None:
            return _Found("neutral", "default")
        found = await self.check_host(target) if _may_have_record(target) else _Found("none")
        if found.result == "none":
            raise _Permanent(f"redirect to {target}, which has no record")
        return found

    def _count(self) -> None:
        self.terms += 1
        if self.terms > TERMS:
            raise _Permanent(f"more than {TERMS} terms that ask the DNS")

    async def _record(self, domain: str) -> Record | None:
        """RFC 7208 4.4 to 4.6: None where there is none."""
        answer = await self.ask(domain, "TXT")
        texts = spf_record.choose(answer.records)
        if not texts:
            return None
        if len(texts) > 1:
            raise _Permanent(f"{domain} has {len(texts)} SPF records")
        try:
            return spf_record.parse(texts[0])
        except BadRecord as error:
            raise _Permanent(f"the record of {domain}: {error}") from None

    # ---------------------------------------------------------------- mechanisms

    async def _matches(self, one: Mechanism, domain: str) -> bool:
        if one.name == "all":
            return True
        if one.network is not None:
            return self.address.version == one.network.version and self.address in one.network
        target = await self._target(one.domain, domain)
        if target is None:
            return False
        if one.name == "include":
            return await self._include(target)
        if not _can_be_asked(target):  # nobody is asked, so it is no look-up without an answer either
            return False
        match one.name:
            case "a":
                return self._in((await self.ask_term(target, self._kind)).records, one.four, one.six)
            case "mx":
                return await self._mx(target, one)
            case "ptr":
                return await self._ptr(target)
            case _:  # exists: an IPv4 address, whatever the client's is (RFC 7208 5.7)
                return bool((await self.ask_term(target, "A")).records)

    async def _include(self, target: str) -> bool:
        """RFC 7208 5.2."""
        found = await self.check_host(target) if _may_have_record(target) else _Found("none")
        if found.result == "none":
            raise _Permanent(f"include of {target}, which has no record")
        return found.result == "pass"

    async def _mx(self, target: str, one: Mechanism) -> bool:
        """RFC 7208 5.4. The hosts come by preference and name, so that the order of the answer does not matter."""
        answer = await self.ask_term(target, "MX")
        hosts = sorted(host for host in answer.records if host[1])
        if len(hosts) > HOSTS:
            raise _Permanent(f"{target} has more than {HOSTS} mail hosts")
        for _, host in hosts:
            if self._in((await self.ask(host, self._kind)).records, one.four, one.six):
                return True
        return False

    async def _ptr(self, target: str) -> bool:
        """RFC 7208 5.5."""
        wanted = target.lower()
        names = await self._verified()
        if self.nameless:  # each term that finds nothing counts, also where another one, or a macro, has asked before
            self._count_void()
        return any(name == wanted or name.endswith("." + wanted) for name in names)

    async def _verified(self) -> list[str]:
        """Names of the address that lead back to it, in alphabetical order; trouble on the way means that there are
        none. Of more than PTRS names the first ones count (RFC 7208 4.6.4), which are always the same: an answer has no
        order."""
        if self.verified is not None:
            return self.verified
        self.verified = []
        try:
            answer = await self.ask(self.address.reverse_pointer, "PTR")
        except _Temporary:
            return []
        self.nameless = answer.void
        for name in sorted(answer.records)[:PTRS]:
            try:
                found = await self.ask(name, self._kind)
            except _Temporary:
                continue
            if self._in(found.records):
                self.verified.append(name.lower())
        return self.verified

    @property
    def _kind(self) -> str:
        return "A" if self.address.version == 4 else "AAAA"

    def _in(self, addresses: tuple[str, ...], four: int = 32, six: int = 128) -> bool:
        """Is the client one of them, as far as so many bits count? An address has more than one spelling."""
        drop = 32 - four if self.address.version == 4 else 128 - six
        form = IPv4Address if self.address.version == 4 else IPv6Address
        return any(int(form(text)) >> drop == int(self.address) >> drop for text in addresses)

    # ---------------------------------------------------------------- macros

    async def _target(self, template: Template | None, domain: str) -> str | None:
        """The name that a term is about. None: it matches nothing, because the local part has no form in the DNS (RFC
        8616 4)."""
        if template is None:
            return domain
        self.letters |= template.letters
        if template.letters & {"s", "l"} and not self.sender.rpartition("@")[0].isascii():
            return None
        return template.name(await self._values(template.letters, domain))

    async def _values(self, letters: frozenset[str], domain: str) -> dict[str, str]:
        """RFC 7208 7.2."""
        local, _, sender_domain = self.sender.rpartition("@")
        origin = _written(sender_domain)
        values = {
            "s": f"{local}@{origin}",
            "l": local,
            "o": origin,
            "d": domain,
            "h": _written(self.helo),
            "v": "in-addr" if self.address.version == 4 else "ip6",
        }
        if "i" in letters:
            values["i"] = dotted(self.address)
        if "p" in letters:
            values["p"] = _nearest(await self._verified(), domain)
        if "c" in letters:
            values["c"] = str(self.address)
        if "r" in letters:
            values["r"] = self.receiver
        if "t" in letters:
            values["t"] = str(int(time.time()))
        return values

    async def explanation(self, found: _Found) -> str:
        """RFC 7208 6.2: one text of ASCII, or none at all."""
        if found.exp is None:
            return ""
        try:
            target = await self._target(found.exp, found.domain)
            answer = await self.ask(target, "TXT") if target and _may_have_record(target) else None
            if answer is None or len(answer.records) != 1:
                return ""
            template = macros.parse(answer.records[0].decode("ascii"), macros.TEXTS, spaces=True)
            self.letters |= template.letters
            text = template.expand(await self._values(template.letters, found.domain), macros.EXPLANATION)
        except (_Temporary, _Permanent, ValueError):
            return ""
        return re.sub(r"[^\x20-\x7e]", "?", text)


def _nearest(names: list[str], domain: str) -> str:
    """Which name %{p} stands for (RFC 7208 7.3): the domain itself, one below it, any; "unknown"."""
    domain = domain.lower()
    below = [name for name in names if name.endswith("." + domain)]
    return domain if domain in names else (below or names or ["unknown"])[0]


def dotted(address: Address) -> str:
    """%{i}: an IPv4 address, or the nibbles of an IPv6 one (RFC 7208 7.3)."""
    if address.version == 4:
        return str(address)
    return ".".join(f"{int(address):032x}")
